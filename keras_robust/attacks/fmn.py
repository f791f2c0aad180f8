"""Fast minimum-norm, a minimum-norm attack for four norms."""

from dataclasses import KW_ONLY
from dataclasses import dataclass
from typing import Any
from typing import ClassVar

import keras
from keras import ops

from keras_robust.attacks.balls import DUAL_NORMS
from keras_robust.attacks.balls import l2_norm
from keras_robust.attacks.balls import nonzero
from keras_robust.attacks.engine.loop import Inputs
from keras_robust.attacks.engine.loop import State
from keras_robust.attacks.engine.loop import Tensor
from keras_robust.attacks.engine.loop import zeros_per_example
from keras_robust.attacks.engine.nearest_loop import NOT_FOUND
from keras_robust.attacks.engine.nearest_loop import NearestLoop
from keras_robust.attacks.engine.search import Run
from keras_robust.attacks.minimum_norm_attack import MinimumNormAttack
from keras_robust.attacks.problem import Problem
from keras_robust.utils import checks

# Shares of the first step length and of the first radius change at the end.
_LAST_STEP, _LAST_GAMMA = 0.01, 0.02


@keras.saving.register_keras_serializable("keras_robust")
@dataclass(eq=False, repr=False)
class FMNAttack(MinimumNormAttack):
    """The nearest adversarial example, in a ball whose radius adapts.

    Pintor et al. 2021 (arXiv:2102.12827), algorithm 1. As long as nothing is
    found the ball grows, at least to the linear estimate of the boundary; then
    its radius becomes smaller after a success and larger otherwise. Steps
    follow the gradient of the margin of logits, of L2 norm 1. An image for
    which nothing is found is returned as it was.

    Args:
        norm: `"l0"` (or 0), `"l1"` (or 1), `"l2"` (or 2) or `"linf"` (or
            `numpy.inf`). L0 counts changed entries, each color of a pixel by
            itself.
        epsilon: Radius in units of `value_range` inside which a success
            counts, a number or one per example; for L0 a number of entries.
            `None` for the nearest adversarial example at any distance.
        steps: Int >= 1, gradient steps.
        gamma: Float in (0, 1), by which share the radius changes in the first
            steps; it falls to a fiftieth of that.
        step_size: Float > 0, L2 length of the first step, in units of the
            width of `value_range`; it falls to a hundredth of that.
        targeted: Whether `y` holds the labels to reach.
        value_range: `(low, high)`, the box that holds all inputs.
        early_stop: Whether an example stops at its first success inside
            `epsilon`, instead of looking for a nearer one.
        mask: As in `PGDAttack`.
        backward: As in `PGDAttack`.
        batch_size: Int >= 1, how many examples are attacked at once.
        from_logits: As in `PGDAttack`.
        jit_compile: As in `PGDAttack`.
        attacked: As in `PGDAttack`.
        output: As in `PGDAttack`.

    Example:

    ```python
    attack = keras_robust.FMNAttack(norm="linf", steps=100)
    distance = abs(attack(model, x, y) - x).max((1, 2, 3))
    ```
    """

    norms: ClassVar[tuple[str, ...]] = ("l0", "l1", "l2", "linf")

    norm: Any = "l2"
    epsilon: Any = None
    steps: int = 100
    gamma: float = 0.05
    step_size: float = 1.0
    targeted: bool = False
    _: KW_ONLY
    early_stop: bool = False
    mask: Any = None
    backward: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.gamma = checks.check_share(self.gamma, "gamma")
        self.step_size = checks.check_number(
            self.step_size, "step_size", positive=True
        )

    def loop(self, problem: Problem, run: Run) -> "FMNLoop":
        """See `LoopAttack`."""
        del run
        return FMNLoop(
            objective=self.label_objective(problem, "margin"),
            ball=self.ball,
            value_range=self.value_range,
            steps=self.steps,
            gamma=self.gamma,
            step_size=self.step_size * self.unit_length(),
            early_stop=self.early_stop,
        )


@dataclass(frozen=True, kw_only=True)
class FMNLoop(NearestLoop):
    """The loop of `FMNAttack`.

    Attributes, besides those of `NearestLoop`:
        gamma: Share by which the radius changes in the first steps.
        step_size: L2 length of the first step.
    """

    gamma: float
    step_size: float

    def init(self, inputs: Inputs) -> State:
        """See `Loop`: an L0 ball starts with one entry, others with nothing."""
        state = super().init(inputs)
        radius = zeros_per_example(inputs.rows["center"])
        radius = radius + (1.0 if self.ball.name == "l0" else 0.0)
        return state._replace(rows={**state.rows, "radius": radius})

    def step(self, inputs: Inputs, state: State) -> State:
        """See `Loop`: the next radius, then a step, then ball and box."""
        rows, loss, success, gradient = self.evaluate(inputs, state)
        gamma = self.cosine(state, self.gamma, _LAST_GAMMA * self.gamma)
        if self.ball.name == "l0":
            radius = self._next_count(rows, success, gamma)
        else:
            radius = self._next_radius(
                inputs, rows, loss, success, gradient, gamma
            )
        radius = ops.minimum(radius, self.largest_distance(inputs))
        length = self.cosine(state, self.step_size, _LAST_STEP * self.step_size)
        unit = gradient / nonzero(l2_norm(gradient, keepdims=True))
        delta = rows["x"] - inputs.rows["center"] + length * unit
        x = inputs.rows["center"] + self.ball.project(delta, radius)
        rows["x"] = ops.clip(x, *self.value_range)
        rows["radius"] = radius
        return State(rows=rows, shared={"step": state.shared["step"] + 1})

    def _next_radius(
        self,
        inputs: Inputs,
        rows: dict[str, Any],
        loss: Tensor,
        success: Tensor,
        gradient: Tensor,
        gamma: Tensor,
    ) -> Tensor:
        """Return the radius of the next ball."""
        radius, best = rows["radius"], rows["nearest"].distance
        # The distance to a linear boundary divides by the dual norm.
        slope = DUAL_NORMS[self.ball.name](gradient)
        # Where the gradient is zero nothing is known of the boundary.
        far = ops.where(slope > 0, ops.abs(loss) / nonzero(slope), NOT_FOUND)
        here = self.ball.norm(rows["x"] - inputs.rows["center"])
        found = best < NOT_FOUND / 10
        # The published radius is `here + far` alone. It approaches the boundary
        # of smooth networks without crossing it, and stands still where the
        # box cuts the step off, so the radius also grows as it does later.
        grown = radius * (1 + gamma)
        first = ops.maximum(grown, here + far)
        outside = ops.where(found, grown, first)
        inside = ops.minimum(radius * (1 - gamma), best)
        return ops.where(success, inside, outside)

    def _next_count(
        self, rows: dict[str, Any], success: Tensor, gamma: Tensor
    ) -> Tensor:
        """Return the number of entries of the next ball; it changes by >= 1."""
        count, best = rows["radius"], rows["nearest"].distance
        fewer = ops.minimum(count - 1, ops.floor(count * (1 - gamma)))
        more = ops.maximum(count + 1, ops.floor(count * (1 + gamma)))
        count = ops.where(success, ops.minimum(fewer, best), more)
        return ops.maximum(count, 0.0)
