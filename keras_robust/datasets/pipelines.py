"""Pipelines of batches: shuffle, batch, augment, prefetch."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_robust.datasets.array_batches import ArrayBatches
from keras_robust.datasets.tf_data import can_be_imported
from keras_robust.layers import PadAndCrop
from keras_robust.layers.pad_and_crop import check_fill_mode
from keras_robust.utils.checks import check_positive_integer
from keras_robust.utils.messages import describe
from keras_robust.utils.messages import did_you_mean
from keras_robust.utils.messages import shown

# Batches that are made while another one trains.
_PREFETCHED = 2


def pipeline(
    x: Any,
    y: Any = None,
    batch_size: int = 128,
    shuffle: bool = False,
    augment: bool = False,
    padding: int = 4,
    flip: bool | str = True,
    drop_remainder: bool = False,
    seed: int | None = None,
    fill_mode: str = "constant",
) -> Any:
    """Make batches for `fit`, with the CIFAR augmentation on request.

    Every image gets its own shift and flip, new ones in every epoch; the same
    seed gives the same batches. Works on every Keras backend.

    Args:
        x: Float32 images `(N, H, W, C)`, in Keras's image data format; or a
            `tf.data.Dataset` of `(image, label)`, one by one, then without
            `y`.
        y: Labels, `(N,)` or one-hot.
        batch_size: Int >= 1.
        shuffle: Whether to shuffle, differently in every epoch: arrays
            completely, a data set in a buffer of 10,000.
        augment: Whether to shift by up to `padding` pixels and flip.
        padding: Int >= 0, for `PadAndCrop`.
        flip: Whether to flip left to right with probability 1/2; not for
            digits or letters. `"alternating"`: each image with probability
            1/2 in the first epoch, and in turns from then on, so that two
            epochs hold both versions of all (Jordan 2024, arXiv:2404.00498,
            section 3.6). Epochs are passes over the returned data set.
        drop_remainder: Whether to leave out a last partial batch.
        seed: Int or `None`.
        fill_mode: `"constant"` for zeros, or `"reflect"`; see `PadAndCrop`.

    Returns:
        `tf.data.Dataset` of `(images, labels)`; where TensorFlow is not
        installed a `keras.utils.PyDataset` of NumPy arrays, with other draws,
        whose batches `fit` takes in another order unless `shuffle=False`.

    Raises:
        ValueError: If an argument is not as above.
    """
    batch_size = check_positive_integer(batch_size, "batch_size")
    check_augmentation(padding, flip, fill_mode)
    seed = _check_seed(seed)
    if not can_be_imported():
        return ArrayBatches(
            x,
            y,
            batch_size=batch_size,
            shuffle=shuffle,
            padding=padding if augment else 0,
            flip=flip if augment else False,
            drop_remainder=drop_remainder,
            seed=seed,
            fill_mode=fill_mode,
        )
    import tensorflow as tf

    _check_source(x, y)
    # An accelerator that JAX or PyTorch computes on is not for tf.data.
    with tf.device("cpu"):
        dataset = x
        buffer = 10_000
        if y is not None:
            dataset = tf.data.Dataset.from_tensor_slices((x, y))
            buffer = len(x)
        if augment:
            _check_images(dataset.element_spec)
        alternating = augment and flip == "alternating"
        if alternating:
            dataset = tf.data.Dataset.zip((dataset, _first_sides(seed)))
        if shuffle:
            dataset = dataset.shuffle(buffer, seed=seed)
        dataset = dataset.batch(batch_size, drop_remainder=drop_remainder)
        if alternating:
            dataset = _alternately_flipped(dataset)
            flip = False
        if augment:
            dataset = dataset.map(_augmentation(padding, flip, seed, fill_mode))
        # The thread that tunes a pipeline sleeps 10 ms, 20 ms, 40 ms, ... and
        # an iterator's end can wait for it to wake up: up to half an epoch.
        options = tf.data.Options()
        options.autotune.enabled = False
        return dataset.prefetch(_PREFETCHED).with_options(options)


def check_augmentation(padding: Any, flip: Any, fill_mode: Any) -> None:
    """Check the arguments of `pipeline` that change images.

    Args:
        padding: See `pipeline`.
        flip: See `pipeline`.
        fill_mode: See `pipeline`.

    Raises:
        ValueError: If one of them is not as there.
    """
    check_positive_integer(padding, "padding", least=0)
    check_fill_mode(fill_mode)
    if not isinstance(flip, (bool, np.bool_)) and flip != "alternating":
        raise ValueError(
            "Argument `flip` must be True, False or 'alternating'."
            f"{did_you_mean(flip, ['alternating'])} "
            f"Received: flip={shown(flip)}"
        )


def _check_seed(seed: Any) -> int | None:
    if seed is None:
        return None
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool):
        raise ValueError(
            "Argument `seed` must be an integer or None. "
            f"Received: seed={shown(seed)}"
        )
    return int(seed)


def _check_source(x: Any, y: Any) -> None:
    """Raise unless there are images and labels, or a data set of both."""
    import tensorflow as tf

    if isinstance(x, tf.data.Dataset) == (y is not None):
        raise ValueError(
            "Arguments must be two arrays `x` and `y`, or a tf.data.Dataset of "
            f"(image, label) alone. Received: x={describe(x)}, y={describe(y)}"
        )
    if y is not None and len(x) != len(y):
        raise ValueError(
            "Argument `y` must hold a label for each image. "
            f"Received: {len(x)} images and {len(y)} labels"
        )


def _check_images(spec: Any) -> None:
    """Raise unless a data set is of single images with labels.

    Layers would take a batch of images without channels for one image, and
    shift one into the other.
    """
    is_pair = isinstance(spec, tuple) and len(spec) == 2
    shape = getattr(spec[0], "shape", None) if is_pair else None
    if shape is None or shape.rank != 3:
        found = f"images of shape {shape}" if is_pair else f"elements {spec}"
        raise ValueError(
            "With `augment`, data must be of (image, label) with images of "
            "shape (H, W, C), not in batches and with an axis for a single "
            f"channel (`x[..., None]`). Received: {found}"
        )


def _first_sides(seed: int | None) -> Any:
    """An endless data set of integers, odd where an image is flipped first."""
    import tensorflow as tf

    if seed is None:
        seed = int(np.random.default_rng().integers(2**31))
    return tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=False)


def _alternately_flipped(dataset: Any) -> Any:
    """Batches whose images are flipped in every second pass.

    Args:
        dataset: Of `((images, labels), integers)`, where an odd integer means
            that the image is flipped in the first pass.
    """
    import tensorflow as tf

    passes = tf.Variable(0, dtype="int64")
    is_last = keras.config.image_data_format() == "channels_last"
    width = -2 if is_last else -1
    # The count goes up when a pass begins, and stays for all of its batches.
    number = tf.data.Dataset.from_tensors(0).flat_map(
        lambda _: tf.data.Dataset.from_tensors(passes.assign_add(1)).repeat()
    )

    def flip(batch: Any, first: Any, number: Any) -> tuple[Any, Any]:
        images, labels = batch
        first = tf.reshape(first, [-1] + [1] * (images.shape.rank - 1))
        # Passes are counted from 1.
        flipped = (first + number) % 2 == 0
        mirrored = tf.reverse(images, axis=[width])
        return tf.where(flipped, mirrored, images), labels

    pairs = tf.data.Dataset.zip((dataset, number))
    flipped = pairs.map(
        lambda batch, number: flip(batch[0], first=batch[1], number=number)
    )
    length = dataset.cardinality()
    if length >= 0:
        # That of `number` is not known, so that of the pairs is not.
        flipped = flipped.apply(tf.data.experimental.assert_cardinality(length))
    return flipped


def _augmentation(
    padding: int, flip: bool | str, seed: int | None, fill_mode: str
) -> Callable[[Any, Any], tuple[Any, Any]]:
    """The function of `(images, labels)` that shifts and flips images."""
    # Pixels keep their precision, whatever policy networks are made with.
    dtype = "float32"
    layers: list[keras.layers.Layer] = []
    if padding:
        layers.append(
            PadAndCrop(padding, seed=seed, fill_mode=fill_mode, dtype=dtype)
        )
    if flip:
        # With the same seed both would draw the same numbers, and which images
        # are flipped would depend on how far they are shifted.
        other = None if seed is None else seed + 1
        layers.append(
            keras.layers.RandomFlip("horizontal", seed=other, dtype=dtype)
        )

    def augment(images: Any, labels: Any) -> tuple[Any, Any]:
        for layer in layers:
            images = layer(images, training=True)
        return images, labels

    return augment
