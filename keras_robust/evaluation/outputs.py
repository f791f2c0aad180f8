"""Whether an attack's output keeps its promises."""

import numpy as np

from keras_robust.attacks.attack import Attack
from keras_robust.utils.checks import outside_box
from keras_robust.utils.checks import relative_distance

# Share of the radius, or of the width of the box, that is rounding.
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
    attacked = attacked.astype("float64")
    bad = ~np.isfinite(attacked).reshape(len(x), -1).all(-1)
    low, high = (np.asarray(edge, "float64") for edge in attack.value_range)
    width = high - low
    slack = _ROUNDING * (width.max() if np.isfinite(width).all() else 1.0)
    beyond = outside_box(attacked, attack.value_range)
    excess = relative_distance(attack, x, attacked) - 1
    return {
        "nan": int(bad.sum()),
        "outside_box": int((beyond[~bad] > slack).sum()),
        "outside_ball": int((excess[~bad] > _ROUNDING).sum()),
        "largest_excess": float(excess[~bad].max(initial=0.0)),
    }
