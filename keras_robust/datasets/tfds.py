"""Data sets of TensorFlow Datasets."""

from collections.abc import Sequence
from typing import Any


def load_tfds(
    name: str, splits: Sequence[str] | None = None, **kwargs: Any
) -> list[Any]:
    """Load train and test split of a TFDS data set; downloads it if needed.

    Args:
        name: TFDS name.
        splits: Names of other splits.
        **kwargs: Arguments of `tfds.load`.

    Returns:
        List of `tf.data.Dataset` of `(image, label)`, two by default.

    Raises:
        FileNotFoundError: If it is not prepared and cannot be downloaded; the
            message explains how to prepare it.
    """
    import tensorflow_datasets as tfds

    second = "validation" if name == "imagenet2012" else "test"
    split = list(splits or ("train", second))
    try:
        return tfds.load(name, split=split, as_supervised=True, **kwargs)
    except Exception as error:
        raise _not_prepared(name, error) from error


def prepare(builder: Any) -> None:
    """Download and prepare a TFDS data set, unless it is there.

    Args:
        builder: `tfds.core.DatasetBuilder`.

    Raises:
        FileNotFoundError: If it is not prepared and cannot be downloaded; the
            message explains how to prepare it.
    """
    try:
        builder.download_and_prepare()
    except Exception as error:
        raise _not_prepared(builder.info.name, error) from error


def image_and_label(info: Any) -> tuple[Any, Any]:
    """The features of images and labels of a TFDS classification set.

    Args:
        info: `tfds.core.DatasetInfo`.

    Returns:
        `(image, label)`: a `tfds.features.FeatureConnector` with the `shape`
        of an image, and a `tfds.features.ClassLabel`.

    Raises:
        ValueError: If it is another kind of data set.
    """
    keys = info.supervised_keys
    if keys and len(keys) == 2:
        image, label = (info.features[key] for key in keys)
        if hasattr(label, "names") and len(image.shape) >= 1:
            return image, label
    raise ValueError(
        "A TFDS data set must be an image classification set. "
        f"Received: {info.full_name}, supervised_keys={keys}"
    )


def _not_prepared(name: str, error: Exception) -> FileNotFoundError:
    archives = (
        " (imagenet2012 needs its archives in the manual folder, see "
        "tensorflow.org/datasets/catalog/imagenet2012)"
    )
    return FileNotFoundError(
        f"The data set {name!r} must be prepared for TFDS, or a network "
        "must be there to download it. Set TFDS_DATA_DIR to a folder that "
        f'holds {name}/, or run `python -c "import tensorflow_datasets as '
        f"tfds; tfds.load('{name}')\"` where there is a network"
        f"{archives if name == 'imagenet2012' else ''}. "
        f"Received: {type(error).__name__}: {error}"
    )
