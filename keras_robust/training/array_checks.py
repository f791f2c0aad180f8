"""Checks of whole arrays, before anything expensive."""

from typing import Any
from typing import NoReturn

import keras
import numpy as np
from keras import ops

from keras_robust.objectives import TrainingObjective
from keras_robust.training.objective_loss import check_task
from keras_robust.training.tasks import CLASSES
from keras_robust.training.tasks import OTHER
from keras_robust.utils import array_checks


def check_arrays(
    attack: Any,
    x: Any,
    y: Any,
    objective: TrainingObjective | None = None,
) -> None:
    """Check inputs and labels in memory; other sources of data pass.

    Args:
        attack: The `BatchAttack` on these data.
        x: Inputs as `fit` takes them.
        y: Labels as `fit` takes them.
        objective: What is minimized on these data, or `None`.

    Raises:
        ValueError: If inputs leave the value range or have a wrong shape, or
            labels are not among the classes of the model.
    """
    classifier, own = attack.classifier, attack.attack
    if hasattr(x, "element_spec"):
        _check_elements(x.element_spec, classifier.input_shape)
    if not _is_array(x):
        return
    image, held = classifier.split(x)
    image = array_checks.as_floats(image, own.value_range)
    array_checks.check_images(image, own.value_range)
    if not image.shape[0]:
        return
    classifier.check_shape(image)
    y = _as_arrays(y)
    for part in keras.tree.flatten(y):
        if part is not None and part.dtype.kind in "USO":
            _refuse_names(part.dtype)
    task = attack.task_of_arrays(image, held, y)
    if objective is not None:
        check_task(objective, attack, task)
    if task == OTHER:
        _check_finite(y)
        return
    classes = classifier.check(image, held)
    labels = attack.labels(y)
    if task == CLASSES:
        array_checks.check_labels(labels, image.shape[0], classes)
    else:
        _check_shares(labels, image.shape[0], classes)


def _check_elements(
    spec: Any, input_shape: tuple[int | None, ...] | None
) -> None:
    """Check the element specification of a `tf.data.Dataset`."""
    if not isinstance(spec, tuple) or len(spec) < 2:
        return
    for part in keras.tree.flatten(spec[1]):
        if str(getattr(part, "dtype", "")).endswith("'string'>"):
            _refuse_names("string")
    shape = getattr(spec[0], "shape", None)
    if shape is None or input_shape is None or shape.rank is None:
        return
    if shape.rank == len(input_shape):
        raise ValueError(
            "A data set must give batches: call `.batch(128)` on it. "
            f"Received: elements with x of shape {tuple(shape)}"
        )


def _refuse_names(dtype: Any) -> NoReturn:
    raise ValueError(
        "Argument `y` must hold numbers, not names; "
        "numpy.unique(labels, return_inverse=True) numbers them. "
        f"Received: y.dtype={dtype}"
    )


def _is_array(x: Any) -> bool:
    """Whether a value is an array, or a list or dictionary of arrays."""
    if isinstance(x, dict):
        return bool(x) and all(_is_array(part) for part in x.values())
    if isinstance(x, (list, tuple)):
        return bool(x) and all(_is_array(part) for part in x)
    return ops.is_tensor(x) or isinstance(x, np.ndarray) or _is_frame(x)


def _is_frame(x: Any) -> bool:
    return hasattr(x, "to_numpy") and hasattr(x, "shape")


def _as_arrays(y: Any) -> Any:
    if isinstance(y, dict):
        return {key: _as_arrays(part) for key, part in y.items()}
    if isinstance(y, (list, tuple)) and any(_is_array(part) for part in y):
        return [_as_arrays(part) for part in y]
    if y is None:
        return None
    if ops.is_tensor(y):
        return np.asarray(ops.convert_to_numpy(y))
    return y.to_numpy() if _is_frame(y) else np.asarray(y)


def _check_finite(y: Any) -> None:
    if isinstance(y, dict):
        y = list(y.values())
    for part in y if isinstance(y, list) else [y]:
        if part is None or part.dtype.kind not in "fc":
            continue
        if not np.isfinite(part).all():
            raise ValueError(
                "Argument `y` must be finite. Received: NaN or infinity"
            )


def _check_shares(y: np.ndarray, examples: int, classes: int) -> None:
    """Check soft labels: rows, or the shares of the second of two classes."""
    if y.shape not in ((examples, classes), (examples, 1), (examples,)):
        raise ValueError(
            f"Argument `y` must have the shape ({examples}, {classes}). "
            f"Received: y.shape={y.shape}"
        )
    if not ((y >= 0) & (y <= 1)).all():
        raise ValueError(
            "Argument `y` must hold one-hot or soft labels, shares from 0 to "
            "1. "
            f"Received: values from {y.min()} to {y.max()}"
        )
