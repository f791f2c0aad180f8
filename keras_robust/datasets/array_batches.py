"""Batches of arrays for `fit` where TensorFlow is not installed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_robust.utils.messages import describe

# Names of the fill modes of `PadAndCrop` in NumPy.
_PADDINGS = {
    "constant": "constant",
    "reflect": "symmetric",
    "wrap": "wrap",
    "nearest": "edge",
}
# What the draws of a seed are for.
_ORDER, _SIDES, _BATCH = range(3)


class ArrayBatches(keras.utils.PyDataset):
    """Batches of two arrays, shuffled, shifted and flipped by NumPy.

    What `datasets.pipeline` returns where TensorFlow is not installed; see
    there for the arguments. A batch depends on seed, epoch and its number
    alone.

    Args:
        x: Float32 images `(N, H, W, C)`, or `(N, C, H, W)` where that is
            Keras's image data format.
        y: Labels, `(N,)` or one-hot.
        batch_size: Int >= 1.
        shuffle: Whether each epoch has another order.
        padding: Int >= 0, pixels of the largest shift.
        flip: `True`, `False` or `"alternating"`.
        drop_remainder: Whether to leave out a last partial batch.
        seed: Int, or `None` for another one each time.
        fill_mode: As of `layers.PadAndCrop`.

    Raises:
        ValueError: If `x` and `y` are not arrays of one length, or images to
            be shifted or flipped are not of rank 4.
    """

    def __init__(
        self,
        x: Any,
        y: Any,
        batch_size: int = 128,
        shuffle: bool = False,
        padding: int = 0,
        flip: bool | str = False,
        drop_remainder: bool = False,
        seed: int | None = None,
        fill_mode: str = "constant",
    ) -> None:
        # One worker: with several, Keras reads ahead, and what it has read of
        # an epoch when `fit` or `evaluate` looks at a first batch, or when the
        # epoch ends, takes the place of batches of the next one.
        super().__init__(workers=1)
        if y is None or not hasattr(x, "shape") or len(x) != len(y):
            raise ValueError(
                "Arguments `x` and `y` must be two arrays of one length where "
                "TensorFlow is not installed. "
                f"Received: x={describe(x)}, y={describe(y)}"
            )
        if (padding or flip) and len(x.shape) != 4:
            raise ValueError(
                "With `augment`, images must be of shape (N, H, W, C), with an "
                "axis for a single channel (`x[..., None]`). "
                f"Received: images of shape {tuple(x.shape)}"
            )
        self._x, self._y = np.asarray(x), np.asarray(y)
        self._batch_size = batch_size
        self._shuffle = shuffle
        self._padding = padding
        self._flip = flip
        self._drops = drop_remainder
        if seed is None:
            seed = int(np.random.default_rng().integers(2**31))
        self._seed = seed
        self._mode: Any = _PADDINGS[fill_mode]
        self._change: Callable[[np.ndarray], np.ndarray] | None = None
        is_last = keras.config.image_data_format() == "channels_last"
        self._height = 1 if is_last else 2
        sides = self._draws(_SIDES).random(len(self._x)) < 0.5
        self._first_sides: np.ndarray = sides
        self._epoch = 0
        self._order = self._ordered()

    def with_images(
        self, change: Callable[[np.ndarray], np.ndarray]
    ) -> ArrayBatches:
        """The same batches, their images changed by a function.

        Args:
            change: Takes and returns float32 images of one shape.
        """
        changed = copy.copy(self)
        changed._change = change
        return changed

    def __len__(self) -> int:
        whole, rest = divmod(len(self._x), self._batch_size)
        return whole + (rest > 0 and not self._drops)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        first = index * self._batch_size
        rows = self._order[first : first + self._batch_size]
        images = self._x[rows]
        draws = self._draws(_BATCH, self._epoch, index)
        if self._padding:
            images = self._shifted(images, draws)
        flipped = self._flipped(rows, draws)
        if flipped.any():
            images[flipped] = np.flip(images[flipped], axis=self._height + 1)
        if self._change is not None:
            images = self._change(images)
        return images, self._y[rows]

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The batches of an epoch; those of the next one the next time."""
        try:
            yield from super().__iter__()
        finally:
            self.on_epoch_end()

    def on_epoch_end(self) -> None:
        """Draw the order of the next epoch."""
        self._epoch += 1
        self._order = self._ordered()

    def _ordered(self) -> np.ndarray:
        if not self._shuffle:
            return np.arange(len(self._x))
        return self._draws(_ORDER, self._epoch).permutation(len(self._x))

    def _draws(self, *purpose: int) -> np.random.Generator:
        return np.random.default_rng([self._seed % 2**63, *purpose])

    def _shifted(
        self, images: np.ndarray, draws: np.random.Generator
    ) -> np.ndarray:
        """Images that are moved by whole pixels, each by its own number."""
        p, axis = self._padding, self._height
        height, width = images.shape[axis : axis + 2]
        around = [(0, 0)] * 4
        around[axis] = around[axis + 1] = (p, p)
        padded = np.pad(images, around, mode=self._mode)
        shifts = draws.integers(0, 2 * p + 1, (len(images), 2))
        made = np.empty_like(images)
        # All images of one shift at once: much faster than one by one.
        for down, right in np.unique(shifts, axis=0):
            rows = np.flatnonzero((shifts == (down, right)).all(1))
            lines, columns = (
                slice(down, down + height),
                slice(right, right + width),
            )
            if axis == 1:
                made[rows] = padded[rows, lines, columns]
            else:
                made[rows] = padded[rows, :, lines, columns]
        return made

    def _flipped(
        self, rows: np.ndarray, draws: np.random.Generator
    ) -> np.ndarray:
        """Which images of a batch are mirrored."""
        if self._flip == "alternating":
            return self._first_sides[rows] ^ bool(self._epoch % 2)
        if self._flip:
            return draws.random(len(rows)) < 0.5
        return np.zeros(len(rows), bool)
