"""Random numbers of evaluations, apart from those of training."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust.backend import Tensor

# More draws than one batch needs.
_DRAWS_PER_BATCH = 65_536


def first_state(seed: int | None) -> np.ndarray:
    """The state of a fresh seed generator.

    Args:
        seed: Int, or `None` for a random one.

    Returns:
        Integer array `(2,)`: the seed, and a count of draws.
    """
    made = keras.random.SeedGenerator(seed)
    found: np.ndarray = ops.convert_to_numpy(made.state.value)
    return found


def state_of_batch(first: np.ndarray, batches: Any) -> Tensor:
    """The state of a seed generator at a batch of an evaluation.

    Each evaluation has the same numbers, whatever was drawn before.

    Args:
        first: Result of `first_state`.
        batches: Float scalar tensor, how many batches came before.
    """
    dtype = str(first.dtype)
    counts = ops.stack([ops.zeros_like(batches), batches * _DRAWS_PER_BATCH])
    return ops.convert_to_tensor(first) + ops.cast(counts, dtype)
