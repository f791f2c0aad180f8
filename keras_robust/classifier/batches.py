"""Arrays of any length through a compiled function of one batch."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust.backend import Tensor


def padded_rows(values: Any, count: int, target: int) -> Tensor:
    """The first rows of an array, filled up with copies of the first one.

    Args:
        values: Array or tensor `(N, ...)`.
        count: Int from 1 to N, rows to take.
        target: Int >= `count`, rows to return.

    Returns:
        Tensor; float32 if `values` holds floats.
    """
    values = ops.convert_to_tensor(values[:count])
    if "float" in keras.backend.standardize_dtype(values.dtype):
        values = ops.cast(values, "float32")
    more = target - values.shape[0]
    if not more:
        return values
    filling = ops.repeat(values[:1], more, axis=0)
    return ops.concatenate([values, filling])


def in_batches(
    predict: Callable[[dict[str, Any]], Tensor],
    image: Any,
    held: dict[str, Any] | None,
    draw: int,
    batch_size: int,
    fixed: int | None,
) -> np.ndarray:
    """Call a compiled function on all rows, batch by batch.

    Args:
        predict: Takes a dictionary of `x`, `draw` and `held`, tensors.
        image: Array `(N, ...)`, N >= 1.
        held: Dictionary of arrays, or `None`.
        draw: Int, the draw of noise of the first batch; others count on.
        batch_size: Int >= 1.
        fixed: The one batch size that the function takes, or `None`.

    Returns:
        NumPy array, one row per example.
    """
    batch_size = fixed or batch_size
    image = ops.convert_to_numpy(image)
    held = {k: ops.convert_to_numpy(v) for k, v in (held or {}).items()}
    batches = []
    for start in range(0, len(image), batch_size):
        stop = min(start + batch_size, len(image))
        missing = start + batch_size - stop if start or fixed else 0
        found = predict(
            {
                "x": _rows(image, start, stop, missing, "float32"),
                # Each batch has its own noise.
                "draw": ops.convert_to_tensor(
                    draw + start // batch_size, "int32"
                ),
                "held": {
                    key: _rows(value, start, stop, missing)
                    for key, value in held.items()
                },
            }
        )
        batches.append(ops.convert_to_numpy(found)[: stop - start])
    return np.concatenate(batches)


def _rows(
    array: Any, start: int, stop: int, missing: int, dtype: str | None = None
) -> Tensor:
    """Rows `start` to `stop` of an array, and copies of the first of them."""
    batch = np.asarray(array[start:stop], dtype)
    if batch.dtype == np.float64:
        batch = batch.astype("float32")
    if missing:
        batch = np.concatenate([batch, batch[:1].repeat(missing, 0)])
    return ops.convert_to_tensor(batch)
