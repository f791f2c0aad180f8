"""Image data sets by name."""

from typing import Any

import keras
import numpy as np

from keras_robust.datasets import restricted_imagenet
from keras_robust.datasets.image_dataset import ImageDataset
from keras_robust.datasets.planted import planted_features
from keras_robust.datasets.tfds import load_tfds
from keras_robust.utils.environment import is_installed

CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
FASHION_CLASSES = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)

# Of the sets whose TFDS names for them are shorter or differ.
CLASS_NAMES = {"cifar10": CIFAR10_CLASSES, "fashion_mnist": FASHION_CLASSES}
NAMES = (
    "planted",
    "digits",
    "fashion_mnist",
    "cifar10",
    "restricted_imagenet",
)


def load(name: str) -> ImageDataset:
    """Load an image data set by name.

    `digits` (1,797 8x8 images of handwritten digits, embedded in
    scikit-learn; the last 20 % of each class are the test set), `cifar10` and
    `fashion_mnist` (through TFDS, or Keras where that is not installed, in
    their official order),
    `restricted_imagenet` (TFDS `imagenet2012`, nine classes), and `planted`
    (drawn, see `planted_features`).

    Args:
        name: One of these names, or another text that `DataSpecification`
            takes, such as `"tfds:kmnist"`, a folder or an .npz file, of data
            with training and test images.

    Returns:
        `ImageDataset` with `train`, `test` and `class_names`.

    Raises:
        ValueError: If the name is unknown.
        FileNotFoundError: If the data set is not prepared and cannot be
            downloaded.

    Example:

    ```python
    (x, y), (x_test, y_test) = keras_robust.datasets.load("digits")
    ```
    """
    if name in NAMES:
        return load_named(name)
    from keras_robust.datasets.specification import DataSpecification

    return DataSpecification(name).load()


def load_named(name: str) -> ImageDataset:
    """Load a data set of the package, see `load`.

    Args:
        name: One of `NAMES`.

    Returns:
        `ImageDataset`.
    """
    if name == "digits":
        return _digits()
    if name == "planted":
        return planted_features()
    if name in CLASS_NAMES:
        return _from_tfds(name, CLASS_NAMES[name])
    train, test = restricted_imagenet.load()
    return ImageDataset(train, test, restricted_imagenet.CLASS_NAMES)


def _digits() -> ImageDataset:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = (bunch.images[..., None] / 16).astype("float32")
    y = bunch.target.astype("int32")
    test = np.zeros(len(y), bool)
    for label in range(10):
        rows = np.flatnonzero(y == label)
        test[rows[-(len(rows) // 5) :]] = True
    names = tuple(str(digit) for digit in range(10))
    return ImageDataset((x[~test], y[~test]), (x[test], y[test]), names)


def _from_tfds(name: str, class_names: tuple[str, ...]) -> ImageDataset:
    if is_installed("tensorflow_datasets"):
        train, test = (to_arrays(split) for split in load_tfds(name))
    else:
        train, test = _of_keras(name)
    return ImageDataset(train, test, class_names)


def _of_keras(name: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """The same arrays in the same order, by Keras's own download."""
    splits = []
    for x, y in getattr(keras.datasets, name).load_data():
        images = x if x.ndim == 4 else x[..., None]
        if keras.config.image_data_format() == "channels_first" and x.ndim == 4:
            # Keras moves the channels of color images only.
            images = x.transpose(0, 2, 3, 1)
        labels = y.reshape(-1).astype("int32")
        splits.append((images.astype("float32") / 255, labels))
    return splits


def to_arrays(split: Any) -> tuple[np.ndarray, np.ndarray]:
    """The images and labels of a split.

    Args:
        split: `tf.data.Dataset` of `(image, label)`, uint8 images of one size.

    Returns:
        `(x, y)`: float32 images `(N, H, W, C)` in [0, 1], int32 labels.
    """
    batches = list(split.batch(1000).as_numpy_iterator())
    images, labels = (
        np.concatenate(part) for part in zip(*batches, strict=True)
    )
    return images.astype("float32") / 255, labels.astype("int32")
