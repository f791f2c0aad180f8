"""Transforms behind `tf.data`, on any backend."""

import contextlib
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust.datasets.array_batches import ArrayBatches
from keras_robust.datasets.pixels import as_floats
from keras_robust.utils.environment import is_installed
from keras_robust.utils.threads import prefetch

# Dtypes of what `Transform.map` returns besides images and labels.
_DETAILS = {
    "distance": "float32",
    "success": "bool",
    "original_label": "int32",
}


def can_be_imported() -> bool:
    """Whether TensorFlow, and so `tf.data`, is installed."""
    return is_installed("tensorflow")


def map_dataset(
    dataset: Any,
    make: Callable[[Iterable[Any]], Iterator[Any]],
    return_details: bool,
    value_range: tuple[Any, Any],
) -> Any:
    """Run a transform over the batches of a `tf.data.Dataset`.

    A thread reads ahead and brings images to the device; the transform runs
    in the one that fills the data set's prefetch buffer, so that its next
    batch computes while the consumer uses the last one.

    Args:
        dataset: `tf.data.Dataset` of `(x, y)` batches: images of floats, or
            of dtype uint8, then scaled to `value_range`.
        make: Function from an iterable of `(images, labels)`, a float32 tensor
            and a NumPy array as it comes, to an iterator of
            `(x, y, details)`.
        return_details: Whether details are part of the elements.
        value_range: `(low, high)` of the images.

    Returns:
        `tf.data.Dataset` of `(x, y)` or `(x, y, details)`.
    """
    import tensorflow as tf

    def loaded() -> Iterator[Any]:
        for x, y in dataset.as_numpy_iterator():
            x = as_floats(np.asarray(x), value_range)
            yield ops.convert_to_tensor(x.astype("float32")), y

    # Both belong to this thread; the transform runs in another one.
    distribution = keras.distribution.distribution()
    strategy = tf.distribute.get_strategy()

    def generate() -> Iterator[Any]:
        keras.distribution.set_distribution(distribution)
        scope = contextlib.nullcontext()
        if strategy.num_replicas_in_sync > 1:
            scope = strategy.scope()
        with scope:
            yield from made()

    def made() -> Iterator[Any]:
        for x, y, details in make(prefetch(loaded())):
            x = ops.convert_to_numpy(x)
            chosen = {
                key: np.asarray(details[key], dtype)
                for key, dtype in _DETAILS.items()
            }
            yield (x, y, chosen) if return_details else (x, y)

    result = tf.data.Dataset.from_generator(
        generate,
        output_signature=_signature(dataset.element_spec[0], return_details),
    )
    cardinality = dataset.cardinality()
    if cardinality != tf.data.UNKNOWN_CARDINALITY:
        known = tf.data.experimental.assert_cardinality(cardinality)
        result = result.apply(known)
    return result.prefetch(1)


def map_images(
    batches: Any, function: Callable[[np.ndarray], np.ndarray]
) -> Any:
    """Change the images of batches by a function of arrays.

    It runs as it is on any backend, which in a graph of TensorFlow it could
    not.

    Args:
        batches: What `pipeline` returns, of float32 images.
        function: Takes and returns float32 images of one shape.

    Returns:
        The same kind of batches.
    """
    if isinstance(batches, ArrayBatches):
        return batches.with_images(function)
    import tensorflow as tf

    def change(images: Any, labels: Any) -> tuple[Any, Any]:
        made = tf.numpy_function(function, [images], tf.float32)
        return tf.ensure_shape(made, images.shape), labels

    return batches.map(change).prefetch(1)


def _signature(images: Any, return_details: bool) -> tuple[Any, ...]:
    """Specification of the elements, given that of the images."""
    import tensorflow as tf

    shape = images.shape
    if shape.rank is not None:
        shape = [None, *shape[1:]]
    pair = tf.TensorSpec(shape, "float32"), tf.TensorSpec([None], "int32")
    if not return_details:
        return pair
    columns = {
        key: tf.TensorSpec([None], dtype) for key, dtype in _DETAILS.items()
    }
    return (*pair, columns)
