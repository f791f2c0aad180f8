"""Whether examples occur more than once."""

import hashlib

import keras
import numpy as np

from keras_robust.evaluation.data import Examples
from keras_robust.evaluation.flags import Flag

# Share of copies from which a data set was probably repeated: `.repeat(2)`
# makes a half. Data sets have some copies by themselves.
_SHARE = 0.5


def repeat_flags(examples: Examples) -> list[Flag]:
    """Flag a data set that probably gave its examples several times.

    Args:
        examples: `Examples`.

    Returns:
        A list of one flag, `repeated examples`, or of none.
    """
    total = len(examples.y)
    copies = total - len(set(_row_hashes(examples)))
    if not copies or copies < _SHARE * total:
        return []
    message = (
        "examples are copies of earlier ones, so that the intervals are too "
        "narrow; is there a `.repeat` in the data set?"
    )
    return [Flag("repeated examples", message, {"copies": copies, "of": total})]


def _row_hashes(examples):
    """A hash of inputs and label of each example."""
    arrays = keras.tree.flatten((examples.x, examples.y))
    arrays = [np.ascontiguousarray(array) for array in arrays]
    for row in range(len(examples.y)):
        digest = hashlib.blake2b(digest_size=16)
        for array in arrays:
            digest.update(array[row].tobytes())
        yield digest.digest()
