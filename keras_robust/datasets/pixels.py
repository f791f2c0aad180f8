"""Images as floats in a range of pixels."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust.datasets.arrays import as_array
from keras_robust.utils import array_checks
from keras_robust.utils.messages import describe
from keras_robust.utils.messages import shown

# Images of bytes whose brightest pixel is no brighter are hardly bytes.
DARK = 100


def as_floats(images: Any, value_range: Any) -> Any:
    """Images as floats; those of dtype uint8 are scaled to a range.

    Args:
        images: NumPy array or tensor; of dtype uint8, 0 and 255 are the ends of
            `value_range`.
        value_range: `(low, high)`.

    Returns:
        Images in float32; those of another dtype than uint8 unchanged.

    Raises:
        ValueError: If the range is not finite, and images are of dtype uint8.
    """
    if keras.backend.standardize_dtype(images.dtype) != "uint8":
        return images
    low, high = value_range
    width = np.asarray(high, "float64") - low
    if not np.isfinite(width).all():
        raise ValueError(
            "Images of dtype uint8 must come with a finite value_range. "
            f"Received: value_range={shown(value_range)}"
        )
    low, high, width = (np.float32(value) for value in (low, high, width))
    if isinstance(images, np.ndarray):
        scaled = low + images.astype("float32") / 255 * width
        return np.clip(scaled, low, high)
    scaled = low + ops.cast(images, "float32") / 255 * width
    return ops.clip(scaled, low, high)


def read_images(x: Any, value_range: Any, name: str = "x") -> Any:
    """Read and check a batch of images.

    Args:
        x: NumPy array, tensor or lists, of floats in `value_range` or of
            dtype uint8.
        value_range: `(low, high)`.
        name: Name for error messages.

    Returns:
        NumPy array or tensor of float32 or float64.

    Raises:
        ValueError: If they are text, out of range or not a batch.
    """
    x = as_floats(x if ops.is_tensor(x) else as_array(x, name), value_range)
    array_checks.check_images(x, value_range, name)
    return x


def value_range_of(description: Mapping[str, Any]) -> tuple[Any, Any]:
    """The range of the pixels of a generated data set, as they are stored.

    Args:
        description: Its `description.json`.

    Returns:
        `(low, high)`: numbers, or lists of them.
    """
    if description["dtype"] == "uint8":
        return 0, 255
    # A transform need not have an argument of that name. Older sets have no
    # other record of it.
    arguments = description["arguments"]
    given = description.get("value_range") or arguments.get("value_range")
    low, high = given or (0.0, 1.0)
    return low, high


def to_unit(x: Any) -> Any:
    """Pixels in [0, 1]; integers, and numbers beyond 1.5, are taken for bytes.

    Args:
        x: Array or tensor of pixels, in [0, 1] or in 0 ... 255.

    Returns:
        Array or tensor, float32 if `x` has an integer dtype.
    """
    xp = np if isinstance(x, np.ndarray) else ops
    if _is_integer(x):
        x = x.astype("float32") if xp is np else ops.cast(x, "float32")
        return x / np.float32(255)
    return x / np.float32(255) if is_byte(x) else x


def is_byte(x: Any) -> bool:
    """Whether pixels are in 0 ... 255, see `to_unit`.

    Args:
        x: Array or tensor of pixels, in [0, 1] or in 0 ... 255.
    """
    xp = np if isinstance(x, np.ndarray) else ops
    return _is_integer(x) or bool(x.shape[0] and float(xp.max(x)) > 1.5)


def _is_integer(x: Any) -> bool:
    if ops.is_tensor(x):
        return "int" in str(x.dtype)
    return bool(x.dtype.kind in "ui")


def check_units(x: np.ndarray) -> None:
    """Check that pixels are either in [0, 1] or 0 to 255.

    Whole numbers of 0 and 1, or of 0 to 16, would be taken for bytes that are
    nearly black.

    Args:
        x: Array of images.

    Raises:
        ValueError: If they are probably in other units.
    """
    if not x.size:
        return
    low, high = x.min(), x.max()
    is_whole = x.dtype.kind in "biu"
    if is_whole and high == 1:
        raise ValueError(
            "Pixels of whole numbers must be 0 to 255; cast 0 and 1 to "
            f"float32. Received: {describe(x)}, values in [{low}, {high}]"
        )
    # Floats below 1.5 are no bytes.
    if 0 <= low and 1.5 < high <= DARK and x.dtype != "uint8":
        raise ValueError(
            "Pixels must be in [0, 1] or 0 to 255; divide them by the largest "
            "that there can be. "
            f"Received: {describe(x)}, values in [{low:g}, {high:g}]"
        )
