"""Loops that look for the nearest adversarial example."""

from dataclasses import dataclass
from typing import Any
from typing import NamedTuple

from keras import ops

from keras_robust import backend
from keras_robust.attacks.balls import Ball
from keras_robust.attacks.balls import box
from keras_robust.attacks.engine.gradient_loop import Objective
from keras_robust.attacks.engine.loop import Inputs
from keras_robust.attacks.engine.loop import Loop
from keras_robust.attacks.engine.loop import State
from keras_robust.attacks.engine.loop import Tensor
from keras_robust.attacks.engine.loop import nearest_within
from keras_robust.attacks.engine.loop import select
from keras_robust.attacks.engine.loop import zeros_per_example

# Stands for the distance of an adversarial example that was not found.
NOT_FOUND = 1e30


class Nearest(NamedTuple):
    """The nearest adversarial examples so far.

    Attributes:
        x: Points, `(N, ...)`.
        distance: Their distances from the images, `(N,)`; 1e30 for none.
    """

    x: Tensor
    distance: Tensor


@dataclass(frozen=True, kw_only=True)
class NearestLoop(Loop):
    """Base class of loops that return the nearest adversarial example.

    `step` of a subclass starts with `evaluate`, which also remembers the
    nearest success; so a run of n steps costs n evaluations.

    Attributes, besides those of `Loop`:
        objective: `(inputs, x) -> (loss, success)`; the loss is increased.
        ball: A class of `balls`, for its norm and projection.
        steps: Int >= 1, steps of the run.
        early_stop: Whether an example stops at its first success inside its
            radius.
    """

    objective: Objective
    ball: type[Ball]
    steps: int

    def init(self, inputs: Inputs) -> State:
        """See `Loop`: starts at the image."""
        center = inputs.rows["center"]
        zeros = zeros_per_example(center)
        nearest = Nearest(x=center, distance=zeros + NOT_FOUND)
        rows: dict[str, Any] = {"x": center, "nearest": nearest}
        if self.early_stop:
            rows["active"] = ops.equal(zeros, 0)
        return State(rows=rows, shared={"step": ops.zeros((), "int32")})

    def evaluate(
        self, inputs: Inputs, state: State
    ) -> tuple[dict[str, Any], Tensor, Tensor, Tensor]:
        """Evaluate the current point and remember it if it is the nearest.

        Returns:
            Rows of the state with the new `nearest`; loss and success `(N,)`;
            the gradient, zero where the mask is.
        """
        x, rows = state.rows["x"], dict(state.rows)
        read = {**inputs.rows, "draw": state.shared["step"]}
        (loss, success), gradient = backend.value_and_gradient(
            lambda x: self.objective(read, x), x
        )
        if "mask" in inputs.rows:
            gradient = gradient * inputs.rows["mask"]
        distance = self.ball.norm(x - inputs.rows["center"])
        nearer = ops.logical_and(success, distance < rows["nearest"].distance)
        here = Nearest(x=x, distance=distance)
        rows["nearest"] = select(nearer, here, rows["nearest"])
        if self.early_stop:
            radius = ops.minimum(inputs.rows["epsilon"], NOT_FOUND / 10)
            rows["active"] = rows["nearest"].distance > radius
        return rows, loss, success, gradient

    def largest_distance(self, inputs: Inputs) -> Tensor:
        """Return the distance of the furthest corner of the box, `(N,)`."""
        center = inputs.rows["center"]
        low, high = box(self.value_range)
        furthest = ops.maximum(center - low, high - center)
        if "mask" in inputs.rows:
            furthest = furthest * inputs.rows["mask"]
        return self.ball.norm(furthest)

    def cosine(self, state: State, first: float, last: float) -> Tensor:
        """Return a value that falls from `first` to `last` like a cosine."""
        step = ops.cast(state.shared["step"], "float32")
        share = (1 + ops.cos(step * (3.141592653589793 / self.steps))) / 2
        return last + (first - last) * share

    def finish(self, inputs: Inputs, state: State) -> dict[str, Tensor]:
        """See `Loop`: the nearest point found, where inside the radius."""
        return nearest_within(inputs, **state.rows["nearest"]._asdict())
