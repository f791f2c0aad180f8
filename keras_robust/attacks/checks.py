"""Input checks: each says what was expected and what came."""

import keras
import numpy as np
from keras import ops


def check_value_range(value_range):
    """Returns `(low, high)` as floats.

    Args:
        value_range: Two numbers, low < high: the box that holds every input.

    Raises:
        ValueError: If it is anything else.
    """
    try:
        low, high = (float(value) for value in value_range)
    except (TypeError, ValueError):
        low = high = np.nan
    if not low < high:
        raise ValueError(
            "Argument `value_range` must be two numbers (low, high) with "
            f"low < high. Received: value_range={value_range!r}"
        )
    return low, high


def check_images(x, value_range, name="x"):
    """Raises unless `x` is a batch of floats inside the box, without NaN.

    Args:
        x: NumPy array or tensor of shape `(N, ...)`, rank >= 2.
        value_range: `(low, high)`.
        name: What to call it in errors.

    Raises:
        ValueError: If dtype, rank or values are wrong.
    """
    dtype = keras.backend.standardize_dtype(x.dtype)
    if dtype not in ("float32", "float64"):
        raise ValueError(
            f"Argument `{name}` must be float32 or float64, scaled to "
            f"value_range={value_range}. Received: {name}.dtype={dtype}"
        )
    if len(x.shape) < 2:
        raise ValueError(
            f"Argument `{name}` must be a batch of shape (N, ...), rank >= 2. "
            f"Received: {name}.shape={tuple(x.shape)}"
        )
    if x.shape[0] == 0:
        return
    xp = np if isinstance(x, np.ndarray) else ops
    least, most = float(xp.min(x)), float(xp.max(x))
    low, high = (np.float32(value) for value in value_range)
    if dtype == "float64":
        low, high = min(low, value_range[0]), max(high, value_range[1])
    # A NaN makes both comparisons false.
    if not (least >= low and most <= high):
        finite = bool(xp.all(xp.isfinite(x)))
        found = f"values in [{least}, {most}]" if finite else "NaN or infinity"
        raise ValueError(
            f"Argument `{name}` must lie in value_range={tuple(value_range)} "
            "and be finite; put normalization inside the model. "
            f"Received: {found}"
        )


def check_labels(y, examples, num_classes, name="y"):
    """Labels as an int32 array of shape `(N,)`.

    Args:
        y: Integers of shape `(N,)` or `(N, 1)`, or one-hot of `(N, C)`.
        examples: N.
        num_classes: C; labels lie in 0 ... C - 1.
        name: What to call it in errors.

    Returns:
        NumPy array.

    Raises:
        ValueError: If shape or values are wrong.
    """
    y = np.asarray(ops.convert_to_numpy(y) if ops.is_tensor(y) else y)
    if y.shape == (examples, num_classes) and num_classes > 1:
        if not ((y == 0) | (y == 1)).all() or not (y.sum(-1) == 1).all():
            raise ValueError(
                f"Argument `{name}` of shape (N, C) must be one-hot. "
                f"Received: {name}[0]={y[0]}"
            )
        return y.argmax(-1).astype("int32")
    if y.shape == (examples, 1):
        y = y[:, 0]
    if y.shape != (examples,):
        raise ValueError(
            f"Argument `{name}` must be labels of shape ({examples},) or "
            f"one-hot of shape ({examples}, {num_classes}). "
            f"Received: {name}.shape={y.shape}"
        )
    if y.dtype.kind not in "iub" and not (y == np.round(y)).all():
        raise ValueError(
            f"Argument `{name}` must hold whole numbers. Received: {name}={y}"
        )
    if examples and (y.min() < 0 or y.max() >= num_classes):
        raise ValueError(
            f"Argument `{name}` must lie in 0 ... {num_classes - 1}, the "
            "classes of the model. "
            f"Received: labels from {y.min()} to {y.max()}"
        )
    return y.astype("int32")


def labels_in_graph(y):
    """The same reading of labels where values cannot be looked at.

    Args:
        y: Tensor of shape `(N,)`, `(N, 1)` or, one-hot or soft, `(N, C)`.

    Returns:
        Int32 tensor of shape `(N,)`; soft labels count as their largest.
    """
    if len(y.shape) == 2:
        y = y[:, 0] if y.shape[-1] == 1 else ops.argmax(y, axis=-1)
    return ops.cast(y, "int32")


def check_positive_integer(value, name, least=1):
    """Returns `value` as an int of at least `least`.

    Raises:
        ValueError: If it is no integer or too small.
    """
    integer = isinstance(value, (int, np.integer))
    if not integer or isinstance(value, bool) or value < least:
        raise ValueError(
            f"Argument `{name}` must be an integer >= {least}. "
            f"Received: {name}={value!r}"
        )
    return int(value)


def check_non_negative(value, name):
    """Returns `value`, a number or one per example, as float or float32 array.

    Raises:
        ValueError: If any of it is negative, NaN or infinite, or of rank > 1.
    """
    array = np.asarray(value)
    numeric = array.dtype.kind in "iuf" and array.ndim <= 1
    if not numeric or not np.isfinite(array).all() or (array < 0).any():
        raise ValueError(
            f"Argument `{name}` must be a number >= 0, or one per example. "
            f"Received: {name}={value!r}"
        )
    return float(array) if array.ndim == 0 else array.astype("float32")


def broadcast_mask(mask, shape):
    """`mask` with one row per example.

    Raises:
        ValueError: If it does not broadcast to `shape`.
    """
    try:
        return np.broadcast_to(mask, shape)
    except ValueError:
        raise ValueError(
            f"Argument `mask` must broadcast to x.shape={tuple(shape)}."
            f" Received: mask.shape={mask.shape}"
        ) from None
