"""Sigma-zero, a minimum-norm attack that changes few entries."""

from dataclasses import KW_ONLY
from dataclasses import dataclass
from typing import Any
from typing import ClassVar

import keras
from keras import ops

from keras_robust import backend
from keras_robust.attacks.balls import box
from keras_robust.attacks.balls import linf_norm
from keras_robust.attacks.balls import nonzero
from keras_robust.attacks.balls import other_axes
from keras_robust.attacks.balls import per_example
from keras_robust.attacks.engine.adam import adam
from keras_robust.attacks.engine.adam import zero_moments
from keras_robust.attacks.engine.loop import Inputs
from keras_robust.attacks.engine.loop import State
from keras_robust.attacks.engine.loop import Tensor
from keras_robust.attacks.engine.nearest_loop import NearestLoop
from keras_robust.attacks.engine.search import Run
from keras_robust.attacks.minimum_norm_attack import MinimumNormAttack
from keras_robust.attacks.problem import Problem
from keras_robust.utils import checks

# Share of the first learning rate that is left at the end.
_LAST_RATE = 0.1


@keras.saving.register_keras_serializable("keras_robust")
@dataclass(eq=False, repr=False)
class SigmaZeroAttack(MinimumNormAttack):
    """The adversarial example that differs from the image in fewest entries.

    Cina et al. 2025 (arXiv:2402.01879), algorithm 1: Adam on
    `max(z_y - max_{j != y} z_j, 0) + mean_i d_i^2 / (d_i^2 + sigma)`, a smooth
    count of the entries that move; after each step the entries below a
    threshold return to zero. The threshold rises after a success and falls
    otherwise. An image for which nothing is found is returned as it was.

    Args:
        epsilon: Number of entries within which a success counts, a number or
            one per example. `None` for the fewest that are found.
        steps: Int >= 1, gradient steps.
        sigma: Float > 0, how sharp the smooth count is; lengths are in units of
            the width of `value_range`.
        learning_rate: Float > 0, of Adam's first step, in the same units; it
            falls to a tenth of that.
        threshold: Float in [0, 1], the first threshold, in the same units.
        threshold_step: Float >= 0, how much the threshold moves, in units of
            the learning rate.
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
    attack = keras_robust.SigmaZeroAttack(steps=300)
    changed = (attack(model, x, y) != x).sum((1, 2, 3))
    ```
    """

    norms: ClassVar[tuple[str, ...]] = ("l0",)
    norm = "l0"

    epsilon: Any = None
    steps: int = 1000
    sigma: float = 1e-3
    learning_rate: float = 1.0
    threshold: float = 0.3
    threshold_step: float = 0.01
    targeted: bool = False
    _: KW_ONLY
    early_stop: bool = False
    mask: Any = None
    backward: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("sigma", "learning_rate"):
            value = checks.check_number(
                getattr(self, name), name, positive=True
            )
            setattr(self, name, value)
        self.threshold = checks.check_number(
            self.threshold, "threshold", most=1.0
        )
        self.threshold_step = checks.check_number(
            self.threshold_step, "threshold_step"
        )

    def loop(self, problem: Problem, run: Run) -> "SigmaZeroLoop":
        """See `LoopAttack`."""
        del run
        return SigmaZeroLoop(
            objective=self.label_objective(problem, "margin"),
            ball=self.ball,
            value_range=self.value_range,
            steps=self.steps,
            sigma=self.sigma,
            learning_rate=self.learning_rate,
            threshold=self.threshold,
            threshold_step=self.threshold_step,
            early_stop=self.early_stop,
        )


@dataclass(frozen=True, kw_only=True)
class SigmaZeroLoop(NearestLoop):
    """The loop of `SigmaZeroAttack`, whose arguments it has."""

    sigma: float
    learning_rate: float
    threshold: float
    threshold_step: float

    def init(self, inputs: Inputs) -> State:
        """See `Loop`."""
        state = super().init(inputs)
        threshold = ops.zeros_like(inputs.rows["epsilon"]) + self.threshold
        rows = {
            **state.rows,
            **zero_moments(inputs.rows["center"]),
            "threshold": threshold,
        }
        return state._replace(rows=rows)

    def evaluate(
        self, inputs: Inputs, state: State
    ) -> tuple[dict[str, Any], Tensor, Tensor, Tensor]:
        """Evaluate, with the smooth count of entries in the gradient."""
        rows, loss, success, gradient = super().evaluate(inputs, state)
        # A margin that is reached is not increased further.
        margin = ops.where(per_example(loss, gradient) < 0, gradient, 0.0)
        return rows, loss, success, -margin + self._count_gradient(inputs, rows)

    def _count_gradient(self, inputs: Inputs, rows: dict[str, Any]) -> Tensor:
        """Return the gradient of `mean_i d_i^2 / (d_i^2 + sigma)` by x."""
        low, high = box(self.value_range)
        center = inputs.rows["center"]

        def count(x: Tensor) -> tuple[Tensor, float]:
            square = ops.square((x - center) / (high - low))
            share = square / (square + self.sigma)
            return ops.mean(share, axis=other_axes(x)), 0.0

        _, gradient = backend.value_and_gradient(count, rows["x"])
        if "mask" in inputs.rows:
            gradient = gradient * inputs.rows["mask"]
        return gradient

    def step(self, inputs: Inputs, state: State) -> State:
        """See `Loop`: a step of Adam, the box, then the threshold."""
        rows, _, success, gradient = self.evaluate(inputs, state)
        low, high = box(self.value_range)
        center, width = inputs.rows["center"], high - low
        # Lengths in units of the width.
        gradient = gradient * width
        gradient = gradient / nonzero(linf_norm(gradient, keepdims=True))
        rows, mean, scale = adam(rows, gradient, state.shared["step"])
        x = rows["x"] - self._rate(state, -1) * (mean / scale) * width
        delta = (ops.clip(x, low, high) - center) / width
        change = self.threshold_step * self._rate(state, 0)
        threshold = rows["threshold"] + ops.where(success, change, -change)
        threshold = ops.clip(threshold, 0.0, 1.0)
        small = ops.abs(delta) < per_example(threshold, delta)
        rows["threshold"] = threshold
        rows["x"] = ops.where(small, center, ops.clip(x, low, high))
        return State(rows=rows, shared={"step": state.shared["step"] + 1})

    def _rate(self, state: State, offset: int) -> Tensor:
        """Return the learning rate after a step, counted from this one."""
        step = state.shared["step"]
        earlier = state._replace(shared={"step": ops.maximum(step + offset, 0)})
        rate = self.learning_rate
        return self.cosine(earlier, rate, _LAST_RATE * rate)
