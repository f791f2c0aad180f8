"""Random choices that depend on a seed and a name alone."""

import zlib

import numpy as np


def level(seed, factor, levels):
    """One of `levels`; every level comes once in `len(levels)` seeds.

    Args:
        seed: Int, the number of a case.
        factor: String; factors are drawn independently of each other.
        levels: Sequence; what stands in it twice comes twice as often.
    """
    block, place = divmod(seed, len(levels))
    random = np.random.default_rng([zlib.crc32(factor.encode()), block])
    return levels[random.permutation(len(levels))[place]]


class Draw:
    """Named random numbers of one case.

    Args:
        seed: Int.
        name: String; other names give other numbers.
    """

    def __init__(self, seed, name):
        self.random = np.random.default_rng([seed, zlib.crc32(name.encode())])

    def choice(self, options):
        return options[int(self.random.integers(len(options)))]

    def flip(self, share=0.5):
        return bool(self.random.random() < share)

    def integer(self, low, high):
        """From `low` to `high`, both included."""
        return int(self.random.integers(low, high + 1))

    def number(self, low, high):
        return round(float(self.random.uniform(low, high)), 3)
