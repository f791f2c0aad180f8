"""Conversion of unusual arrays to such that every framework takes."""

from typing import Any

import numpy as np


def check_complete(value: Any, name: str) -> None:
    """Check that an array has a number in every place.

    Args:
        value: An array or tensor.
        name: Name of the argument in errors.

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
    """Convert to a precision and byte order that frameworks support.

    Args:
        array: NumPy array, without masked entries.

    Returns:
        NumPy array in the machine's byte order; extended floats as float64.
    """
    array = np.asarray(array)
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        return array.astype("float64")
    if array.dtype.isnative:
        return array
    # Such as arrays from files of other machines.
    return array.astype(array.dtype.newbyteorder("="))
