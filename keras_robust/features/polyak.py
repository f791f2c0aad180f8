"""Steps as long as the distance that is left asks for."""

from dataclasses import dataclass
from typing import Any

from keras import ops

from keras_robust.attacks.balls import l2_norm
from keras_robust.attacks.balls import nonzero
from keras_robust.attacks.balls import per_example
from keras_robust.attacks.loop import GradientLoop

# Share of the last direction that the next one keeps.
MOMENTUM = 0.9


@dataclass(frozen=True, kw_only=True)
class PolyakLoop(GradientLoop):
    """Gradient descent on a distance whose least value, 0, is known.

    For `r = ||g(z) - g(x)||` a linear model of r is 0 after a step of length
    `r / ||grad r||` (B. T. Polyak 1969, Minimization of unsmooth
    functionals), here averaged over steps by momentum (the same 1964):
    `m <- 0.9 m + min(0.1 r / ||grad r||, step_size) unit(-grad r)`, `z + m`.

    The objective must be minus the squared distance; there is no ball, and
    the arguments are those of `GradientLoop`.
    """

    def init(self, inputs: Any) -> dict:
        """State before the first step."""
        state = super().init(inputs)
        return {**state, "direction": ops.zeros_like(state["x"])}

    def step(self, inputs: Any, state: Any) -> dict:
        """One step inside the box."""
        x, i = state["x"], state["shared"]["i"]
        values, _, gradient = self.look(inputs, x, i)
        # The gradient of r is that of r ** 2 divided by 2 r.
        length = -2 * values / nonzero(l2_norm(gradient))
        length = ops.minimum((1 - MOMENTUM) * length, inputs["step_size"])
        unit = self.ball.unit(gradient)
        direction = MOMENTUM * state["direction"] + unit * per_example(
            length, x
        )
        return {
            "x": ops.clip(x + direction, *self.value_range),
            "direction": direction,
            "shared": {"i": i + 1},
        }
