"""Losses of Keras in an attack: labels of any kind, as `fit` takes them."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust.attacks.compiled_loss import CompiledLoss
from keras_robust.attacks.compiled_loss import compiled_loss
from keras_robust.attacks.compiled_loss import output_names
from keras_robust.attacks.compiled_objective import CompiledObjective
from keras_robust.attacks.compiled_objective import objective_of
from keras_robust.classifier import cached_weights
from keras_robust.utils import array_checks


def is_own_loss(loss: Any) -> bool:
    """Whether `loss` is `"compiled"` or a loss object of Keras."""
    return isinstance(loss, keras.losses.Loss) or (
        isinstance(loss, str) and loss == "compiled"
    )


def _loss_of(problem: Any, loss: Any) -> CompiledLoss:
    if isinstance(loss, keras.losses.Loss):
        return CompiledLoss(loss, None, output_names(problem.classifier.model))
    return compiled_loss(problem.classifier.given)


def own_objective(problem: Any, loss: Any, targeted: bool) -> CompiledObjective:
    """The objective of a loss of Keras, one number per example.

    The same object as long as the loss is the same, so that what is compiled
    for it is found again.
    """
    classifier, found = problem.classifier, _loss_of(problem, loss)
    parts = tuple(
        (part.key, part.index, part.loss, part.weight) for part in found.parts
    )
    return classifier.cached(
        ("objective", parts, targeted),
        lambda: objective_of(classifier, found, targeted),
    )


def with_targets(problem: Any, loss: Any, early_stop: bool) -> Any:
    """The problem with labels as `fit` takes them.

    Class numbers are known besides where the labels are such.

    Args:
        problem: A `Problem`.
        loss: The loss of the attack.
        early_stop: Whether the attack stops at a wrong class.

    Returns:
        `Problem` with `targets`.

    Raises:
        ValueError: If labels and inputs differ in number, or classes are
            wanted and there are none.
    """
    examples = problem.x.shape[0]
    targets = keras.tree.map_structure(_as_array, problem.y)
    if isinstance(targets, (list, tuple)):
        targets = _by_output(problem, loss, targets)
    for values in keras.tree.flatten(targets):
        if values.shape[:1] != (examples,):
            raise ValueError(
                f"Argument `y` must hold {examples} labels, one for each "
                f"input. Received: y.shape={values.shape}"
            )
    labels, classes = _class_numbers(problem, targets)
    if early_stop and labels is None:
        raise ValueError(
            "Argument `early_stop` must be False where labels are no class "
            "numbers: there is no wrong class to stop at. "
            "Received: early_stop=True"
        )
    if labels is None:
        problem.classifier.check_shape(problem.x)
        labels = np.zeros(examples, "int32")
    return problem._replace(y=labels, classes=classes, targets=targets)


def _by_output(problem: Any, loss: Any, targets: Any) -> dict[Any, np.ndarray]:
    """A list of labels as a dictionary by the names of outputs."""
    names = output_names(problem.classifier.model)
    if not names:
        return dict(enumerate(targets))
    places = _loss_of(problem, loss).positions(len(targets))
    return {
        names[place]: target
        for place, target in zip(places, targets, strict=True)
    }


def _class_numbers(
    problem: Any, targets: Any
) -> tuple[np.ndarray | None, int | None]:
    """Labels as class numbers and how many there are, or `None` twice."""
    if isinstance(targets, dict) or targets.ndim > 2:
        return None, None
    width = problem.classifier.outputs.width
    whole = np.array_equal(targets, np.round(targets))
    flat = targets.ndim == 1 or targets.shape[1] == 1
    one_hot = (
        targets.ndim == 2
        and targets.shape[1] == width
        and width > 1
        and ((targets == 0) | (targets == 1)).all()
        and (targets.sum(-1) == 1).all()
    )
    if not (one_hot or (flat and whole)):
        return None, None
    try:
        classes = problem.classifier.check(problem.x, problem.held)
        labels = array_checks.check_labels(targets, len(targets), classes)
    except ValueError:
        return None, None
    return labels, classes


def _as_array(y: Any) -> np.ndarray:
    y = np.asarray(ops.convert_to_numpy(y) if ops.is_tensor(y) else y)
    if y.dtype.kind not in "iubf":
        raise ValueError(
            f"Argument `y` must hold numbers. Received: y.dtype={y.dtype}"
        )
    return y.astype("float32") if y.dtype.kind in "fb" else y


@dataclass(frozen=True)
class ReadsTargets:
    """An objective that reads `inputs["targets"]` for its labels.

    Attributes:
        objective: `(inputs, x) -> (values, success)`.
    """

    objective: Any

    def cached_weights(self) -> AbstractContextManager[Any]:
        """A context for many calls with the same weights."""
        return cached_weights(self.objective)

    def __call__(self, inputs: dict[str, Any], x: Any) -> tuple[Any, Any]:
        """See `CompiledObjective`."""
        return self.objective({**inputs, "y": inputs["targets"]}, x)
