"""Generated batches as a tf.data.Dataset."""

import contextlib
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust.datasets.elements import as_pairs
from keras_robust.datasets.pixels import as_floats
from keras_robust.datasets.threads import ahead

# What a transform may tell of each example.
_DETAILS = {
    "distance": "float32",
    "success": "bool",
    "original_label": "int32",
}


def mapped(
    dataset: Any,
    batches: Any,
    return_details: bool,
    value_range: Any,
    rank: int | None = None,
) -> Any:
    """Runs a transform behind `tf.data`, on any backend.

    A thread reads ahead and brings images to the device; the transform runs
    in the one that fills the data set's prefetch buffer, so that its next
    batch computes while the consumer uses the last one.

    Args:
        dataset: `tf.data.Dataset` of `(x, y)` batches: images of floats, or
            of dtype uint8, then scaled to `value_range`; labels `(N,)`,
            `(N, 1)` or one-hot `(N, C)`.
        batches: Function from an iterable of `(images, labels)`, a float32
            tensor and a NumPy array as it comes, to an iterable of
            `(x, y, details)`.
        return_details: Whether details are part of the elements.
        value_range: `(low, high)` of the images.
        rank: How many axes a batch of images has, where that is known.

    Returns:
        `tf.data.Dataset`.

    Raises:
        ValueError: If the elements are not batches `(x, y)`.
    """
    import tensorflow as tf

    dataset = as_pairs(dataset, "dataset", rank)

    def loaded():
        for x, y in dataset.as_numpy_iterator():
            x = as_floats(np.asarray(x), value_range)
            yield ops.convert_to_tensor(x.astype("float32")), y

    # Both belong to this thread; the transform runs in another one.
    distribution = keras.distribution.distribution()
    strategy = tf.distribute.get_strategy()

    def generate():
        keras.distribution.set_distribution(distribution)
        scope = contextlib.nullcontext()
        if strategy.num_replicas_in_sync > 1:
            scope = strategy.scope()
        with scope:
            yield from made()

    def made():
        for x, y, details in batches(ahead(loaded())):
            x = ops.convert_to_numpy(x)
            chosen = {
                key: np.asarray(details[key], dtype)
                for key, dtype in _DETAILS.items()
            }
            yield (x, y, chosen) if return_details else (x, y)

    shape = dataset.element_spec[0].shape
    if shape.rank is not None:
        shape = [None, *shape[1:]]
    image = tf.TensorSpec(shape, "float32")
    signature = (image, tf.TensorSpec([None], "int32"))
    if return_details:
        column = {
            key: tf.TensorSpec([None], dtype) for key, dtype in _DETAILS.items()
        }
        signature = (*signature, column)
    result = tf.data.Dataset.from_generator(
        generate, output_signature=signature
    )
    cardinality = dataset.cardinality()
    if cardinality != tf.data.UNKNOWN_CARDINALITY:
        known = tf.data.experimental.assert_cardinality(cardinality)
        result = result.apply(known)
    return result.prefetch(1)
