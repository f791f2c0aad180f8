"""Steps of Adam."""

from typing import Any

from keras import ops

from keras_robust.attacks.engine.loop import Tensor

# Adam's constants (Kingma & Ba 2015, algorithm 1).
_BETA_1, _BETA_2, _TINY = 0.9, 0.999, 1e-8


def zero_moments(x: Tensor) -> dict[str, Tensor]:
    """Return the rows that `adam` needs, before the first step."""
    zeros = ops.zeros_like(x)
    return {"first_moment": zeros, "second_moment": zeros}


def adam(
    rows: dict[str, Any], gradient: Tensor, step: Tensor
) -> tuple[dict[str, Any], Tensor, Tensor]:
    """Return what a step of Adam goes along.

    Args:
        rows: Rows of a state, with those of `zero_moments`.
        gradient: `(N, ...)`.
        step: Int, 0 for the first step.

    Returns:
        The rows with the new moments; the mean gradient `(N, ...)`; and what
        divides it, `(N, ...)` > 0.
    """
    first = _BETA_1 * rows["first_moment"] + (1 - _BETA_1) * gradient
    second = rows["second_moment"]
    second = _BETA_2 * second + (1 - _BETA_2) * ops.square(gradient)
    time = ops.cast(step + 1, "float32")
    mean = first / (1 - ops.power(_BETA_1, time))
    square = second / (1 - ops.power(_BETA_2, time))
    rows = {**rows, "first_moment": first, "second_moment": second}
    return rows, mean, ops.sqrt(square) + _TINY
