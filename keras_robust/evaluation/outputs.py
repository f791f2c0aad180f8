"""Whether an attack's output keeps its promises."""

import numpy as np

from keras_robust.attacks.norms import distances

# Relative excess of a radius that is rounding.
_ROUNDING = 1e-5


def inspect_output(attack, x, attacked):
    """Counts what must not be.

    Args:
        attack: An `Attack`.
        x: NumPy array `(N, ...)`.
        attacked: NumPy array, its output for `x`.

    Returns:
        Dictionary of numbers: `nan`, examples with NaN or infinity;
        `outside_box`; `outside_ball`; `largest_excess`, by what share of the
        radius the worst one is outside the ball.
    """
    flat = attacked.reshape(len(x), -1).astype("float64")
    bad = ~np.isfinite(flat).all(-1)
    low, high = attack.value_range
    slack = _ROUNDING * (high - low)
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
    distance = distances(flat, x.reshape(len(x), -1), norm)
    epsilon = np.broadcast_to(attack.epsilon, (len(x),)).astype("float64")
    excess = (distance - epsilon) / np.where(epsilon > 0, epsilon, high - low)
    found["outside_ball"] = int((excess[~bad] > _ROUNDING).sum())
    found["largest_excess"] = float(excess[~bad].max(initial=0.0))
    return found
