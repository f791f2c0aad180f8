"""Carlini & Wagner's L2 attack, a minimum-norm attack."""

from collections.abc import Callable
from dataclasses import KW_ONLY
from dataclasses import dataclass
from typing import Any
from typing import ClassVar

import keras
from keras import ops

from keras_robust import backend
from keras_robust.attacks.balls import box
from keras_robust.attacks.balls import l2_norm
from keras_robust.attacks.balls import other_axes
from keras_robust.attacks.engine.adam import adam
from keras_robust.attacks.engine.adam import zero_moments
from keras_robust.attacks.engine.loop import Inputs
from keras_robust.attacks.engine.loop import Loop
from keras_robust.attacks.engine.loop import State
from keras_robust.attacks.engine.loop import Tensor
from keras_robust.attacks.engine.loop import nearest_within
from keras_robust.attacks.engine.loop import select
from keras_robust.attacks.engine.search import Run
from keras_robust.attacks.minimum_norm_attack import MinimumNormAttack
from keras_robust.attacks.objectives import margin
from keras_robust.attacks.problem import Problem
from keras_robust.utils import checks

# Images at the edge of the box would be infinitely far in tanh space.
_INSIDE = 0.999999
# Stands for no upper bound of the constant.
_UNBOUNDED = 1e10


@keras.saving.register_keras_serializable("keras_robust")
@dataclass(eq=False, repr=False)
class CarliniWagnerL2(MinimumNormAttack):
    """The smallest L2 perturbation, by Adam and a search for its weight.

    Carlini & Wagner 2017 (arXiv:1608.04644), section VI.A.

    Args:
        epsilon: Radius in units of `value_range` inside which a success
            counts, a number or one per example; an example without one is
            returned as it was. `None` for the nearest adversarial example at
            any distance.
        steps: Int >= 1, Adam steps for one weight.
        search_steps: Int >= 1, weights tried (binary search).
        learning_rate: Float > 0, of Adam, in tanh space.
        first_constant: Float > 0, the first weight.
        confidence: Float >= 0, by how much the wrong logit must win.
        targeted: Whether `y` holds the labels to reach.
        value_range: `(low, high)`, the box that holds all inputs.
        mask: As in `PGDAttack`.
        backward: As in `PGDAttack`.
        batch_size: Int >= 1, how many examples are attacked at once.
        from_logits: As in `PGDAttack`.
        jit_compile: As in `PGDAttack`.
        attacked: As in `PGDAttack`.
        output: As in `PGDAttack`.

    Example:

    ```python
    attack = keras_robust.CarliniWagnerL2(steps=1000)
    distance = numpy.linalg.norm((attack(model, x, y) - x).reshape(len(x), -1))
    ```
    """

    # In tanh space, where it vanishes at the edges of the box.
    follows_gradients: ClassVar[bool] = False
    norm = "l2"

    epsilon: Any = None
    steps: int = 1000
    search_steps: int = 9
    learning_rate: float = 0.01
    first_constant: float = 1e-3
    confidence: float = 0.0
    targeted: bool = False
    _: KW_ONLY
    mask: Any = None
    backward: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.search_steps = checks.check_positive_integer(
            self.search_steps, "search_steps"
        )
        for name in ("learning_rate", "first_constant"):
            value = checks.check_number(
                getattr(self, name), name, positive=True
            )
            setattr(self, name, value)
        self.confidence = checks.check_number(self.confidence, "confidence")

    def loop(self, problem: Problem, run: Run) -> "CarliniWagnerLoop":
        """See `LoopAttack`."""
        del run
        return CarliniWagnerLoop(
            logits=problem.classifier.logits,
            value_range=self.value_range,
            targeted=self.targeted,
            steps=self.steps,
            learning_rate=self.learning_rate,
            first_constant=self.first_constant,
            confidence=self.confidence,
        )

    @property
    def loop_steps(self) -> int:
        """See `LoopAttack`: the steps for all constants."""
        return self.steps * self.search_steps


@dataclass(frozen=True, kw_only=True)
class CarliniWagnerLoop(Loop):
    """Adam on `||x - x_0||^2 + c f(x)` in tanh space, c by binary search.

    Carlini & Wagner 2017 (arXiv:1608.04644), sections V-VI, with objective f6:
    `f = max(z_y - max_{j != y} z_j + confidence, 0)`.

    Attributes, besides those of `Loop`:
        logits: `(x, draw, held) -> (N, C)` logits of a frozen model.
        targeted: Whether `y` is the label to reach.
        steps: Int, Adam steps for one constant.
        learning_rate: Float, of Adam, in tanh space.
        first_constant: Float, the first c.
        confidence: Float >= 0, by how much the wrong logit must win.
    """

    logits: Callable[..., Tensor]
    targeted: bool
    steps: int
    learning_rate: float
    first_constant: float
    confidence: float

    def init(self, inputs: Inputs) -> State:
        """See `Loop`."""
        center = inputs.rows["center"]
        zeros = ops.zeros_like(inputs.rows["epsilon"])
        rows = {
            "w": ops.zeros_like(center),
            **zero_moments(center),
            "constant": zeros + self.first_constant,
            "lower": zeros,
            "upper": zeros + _UNBOUNDED,
            "succeeded": zeros > 0,
            "nearest": {"x": center, "distance": zeros + 1e30},
        }
        return State(rows=rows, shared={"step": ops.zeros((), "int32")})

    def step(self, inputs: Inputs, state: State) -> State:
        """See `Loop`: a step of Adam; the last for a constant picks the next.

        The first step for a constant starts from the image again.
        """
        i, rows = state.shared["step"], dict(state.rows)
        center, t = inputs.rows["center"], ops.mod(i, self.steps)
        fresh = ops.equal(t, 0)
        rows["w"] = ops.where(fresh, self.from_box(center), rows["w"])
        for key in ("first_moment", "second_moment"):
            rows[key] = ops.where(fresh, 0.0, rows[key])
        x, f, gradient = self.value_and_gradient(inputs, rows, i)
        rows = self.remember_nearest(inputs, rows, x, f)
        rows, mean, scale = adam(rows, gradient, t)
        rows["w"] = rows["w"] - self.learning_rate * mean / scale
        rows = self.next_constant(rows, ops.equal(t, self.steps - 1))
        return State(rows=rows, shared={"step": i + 1})

    def value_and_gradient(
        self, inputs: Inputs, rows: dict[str, Any], draw: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the point, f there, and the gradient in tanh space."""
        y, center = inputs.rows["y"], inputs.rows["center"]
        held, mask = inputs.rows.get("held"), inputs.rows.get("mask")
        reference = self.to_box(self.from_box(center))

        def objective(w: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            x = self.to_box(w)
            f = margin(y, self.logits(x, draw, held))
            f = f if self.targeted else -f
            missing = ops.maximum(f + self.confidence, 0.0)
            square = ops.sum(ops.square(x - reference), axis=other_axes(x))
            return square + rows["constant"] * missing, (x, f)

        (_, (x, f)), gradient = backend.value_and_gradient(objective, rows["w"])
        if mask is not None:
            gradient = gradient * mask
            x = ops.where(mask > 0, x, center)
        return x, f, gradient

    def remember_nearest(
        self, inputs: Inputs, rows: dict[str, Any], x: Tensor, f: Tensor
    ) -> dict[str, Any]:
        """Keep the nearest success."""
        success = f + self.confidence <= 0
        # On the boundary itself argmax may still give y.
        success = ops.logical_and(success, f < 0)
        distance, nearest = l2_norm(x - inputs.rows["center"]), rows["nearest"]
        nearer = ops.logical_and(success, distance < nearest["distance"])
        return {
            **rows,
            "succeeded": ops.logical_or(rows["succeeded"], success),
            "nearest": select(nearer, {"x": x, "distance": distance}, nearest),
        }

    @staticmethod
    def next_constant(rows: dict[str, Any], now: Tensor) -> dict[str, Any]:
        """Halve the bracket of the constant, or grow it tenfold."""
        lower, upper = rows["lower"], rows["upper"]
        constant, good = rows["constant"], rows["succeeded"]
        upper = ops.where(good, ops.minimum(upper, constant), upper)
        lower = ops.where(good, lower, ops.maximum(lower, constant))
        bracketed = upper < _UNBOUNDED
        chosen = ops.where(bracketed, (lower + upper) / 2, 10 * constant)
        return {
            **rows,
            "upper": ops.where(now, upper, rows["upper"]),
            "lower": ops.where(now, lower, rows["lower"]),
            "constant": ops.where(now, chosen, constant),
            "succeeded": ops.logical_and(good, ops.logical_not(now)),
        }

    def finish(self, inputs: Inputs, state: State) -> dict[str, Tensor]:
        """See `Loop`: the nearest point found, where inside the radius."""
        return nearest_within(inputs, **state.rows["nearest"])

    def to_box(self, w: Tensor) -> Tensor:
        """Map from tanh space to the box."""
        low, high = box(self.value_range)
        return (high + low) / 2 + (high - low) / 2 * ops.tanh(w)

    def from_box(self, x: Tensor) -> Tensor:
        """Map from the box to tanh space, nearly the inverse of `to_box`."""
        low, high = box(self.value_range)
        inside = (2 * x - (high + low)) / (high - low)
        return ops.arctanh(_INSIDE * inside)
