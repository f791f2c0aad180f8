"""A look at the first images of whatever `fit` takes."""

import keras
import numpy as np
from keras import ops


def first_images(data):
    """Images of an array, or of the first batch of a data set.

    Args:
        data: Array, tensor, `tf.data.Dataset` or `keras.utils.PyDataset`.

    Returns:
        NumPy array; `None` where a look would use the data up (generators)
        or is not possible.
    """
    if isinstance(data, np.ndarray) or ops.is_tensor(data):
        return np.asarray(ops.convert_to_numpy(data))
    if isinstance(data, keras.utils.PyDataset):
        batch = data[0]
    elif hasattr(data, "take") and hasattr(data, "element_spec"):
        # A tf.data.Dataset, known by its methods: TensorFlow may be missing.
        batch = next(iter(data.take(1)), None)
    else:
        return None
    if isinstance(batch, (tuple, list)):
        batch = batch[0]
    if not hasattr(batch, "shape"):
        return None
    return np.asarray(ops.convert_to_numpy(batch))
