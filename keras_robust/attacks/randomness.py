"""Random numbers: from a stream per call, or inside a train step."""

from collections import namedtuple

import keras
import numpy as np
from keras import ops

Draws = namedtuple("Draws", ["normal", "uniform"])


def generator(seed, *stream):
    """A NumPy generator for one purpose of one seed.

    Args:
        seed: Int >= 0, or `None` for fresh entropy.
        *stream: Ints that tell purposes apart.

    Returns:
        `numpy.random.Generator`.
    """
    if seed is None:
        return np.random.default_rng()
    return np.random.default_rng([int(seed), *stream])


def stream_draws(seed, restart):
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


def in_graph_draws(seed):
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
