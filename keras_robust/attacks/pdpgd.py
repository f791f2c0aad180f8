"""Primal-dual proximal gradient descent, a minimum-norm attack in L1."""

import math
from dataclasses import KW_ONLY
from dataclasses import dataclass
from typing import Any
from typing import ClassVar

import keras
from keras import ops

from keras_robust.attacks.balls import box
from keras_robust.attacks.balls import per_example
from keras_robust.attacks.engine.adam import adam
from keras_robust.attacks.engine.adam import zero_moments
from keras_robust.attacks.engine.loop import Inputs
from keras_robust.attacks.engine.loop import State
from keras_robust.attacks.engine.loop import Tensor
from keras_robust.attacks.engine.loop import zeros_per_example
from keras_robust.attacks.engine.nearest_loop import NearestLoop
from keras_robust.attacks.engine.search import Run
from keras_robust.attacks.minimum_norm_attack import MinimumNormAttack
from keras_robust.attacks.problem import Problem
from keras_robust.utils import checks

# Shares of the first primal and dual learning rate at the end.
_LAST_RATE, _LAST_DUAL_RATE = 0.01, 0.1
# Share of the last weights that is kept in their running average.
_KEPT = 0.9
# Weight of the distance by that of the loss at first, and at the least; at the
# most it is the inverse of the least.
_FIRST_RATIO, _LEAST_RATIO = 0.01, 1e-6


@keras.saving.register_keras_serializable("keras_robust")
@dataclass(eq=False, repr=False)
class PDPGDAttack(MinimumNormAttack):
    """The nearest adversarial example in L1, weighed against the margin.

    Primal-dual proximal gradient descent, Matyasko & Chau 2021
    (arXiv:2106.01538): Adam on `softplus(z_y - max_{j != y} z_j)`, after each
    step the proximal map of the weighted L1 norm, and gradient ascent on the
    weights, towards the loss as long as the image is classified as `y` and
    towards the distance otherwise. The proximal map is that in Adam's own
    metric, in which it is a threshold for each entry. An image for which
    nothing is found is returned as it was.

    Args:
        epsilon: Radius in units of `value_range` inside which a success
            counts, a number or one per example. `None` for the nearest
            adversarial example at any distance.
        steps: Int >= 1, gradient steps.
        learning_rate: Float > 0, of Adam's first step, in units of the width of
            `value_range`; it falls to a hundredth of that.
        dual_rate: Float > 0, how much the logarithm of the weights' ratio
            moves in the first step; it falls to a tenth of that.
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
    attack = keras_robust.PDPGDAttack(steps=500)
    distance = abs(attack(model, x, y) - x).sum((1, 2, 3))
    ```
    """

    norms: ClassVar[tuple[str, ...]] = ("l1",)
    norm = "l1"

    epsilon: Any = None
    steps: int = 500
    learning_rate: float = 0.1
    dual_rate: float = 0.1
    targeted: bool = False
    _: KW_ONLY
    early_stop: bool = False
    mask: Any = None
    backward: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("learning_rate", "dual_rate"):
            value = checks.check_number(
                getattr(self, name), name, positive=True
            )
            setattr(self, name, value)

    def loop(self, problem: Problem, run: Run) -> "PDPGDLoop":
        """See `LoopAttack`."""
        del run
        return PDPGDLoop(
            objective=self.label_objective(problem, "margin"),
            ball=self.ball,
            value_range=self.value_range,
            steps=self.steps,
            learning_rate=self.learning_rate,
            dual_rate=self.dual_rate,
            unit=self.unit_length(),
            early_stop=self.early_stop,
        )


@dataclass(frozen=True, kw_only=True)
class PDPGDLoop(NearestLoop):
    """The loop of `PDPGDAttack`.

    Attributes, besides those of `NearestLoop`:
        learning_rate: Of Adam's first step, in units of the box's width.
        dual_rate: Of the first step of the weights' ratio.
        unit: Float, the length that counts as 1.
    """

    learning_rate: float
    dual_rate: float
    unit: float

    def init(self, inputs: Inputs) -> State:
        """See `Loop`: the loss weighs a hundred times the distance."""
        state = super().init(inputs)
        log_ratio = zeros_per_example(inputs.rows["center"])
        log_ratio = log_ratio - math.log(_FIRST_RATIO)
        rows = {
            **state.rows,
            **zero_moments(inputs.rows["center"]),
            "log_ratio": log_ratio,
            "weight": ops.sigmoid(log_ratio),
        }
        return state._replace(rows=rows)

    def step(self, inputs: Inputs, state: State) -> State:
        """See `Loop`: a step of Adam, the proximal map, then the weights."""
        rows, loss, _, gradient = self.evaluate(inputs, state)
        center, step = inputs.rows["center"], state.shared["step"]
        low, high = box(self.value_range)
        width = high - low
        # Of softplus, of what is to fall; lengths in units of the width.
        slope = -per_example(ops.sigmoid(-loss), gradient)
        rows, mean, scale = adam(rows, slope * gradient * width, step)
        share = ops.cast(step, "float32") / self.steps
        rate = self.learning_rate * ops.power(_LAST_RATE, share) / scale
        delta = (rows["x"] - center) / width - rate * mean
        ratio = per_example((1 - rows["weight"]) / rows["weight"], delta)
        threshold = ratio * rate * (width / self.unit)
        size = ops.maximum(ops.abs(delta) - threshold, 0.0)
        x = center + ops.sign(delta) * size * width
        rows["x"] = ops.clip(x, low, high)
        rows = self._weigh(rows, loss, share)
        return State(rows=rows, shared={"step": step + 1})

    def _weigh(
        self, rows: dict[str, Any], loss: Tensor, share: Tensor
    ) -> dict[str, Any]:
        """Return the rows with the next weight of the loss."""
        rate = self.dual_rate * (1 - (1 - _LAST_DUAL_RATE) * share)
        most = -math.log(_LEAST_RATIO)
        log_ratio = rows["log_ratio"] - rate * ops.sign(loss)
        log_ratio = ops.clip(log_ratio, -most, most)
        weight = _KEPT * rows["weight"] + (1 - _KEPT) * ops.sigmoid(log_ratio)
        return {**rows, "log_ratio": log_ratio, "weight": weight}
