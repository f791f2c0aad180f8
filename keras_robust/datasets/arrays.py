"""Data sets as arrays."""

import numpy as np
from keras import ops


def is_dataset(data):
    """Whether `data` is an iterable of batches rather than one array.

    Args:
        data: Array, tensor, `tf.data.Dataset`, `PyDataset` or iterable.
    """
    return not hasattr(data, "dtype") and hasattr(data, "__iter__")


def to_arrays(dataset):
    """Images and labels of a data set of batches, in order.

    Args:
        dataset: Iterable of `(x, y)` batches, finite.

    Returns:
        `(x, y)` NumPy arrays.

    Raises:
        ValueError: If it is empty or its elements are not pairs.
    """
    images, labels = [], []
    for batch in dataset:
        if not isinstance(batch, (tuple, list)) or len(batch) < 2:
            raise ValueError(
                "A data set must give batches (x, y). "
                f"Received: an element of type {type(batch).__name__}"
            )
        images.append(np.asarray(ops.convert_to_numpy(batch[0])))
        labels.append(np.asarray(ops.convert_to_numpy(batch[1])))
    if not images:
        raise ValueError("A data set must have batches. Received: none")
    return np.concatenate(images), np.concatenate(labels)
