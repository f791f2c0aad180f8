"""Votes of a classifier on noisy copies of each example."""

from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

import keras
import numpy as np

from keras_robust.attacks.engine.randomness import generator
from keras_robust.attacks.grid import grid_of
from keras_robust.classifier import PREDICTION_DRAW
from keras_robust.classifier import Classifier
from keras_robust.evaluation.checkpoint import Section
from keras_robust.utils.progress import Progress
from keras_robust.utils.threads import prefetch

# Numbers from one generator: making one costs as much as drawing a thousand.
_BLOCK = 65_536


class Noise:
    """Standard normal noise that belongs to an example and a draw.

    So it depends neither on the batches nor on the backend. NumPy draws it, 50
    to 100 million numbers a second, in a thread ahead of the model.

    Args:
        seed: Int >= 0, or `None` for fresh entropy.
        shape: Shape of one input.
        samples: Draws per example. What a draw gives does not depend on it.
    """

    def __init__(
        self, seed: int | None, shape: tuple[int, ...], samples: int
    ) -> None:
        self._seed = seed
        self._shape = shape
        self._samples = samples
        self._length = max(1, _BLOCK // max(int(np.prod(shape)), 1))
        self._last: tuple[tuple[int, int], np.ndarray] | None = None

    def __call__(self, row: int, start: int, stop: int) -> np.ndarray:
        """The noise of some draws.

        Args:
            row: Number of the example.
            start: First draw.
            stop: The draw after the last, > `start`.

        Returns:
            Float32 array `(stop - start, ...)`.
        """
        parts = []
        for number in range(
            start // self._length, (stop - 1) // self._length + 1
        ):
            first = number * self._length
            block = self._block(row, number)
            parts.append(block[max(start - first, 0) : stop - first])
        return np.concatenate(parts)

    def _block(self, row: int, number: int) -> np.ndarray:
        key = row, number
        # The end of one batch and the start of the next share a block.
        if self._last is None or self._last[0] != key:
            random = generator(self._seed, row, number)
            left = self._samples - number * self._length
            shape = (min(self._length, left), *self._shape)
            self._last = key, random.standard_normal(shape, "float32")
        return self._last[1]


class NoisyBatch(NamedTuple):
    """Noisy copies of consecutive draws.

    Attributes:
        stop: How many copies there are up to the end of this batch.
        rows: Int array `(B,)`, the example of each copy.
        draws: Int array `(B,)`, its draw.
        image: Float32 array `(B, ...)`.
    """

    stop: int
    rows: np.ndarray
    draws: np.ndarray
    image: np.ndarray


def noisy_batches(
    image: np.ndarray,
    *,
    sigma: float,
    samples: int,
    seed: int | None,
    batch_size: int,
    start: int = 0,
) -> Iterator[NoisyBatch]:
    """Yield `samples` noisy copies of each example, across examples.

    Args:
        image: Float array `(N, ...)`.
        sigma: Standard deviation of the noise.
        samples: Draws per example.
        seed: Int or `None`.
        batch_size: Copies in a batch.
        start: How many copies to leave out.
    """
    noise = Noise(seed, image.shape[1:], samples)
    total = len(image) * samples
    for first in range(start, total, batch_size):
        stop = min(first + batch_size, total)
        rows, draws = np.divmod(np.arange(first, stop), samples)
        noisy = np.empty((stop - first, *image.shape[1:]), "float32")
        for row in range(int(rows[0]), int(rows[-1]) + 1):
            begin = max(first, row * samples)
            end = min(stop, (row + 1) * samples)
            part = noisy[begin - first : end - first]
            own = noise(row, begin - row * samples, end - row * samples)
            np.multiply(own, np.float32(sigma), out=part)
            part += image[row].astype("float32")
        yield NoisyBatch(stop, rows, draws, noisy)


def count_votes(
    classifier: Classifier,
    image: np.ndarray,
    held: dict[str, np.ndarray],
    *,
    sigma: float,
    samples: tuple[int, ...],
    seed: int | None,
    batch_size: int,
    verbose: int = 0,
    section: Section | None = None,
) -> np.ndarray:
    """Count the classes that a classifier gives to noisy copies.

    A copy for which an output is NaN votes for no class.

    Args:
        classifier: The classifier, checked on these inputs.
        image: Float array `(N, ...)`, the inputs that get noise.
        held: Dictionary of the other inputs.
        sigma: Standard deviation of the noise, in units of `image`.
        samples: Numbers of copies of each example, counted apart.
        seed: Int or `None`.
        batch_size: Copies in one call of the model.
        verbose: 0 for no progress bar.
        section: Where votes are kept, to resume after a stop, or `None`.

    Returns:
        Int array `(len(samples), N, C)`.
    """
    per_example = sum(samples)
    part_of = np.repeat(np.arange(len(samples)), samples)
    total = len(image) * per_example
    batch_size = classifier.batch_size or min(batch_size, max(total, 1))
    shape = (len(samples), len(image), classifier.num_classes)
    votes, done = np.zeros(shape, "int64"), 0
    saved = section.restore() if section else None
    if saved is not None:
        votes, done = saved["votes"], int(saved["done"])
        if verbose and 0 < done < total:
            print(f"{done} of {total} noisy inputs were there", flush=True)
    first, counted = done, True
    progress = Progress(total, verbose, unit_name="noisy input")
    progress.add(done)
    batches = noisy_batches(
        image,
        sigma=sigma,
        samples=per_example,
        seed=seed,
        batch_size=batch_size,
        start=done,
    )
    try:
        for batch in prefetch(batches):
            rows = batch.rows
            labels = _labels(classifier, batch, held, batch_size)
            valid = labels >= 0
            places = part_of[batch.draws[valid]], rows[valid], labels[valid]
            counted = False
            np.add.at(votes, places, 1)
            done, counted = batch.stop, True
            if section:
                section.save(votes=votes, done=done)
            progress.add(len(rows))
    finally:
        # After Ctrl-C, too, unless it came in the middle of counting.
        if section and counted and done > first:
            section.save(force=True, votes=votes, done=done)
    return votes


def _labels(
    classifier: Classifier,
    batch: NoisyBatch,
    held: dict[str, np.ndarray],
    batch_size: int,
) -> np.ndarray:
    """The model's own labels of noisy copies, -1 where an output is NaN."""
    size = len(batch.rows)
    # A last batch of another size would be compiled again.
    places = np.arange(batch_size) % size
    rows = batch.rows[places]
    image = _as_stored(classifier, batch.image)
    logits = classifier.predict_logits(
        image if size == batch_size else image[places],
        batch_size,
        {name: values[rows] for name, values in held.items()},
        # Another draw of a randomized model in each batch.
        PREDICTION_DRAW + batch.stop // batch_size,
    )[:size]
    return np.where(np.isnan(logits).any(-1), -1, logits.argmax(-1))


def _as_stored(classifier: Classifier, image: np.ndarray) -> np.ndarray:
    """Inputs as an integer Input stores them: rounded, without overflow.

    This is a part of the classifier that is smoothed, so that the certificate
    holds. A cast of -3.2 to uint8 would depend on the backend.
    """
    grid = grid_of(classifier, image)
    if grid is None:
        return image
    dtype: Any = getattr(classifier.inputs.tensor, "dtype", None)
    limits = np.iinfo(keras.backend.standardize_dtype(dtype))
    whole = np.clip(np.round(image / grid), limits.min, limits.max)
    return (whole * grid).astype("float32")
