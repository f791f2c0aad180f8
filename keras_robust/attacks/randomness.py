"""Random numbers: from a stream per call, or inside a train step."""

from collections import namedtuple
from typing import Any

import keras
import numpy as np
from keras import ops

Draws = namedtuple("Draws", ["normal", "uniform"])


def generator(seed: int | None, *stream: Any) -> Any:
    """A NumPy generator for one purpose of one seed.

    Args:
        seed: Int >= 0, or `None` for fresh entropy.
        *stream: Ints that tell purposes apart.

    Returns:
        `numpy.random.Generator`.
    """
    if seed is None:
        return np.random.default_rng()
    if int(seed) < 0:
        raise ValueError(
            f"Argument `seed` must be an integer >= 0. Received: seed={seed}"
        )
    return np.random.default_rng([int(seed), *stream])


def stream_draws(seed: int | None, restart: int) -> Any:
    """Draws on the host, the same on every backend.

    Successive calls continue one stream per distribution, so that splitting
    the examples into batches does not change what each one gets.

    Args:
        seed: Int or `None`.
        restart: Int, which restart.

    Returns:
        `Draws` of functions `shape -> float32 tensor`.
    """
    normal = generator(seed, restart, 0)
    uniform = generator(seed, restart, 1)
    return Draws(
        lambda shape: ops.convert_to_tensor(
            normal.standard_normal(tuple(shape)).astype("float32")
        ),
        lambda shape: ops.convert_to_tensor(
            uniform.random(tuple(shape)).astype("float32")
        ),
    )


# Rows drawn at once on the way to the next survivor.
_ROWS = 512


class RowDraws:
    """A stream whose n-th row belongs to the n-th example, used or not.

    Survivors of earlier attacks keep their own noise, whoever else survives.

    Args:
        seed: Int or `None`.
        *stream: Ints that tell runs apart.
    """

    def __init__(self, seed: int | None, *stream: Any) -> None:
        self._normal = generator(seed, *stream, 0)
        self._uniform = generator(seed, *stream, 1)
        self._at = {}

    def for_rows(self, rows: Any) -> Any:
        """`Draws` whose first axis has the given increasing row numbers."""

        def take(kind, draw, shape):
            # Each norm takes one kind of numbers from each distribution.
            start = self._at.get(kind, 0)
            parts = []
            for first in range(start, rows[-1] + 1, _ROWS):
                last = min(first + _ROWS, rows[-1] + 1)
                block = draw((last - first, *shape[1:]))
                wanted = rows[(rows >= first) & (rows < last)]
                parts.append(block[wanted - first].astype("float32"))
            self._at[kind] = rows[-1] + 1
            return ops.convert_to_tensor(np.concatenate(parts))

        return Draws(
            lambda shape: take("normal", self._normal.standard_normal, shape),
            lambda shape: take("uniform", self._uniform.random, shape),
        )


def in_graph_draws(seed: Any) -> Any:
    """Draws inside a trace, from a generator that the caller tracks.

    Args:
        seed: `keras.random.SeedGenerator` or `None` where nothing is drawn.

    Returns:
        `Draws` of functions `shape -> float32 tensor`.
    """
    return Draws(
        lambda shape: keras.random.normal(shape, seed=seed),
        lambda shape: keras.random.uniform(shape, seed=seed),
    )
