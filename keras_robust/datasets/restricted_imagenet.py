"""Restricted ImageNet: nine super-classes of ImageNet."""

from typing import Any

import numpy as np

from keras_robust.datasets.tfds import load_tfds

# Ilyas et al. 2019, Table 2; ImageNet indices, both ends included.
CLASS_RANGES = {
    "dog": (151, 268),
    "cat": (281, 285),
    "frog": (30, 32),
    "turtle": (33, 37),
    "bird": (80, 100),
    "primate": (365, 382),
    "fish": (389, 397),
    "crab": (118, 121),
    "insect": (300, 319),
}
CLASS_NAMES = tuple(CLASS_RANGES)
IMAGE_SIZE = 224


def class_table() -> np.ndarray:
    """The new label of each ImageNet label, -1 for classes left out.

    Returns:
        Int32 array `(1000,)`.
    """
    table = np.full(1000, -1, "int32")
    for label, (first, last) in enumerate(CLASS_RANGES.values()):
        table[first : last + 1] = label
    return table


def regroup(dataset: Any) -> Any:
    """Keep the nine classes; scale and center-crop to 224x224.

    The shorter side becomes 256 first, as is usual for ImageNet evaluation.

    Args:
        dataset: `tf.data.Dataset` of `(image, label)`, uint8 of any size.

    Returns:
        `tf.data.Dataset` of float32 images in [0, 1] and int32 labels.
    """
    import tensorflow as tf

    table = tf.constant(class_table())

    def prepare(image: Any, label: Any) -> tuple[Any, Any]:
        size = tf.cast(tf.shape(image)[:2], "float32")
        size = tf.round(size * 256 / tf.reduce_min(size))
        image = tf.image.resize(image, tf.cast(size, "int32"), antialias=True)
        image = tf.image.resize_with_crop_or_pad(image, IMAGE_SIZE, IMAGE_SIZE)
        return tf.clip_by_value(image / 255, 0, 1), tf.gather(table, label)

    return dataset.filter(
        lambda image, label: tf.gather(table, label) >= 0
    ).map(prepare, num_parallel_calls=tf.data.AUTOTUNE)


def load() -> tuple[Any, Any]:
    """Load train and validation set of `imagenet2012`, regrouped.

    Returns:
        Two `tf.data.Dataset`.
    """
    train, validation = load_tfds("imagenet2012")
    return regroup(train), regroup(validation)
