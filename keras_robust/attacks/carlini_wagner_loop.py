"""Carlini & Wagner's search for the smallest L2 perturbation."""

from dataclasses import dataclass
from typing import Any
from typing import ClassVar

from keras import ops

from keras_robust import backend
from keras_robust.attacks.balls import L2Ball
from keras_robust.attacks.balls import box
from keras_robust.attacks.balls import l2_norm
from keras_robust.attacks.balls import other_axes
from keras_robust.attacks.loop import GradientLoop
from keras_robust.attacks.loop import nearest_within
from keras_robust.attacks.loop import select
from keras_robust.attacks.objectives import margin
from keras_robust.classifier import prepared

# Adam's constants (Kingma & Ba 2015, algorithm 1).
_BETA_1, _BETA_2, _TINY = 0.9, 0.999, 1e-8
# Images at the edge of the box would be infinitely far in tanh space.
_INSIDE = 0.999999
# Stands for no upper bound of the constant.
_UNBOUNDED = 1e10


@dataclass(frozen=True, kw_only=True)
class CarliniWagnerLoop(GradientLoop):
    """Adam on `||x - x_0||^2 + c f(x)` in tanh space, c by binary search.

    Carlini & Wagner 2017 (arXiv:1608.04644), sections V-VI, with objective f6:
    `f = max(z_y - max_{j != y} z_j + confidence, 0)`.

    Attributes, besides those of `GradientLoop`:
        logits: `(x, draw) -> (N, C)` logits of a frozen model.
        targeted: Whether `y` is the label to reach.
        steps: Int, Adam steps for one constant.
        learning_rate: Float, of Adam, in tanh space.
        first_constant: Float, the first c.
        confidence: Float >= 0, how far beyond the boundary.
    """

    unrolls: ClassVar[bool] = False

    objective: Any = None
    ball: Any = L2Ball
    logits: Any
    targeted: bool
    steps: int
    learning_rate: float
    first_constant: float
    confidence: float

    def to_box(self, w: Any) -> Any:
        """From tanh space to the box."""
        low, high = box(self.value_range)
        return (high + low) / 2 + (high - low) / 2 * ops.tanh(w)

    def from_box(self, x: Any) -> Any:
        """Its inverse, nearly."""
        low, high = box(self.value_range)
        inside = (2 * x - (high + low)) / (high - low)
        return ops.arctanh(_INSIDE * inside)

    def prepared(self) -> Any:
        """A context for many looks at the same weights."""
        return prepared(self.logits)

    def init(self, inputs: Any) -> dict:
        """State before the first step."""
        center = inputs["center"]
        none = ops.zeros_like(inputs["epsilon"])
        zeros = ops.zeros_like(center)
        return {
            "w": zeros,
            "first_moment": zeros,
            "second_moment": zeros,
            "constant": none + self.first_constant,
            "lower": none,
            "upper": none + _UNBOUNDED,
            "succeeded": none > 0,
            "nearest": {"x": center, "distance": none + 1e30},
            "shared": {"i": ops.zeros((), "int32")},
        }

    def step(self, inputs: Any, state: Any) -> Any:
        """One step of Adam; the last one for a constant chooses the next."""
        i, center = state["shared"]["i"], inputs["center"]
        t = ops.mod(i, self.steps)
        fresh = ops.equal(t, 0)
        w = ops.where(fresh, self.from_box(center), state["w"])
        first, second = (
            ops.where(fresh, 0.0, state[key])
            for key in ("first_moment", "second_moment")
        )
        reference = self.to_box(self.from_box(center))

        def objective(w):
            x = self.to_box(w)
            f = margin(inputs["y"], self.logits(x, i, inputs.get("held")))
            f = f if self.targeted else -f
            missing = ops.maximum(f + self.confidence, 0.0)
            square = ops.sum(ops.square(x - reference), axis=other_axes(x))
            return square + state["constant"] * missing, (x, f)

        (_, (x, f)), gradient = backend.value_and_gradient(objective, w)
        if "mask" in inputs:
            gradient = gradient * inputs["mask"]
            x = ops.where(inputs["mask"] > 0, x, center)
        success = f + self.confidence <= 0
        # On the boundary itself argmax may still say y.
        success = ops.logical_and(success, f < 0)
        distance = l2_norm(x - center)
        nearest = state["nearest"]
        nearer = ops.logical_and(success, distance < nearest["distance"])
        nearest = select(nearer, {"x": x, "distance": distance}, nearest)
        first = _BETA_1 * first + (1 - _BETA_1) * gradient
        second = _BETA_2 * second + (1 - _BETA_2) * ops.square(gradient)
        time = ops.cast(t + 1, w.dtype)
        rate = (
            self.learning_rate
            * ops.sqrt(1 - ops.power(_BETA_2, time))
            / (1 - ops.power(_BETA_1, time))
        )
        state = {
            **state,
            "w": w - rate * first / (ops.sqrt(second) + _TINY),
            "first_moment": first,
            "second_moment": second,
            "succeeded": ops.logical_or(state["succeeded"], success),
            "nearest": nearest,
            "shared": {"i": i + 1},
        }
        return self.search(state, ops.equal(t, self.steps - 1))

    @staticmethod
    def search(state: Any, now: Any) -> dict:
        """Halves the bracket of the constant, or grows it tenfold."""
        lower, upper = state["lower"], state["upper"]
        constant, good = state["constant"], state["succeeded"]
        upper = ops.where(good, ops.minimum(upper, constant), upper)
        lower = ops.where(good, lower, ops.maximum(lower, constant))
        bracketed = upper < _UNBOUNDED
        chosen = ops.where(bracketed, (lower + upper) / 2, 10 * constant)
        return {
            **state,
            "upper": ops.where(now, upper, state["upper"]),
            "lower": ops.where(now, lower, state["lower"]),
            "constant": ops.where(now, chosen, constant),
            "succeeded": ops.logical_and(good, ops.logical_not(now)),
        }

    def finish(self, inputs: Any, state: Any) -> Any:
        """The nearest point found, where it is inside the radius."""
        return nearest_within(inputs, state["nearest"])
