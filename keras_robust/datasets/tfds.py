"""Data sets of TensorFlow Datasets."""

from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import numpy as np


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


def examples_of(builder: Any, split: str) -> Iterator[dict[str, Any]]:
    """The examples of a prepared data set, in its order.

    Args:
        builder: `tfds.core.DatasetBuilder`.
        split: Name of a split, or a part of one.

    Returns:
        Iterator of dictionaries of NumPy values.
    """
    if _has_no_pipeline(builder):
        return iter(builder.as_data_source(split=split))
    examples: Iterator[dict[str, Any]] = builder.as_dataset(
        split=split
    ).as_numpy_iterator()
    return examples


def columns_of(builder: Any, split: str) -> dict[str, np.ndarray]:
    """The features of all examples of a prepared data set, as arrays.

    Args:
        builder: `tfds.core.DatasetBuilder`.
        split: Name of a split, or a part of one.
    """
    examples = list(examples_of(builder, split))
    return {
        key: np.array([example[key] for example in examples])
        for key in examples[0]
    }


def supervised(builder: Any, split: str, **options: Any) -> Any:
    """A `tf.data.Dataset` of the images and labels of a prepared data set.

    Args:
        builder: `tfds.core.DatasetBuilder` of a classification set.
        split: Name of a split, or a part of one.
        **options: Other arguments of `as_dataset`.
    """
    if not _has_no_pipeline(builder):
        return builder.as_dataset(split=split, as_supervised=True, **options)
    import tensorflow as tf

    keys = builder.info.supervised_keys
    signature = tuple(
        tf.TensorSpec(feature.shape, feature.tf_dtype)
        for feature in (builder.info.features[key] for key in keys)
    )

    def pairs() -> Iterator[tuple[Any, ...]]:
        for example in examples_of(builder, split):
            yield tuple(example[key] for key in keys)

    return tf.data.Dataset.from_generator(pairs, output_signature=signature)


def _has_no_pipeline(builder: Any) -> bool:
    """Whether TFDS gives a data source of the files, and no `tf.data`."""
    file_format = builder.info.file_format
    return file_format is not None and file_format.value == "array_record"


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
