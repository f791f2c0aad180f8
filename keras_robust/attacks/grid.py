"""Whole numbers: pixels that are stored as integers stay integers."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust.attacks.norms import relative_distance
from keras_robust.classifier import Classifier


def grid_of(classifier: Classifier, x: Any) -> float | None:
    """The spacing of the values that inputs can take.

    Args:
        classifier: The `Classifier`.
        x: Array or tensor of inputs.

    Returns:
        1 for integers, 1/255 where the model takes integers and `x` lies in
        [0, 1]; `None` for floats.
    """
    if "int" in keras.backend.standardize_dtype(x.dtype):
        return 1.0
    if not classifier.integer_input:
        return None
    return 1.0 if classifier.outputs.scaling is None else 1 / 255


def on_grid(attack: Any, grid: float) -> Any:
    """An attack whose L-infinity radius is a whole number of steps.

    Between two points of the grid nothing can be reached that the smaller one
    does not reach, and a search that takes it for a success finds none.

    Args:
        attack: The attack, its box known.
        grid: Spacing of the grid.
    """
    if getattr(attack, "norm", None) != "linf" or attack.epsilon is None:
        return attack
    whole = grid * np.floor(np.asarray(attack.epsilon) / grid + 1e-6)
    if np.array_equal(whole, attack.epsilon):
        return attack
    return attack.replace(epsilon=whole)


def doubtful_grid(attack: Any, grid: float | None) -> str | None:
    """What is wrong with a radius on a grid, as a sentence, or `None`.

    Args:
        attack: The attack, its box known.
        grid: Spacing of the grid, or `None`.
    """
    epsilon = attack.epsilon
    if grid is None or epsilon is None or getattr(attack, "norm", "") != "linf":
        return None
    largest = float(np.max(epsilon, initial=0.0))
    if not 0 < largest < grid * (1 - 1e-6):
        return None
    return (
        f"The linf radius {largest:.4g} is less than the step {grid:.4g} "
        "between two values that the inputs can take, so nothing can move."
    )


def to_grid(
    attack: Any, problem: Any, result: dict[str, Any], grid: float
) -> dict[str, Any]:
    """Round perturbations to the grid, inside ball and box.

    To the nearest point of the grid; where that leaves the ball, towards the
    clean input.

    Args:
        attack: The attack.
        problem: Its checked problem.
        result: What it found; `success` is determined again, by the model's own
            predictions.
        grid: Spacing of the grid.

    Returns:
        The same with rounded `x`.
    """
    center = np.asarray(ops.convert_to_numpy(problem.x), "float64")
    moved = np.asarray(ops.convert_to_numpy(result["x"]), "float64")
    steps = (moved - center) / grid
    nearest = _inside(attack, center + grid * np.round(steps))
    towards = _inside(attack, center + grid * np.trunc(steps))
    outside = relative_distance(attack, center, nearest) > 1 + 1e-6
    rows = outside.reshape((-1,) + (1,) * (center.ndim - 1))
    rounded = np.where(rows, towards, nearest).astype("float32")
    result = dict(result)
    if "success" in result and problem.classes is not None:
        labels = problem.classifier.predict_labels(
            rounded, attack.batch_size, problem.held
        )
        hit = labels == problem.y
        reached = hit if attack.targeted else ~hit
        # What was broken before has not been attacked.
        previous = problem.previous
        known = False if previous is None else previous.success
        result["success"] = reached | known
    is_array = isinstance(problem.x, np.ndarray)
    result["x"] = rounded if is_array else ops.convert_to_tensor(rounded)
    return result


def _inside(attack: Any, x: np.ndarray) -> np.ndarray:
    low, high = attack.value_range
    return np.clip(x, np.ceil(low) if np.ndim(low) == 0 else low, high)
