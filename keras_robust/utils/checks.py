"""Checks of settings: errors state what was expected and what came."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_robust.utils.messages import shown
from keras_robust.utils.messages import shown_places


def check_value_range(value_range: Any) -> Any:
    """The box as `(low, high)`, or `"auto"`.

    Args:
        value_range: Two numbers, or arrays that broadcast to one row of the
            input, low < high: the box that holds every input; or `"auto"`.

    Returns:
        Two floats; or two float32 arrays, with an axis for the examples.

    Raises:
        ValueError: If it is anything else.
    """
    if isinstance(value_range, str) and value_range == "auto":
        return value_range
    try:
        low, high = (np.asarray(value, "float64") for value in value_range)
        right = bool((low < high).all())
    except (TypeError, ValueError):
        right = False
    if not right:
        raise ValueError(
            "Argument `value_range` must be two numbers (low, high) with "
            "low < high, two arrays of one row of the input, or 'auto'"
            f"{_narrow(value_range)}. "
            f"Received: value_range={shown(value_range)}"
        )
    if low.ndim == high.ndim == 0:
        return float(low), float(high)
    low, high = np.broadcast_arrays(low, high)
    return _as_row(low), _as_row(high)


def _narrow(value_range: Any) -> str:
    """Which features have no width, and what to do about them."""
    try:
        low, high = np.broadcast_arrays(*np.asarray(value_range, "float64"))
    except (TypeError, ValueError):
        return ""
    row = ~(low < high)
    row = row[0] if row.ndim > 1 and len(row) == 1 else row
    if row.ndim == 0:
        return ""
    return (
        f". low is not below high in {shown_places(row)}; where a column is "
        "constant, give it a range of its own, such as (low, low + 1), and "
        "hold it by `mask` or an epsilon of 0"
    )


def _as_row(values: Any) -> np.ndarray:
    """Float32, read-only, with an axis of length 1 for the examples."""
    row = np.array(values, "float32")
    if row.shape[0] != 1:
        row = row[None]
    row.flags.writeable = False
    return row


def default_radius(share: float, value_range: Any) -> float | None:
    """A share of the width of the box.

    Args:
        share: Float.
        value_range: As `check_value_range` gives it.

    Returns:
        Float; `None` while the box is not known.

    Raises:
        ValueError: If the box has no one width.
    """
    if isinstance(value_range, str):
        return None
    low, high = value_range
    width = np.unique(np.asarray(high, "float64") - low)
    if len(width) != 1 or not np.isfinite(width).all():
        raise ValueError(
            "Argument `epsilon` must be given where `value_range` has no one "
            "width. Received: epsilon=None, "
            f"value_range={shown(value_range)}"
        )
    return share * float(width[0])


def check_radius(epsilon: Any, name: str = "epsilon") -> Any:
    """A length as float, or as a read-only float32 array.

    Args:
        epsilon: A number >= 0, or an array of them.
        name: What to call it in errors.

    Raises:
        ValueError: If any of it is negative, NaN, infinite or no number.
    """
    array = np.asarray(epsilon)
    numeric = array.dtype.kind in "iuf"
    if not numeric or not np.isfinite(array).all() or (array < 0).any():
        raise ValueError(
            f"Argument `{name}` must be a number >= 0, one per example, or "
            f"one row of the input. Received: {name}={shown(epsilon)}"
        )
    if array.ndim == 0:
        return float(array)
    array = np.array(array, "float32")
    array.flags.writeable = False
    return array


def expand_radius(
    value: Any, name: str, shape: tuple[int, ...], takes_rows: bool
) -> np.ndarray:
    """A length for each example, or for each feature of each.

    Args:
        value: A number; an array `(N,)`, one per example; or one row of the
            input, `(...)` or `(1, ...)`, one per feature.
        name: What to call it in errors.
        shape: `(N, ...)`.
        takes_rows: Whether one per feature is possible.

    Returns:
        Float32 array `(N,)` or `(N, ...)`.

    Raises:
        ValueError: If it has another shape, or one that can mean both.
    """
    value, shape = np.asarray(value, "float32"), tuple(shape)
    examples, row = shape[:1], shape[1:]
    is_row = value.shape in (row, (1, *row)) and value.ndim > 0
    if value.shape == examples and is_row:
        raise ValueError(
            f"Argument `{name}` must have the shape ({examples[0]}, 1) for one "
            f"value per example, or (1, {row[0]}) for one per feature. "
            f"Received: {name}.shape={value.shape}"
        )
    if value.ndim == 2 and value.shape == (shape[0], 1) and row != (1,):
        return value[:, 0]
    if is_row and value.shape != examples and takes_rows:
        value = value.reshape((1, *row))
        return np.ascontiguousarray(np.broadcast_to(value, shape))
    if value.ndim and value.shape != examples:
        per_row = f", or one row of shape {row}" if takes_rows else ""
        raise ValueError(
            f"Argument `{name}` must be a number or of shape "
            f"({shape[0]},){per_row}. Received: {name}.shape={value.shape}"
        )
    return np.broadcast_to(value, examples)


def check_positive_integer(value: Any, name: str, least: int = 1) -> int:
    """Return `value` as an int of at least `least`.

    Raises:
        ValueError: If it is no integer or too small.
    """
    integer = isinstance(value, (int, np.integer))
    if not integer or isinstance(value, bool) or value < least:
        raise ValueError(
            f"Argument `{name}` must be an integer >= {least}. "
            f"Received: {name}={shown(value)}"
        )
    return int(value)


def check_restarts(restarts: int, random_start: bool) -> None:
    """Raise a ValueError where restarts would all be the same run."""
    if restarts > 1 and not random_start:
        raise ValueError(
            "Argument `restarts` above 1 must come with random_start=True: "
            "without it every restart is the same run. "
            f"Received: restarts={restarts}, random_start={random_start}"
        )


def check_share(value: Any, name: str) -> float:
    """Check that a number is between 0 and 1, and neither; return it."""
    if isinstance(value, bool) or not 0 < value < 1:
        raise ValueError(
            f"Argument `{name}` must be in (0, 1). Received: {name}={value!r}"
        )
    return float(value)


def check_non_negative(value: Any, name: str) -> Any:
    """Return `value`, a number or one per example, as float or float32 array.

    Raises:
        ValueError: If any of it is negative, NaN or infinite, or of rank > 1.
    """
    array = np.asarray(value)
    numeric = array.dtype.kind in "iuf" and array.ndim <= 1
    if not numeric or not np.isfinite(array).all() or (array < 0).any():
        raise ValueError(
            f"Argument `{name}` must be a number >= 0, or one per example. "
            f"Received: {name}={shown(value)}"
        )
    return float(array) if array.ndim == 0 else array.astype("float32")


def check_number(
    value: Any, name: str, most: float = np.inf, positive: bool = False
) -> float:
    """Return `value`, one number from 0 to `most`, as a float.

    Args:
        value: Anything.
        name: Name of the argument in errors.
        most: The largest number that is allowed.
        positive: Whether 0 is not.

    Raises:
        ValueError: If it is not such a number.
    """
    array = np.asarray(value)
    numeric = array.dtype.kind in "iuf" and array.ndim == 0
    inside = numeric and np.isfinite(array) and 0 <= array <= most
    if not inside or (positive and array == 0):
        bounds = f"{'> 0' if positive else '>= 0'}"
        if most < np.inf:
            bounds += f" and <= {most:g}"
        raise ValueError(
            f"Argument `{name}` must be a number {bounds}. "
            f"Received: {name}={shown(value)}"
        )
    return float(array)


def takes_arguments(function: Callable[..., Any], count: int) -> bool:
    """Whether a function can be called with so many positional arguments.

    Args:
        function: Any callable; one without a signature is trusted.
        count: Int >= 0.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True
