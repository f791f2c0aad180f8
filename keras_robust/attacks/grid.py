"""Whole numbers: pixels that are stored as integers stay integers."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust.attacks.engine.nearest_loop import NOT_FOUND
from keras_robust.attacks.norms import distances
from keras_robust.attacks.norms import shares_of_radius
from keras_robust.classifier import Classifier
from keras_robust.utils.checks import expand_radius

# Share of the radius up to which a point is inside, to rounding.
_SLACK = 1 + 1e-6
# Share of a step that is rounding.
_STEP_ROUNDING = 1e-3
# How often a perturbation that rounding undoes is stretched, each time by half
# a step of the grid or by this factor, whichever is more: to three times its
# length or by six steps at most.
_STRETCHES = 12
_STRETCH = 1.1


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

    Args:
        attack: The attack.
        problem: Its checked problem.
        result: What it found; `success` is determined again, by the model's own
            predictions.
        grid: Spacing of the grid.

    Returns:
        The same with rounded `x`.
    """
    host = problem.on_host()
    every = np.arange(len(host.x))
    moved = ops.convert_to_numpy(result["x"])
    rounded = rounded_to_grid(attack, host.x, moved, grid, every)
    result = dict(result)
    if "success" in result and problem.classes is not None:
        reached = reaches_goal(attack, host, rounded, every)
        # What was broken before has not been attacked.
        previous = problem.previous
        known = False if previous is None else previous.success
        result["success"] = reached | known
    is_array = isinstance(problem.x, np.ndarray)
    result["x"] = rounded if is_array else ops.convert_to_tensor(rounded)
    return result


def found_on_grid(
    attack: Any, problem: Any, found: dict[str, np.ndarray], rows: np.ndarray
) -> dict[str, np.ndarray]:
    """What a run found, rounded, so that later runs attack what is left.

    Restarts and attacks that follow skip what is a success. One that rounding
    undoes has to be attacked again.

    Args:
        attack: The attack of the run.
        problem: Its problem, the images as NumPy arrays, with a grid.
        found: `x`, and where scored `loss` and `success`, of some examples.
        rows: Their numbers.

    Returns:
        The same with rounded `x`. Where that differs, `success` is the model's
        own answer. Attacks that minimize a distance end next to the boundary:
        where rounding leads back, the perturbation is stretched, and their loss
        is that of the rounded point.
    """
    center, before = problem.x[rows], found["x"]
    x = rounded_to_grid(attack, problem.x, before, problem.grid, rows)
    flat = (len(rows), -1)
    changed = (x.reshape(flat) != before.reshape(flat)).any(-1)
    found = {**found, "x": x}
    if "success" not in found or problem.classes is None or not changed.any():
        return found
    success, loss = np.array(found["success"]), np.array(found["loss"])
    some = rows[changed]
    success[changed] = reaches_goal(attack, problem, x[changed], some)
    if attack.is_minimum_norm:
        undone = np.flatnonzero(found["success"] & ~success)
        x[undone], success[undone] = _stretched(
            attack, problem, before[undone], x[undone], rows[undone]
        )
        length = distances(x[changed], center[changed], attack.norm)
        loss[changed] = np.where(success[changed], -length, -NOT_FOUND)
    return {**found, "success": success, "loss": loss}


def _stretched(
    attack: Any,
    problem: Any,
    moved: np.ndarray,
    rounded: np.ndarray,
    rows: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The first rounded points further out that reach the goal.

    Args:
        attack: The attack of the run.
        problem: Its problem, the images as NumPy arrays, with a grid.
        moved: Points that reach the goal, `(n, ...)`.
        rounded: The same, rounded, which do not.
        rows: The numbers of their examples.

    Returns:
        Points of the grid, those of `rounded` where none was found, and whether
        they reach the goal.
    """
    points, success = rounded.copy(), np.zeros(len(rows), bool)
    step = np.asarray(moved, "float64") - problem.x[rows]
    axes = tuple(range(1, step.ndim))
    longest = np.abs(step).max(axes, keepdims=True, initial=0.0)
    unit = step / np.where(longest > 0, longest, 1.0)
    for _ in range(_STRETCHES):
        left = np.flatnonzero(~success)
        if not len(left):
            break
        longest = np.maximum(longest + problem.grid / 2, _STRETCH * longest)
        further = problem.x[rows[left]] + (longest * unit)[left]
        tried = rounded_to_grid(
            attack, problem.x, further, problem.grid, rows[left]
        )
        success[left] = reaches_goal(attack, problem, tried, rows[left])
        points[left[success[left]]] = tried[success[left]]
    return points, success


def rounded_to_grid(
    attack: Any,
    images: np.ndarray,
    moved: np.ndarray,
    grid: float,
    rows: np.ndarray,
) -> np.ndarray:
    """Points of the grid next to others, inside ball and box.

    To the nearest one. Where that leaves the ball, as many features as needed
    are rounded towards the clean image, those first that were rounded the
    furthest away from it.

    Args:
        attack: The attack, whose ball and box hold.
        images: All images of its problem, `(N, ...)`.
        moved: Points near some of them, `(n, ...)`.
        grid: Spacing of the grid.
        rows: Which ones, `(n,)`.

    Returns:
        Float32 array `(n, ...)`.
    """
    center = np.asarray(images[rows], "float64")
    step = (np.asarray(moved, "float64") - center) / grid
    box = attack.value_range
    nearest = points_inside(box, center, np.round(step), grid) - center
    norm = getattr(attack, "norm", None)
    if attack.epsilon is None or norm is None:
        return (center + nearest).astype("float32")
    radius = expand_radius(attack.epsilon, "epsilon", images.shape, True)[rows]
    towards = points_inside(box, center, np.trunc(step), grid) - center
    far = shares_of_radius(nearest, norm, radius) > _SLACK
    if far.any():
        nearest[far] = _shortened(
            nearest[far], towards[far], grid * step[far], norm, radius[far]
        )
    return (center + nearest).astype("float32")


def reaches_goal(
    attack: Any, problem: Any, x: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """Whether points reach the goal, by the model's own predictions.

    Args:
        attack: The attack.
        problem: Its problem, as NumPy arrays.
        x: Points for some of its examples, `(n, ...)`.
        rows: Which ones.

    Returns:
        Bool array `(n,)`.
    """
    held = {name: part[rows] for name, part in problem.held.items()}
    labels = problem.classifier.predict_labels(x, attack.batch_size, held)
    hit: np.ndarray = labels == np.asarray(problem.y)[rows]
    return hit if attack.targeted else ~hit


def _shortened(
    nearest: np.ndarray,
    towards: np.ndarray,
    step: np.ndarray,
    norm: str,
    radius: np.ndarray,
) -> np.ndarray:
    """`nearest` with as few features of `towards` as bring it into the ball."""
    count, shape = len(step), step.shape
    near, short, step = (
        part.reshape(count, -1) for part in (nearest, towards, step)
    )
    gap = np.where(near != short, np.abs(near - step), -1.0)
    rank = np.argsort(np.argsort(-gap, axis=1, kind="stable"), axis=1)

    def with_shortened(numbers: np.ndarray) -> np.ndarray:
        return np.where(rank < numbers[:, None], short, near)

    # Bisection: the more features, the shorter.
    least = np.zeros(count, int)
    most = np.full(count, step.shape[1])
    while (least < most).any():
        middle = (least + most) // 2
        tried = with_shortened(middle).reshape(shape)
        inside = shares_of_radius(tried, norm, radius) <= _SLACK
        most = np.where(inside, middle, most)
        least = np.where(inside, least, np.minimum(middle + 1, most))
    return with_shortened(most).reshape(shape)


def points_inside(
    value_range: Any, center: np.ndarray, steps: np.ndarray, grid: float
) -> np.ndarray:
    """Points that are whole steps away from images, inside the box.

    Args:
        value_range: `(low, high)`, whose ends need not be on the grid.
        center: Images `(n, ...)`.
        steps: Whole numbers of steps, `(n, ...)`.
        grid: Length of a step.

    Returns:
        Float64 array `(n, ...)`, with fewer steps where they leave the box.
    """
    center = np.asarray(center, "float64")
    low, high = (np.asarray(end, "float64") for end in value_range)
    fewest = np.ceil((low - center) / grid - _STEP_ROUNDING)
    most = np.floor((high - center) / grid + _STEP_ROUNDING)
    points = center + grid * np.clip(steps, fewest, most)
    # What rounding has left outside.
    return np.clip(points, low, high)
