"""Checks of images and labels: errors state what was expected."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust.utils.messages import shown
from keras_robust.utils.messages import shown_places
from keras_robust.utils.plain_arrays import check_complete


def as_floats(x: Any, value_range: Any, name: str = "x") -> Any:
    """Inputs as floats; integers are taken where they fit into the box.

    Args:
        x: Array or tensor.
        value_range: As `check_value_range` gives it.
        name: What to call it in errors.

    Returns:
        The same, or float32 where it was of integers.

    Raises:
        ValueError: If integers stand for pixels of 0 ... 255 and the box is
            another one.
    """
    dtype = keras.backend.standardize_dtype(x.dtype)
    if "int" not in dtype:
        return x
    xp = np if isinstance(x, np.ndarray) else ops
    low, high = value_range
    width = float(np.max(np.asarray(high) - low))
    if dtype == "uint8" and width <= 2 and x.shape[0] and xp.max(x) > 1:
        raise ValueError(
            f"Argument `{name}` holds pixels of 0 ... 255. Pass "
            "value_range=(0, 255) and a radius in the same units "
            "(epsilon=8 for 8/255), or in an evaluation scaling='byte'; put "
            "normalization inside the model. "
            f"Received: {name}.dtype={dtype}, "
            f"value_range={shown(value_range)}"
        )
    return x.astype("float32") if xp is np else ops.cast(x, "float32")


def check_whole(x: Any, grid: Any) -> None:
    """Check that inputs of an integer Input are whole numbers.

    Args:
        x: Float array or tensor.
        grid: Spacing of the values that it may have.

    Raises:
        ValueError: If it is not, so that Keras would cut it off.
    """
    values = np.asarray(ops.convert_to_numpy(x)) / grid
    if np.abs(values - np.round(values)).max(initial=0.0) > 1e-3:
        hint = ""
        if values.min() >= 0 and values.max() <= 1:
            # Probably bytes that were divided by 255.
            hint = " Pass bytes, and value_range=(0, 255)."
        raise ValueError(
            "Argument `x` must hold whole numbers, since the Input of the "
            f"model takes integers and would cut off the rest.{hint} Received: "
            f"values in [{values.min():.6g}, {values.max():.6g}]"
        )


def outside_box(x: Any, value_range: Any) -> np.ndarray:
    """By how much examples leave the box.

    Args:
        x: Array `(N, ...)`.
        value_range: As `check_value_range` gives it.

    Returns:
        Float array `(N,)`, 0 inside.
    """
    low, high = value_range
    excess = np.maximum(np.maximum(low - x, x - high), 0)
    return excess.reshape(len(x), -1).max(-1, initial=0.0)


def check_images(x: Any, value_range: Any, name: str = "x") -> None:
    """Raise unless `x` is a batch of floats inside the box, without NaN.

    Args:
        x: NumPy array or tensor of shape `(N, ...)`, rank >= 2.
        value_range: `(low, high)`.
        name: What to call it in errors.

    Raises:
        ValueError: If dtype, rank or values are wrong.
    """
    dtype = keras.backend.standardize_dtype(x.dtype)
    if dtype not in ("float32", "float64"):
        kind = str(getattr(x, "dtype", dtype))
        dtype = kind if isinstance(x, np.ndarray) else dtype
        raise ValueError(
            f"Argument `{name}` must be float32 or float64, scaled to "
            f"value_range={shown(value_range)}. "
            f"Received: {name}.dtype={dtype}"
        )
    if len(x.shape) < 2:
        raise ValueError(
            f"Argument `{name}` must be a batch of shape (N, ...), rank >= 2. "
            f"Received: {name}.shape={tuple(x.shape)}"
        )
    if x.shape[0] == 0:
        return
    xp = np if isinstance(x, np.ndarray) else ops
    low, high = value_range
    if np.ndim(low):
        _check_rows(x, value_range, name)
        return
    least, most = float(xp.min(x)), float(xp.max(x))
    low, high = np.float32(low), np.float32(high)
    if dtype == "float64":
        low, high = min(low, value_range[0]), max(high, value_range[1])
    # A NaN makes both comparisons false.
    if not (least >= low and most <= high):
        finite = bool(xp.all(xp.isfinite(x)))
        found = f"values in [{least}, {most}]" if finite else "NaN or infinity"
        raise ValueError(
            f"Argument `{name}` must lie in value_range={tuple(value_range)} "
            f"and be finite{_advice(x, least, most, value_range)}. "
            f"Received: {found}"
        )


def _advice(x: Any, least: float, most: float, value_range: Any) -> str:
    """What to do about inputs outside the box."""
    if len(x.shape) == 2:
        return (
            "; for a table pass the range of each column over all data, "
            "value_range=(x.min(axis=0), x.max(axis=0)), for pixels of "
            "0 ... 255 value_range=(0, 255), with radii in the same units; or "
            "put normalization inside the model"
        )
    bytes_given = least >= 0 and 1.5 < most <= 255
    if bytes_given and tuple(value_range) == (0.0, 1.0):
        return (
            "; these are pixels of 0 ... 255: pass value_range=(0, 255) and "
            "a radius in the same units (epsilon=8 for 8/255), or in an "
            "evaluation scaling='byte', and put normalization inside the model"
        )
    return "; put normalization inside the model"


def _check_rows(x: Any, value_range: Any, name: str) -> None:
    """As `check_images`, feature by feature."""
    # In the precision of the range, which rounds x in the same way.
    values = np.asarray(ops.convert_to_numpy(x), "float32")
    try:
        np.broadcast_shapes(values.shape[1:], value_range[0].shape[1:])
        excess = outside_box(values, value_range)
    except ValueError:
        raise ValueError(
            "Argument `value_range` must broadcast to one row of the input. "
            f"Received: {name}.shape={values.shape}, value_range of shape "
            f"{value_range[0].shape[1:]}"
        ) from None
    if not (excess <= 0).all():
        raise ValueError(
            f"Argument `{name}` must lie in value_range and be finite. "
            f"Received: {int((~(excess <= 0)).sum())} examples outside, in "
            f"{shown_places(_outside(values, value_range))}"
        )


def _outside(values: Any, value_range: Any) -> np.ndarray:
    """The features in which any example is outside."""
    low, high = value_range
    return ~((low <= values) & (values <= high)).all(axis=0)


def check_labels(
    y: Any, examples: int, num_classes: int, name: str = "y"
) -> np.ndarray:
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
    if y is None:
        raise ValueError(
            f"Argument `{name}` must hold the labels. Received: {name}=None"
        )
    check_complete(y, name)
    y = np.asarray(ops.convert_to_numpy(y) if ops.is_tensor(y) else y)
    if y.dtype == object:
        y = _from_objects(y, name)
    if y.dtype.kind not in "iubf":
        raise ValueError(
            f"Argument `{name}` must be numbers 0 ... {num_classes - 1}, not "
            "names; numpy.unique(labels, return_inverse=True) numbers them. "
            f"Received: {name}.dtype={y.dtype}"
        )
    if y.shape == (examples, num_classes) and num_classes > 1:
        if not ((y == 0) | (y == 1)).all() or not (y.sum(-1) == 1).all():
            raise ValueError(
                f"Argument `{name}` of shape (N, C) must be one-hot; a model "
                "of several labels at once is trained and measured by "
                "AdversarialModel(model, attack).fit and .evaluate. "
                f"Received: {name}[0]={shown(y[0])}"
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
        first = y[y != np.round(y)][0]
        raise ValueError(
            f"Argument `{name}` must hold whole numbers, the classes; a model "
            "of other numbers (a regression) is trained and measured by "
            "AdversarialModel(model, attack).fit and .evaluate. "
            f"Received: {name} with the value {first}"
        )
    if examples and (y.min() < 0 or y.max() >= num_classes):
        raise ValueError(
            f"Argument `{name}` must lie in 0 ... {num_classes - 1}, the "
            "classes of the model. "
            f"Received: labels from {y.min()} to {y.max()}"
        )
    return y.astype("int32")


def _from_objects(y: np.ndarray, name: str) -> np.ndarray:
    """Numbers out of an array of objects."""
    try:
        return y.astype("float64")
    except (TypeError, ValueError):
        raise ValueError(
            f"Argument `{name}` must be an array of class numbers. "
            f"Received: {name}.dtype=object, which is not of numbers"
        ) from None


def labels_in_graph(y: Any) -> Any:
    """The same reading of labels where values cannot be looked at.

    Args:
        y: Tensor of shape `(N,)`, `(N, 1)` or, one-hot or soft, `(N, C)`.

    Returns:
        Int32 tensor of shape `(N,)`; soft labels count as their largest.
    """
    if len(y.shape) == 2:
        y = y[:, 0] if y.shape[-1] == 1 else ops.argmax(y, axis=-1)
    return ops.cast(y, "int32")


def broadcast_mask(mask: Any, shape: tuple[int, ...]) -> Any:
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
