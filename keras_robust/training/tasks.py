"""The task that a model is trained for: classification or another one."""

from typing import Any

import keras
from keras import ops

from keras_robust.attacks.compiled_loss import labels_of
from keras_robust.attacks.compiled_loss import resolve_loss
from keras_robust.utils import array_checks

CLASSES = "classes"
SOFT_CLASSES = "soft classes"
OTHER = "other"


def task_of(y: Any, output: Any, loss: Any, head: str | None) -> str:
    """Whether labels are classes, judged by shapes, dtypes and the loss.

    Args:
        y: Labels of one output, array or tensor.
        output: The output that it is compared with; only the shape matters.
        loss: A string, function or `keras.losses.Loss`; `None` before
            `compile`.
        head: The last activation of the output; `None` if it is unknown.

    Returns:
        `"classes"` for class numbers or one-hot rows of integers;
        `"soft classes"` for rows of floats, or probabilities of the second of
        two classes; otherwise `"other"`.
    """
    if len(output.shape) != 2 or not hasattr(y, "shape"):
        return OTHER
    width = output.shape[-1]
    if width is None:
        return OTHER
    whole = _is_whole(y)
    column = len(y.shape) == 1 or (len(y.shape) == 2 and y.shape[-1] == 1)
    rows = len(y.shape) == 2 and y.shape[-1] == width > 1
    if not column and not rows:
        return OTHER
    if loss is None:
        return CLASSES
    loss = resolve_loss(loss, y, output)
    kind = labels_of(loss)
    if getattr(loss, "ignore_class", None) is not None:
        return OTHER
    if width == 1:
        is_binary = kind == "bits" or (
            kind is None and whole and head == "sigmoid"
        )
        return (CLASSES if whole else SOFT_CLASSES) if is_binary else OTHER
    if column:
        by_number = kind == "classes" or (kind is None and whole)
        return CLASSES if by_number else OTHER
    if kind == "rows":
        return CLASSES if whole else SOFT_CLASSES
    return OTHER


def _is_whole(y: Any) -> bool:
    dtype = keras.backend.standardize_dtype(y.dtype)
    return "int" in dtype or dtype == "bool"


def as_soft_rows(y: Any, num_classes: int) -> Any:
    """Class labels of any form as float rows `(N, C)`.

    Args:
        y: Tensor `(N, C)`, or for two classes `(N,)` or `(N, 1)`.
        num_classes: C.
    """
    y = ops.cast(y, "float32")
    if len(y.shape) == 2 and y.shape[-1] == num_classes > 1:
        return y
    y = ops.reshape(y, (-1, 1))
    return ops.concatenate([1 - y, y], axis=-1)


def class_numbers(y: Any, task: str) -> Any:
    """Class labels of any form as int32 `(N,)`; of soft ones the largest.

    Args:
        y: Tensor of labels.
        task: Result of `task_of`.
    """
    if task == SOFT_CLASSES and (len(y.shape) == 1 or y.shape[-1] == 1):
        y = ops.cast(ops.reshape(y, (-1,)), "float32") > 0.5
        return ops.cast(y, "int32")
    return array_checks.labels_in_graph(y)
