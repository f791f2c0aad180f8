"""Corruptions by name, and which of them an evaluation measures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_robust.attacks.engine.randomness import generator
from keras_robust.attacks.image_attack import check_data_format
from keras_robust.attacks.image_attack import to_first
from keras_robust.attacks.image_attack import to_last
from keras_robust.corruptions import functions
from keras_robust.utils import array_checks
from keras_robust.utils import checks
from keras_robust.utils.messages import describe
from keras_robust.utils.messages import did_you_mean
from keras_robust.utils.messages import shown

_BY_NAME: dict[str, functions.Corruption] = {
    "gaussian_noise": functions.gaussian_noise,
    "shot_noise": functions.shot_noise,
    "impulse_noise": functions.impulse_noise,
    "defocus_blur": functions.defocus_blur,
    "zoom_blur": functions.zoom_blur,
    "fog": functions.fog,
    "brightness": functions.brightness,
    "contrast": functions.contrast,
    "pixelate": functions.pixelate,
    "jpeg_compression": functions.jpeg_compression,
}
CORRUPTIONS = tuple(_BY_NAME)
SEVERITIES = (1, 2, 3, 4, 5)
# Those that need Pillow.
_PILLOW = ("pixelate", "jpeg_compression")
# Images that are corrupted at once.
_IMAGES = 256


def corrupt(
    x: Any,
    name: str,
    severity: int,
    seed: int | None = 0,
    rows: Any = None,
    value_range: tuple[float, float] = (0.0, 1.0),
    data_format: str = "channels_last",
) -> np.ndarray:
    """Corrupt images as in CIFAR-10-C, of any size.

    Hendrycks & Dietterich 2019 (arXiv:1903.12261), with the constants for
    32x32 images whatever the size. Lengths, such as those of blurs, are in
    pixels. Results are not rounded to 8 bits, as the published images are.

    Args:
        x: Array `(N, H, W, C)` of pixels in `value_range`.
        name: One of `CORRUPTIONS`.
        severity: Int from 1 to 5.
        seed: Int >= 0, or `None` for fresh entropy. The noise of an image
            depends on seed, name, severity and row, not on other images.
        rows: Row numbers of the images, ints `(N,)`; `None` for 0, 1, ...
        value_range: `(low, high)`, black and white.
        data_format: `"channels_last"` or `"channels_first"`.

    Returns:
        Float array like `x`, clipped to `value_range`; float32 if `x` holds
        integers.

    Raises:
        ValueError: If an argument is not as above, or JPEG is asked for images
            of other than 1 or 3 channels.

    Example:

    ```python
    x_fog = keras_robust.corruptions.corrupt(x, "fog", severity=3)
    ```
    """
    chosen = Corruptions(
        (name,), (severity,), seed, value_range, data_format=data_format
    )
    x = np.asarray(x)
    if x.dtype.kind != "f":
        x = x.astype("float32")
    chosen.check(x, data_format == "channels_first")
    rows = np.arange(len(x)) if rows is None else np.asarray(rows)
    if rows.shape != (len(x),):
        raise ValueError(
            f"Argument `rows` must hold the {len(x)} row numbers of the "
            f"images. Received: rows={shown(rows)}"
        )
    found = np.empty_like(x)
    for start in range(0, len(x), _IMAGES):
        part = slice(start, start + _IMAGES)
        found[part] = chosen.apply(
            x[part],
            name,
            severity,
            rows=rows[part],
            channels_first=data_format == "channels_first",
        )
    return found


@dataclass(frozen=True)
class Corruptions:
    """Corruptions that an evaluation measures, in the place of an attack.

    `evaluate_robustness(model, data, "corruptions")` takes all of them at all
    severities.

    Args:
        names: Names of `CORRUPTIONS`.
        severities: Ints from 1 to 5.
        seed: Int >= 0, or `None` for fresh entropy.
        value_range: `(low, high)`, black and white; `None` for that of the
            evaluation, (0, 1) if it has none.
        data_format: `"channels_last"`, `"channels_first"`, or `None` to find
            out as `SquareAttack` does.

    Example:

    ```python
    severe = keras_robust.corruptions.Corruptions(severities=(5,))
    report = keras_robust.evaluate_robustness(model, (x, y), severe)
    ```
    """

    names: Sequence[str] = CORRUPTIONS
    severities: Sequence[int] = SEVERITIES
    seed: int | None = 0
    value_range: tuple[float, float] | None = None
    data_format: str | None = None

    def __post_init__(self) -> None:
        names = (self.names,) if isinstance(self.names, str) else self.names
        object.__setattr__(self, "names", tuple(names))
        for name in self.names:
            if name not in _BY_NAME:
                raise ValueError(
                    f"The name of a corruption must be one of {CORRUPTIONS}."
                    f"{did_you_mean(name, CORRUPTIONS)} "
                    f"Received: {shown(name)}"
                )
        severities = np.ravel(self.severities).tolist()
        object.__setattr__(self, "severities", tuple(severities))
        for severity in severities:
            if isinstance(severity, bool) or severity not in SEVERITIES:
                raise ValueError(
                    f"A severity must be one of {SEVERITIES}. "
                    f"Received: {shown(severity)}"
                )
        for key in ("names", "severities"):
            values = getattr(self, key)
            if not values or len(set(values)) < len(values):
                raise ValueError(
                    f"Argument `{key}` must hold at least one, each once. "
                    f"Received: {key}={shown(values)}"
                )
        # Raises for seeds that cannot be.
        generator(self.seed)
        check_data_format(self.data_format)
        if self.value_range is not None:
            checked = checks.check_value_range(self.value_range)
            if isinstance(checked, str) or np.ndim(checked[0]):
                raise ValueError(
                    "Argument `value_range` of corruptions must be two "
                    "numbers, black and white. "
                    f"Received: value_range={shown(self.value_range)}"
                )
            object.__setattr__(self, "value_range", checked)

    @property
    def box(self) -> tuple[float, float]:
        """`(low, high)`."""
        return (0.0, 1.0) if self.value_range is None else self.value_range

    def check(self, x: np.ndarray, channels_first: bool) -> None:
        """Check that images can be corrupted, before any is.

        Args:
            x: Float array.
            channels_first: Whether channels come before rows.

        Raises:
            ValueError: If they are no images in the range, or have a number of
                channels that JPEG cannot hold.
            ImportError: If Pillow is needed and not installed.
        """
        if x.ndim != 4 or 0 in x.shape[1:]:
            raise ValueError(
                "Corruptions need images of shape (N, H, W, C) or (N, C, H, "
                f"W). Received: {describe(x)}"
            )
        array_checks.check_images(x, self.box)
        channels = x.shape[1 if channels_first else 3]
        if "jpeg_compression" in self.names and channels not in (1, 3):
            raise ValueError(
                "'jpeg_compression' needs images of 1 or 3 channels; name the "
                "other corruptions: Corruptions(names=...). "
                f"Received: {channels} channels"
            )
        if set(_PILLOW) & set(self.names):
            functions.import_pillow()

    def apply(
        self,
        x: np.ndarray,
        name: str,
        severity: int,
        rows: np.ndarray,
        channels_first: bool = False,
    ) -> np.ndarray:
        """Corrupt checked images.

        Args:
            x: Float array `(n, ...)`.
            name: One of `names`.
            severity: One of `severities`.
            rows: Row numbers, ints `(n,)`, by which noise is drawn.
            channels_first: Whether channels come before rows.

        Returns:
            Array like `x`.
        """
        if not len(x):
            return x.copy()
        stream = (CORRUPTIONS.index(name), severity)
        random = [generator(self.seed, *stream, int(row)) for row in rows]
        low, high = self.box
        images = to_last(x) if channels_first else x
        unit = (images.astype("float64") - low) / (high - low)
        found = _BY_NAME[name](unit, severity, random)
        found = low + (high - low) * np.clip(found, 0, 1)
        found = to_first(found) if channels_first else found
        # Rounding to float32 may leave the range.
        return np.clip(found.astype(x.dtype), low, high).astype(x.dtype)
