"""Class labels in the forms that users have them, and how many classes."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_robust.datasets.arrays import as_array
from keras_robust.utils import array_checks
from keras_robust.utils.messages import shown

# The `label_rule` of transforms that keep labels. Those of others are "random",
# "deterministic", "other", or `None` for any other rule.
KEPT = "kept"
# More classes than any data set has: only the form of the labels is checked.
_ANY = 2**31 - 1


def read_labels(
    y: Any, examples: int, name: str = "y"
) -> tuple[np.ndarray, int | None]:
    """Labels as integers, whatever the number of classes.

    Args:
        y: Integers of shape `(N,)` or `(N, 1)`, or one-hot of `(N, C)`.
        examples: N.
        name: Name for error messages.

    Returns:
        `(labels, width)`: an int32 array `(N,)`, and C where the labels were
        one-hot, else `None`.

    Raises:
        ValueError: If they are anything else.
    """
    y = as_array(y, name)
    if y.ndim == 0 or len(y) != examples:
        found = "one label" if y.ndim == 0 else f"{len(y)} labels"
        raise ValueError(
            f"Argument `{name}` must hold a label for each image. "
            f"Received: {examples} images and {found}"
        )
    width = y.shape[1] if y.ndim == 2 and y.shape[1] > 1 else None
    wrong = (y != np.round(y)) | (y < 0)
    if wrong.any():
        raise ValueError(
            f"Argument `{name}` must hold class numbers 0, 1, 2, ... or be "
            f"one-hot. Received: {name} with {y[wrong][0]}"
        )
    if width and not (y.sum(-1) == 1).all():
        raise ValueError(
            f"Argument `{name}` of shape (N, C) must be one-hot. "
            f"Received: {name}.shape={y.shape} with a row that sums to "
            f"{y.sum(-1)[y.sum(-1) != 1][0]}"
        )
    return array_checks.check_labels(y, examples, width or _ANY, name), width


def labels_of_model(
    y: Any, examples: int, num_classes: int, name: str = "y"
) -> np.ndarray:
    """Labels as integers below the number of classes of a model.

    Args:
        y: As in `read_labels`.
        examples: N.
        num_classes: C.
        name: Name for error messages.

    Returns:
        Int32 array `(N,)`.

    Raises:
        ValueError: If they are anything else, or do not fit the model.
    """
    labels, width = read_labels(y, examples, name)
    if width not in (None, num_classes):
        raise ValueError(
            f"Argument `{name}`, if one-hot, must have a column for each of "
            f"the {num_classes} classes of the model. "
            f"Received: {name}.shape={(examples, width)}"
        )
    return array_checks.check_labels(labels, examples, num_classes, name)


def labels_sha256(labels: Any) -> str:
    """The SHA-256 of labels, as hexadecimal text.

    Args:
        labels: Int array `(N,)`.
    """
    return hashlib.sha256(np.asarray(labels, "<i4").tobytes()).hexdigest()


def settle_classes(
    labels: np.ndarray,
    of_transform: int | None,
    width: int | None,
    names: Sequence[str] | None,
    keeps_labels: bool,
) -> tuple[int, list[str]]:
    """Number and names of the classes of a generated data set.

    They are those of the transform's model, or those that the data set names,
    and never those that happen to occur: a subset may lack the last ones.

    Args:
        labels: Int array `(N,)`, the true labels.
        of_transform: What the transform's `count_classes` returns.
        width: Width of one-hot labels, or `None`.
        names: Names of the data set's classes, or `None`.
        keeps_labels: Whether the labels do not change. Then the classes are
            the data set's own rather than the model's.

    Returns:
        `(num_classes, names)`, with a name for each class.

    Raises:
        ValueError: If the number of classes is not known, or labels lie beyond
            them.
    """
    named = list(names or ())
    if not all(isinstance(name, str) for name in named):
        raise ValueError(
            "Argument `class_names` must be a list of strings. "
            f"Received: class_names={shown(named)}"
        )
    known = len(named) if named else width
    count = known or of_transform
    if not keeps_labels:
        count = of_transform or known
    if count is None:
        raise ValueError(
            "Argument `class_names` must be given: neither the model nor the "
            "source has a number of classes. Received: "
            f"class_names=None and labels up to {labels.max()}"
        )
    whose = "the source" if count == known else "the model"
    if not keeps_labels and of_transform and width not in (None, of_transform):
        raise ValueError(
            "One-hot labels must have a column for each of the "
            f"{of_transform} classes of the model. Received: {width} columns"
        )
    if labels.max() >= count:
        advice = "; `class_names` may name more" if keeps_labels else ""
        raise ValueError(
            f"Labels must lie in 0 ... {count - 1}, the classes of {whose}"
            f"{advice}. Received: labels from {labels.min()} to {labels.max()}"
        )
    for number in range(len(named), count):
        name = str(number)
        named.append(f"class {name}" if name in named else name)
    return count, named
