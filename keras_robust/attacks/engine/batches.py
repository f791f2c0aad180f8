"""Arrays of any length through a function of one batch."""

import functools
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust import backend
from keras_robust.attacks.engine.loop import Inputs
from keras_robust.attacks.engine.loop import Tensor
from keras_robust.utils.progress import Progress

# Counts steps done in a batch.
Report = Callable[[int], None]


def call_on_batch(
    function: Callable[[Inputs], dict[str, Tensor]],
    inputs: Inputs,
    size: int,
    padded_size: int,
) -> dict[str, Tensor]:
    """Call a function of a batch, filled up to a size that is compiled.

    Args:
        function: Takes `Inputs` of tensors, returns tensors of the batch.
        inputs: Arrays or tensors with `size` rows.
        size: Int >= 1, examples in the batch.
        padded_size: Int >= `size`; copies of the first example fill it up.

    Returns:
        Dictionary of tensors with `size` rows.
    """
    missing = padded_size - size
    rows = pad_rows(as_tensors(inputs.rows), missing)
    shared = as_tensors(inputs.shared)
    result = function(Inputs(backend.shard_batch(rows), shared))
    if missing:
        result = {key: value[:size] for key, value in result.items()}
    return result


def map_batches(
    function: Callable[[Inputs, Report], dict[str, Tensor]],
    x: Any,
    inputs: dict[str, Any],
    *,
    value_range: Any,
    batch_size: int,
    pads: bool,
    steps: int,
    verbose: int,
    fixed: bool = False,
) -> dict[str, Any]:
    """Call `function` batch by batch, so that memory does not grow with N.

    Args:
        function: `(inputs, report) -> dictionary` of tensors, with `"x"`.
            `inputs.rows` holds `center` and slices of `inputs` as tensors.
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
        batch = keras.tree.map_structure(
            lambda value, start=start, stop=stop: value[start:stop],
            {"center": x, **inputs},
        )
        counted = _Counter(progress)
        result = call_on_batch(
            functools.partial(_with_report, function, counted),
            Inputs(batch),
            size=stop - start,
            padded_size=padded_size(
                stop - start, batch_size, pads=pads, fixed=fixed
            ),
        )
        progress.add(max(steps, 1) - counted.done)
        result["x"] = like(x[start:stop], result["x"], value_range)
        results.add(start, stop, result)
    return results.all_rows()


def _with_report(
    function: Callable[[Inputs, Report], dict[str, Tensor]],
    report: Report,
    inputs: Inputs,
) -> dict[str, Tensor]:
    return function(inputs, report)


class _Counter:
    """Counts steps, and shows them."""

    def __init__(self, progress: Progress) -> None:
        self.done = 0
        self._progress = progress

    def __call__(self, steps: int) -> None:
        self.done += steps
        self._progress.add(steps)


class _Rows:
    """Results of all batches; arrays are not held twice.

    Args:
        examples: N.
    """

    def __init__(self, examples: int) -> None:
        self.examples = examples
        self.arrays: dict[str, Any] = {}

    def add(self, start: int, stop: int, result: dict[str, Any]) -> None:
        """Keep what a batch gave: tensors of `"x"`, otherwise arrays."""
        for key, value in result.items():
            if key == "x" and not isinstance(value, np.ndarray):
                self.arrays.setdefault(key, []).append(value)
                continue
            value = ops.convert_to_numpy(value)
            if key not in self.arrays:
                shape = (self.examples, *value.shape[1:])
                self.arrays[key] = np.empty(shape, value.dtype)
            self.arrays[key][start:stop] = value

    def all_rows(self) -> dict[str, Any]:
        """Return arrays and tensors of length N."""
        return {
            key: value
            if isinstance(value, np.ndarray)
            else value[0]
            if len(value) == 1
            else ops.concatenate(value)
            for key, value in self.arrays.items()
        }


def split_rows(rows: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Yield successive stretches of at most `batch_size` row numbers."""
    for start in range(0, len(rows), batch_size):
        yield rows[start : start + batch_size]


def padding(size: int, batch_size: int, least: int = 1) -> int:
    """Return how many rows to add, to reach a size that is compiled.

    Compiled sizes are the batch size and a half, a quarter, ... of it.

    Args:
        size: Int >= 1, rows there are.
        batch_size: Int >= size.
        least: Int >= 1, no smaller batches than this.
    """
    padded = batch_size
    while padded > 1 and (padded + 1) // 2 >= max(size, least):
        padded = (padded + 1) // 2
    return padded - size


def padded_size(
    size: int, batch_size: int, *, pads: bool, fixed: bool, least: int = 1
) -> int:
    """Return the batch size that `size` examples are filled up to.

    Args:
        size: Int >= 1, examples there are.
        batch_size: Int >= size.
        pads: Whether each new size costs a compilation.
        fixed: Whether only `batch_size` examples will do.
        least: Int >= 1, no smaller batches than this where `pads`.
    """
    if fixed:
        return batch_size
    return size + padding(size, batch_size, least) if pads else size


def as_tensors(arrays: Any) -> Any:
    """Return nested arrays as tensors, float64 as float32."""
    return keras.tree.map_structure(_tensor, arrays)


def _tensor(value: Any) -> Tensor:
    if isinstance(value, np.ndarray) and value.dtype == np.float64:
        value = value.astype("float32")
    value = ops.convert_to_tensor(value)
    if keras.backend.standardize_dtype(value.dtype) == "float64":
        value = ops.cast(value, "float32")
    return value


def pad_rows(tensors: Any, missing: int) -> Any:
    """Add `missing` copies of the first example to nested tensors."""
    if not missing:
        return tensors

    def longer(value: Tensor) -> Tensor:
        return ops.concatenate([value, ops.repeat(value[:1], missing, axis=0)])

    return keras.tree.map_structure(longer, tensors)


def like(x: Any, result: Any, value_range: Any) -> Any:
    """Return `result`, made from `x` in float32, in the kind and dtype of `x`.

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
    # The input itself may lie outside by the rounding of the range.
    return xp.where(step == 0, x, xp.clip(x + step, *value_range))
