"""Whether an attack has any gradient to follow."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust import backend
from keras_robust.attacks.norms import relative_distance
from keras_robust.attacks.objectives import LabelObjective
from keras_robust.attacks.objectives import log_odds
from keras_robust.classifier import Classifier

_EXAMPLES = 8
# Steps end on the ball, uniform random points hardly ever.
_ON_THE_BALL = 0.99999


def looks_stuck(attack: Any, problem: Any, result: dict[str, Any]) -> bool:
    """Whether a result is what an attack without gradients would give.

    Args:
        attack: A `LoopAttack`.
        problem: Its checked problem.
        result: What it found.
    """
    moved = relative_distance(attack, problem.x, result["x"])
    if not np.asarray(moved).any():
        previous = problem.previous
        return previous is None or not previous.success.all()
    if not getattr(attack, "random_start", False):
        return False
    return bool(np.median(moved) < _ON_THE_BALL)


def is_zero(
    classifier: Classifier,
    x: Any,
    y: Any,
    held: dict[str, Any] | None = None,
    objective: Any = None,
) -> bool:
    """Whether the gradient at a few inputs is exactly zero everywhere.

    Args:
        classifier: The `Classifier`.
        x: Array or tensor `(N, ...)`.
        y: Labels, or what the objective takes.
        held: The other inputs.
        objective: `(inputs, x) -> (values, success)`; `None` for the log-odds
            of the labels.

    Returns:
        Bool.
    """
    size = min(classifier.batch_size or _EXAMPLES, x.shape[0])
    missing = (classifier.batch_size or size) - size

    def few(values: Any) -> Any:
        values = ops.convert_to_numpy(values[:size])
        if values.dtype == np.float64:
            values = values.astype("float32")
        more = values[:1].repeat(missing, 0)
        return ops.convert_to_tensor(np.concatenate([values, more]))

    if objective is None:
        objective = LabelObjective(classifier.logits, log_odds, False)

    def largest(inputs: dict[str, Any]) -> Any:
        _, gradient = backend.value_and_gradient(
            lambda x: objective(inputs, x), inputs["x"]
        )
        return ops.max(ops.abs(gradient))

    inputs = {"x": ops.cast(few(x), "float32")}
    inputs["y"] = keras.tree.map_structure(few, y)
    inputs["draw"] = ops.zeros((), "int32")
    if held:
        inputs["held"] = {key: few(value) for key, value in held.items()}
    found = backend.compile(largest, classifier.variables, classifier.jit())(
        inputs
    )
    return float(ops.convert_to_numpy(found)) == 0.0
