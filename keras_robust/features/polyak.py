"""Steps as long as the distance that is left asks for."""

from dataclasses import dataclass

from keras import ops

from keras_robust.attacks.balls import l2_norm
from keras_robust.attacks.balls import nonzero
from keras_robust.attacks.balls import per_example
from keras_robust.attacks.engine.gradient_loop import GradientLoop
from keras_robust.attacks.engine.loop import Inputs
from keras_robust.attacks.engine.loop import State

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

    def init(self, inputs: Inputs) -> State:
        """See `Loop`."""
        state = super().init(inputs)
        direction = ops.zeros_like(state.rows["x"])
        return state._replace(rows={**state.rows, "direction": direction})

    def step(self, inputs: Inputs, state: State) -> State:
        """See `Loop`: one step inside the box."""
        x, i = state.rows["x"], state.shared["step"]
        values, _, gradient = self.value_and_gradient(inputs, x, i)
        # The gradient of r is that of r ** 2 divided by 2 r.
        length = -2 * values / nonzero(l2_norm(gradient))
        length = ops.minimum((1 - MOMENTUM) * length, inputs.rows["step_size"])
        unit = self.ball.unit(gradient)
        direction = MOMENTUM * state.rows["direction"] + unit * per_example(
            length, x
        )
        x = ops.clip(x + direction, *self.value_range)
        rows = {**state.rows, "x": x, "direction": direction}
        return State(rows=rows, shared={"step": i + 1})
