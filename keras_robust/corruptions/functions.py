"""Ten corruptions with the constants of CIFAR-10-C.

Hendrycks & Dietterich 2019 (arXiv:1903.12261), in the version for 32x32 images.
Every function takes float64 images `(n, H, W, C)` in [0, 1], a severity from 1
to 5 and a random generator for each image, and returns images of the same shape
that are not clipped.
"""

import io
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np

Images = np.ndarray
Generators = Sequence[np.random.Generator]
Corruption = Callable[[Images, int, Generators], Images]


def gaussian_noise(x: Images, severity: int, random: Generators) -> Images:
    """Normal noise."""
    deviation = (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1]
    noise = np.stack([one.standard_normal(x.shape[1:]) for one in random])
    return x + deviation * noise


def shot_noise(x: Images, severity: int, random: Generators) -> Images:
    """Poisson noise of so many photons at full brightness."""
    photons = (500, 250, 100, 75, 50)[severity - 1]
    counts = [
        one.poisson(image * photons)
        for image, one in zip(x, random, strict=True)
    ]
    return np.stack(counts) / photons


def impulse_noise(x: Images, severity: int, random: Generators) -> Images:
    """A share of the values becomes black or white, half of it each."""
    share = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    drawn = np.stack([one.random(x.shape[1:]) for one in random])
    black = np.where(drawn < share / 2, 0.0, x)
    return np.where(drawn >= 1 - share / 2, 1.0, black)


def defocus_blur(x: Images, severity: int, random: Generators) -> Images:
    """Convolution with a disk whose edge is smoothed."""
    from scipy import ndimage

    del random
    radius, smoothing = (
        ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))
    )[severity - 1]
    grid = np.arange(-2, 3)
    squares = np.square(grid)
    disk = (squares + squares[:, None] <= radius**2).astype("float64")
    taps = np.exp(-squares[1:4] / (2 * smoothing**2))
    smooth = np.outer(taps, taps) / np.sum(taps) ** 2
    kernel = ndimage.convolve(disk / disk.sum(), smooth, mode="constant")
    height, width = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")
    blurred = np.zeros_like(x)
    # The kernel is symmetric.
    for (row, column), weight in np.ndenumerate(kernel):
        part = padded[:, row : row + height, column : column + width]
        blurred += weight * part
    return blurred


def zoom_blur(x: Images, severity: int, random: Generators) -> Images:
    """The mean of the image and of enlargements of its middle."""
    del random
    end = (1.06, 1.11, 1.16, 1.21, 1.26)[severity - 1]
    factors = np.arange(1, end, 0.01)
    planes = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    total = planes.copy()
    for factor in factors:
        rows = _zoom_matrix(planes.shape[2], factor)
        columns = _zoom_matrix(planes.shape[3], factor)
        total += rows @ planes @ columns.T
    mean: Images = total.transpose(0, 2, 3, 1) / (len(factors) + 1)
    return mean


def _zoom_matrix(side: int, factor: float) -> np.ndarray:
    """Linear interpolation that enlarges the middle of a row of pixels.

    Args:
        side: Int >= 1, pixels.
        factor: Float >= 1.

    Returns:
        Array `(side, side)`, from pixels to those of the enlarged middle.
    """
    middle = int(np.ceil(side / factor))
    size = int(round(middle * factor))
    # The first and the last pixel stay the ends.
    places = np.linspace(0, middle - 1, size)
    below = np.floor(places).astype(int)
    above = np.minimum(below + 1, middle - 1)
    matrix = np.zeros((size, side))
    first = (side - middle) // 2
    rows = np.arange(size)
    np.add.at(matrix, (rows, first + below), 1 - (places - below))
    np.add.at(matrix, (rows, first + above), places - below)
    start = (size - side) // 2
    return matrix[start : start + side]


def fog(x: Images, severity: int, random: Generators) -> Images:
    """Clouds, and less contrast behind them."""
    density, decay = (((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)))[
        severity - 1
    ]
    height, width = x.shape[1:3]
    clouds = _plasma(max(height, width), decay, random)
    brightest = x.max(axis=(1, 2, 3), keepdims=True)
    foggy = x + density * clouds[:, :height, :width, None]
    dimmed: Images = foggy * brightest / (brightest + density)
    return dimmed


def _plasma(side: int, decay: float, random: Generators) -> Images:
    """Fractal clouds in [0, 1], by the diamond-square algorithm.

    Args:
        side: Int >= 1, the shortest side that will do.
        decay: Amplitudes fall by its square from one scale to the next.
        random: A generator for each image.

    Returns:
        Array `(n, size, size)`, size the next power of two.
    """
    size = 2 ** max(int(np.ceil(np.log2(side))), 1)
    found = np.zeros((len(random), size, size))
    step, amplitude = size, 1.0

    def with_noise(mean: Images) -> Images:
        noise = [one.uniform(-1, 1, mean.shape[1:]) for one in random]
        return mean + amplitude * np.stack(noise)

    while step >= 2:
        half = step // 2
        corners = found[:, ::step, ::step]
        # Neighbors wrap around.
        right, below = np.roll(corners, -1, 2), np.roll(corners, -1, 1)
        opposite = np.roll(right, -1, 1)
        middles = with_noise((corners + right + below + opposite) / 4)
        found[:, half::step, half::step] = middles
        above, before = np.roll(middles, 1, 1), np.roll(middles, 1, 2)
        found[:, ::step, half::step] = with_noise(
            (corners + right + middles + above) / 4
        )
        found[:, half::step, ::step] = with_noise(
            (corners + below + middles + before) / 4
        )
        step, amplitude = half, amplitude / decay**2
    found -= found.min(axis=(1, 2), keepdims=True)
    return found / found.max(axis=(1, 2), keepdims=True)


def brightness(x: Images, severity: int, random: Generators) -> Images:
    """A larger value in HSV, of the same hue and saturation."""
    del random
    added = (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]
    value = x.max(axis=-1, keepdims=True)
    brighter = np.minimum(value + added, 1.0)
    # Black has no hue, and becomes grey.
    shade = np.where(value > 0, x / np.where(value > 0, value, 1.0), 1.0)
    return shade * brighter


def contrast(x: Images, severity: int, random: Generators) -> Images:
    """Values nearer to the mean of their channel."""
    del random
    share = (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1]
    mean = x.mean(axis=(1, 2), keepdims=True)
    return mean + share * (x - mean)


def pixelate(x: Images, severity: int, random: Generators) -> Images:
    """Fewer and larger pixels."""
    del random
    share = (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]
    pillow = import_pillow()
    height, width = x.shape[1:3]
    small = max(int(width * share), 1), max(int(height * share), 1)
    found = np.empty_like(x)
    for image, result in zip(x, found, strict=True):
        for channel in range(x.shape[-1]):
            plane = image[..., channel].astype("float32")
            picture = pillow.fromarray(plane)
            for size in (small, (width, height)):
                picture = picture.resize(size, pillow.Resampling.BOX)
            result[..., channel] = np.asarray(picture)
    return found


def jpeg_compression(x: Images, severity: int, random: Generators) -> Images:
    """JPEG of lower quality, of 8-bit pixels."""
    del random
    quality = (80, 65, 58, 50, 40)[severity - 1]
    pillow = import_pillow()
    found = np.empty_like(x)
    for image, result in zip(
        np.round(255 * x).astype("uint8"), found, strict=True
    ):
        is_grey = image.shape[-1] == 1
        picture = pillow.fromarray(image[..., 0] if is_grey else image)
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality)
        read = np.asarray(pillow.open(file)) / 255
        result[...] = read[..., None] if is_grey else read
    return found


def import_pillow() -> Any:
    """Pillow's module of images.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            "The corruptions 'pixelate' and 'jpeg_compression' need Pillow: "
            "pip install pillow, or name other corruptions. "
            f"Received: {error}"
        ) from None
    return Image
