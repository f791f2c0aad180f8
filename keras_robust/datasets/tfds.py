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
        archives = (
            " (imagenet2012 needs its archives in the manual folder, see "
            "tensorflow.org/datasets/catalog/imagenet2012)"
        )
        raise FileNotFoundError(
            f"The data set {name!r} must be prepared for TFDS, or a network "
            "must be there to download it. Set TFDS_DATA_DIR to a folder that "
            f'holds {name}/, or run `python -c "import tensorflow_datasets as '
            f"tfds; tfds.load('{name}')\"` where there is a network"
            f"{archives if name == 'imagenet2012' else ''}. "
            f"Received: {type(error).__name__}: {error}"
        ) from error
