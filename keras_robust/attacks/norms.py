"""Norms by name."""

import math

from keras_robust.attacks.balls import L2Ball
from keras_robust.attacks.balls import LinfBall
from keras_robust.attacks.l1_ball import L1Ball

_BALLS = {
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


def get_ball(norm, norms=("l1", "l2", "linf")):
    """The ball of a norm.

    Args:
        norm: `"l1"` or 1, `"l2"` or 2, `"linf"` or `numpy.inf`.
        norms: The names that the caller can do.

    Returns:
        The class with `norm`, `unit`, `shrink`, `noise`, `sample`, `surface`.

    Raises:
        ValueError: If the norm is another one.
    """
    key = norm.lower() if isinstance(norm, str) else norm
    known = not isinstance(key, bool) and key in _BALLS
    if not known or _BALLS[key].name not in norms:
        spelled = {"l1": "'l1' (or 1)", "l2": "'l2' (or 2)"}
        spelled["linf"] = "'linf' (or numpy.inf)"
        raise ValueError(
            "Argument `norm` must be "
            + " or ".join(spelled[name] for name in norms)
            + f". Received: norm={norm!r}"
        )
    return _BALLS[key]
