"""Whether an attack's output keeps its promises."""

import numpy as np

from keras_robust.attacks.attack import Attack
from keras_robust.attacks.checks import expand_radius
from keras_robust.attacks.norms import distances

# Relative excess of a radius that is rounding.
_ROUNDING = 1e-5


def inspect_output(attack: Attack, x: np.ndarray, attacked: np.ndarray) -> dict:
    """Counts what must not be.

    Args:
        attack: An `Attack`, with the numbers that it ran with.
        x: NumPy array `(N, ...)`.
        attacked: NumPy array, its output for `x`.

    Returns:
        Dictionary of numbers: `nan`, examples with NaN or infinity;
        `outside_box`; `outside_ball`; `largest_excess`, by what share of the
        radius the worst one is outside the ball.

    Raises:
        ValueError: If the output has another shape than `x`.
    """
    if attacked.shape != x.shape:
        raise ValueError(
            f"An attack must return images of shape {x.shape}. "
            f"Received: shape {attacked.shape} from {type(attack).__name__}"
        )
    rows = (len(x), -1)
    flat = attacked.reshape(rows).astype("float64")
    bad = ~np.isfinite(flat).all(-1)
    low, high, width = (
        np.broadcast_to(edge, x.shape).reshape(rows)
        for edge in _edges(attack.value_range)
    )
    slack = _ROUNDING * width
    outside = ((flat < low - slack) | (flat > high + slack)).any(-1)
    found = {
        "nan": int(bad.sum()),
        "outside_box": int((outside & ~bad).sum()),
        "outside_ball": 0,
        "largest_excess": 0.0,
    }
    norm = getattr(attack, "norm", None)
    if attack.epsilon is None or norm is None:
        return found
    epsilon = expand_radius(attack.epsilon, "epsilon", x.shape, True)
    epsilon = epsilon.astype("float64")
    start = x.reshape(rows)
    if epsilon.ndim > 1:
        # One radius per feature.
        distance, epsilon = np.abs(flat - start), epsilon.reshape(rows)
    else:
        distance, width = distances(flat, start, norm), width.max(-1)
    excess = (distance - epsilon) / np.where(epsilon > 0, epsilon, width)
    excess = excess.reshape(rows).max(-1)
    found["outside_ball"] = int((excess[~bad] > _ROUNDING).sum())
    found["largest_excess"] = float(excess[~bad].max(initial=0.0))
    return found


def _edges(value_range):
    """Low, high and the width that rounding is measured by."""
    low, high = (np.asarray(edge, "float64") for edge in value_range)
    width = high - low
    return low, high, np.where(np.isfinite(width), width, 1.0)
