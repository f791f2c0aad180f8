"""Random numbers: on the host for each example, or inside a train step."""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

# A tensor of a shape, its entries drawn independently.
Sampler = Callable[[tuple[int, ...]], Any]


class Draws(NamedTuple):
    """Two sources of float32 tensors of a given shape.

    Attributes:
        normal: Standard normal entries.
        uniform: Entries uniform in [0, 1).
    """

    normal: Sampler
    uniform: Sampler


def generator(seed: int | None, *stream: int) -> np.random.Generator:
    """Return a NumPy generator for one purpose of one seed.

    Args:
        seed: Int >= 0, or `None` for fresh entropy.
        *stream: Ints that tell purposes apart.
    """
    if seed is None:
        return np.random.default_rng()
    if int(seed) < 0:
        raise ValueError(
            f"Argument `seed` must be an integer >= 0. Received: seed={seed}"
        )
    return np.random.default_rng([int(seed), *stream])


# Rows drawn at once on the way to the next row that is needed.
_ROWS = 512
_KINDS = ("normal", "uniform")


class RowDraws:
    """A random stream whose n-th row belongs to the n-th example, used or not.

    So what an example gets depends neither on the batches nor on which other
    examples are attacked; and it is the same on every backend.

    Args:
        seed: Int or `None`.
        *stream: Ints that tell runs apart.
    """

    def __init__(self, seed: int | None, *stream: int) -> None:
        self._seed, self._stream = seed, stream
        # A generator for each kind of numbers and each time that a batch asks
        # for them, and the row that it is at.
        self._generators: dict[tuple[str, int], np.random.Generator] = {}
        self._at: dict[tuple[str, int], int] = {}

    def for_rows(self, rows: np.ndarray) -> Draws:
        """Return draws for the given increasing row numbers.

        Asked again, they give other numbers.
        """
        times = dict.fromkeys(_KINDS, 0)

        def sampler(kind: str) -> Sampler:
            def draw(shape: tuple[int, ...]) -> Any:
                time, times[kind] = times[kind], times[kind] + 1
                return self._take((kind, time), rows, shape)

            return draw

        return Draws(normal=sampler("normal"), uniform=sampler("uniform"))

    def _take(
        self, key: tuple[str, int], rows: np.ndarray, shape: tuple[int, ...]
    ) -> Any:
        kind, time = key
        if key not in self._generators:
            number = len(_KINDS) * time + _KINDS.index(kind)
            self._generators[key] = generator(self._seed, *self._stream, number)
            self._at[key] = 0
        random, parts = self._generators[key], []
        draw = random.standard_normal if kind == "normal" else random.random
        end = int(rows[-1]) + 1
        for first in range(self._at[key], end, _ROWS):
            last = min(first + _ROWS, end)
            block = draw((last - first, *shape[1:]))
            wanted = rows[(rows >= first) & (rows < last)]
            parts.append(block[wanted - first].astype("float32"))
        self._at[key] = end
        return ops.convert_to_tensor(np.concatenate(parts))


def in_graph_draws(seed: keras.random.SeedGenerator | None) -> Draws:
    """Return draws inside a trace, from a generator that the caller tracks.

    Args:
        seed: The generator, or `None` where nothing is drawn.
    """
    return Draws(
        normal=lambda shape: keras.random.normal(
            shape, dtype="float32", seed=seed
        ),
        uniform=lambda shape: keras.random.uniform(
            shape, dtype="float32", seed=seed
        ),
    )
