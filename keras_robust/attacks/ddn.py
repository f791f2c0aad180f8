"""Decoupled direction and norm, a minimum-norm attack."""

from dataclasses import KW_ONLY
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from keras_robust.attacks.balls import l2_norm
from keras_robust.attacks.balls import nonzero
from keras_robust.attacks.balls import per_example
from keras_robust.attacks.engine.loop import Inputs
from keras_robust.attacks.engine.loop import State
from keras_robust.attacks.engine.nearest_loop import NearestLoop
from keras_robust.attacks.engine.search import Run
from keras_robust.attacks.minimum_norm_attack import MinimumNormAttack
from keras_robust.attacks.problem import Problem
from keras_robust.utils import checks


@keras.saving.register_keras_serializable("keras_robust")
@dataclass(eq=False, repr=False)
class DDNAttack(MinimumNormAttack):
    """The nearest adversarial example in L2, on a sphere that shrinks or grows.

    Rony et al. 2019 (arXiv:1811.09600), algorithm 1, without quantization. A
    step follows the normalized gradient of cross-entropy and ends on a sphere
    whose radius becomes smaller after a success and larger otherwise. An image
    for which nothing is found is returned as it was.

    Args:
        epsilon: Radius in units of `value_range` inside which a success
            counts, a number or one per example. `None` for the nearest
            adversarial example at any distance.
        steps: Int >= 1, gradient steps.
        gamma: Float in (0, 1), by which share the radius changes in a step.
        first_radius: Float > 0, radius of the first sphere, in units of the
            width of `value_range`.
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
    attack = keras_robust.DDNAttack(steps=100)
    distance = numpy.linalg.norm((attack(model, x, y) - x).reshape(len(x), -1))
    ```
    """

    norm = "l2"

    epsilon: Any = None
    steps: int = 100
    gamma: float = 0.05
    first_radius: float = 1.0
    targeted: bool = False
    _: KW_ONLY
    early_stop: bool = False
    mask: Any = None
    backward: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.gamma = checks.check_share(self.gamma, "gamma")
        self.first_radius = checks.check_number(
            self.first_radius, "first_radius", positive=True
        )

    def loop(self, problem: Problem, run: Run) -> "DDNLoop":
        """See `LoopAttack`."""
        del run
        return DDNLoop(
            objective=self.label_objective(problem, "cross_entropy"),
            ball=self.ball,
            value_range=self.value_range,
            steps=self.steps,
            gamma=self.gamma,
            unit=self.unit_length(),
            first_radius=self.first_radius,
            early_stop=self.early_stop,
        )


@dataclass(frozen=True, kw_only=True)
class DDNLoop(NearestLoop):
    """The loop of `DDNAttack`.

    Attributes, besides those of `NearestLoop`:
        gamma: Share by which the radius changes.
        unit: Float, the length that counts as 1.
        first_radius: Radius of the first sphere, in units of `unit`.
    """

    gamma: float
    unit: float
    first_radius: float

    def init(self, inputs: Inputs) -> State:
        """See `Loop`."""
        state = super().init(inputs)
        radius = ops.zeros_like(inputs.rows["epsilon"])
        radius = radius + self.first_radius * self.unit
        return state._replace(rows={**state.rows, "radius": radius})

    def step(self, inputs: Inputs, state: State) -> State:
        """See `Loop`: along the gradient, then to the sphere, then the box."""
        rows, _, success, gradient = self.evaluate(inputs, state)
        length = self.unit * self.cosine(state, first=1.0, last=0.01)
        delta = rows["x"] - inputs.rows["center"]
        delta = delta + length * self.ball.unit(gradient)
        factor = ops.where(success, 1 - self.gamma, 1 + self.gamma)
        radius = rows["radius"] * factor
        radius = ops.minimum(radius, self.largest_distance(inputs))
        on_sphere = delta / nonzero(l2_norm(delta, keepdims=True))
        x = inputs.rows["center"] + per_example(radius, delta) * on_sphere
        rows["x"] = ops.clip(x, *self.value_range)
        rows["radius"] = radius
        return State(rows=rows, shared={"step": state.shared["step"] + 1})
