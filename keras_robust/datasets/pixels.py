"""Images as floats in a range of pixels."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust.datasets.arrays import as_array
from keras_robust.utils import array_checks
from keras_robust.utils.messages import shown


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
