"""Checks of the elements of a data set."""

from typing import Any

import numpy as np

from keras_robust.datasets.arrays import as_array
from keras_robust.datasets.labels import read_labels
from keras_robust.utils.messages import describe


def as_pairs(dataset: Any, name: str, rank: int | None = None) -> Any:
    """Check that a `tf.data.Dataset` has `(x, y)` batches, without reading it.

    Args:
        dataset: `tf.data.Dataset` of `(x, y)` batches, or of dictionaries
            with `"image"` and `"label"`.
        name: Name for error messages.
        rank: Number of axes of a batch of images, where that is known.

    Returns:
        `tf.data.Dataset` of `(x, y)`.

    Raises:
        ValueError: If it has other elements.
    """
    spec = getattr(dataset, "element_spec", None)
    if isinstance(spec, dict) and {"image", "label"} <= spec.keys():
        dataset = dataset.map(lambda batch: (batch["image"], batch["label"]))
        spec = dataset.element_spec
    if not (
        isinstance(spec, tuple)
        and len(spec) == 2
        and all(hasattr(part, "shape") for part in spec)
    ):
        raise ValueError(
            f"Argument `{name}` must be a tf.data.Dataset of (x, y) batches. "
            f"Received: {describe(dataset)} with elements {spec}"
        )
    x, y = spec
    for kind, dtype in (("images", x.dtype), ("labels", y.dtype)):
        if not (dtype.is_floating or dtype.is_integer or dtype.is_bool):
            raise ValueError(
                f"Argument `{name}` must give {kind} as numbers. "
                f"Received: {kind} of dtype {dtype.name}"
            )
    if _is_unbatched(x.shape, y.shape, rank):
        raise ValueError(
            f"Argument `{name}` must give batches: call `.batch(128)` on it. "
            f"Received: images of shape {x.shape}, labels of shape {y.shape}"
        )
    return dataset


def _is_unbatched(x: Any, y: Any, rank: int | None) -> bool:
    """Whether shapes of images and labels lack the axis of a batch."""
    if y.rank == 0 or x.rank is not None and x.rank < 2:
        return True
    if x.rank is None or y.rank is None:
        return False
    # One-hot labels of single images have a rank too.
    apart = None not in (x[0], y[0]) and x[0] != y[0]
    return bool(apart or rank is not None and x.rank == rank - 1)


def read_element(
    element: Any, name: str
) -> tuple[np.ndarray, np.ndarray, int | None]:
    """Read images and labels of one batch.

    Args:
        element: An element of the data set.
        name: Name of the data set for error messages.

    Returns:
        `(images, labels, width)`: NumPy images unchanged, and labels as in
        `read_labels`.

    Raises:
        ValueError: If it is not a batch `(x, y)`.
    """
    if isinstance(element, dict) and {"image", "label"} <= element.keys():
        element = element["image"], element["label"]
    if not isinstance(element, (tuple, list)) or len(element) != 2:
        raise ValueError(
            f"Argument `{name}` must give (x, y) batches. "
            f"Received: {describe(element)}"
        )
    x, y = as_array(element[0], "x"), as_array(element[1], "y")
    if x.ndim < 2 or y.ndim == 0 or len(x) != len(y):
        raise ValueError(
            f"Argument `{name}` must give batches: call `.batch(128)` on it. "
            f"Received: images of shape {x.shape}, labels of shape {y.shape}"
        )
    return x, *read_labels(y, len(x))
