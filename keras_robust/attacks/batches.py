"""Arrays of any length through a function of one batch."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust import backend
from keras_robust.progress import Progress


def map_batches(
    function: Callable,
    x: Any,
    inputs: Any,
    *,
    value_range: Any,
    batch_size: int,
    pads: bool,
    steps: int,
    verbose: int,
    fixed: bool = False,
) -> dict:
    """Runs `function` batch by batch, so that memory does not grow with N.

    Args:
        function: `(batch, report) -> dictionary` of tensors, with `"x"`.
            `batch` holds `center` and slices of `inputs` as tensors.
        x: NumPy array or tensor of shape `(N, ...)`, float32 or float64.
        inputs: Dictionary of arrays of length N, nested.
        value_range: `(low, high)` that holds `x` and the result.
        batch_size: Int >= 1.
        pads: Whether to fill up partial batches, by repeating their first
            example, so that few sizes are compiled: see `padding`.
        steps: Steps in one batch, for the progress bar.
        verbose: 0 for no progress bar.
        fixed: Whether only `batch_size` examples will do.

    Returns:
        Dictionary of results of length N; `"x"` like the input `x` in dtype
        and kind, the others NumPy arrays.
    """
    examples = x.shape[0]
    starts = range(0, examples, batch_size)
    progress = Progress(len(starts) * max(steps, 1), verbose)
    results = _Rows(examples)
    for start in starts:
        stop = min(start + batch_size, examples)
        least = batch_size if fixed else 1
        missing = 0
        if pads or fixed:
            missing = padding(stop - start, batch_size, least)
        batch = keras.tree.map_structure(
            lambda value, start=start, stop=stop: value[start:stop],
            {"center": x, **inputs},
        )
        batch = backend.spread(fill(as_tensors(batch), missing))
        done = []

        def report(n, done=done):
            done.append(n)
            progress.add(n)

        result = function(batch, report)
        # What an early stop has saved.
        progress.add(max(steps, 1) - sum(done))
        if missing:
            result = {key: value[:-missing] for key, value in result.items()}
        result["x"] = like(x[start:stop], result["x"], value_range)
        results.add(start, stop, result)
    return results.whole()


class _Rows:
    """Results of all batches; arrays are not held twice.

    Args:
        examples: N.
    """

    def __init__(self, examples: int) -> None:
        self.examples = examples
        self.arrays = {}

    def add(self, start: Any, stop: int, result: Any) -> None:
        """Keeps what a batch gave: tensors of `"x"`, otherwise arrays."""
        for key, value in result.items():
            if key == "x" and not isinstance(value, np.ndarray):
                self.arrays.setdefault(key, []).append(value)
                continue
            value = ops.convert_to_numpy(value)
            if key not in self.arrays:
                shape = (self.examples, *value.shape[1:])
                self.arrays[key] = np.empty(shape, value.dtype)
            self.arrays[key][start:stop] = value

    def whole(self) -> dict:
        """Dictionary of all rows."""
        return {
            key: value
            if isinstance(value, np.ndarray)
            else value[0]
            if len(value) == 1
            else ops.concatenate(value)
            for key, value in self.arrays.items()
        }


def padding(size: int, batch_size: int, least: int = 1) -> int:
    """Rows to add, to the batch size or a half, quarter, ... of it.

    Args:
        size: Int >= 1, rows there are.
        batch_size: Int >= size.
        least: Int >= 1, no smaller batches than this.

    Returns:
        Int >= 0.
    """
    padded = batch_size
    while padded > 1 and (padded + 1) // 2 >= max(size, least):
        padded = (padded + 1) // 2
    return padded - size


def as_tensors(arrays: Any) -> dict:
    """A (nested) dictionary of arrays as tensors, floats in float32."""
    return {
        key: as_tensors(value) if isinstance(value, dict) else _tensor(value)
        for key, value in arrays.items()
    }


def _tensor(value):
    if isinstance(value, np.ndarray) and value.dtype == np.float64:
        value = value.astype("float32")
    value = ops.convert_to_tensor(value)
    if keras.backend.standardize_dtype(value.dtype) == "float64":
        value = ops.cast(value, "float32")
    return value


def fill(tensors: Any, missing: Any) -> Any:
    """Adds `missing` copies of the first example.

    Args:
        tensors: Dictionary of tensors, nested; what is under `"shared"` is
            not one per example and stays as it is.
        missing: Int >= 0.

    Returns:
        The same with so many more rows.
    """
    if not missing:
        return tensors

    def longer(value):
        return ops.concatenate([value, ops.repeat(value[:1], missing, axis=0)])

    return {
        key: value
        if key == "shared"
        else fill(value, missing)
        if isinstance(value, dict)
        else longer(value)
        for key, value in tensors.items()
    }


def like(x: Any, result: Any, value_range: Any) -> Any:
    """`result`, made from `x` in float32, in the kind and dtype of `x`.

    Args:
        x: NumPy array or tensor.
        result: NumPy array or tensor of that shape.
        value_range: `(low, high)` that holds both.

    Returns:
        NumPy array or tensor.
    """
    xp = np if isinstance(x, np.ndarray) else ops
    if xp is np:
        result = ops.convert_to_numpy(result)
    else:
        result = ops.convert_to_tensor(result)
    if keras.backend.standardize_dtype(x.dtype) != "float64":
        return result
    # The float32 step is added to the float64 input: the input's own rounding
    # would count against epsilon.
    rounded = x.astype("float32") if xp is np else ops.cast(x, "float32")
    step = result - rounded
    step = step.astype(x.dtype) if xp is np else ops.cast(step, "float64")
    return xp.clip(x + step, *value_range)
