"""Norms by name."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust.attacks.balls import Ball
from keras_robust.attacks.balls import L2Ball
from keras_robust.attacks.balls import LinfBall
from keras_robust.attacks.l0_ball import L0Ball
from keras_robust.attacks.l1_ball import L1Ball
from keras_robust.utils.checks import expand_radius
from keras_robust.utils.messages import shown

_BALLS: dict[Any, type[Ball]] = {
    "l0": L0Ball,
    0: L0Ball,
    "0": L0Ball,
    "l1": L1Ball,
    "l2": L2Ball,
    "linf": LinfBall,
    1: L1Ball,
    2: L2Ball,
    math.inf: LinfBall,
    "1": L1Ball,
    "2": L2Ball,
    "inf": LinfBall,
}


def get_ball(
    norm: Any, norms: tuple[str, ...] = ("l0", "l1", "l2", "linf")
) -> type[Ball]:
    """The ball of a norm.

    Args:
        norm: `"l0"` or 0, `"l1"` or 1, `"l2"` or 2, `"linf"` or `numpy.inf`.
        norms: The names that the caller can do.

    Returns:
        A subclass of `Ball`.

    Raises:
        ValueError: If the norm is another one.
    """
    key = norm.lower() if isinstance(norm, str) else norm
    known = not isinstance(key, bool) and key in _BALLS
    if not known or _BALLS[key].name not in norms:
        spelled = {
            "l0": "'l0' (or 0)",
            "l1": "'l1' (or 1)",
            "l2": "'l2' (or 2)",
        }
        spelled["linf"] = "'linf' (or numpy.inf)"
        hint = ""
        if isinstance(norm, keras.Model):
            hint = "; the model comes with the call, attack(model, x, y)"
        raise ValueError(
            "Argument `norm` must be "
            + " or ".join(spelled[name] for name in norms)
            + f"{hint}. Received: norm={shown(norm)}"
        )
    return _BALLS[key]


def distances(x: Any, y: Any, norm: Any) -> np.ndarray:
    """Distances between the examples of two batches.

    Args:
        x: Array or tensor of shape `(N, ...)`.
        y: The same.
        norm: `"l1"`, `"l2"` or `"linf"`.

    Returns:
        NumPy array `(N,)`.
    """
    step = ops.convert_to_numpy(x) - ops.convert_to_numpy(y)
    order = {"l0": 0, "l1": 1, "l2": 2, "linf": np.inf}[norm]
    flat = step.reshape(len(step), math.prod(step.shape[1:]))
    return np.linalg.norm(flat, ord=order, axis=1)


def relative_distance(attack: Any, x: Any, attacked: Any) -> np.ndarray:
    """Distances that an attack has moved examples, as shares of the radius.

    Args:
        attack: An attack with `norm` and `epsilon`.
        x: Array `(N, ...)`.
        attacked: Array `(N, ...)`.

    Returns:
        Float64 array `(N,)`; 0 for what has not moved, infinity for what has
        with a radius of 0. Zeros where the attack has no ball.
    """
    x, attacked = (
        np.asarray(ops.convert_to_numpy(part), "float64")
        for part in (x, attacked)
    )
    norm = getattr(attack, "norm", None)
    if attack.epsilon is None or norm is None:
        return np.zeros(len(x))
    epsilon = expand_radius(attack.epsilon, "epsilon", x.shape, True)
    return shares_of_radius(attacked - x, norm, epsilon)


def shares_of_radius(step: Any, norm: str, epsilon: Any) -> np.ndarray:
    """Lengths of perturbations, as shares of the radius.

    Args:
        step: Array `(N, ...)`.
        norm: `"l0"`, `"l1"`, `"l2"` or `"linf"`.
        epsilon: Radii >= 0, `(N,)`, or like `step` for one per feature.

    Returns:
        Float64 array `(N,)`; 0 for what has not moved, infinity for what has
        with a radius of 0.
    """
    examples = len(step)
    step = np.asarray(step, "float64").reshape(examples, -1)
    epsilon = np.asarray(epsilon, "float64")
    if epsilon.ndim > 1:
        ratio = np.abs(step) / _nonzero(step, epsilon.reshape(examples, -1))
        return ratio.max(-1, initial=0.0)
    order = {"l0": 0, "l1": 1, "l2": 2, "linf": np.inf}[norm]
    distance = np.linalg.norm(step, ord=order, axis=1)
    return distance / _nonzero(distance, epsilon)


def _nonzero(moved: np.ndarray, epsilon: np.ndarray) -> np.ndarray:
    """A divisor that makes any movement with a radius of 0 infinitely far."""
    tiny = np.where(moved != 0, np.finfo("float64").tiny, 1.0)
    return np.where(epsilon > 0, epsilon, tiny)
