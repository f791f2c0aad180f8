"""Classes to try, the likeliest first."""

from typing import Any

import numpy as np


def ranked_targets(logits: Any, y: Any, rank: int) -> np.ndarray:
    """The `rank`-th likeliest wrong class of each example.

    Args:
        logits: NumPy array `(N, C)`, of the clean images.
        y: Integer labels `(N,)`.
        rank: Int from 1 to C - 1.

    Returns:
        Int32 array `(N,)`.
    """
    others = np.array(logits, "float32")
    others[np.arange(len(y)), y] = -np.inf
    # Stable, so that ties fall alike everywhere.
    order = np.argsort(-others, axis=-1, kind="stable")
    return order[:, rank - 1].astype("int32")
