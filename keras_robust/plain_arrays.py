"""Arrays of odd kinds as ones that every framework takes."""

from typing import Any

import numpy as np


def check_complete(value: Any, name: str) -> None:
    """Refuse arrays in which numbers are missing.

    Args:
        value: An array or tensor.
        name: What to call it in errors.

    Raises:
        ValueError: If it is masked or ragged.
    """
    missing = ""
    if np.ma.is_masked(value):
        missing = "a masked array; fill it, or leave those rows out"
    elif hasattr(value, "row_splits"):
        missing = "a ragged tensor, whose rows differ in length"
    if missing:
        raise ValueError(
            f"Argument `{name}` must hold a number in every place. "
            f"Received: {missing}"
        )


def in_native_format(array: np.ndarray) -> np.ndarray:
    """The same numbers in a precision and byte order that frameworks know.

    Args:
        array: NumPy array; unmasked, where it is of `numpy.ma`.

    Returns:
        NumPy array: extended floats as float64, the machine's byte order.
    """
    array = np.asarray(array)
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        return array.astype("float64")
    if array.dtype.isnative:
        return array
    # As files of other machines have it.
    return array.astype(array.dtype.newbyteorder("="))
