"""The one loop: move an input along a gradient, inside a constraint."""

from dataclasses import dataclass
from typing import Any
from typing import ClassVar

from keras import ops

from keras_robust import backend
from keras_robust.attacks.balls import Box
from keras_robust.attacks.balls import add_towards
from keras_robust.attacks.balls import box
from keras_robust.attacks.balls import l1_norm
from keras_robust.attacks.balls import per_example
from keras_robust.classifier import prepared


def keep_better(first: Any, second: Any) -> Any:
    """Per example the result of larger (success, loss); ties keep the first.

    Args:
        first: Dictionary with `x` `(N, ...)`, `loss` and `success` `(N,)`.
        second: The same.

    Returns:
        The same, chosen example by example.
    """
    better = ops.where(
        ops.equal(first["success"], second["success"]),
        second["loss"] > first["loss"],
        second["success"],
    )
    return select(better, second, first)


def select(where: Any, first: Any, second: Any) -> dict:
    """Per example the values of `first` where true, else of `second`.

    Args:
        where: Bool tensor of shape `(N,)`.
        first: Dictionary of tensors of shape `(N, ...)`.
        second: The same.

    Returns:
        The same.
    """
    return {
        key: ops.where(per_example(where, second[key]), first[key], second[key])
        for key in first
    }


def nearest_within(inputs: Any, nearest: Any) -> dict:
    """A loop's result: the nearest success, if inside the radius.

    Args:
        inputs: Dictionary with `center` and `epsilon`.
        nearest: Dictionary with `x` and `distance`, 1e30 where there is none.

    Returns:
        Dictionary with `x`, `loss` (minus the distance) and `success`.
    """
    distance = nearest["distance"]
    success = distance <= ops.minimum(inputs["epsilon"], 1e29)
    inside = per_example(success, nearest["x"])
    x = ops.where(inside, nearest["x"], inputs["center"])
    return {"x": x, "loss": -distance, "success": success}


@dataclass(frozen=True, kw_only=True)
class GradientLoop:
    """`x <- project(x + step_size * unit(gradient))`, as init, step, finish.

    Inputs are a dictionary of tensors: `center` of shape `(N, ...)`, `epsilon`
    and `step_size` of shape `(N,)` or like `center`, where to start (`start`
    like `center`, or `noise` for a random point of the ball, or neither for
    the center itself), optionally `mask` like `center`, and whatever the
    objective reads.

    A loop holds no arrays but the box, and two with equal fields do the same:
    what is compiled for one serves the other.

    Attributes:
        objective: `(inputs, x) -> (values, success)`, both `(N,)`; values are
            increased.
        ball: A class of `balls` for unit steps and projection.
        value_range: `(low, high)`, the box.
        inside_ball: Whether to stay within `epsilon` of the center; otherwise
            only the box holds.
        keep_best: Whether to return the best iterate instead of the last.
        early_stop: Whether an example stops at its first success.
        scored: Whether the result tells `loss` and `success`, as it does with
            `keep_best`; costs one more forward pass.
        momentum: Share of the last direction that the next one keeps.
        schedule: `None`, or `i -> length` of step `i`, a factor of
            `step_size`.
        eot: How many gradients, each with fresh randomness of the model, are
            averaged in a step.
    """

    # Whether a step is simple enough to compile several as one.
    unrolls: ClassVar[bool] = True

    objective: Any
    ball: Any
    value_range: Any
    inside_ball: bool = True
    keep_best: bool = False
    early_stop: bool = False
    scored: bool = False
    momentum: float = 0.0
    schedule: Any = None
    eot: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "value_range", Box(self.value_range))

    def init(self, inputs: Any) -> Any:
        """State before the first step."""
        x = self._start(inputs)
        state = {"x": x, "shared": {"i": ops.zeros((), "int32")}}
        if self.momentum:
            state["momentum"] = ops.zeros_like(x)
        no = ops.zeros_like(x[(slice(None),) + (0,) * (len(x.shape) - 1)])
        if self.keep_best:
            success = ops.cast(no, "bool")
            state["best"] = {"x": x, "loss": no - 1e30, "success": success}
        if self.early_stop:
            state["active"] = ops.equal(no, 0)
        return state

    def _start(self, inputs):
        if "start" in inputs:
            return inputs["start"]
        center = inputs["center"]
        if "noise" not in inputs:
            return center
        point = self.ball.sample(inputs["noise"], inputs.get("mask"))
        x = center + per_example(inputs["epsilon"], center) * point
        return ops.clip(x, *self.value_range)

    def look(self, inputs: Any, x: Any, i: Any) -> tuple:
        """Objective, success and gradient at `x`, the i-th point looked at.

        The objective and the gradient are means over `eot` draws of the
        model's randomness; success is that of the last draw.
        """

        def draw(total, j):
            here = {**inputs, "draw": i * self.eot + j}
            (values, success), gradient = backend.value_and_gradient(
                lambda x: self.objective(here, x), x
            )
            return {
                "values": total["values"] + values / self.eot,
                "gradient": total["gradient"] + gradient / self.eot,
                "success": success,
            }

        none = ops.zeros_like(x[(slice(None),) + (0,) * (len(x.shape) - 1)])
        total = {
            "values": none,
            "gradient": ops.zeros_like(x),
            "success": ops.cast(none, "bool"),
        }
        if self.eot == 1:
            total = draw(total, 0)
        else:
            state = {"total": total, "j": ops.zeros((), "int32")}
            total = backend.iterate(
                lambda s: {"total": draw(s["total"], s["j"]), "j": s["j"] + 1},
                lambda s: True,
                state=state,
                steps=self.eot,
            )["total"]
        gradient = total["gradient"]
        if "mask" in inputs:
            # Before the norm, so that the whole step goes where it may.
            gradient = gradient * inputs["mask"]
        return total["values"], total["success"], gradient

    def step(self, inputs: Any, state: Any) -> Any:
        """One gradient step inside the constraints."""
        x, i = state["x"], state["shared"]["i"]
        state = {**state, "shared": {"i": i + 1}}
        values, success, gradient = self.look(inputs, x, i)
        if self.momentum:
            size = l1_norm(gradient, keepdims=True)
            gradient = gradient / ops.where(size > 0, size, 1.0)
            gradient = self.momentum * state["momentum"] + gradient
            state["momentum"] = gradient
        step_size = per_example(inputs["step_size"], x)
        if self.schedule is not None:
            step_size = step_size * ops.cast(self.schedule(i), x.dtype)
        if self.ball.name == "l1":
            gradient = self._into_the_box(x, gradient)
        moved = x + step_size * self.ball.unit(gradient)
        moved = self._constrain(inputs, moved)
        if self.keep_best:
            here = {"x": x, "loss": values, "success": success}
            state["best"] = keep_better(state["best"], here)
        if self.early_stop:
            state["active"] = ops.logical_and(
                state["active"], ops.logical_not(success)
            )
            moved = ops.where(per_example(state["active"], x), moved, x)
        state["x"] = moved
        return state

    def _into_the_box(self, x, gradient):
        """The gradient without what leads out of the box.

        A sparse step would spend itself on pixels that cannot move.
        """
        low, high = box(self.value_range)
        out = ops.where(gradient > 0, x >= high, x <= low)
        return ops.where(out, 0.0, gradient)

    def advance(self, inputs: Any, state: Any, steps: int) -> Any:
        """`steps` steps, or fewer where every example has stopped."""
        with self.prepared():
            return backend.iterate(
                lambda state: self.step(inputs, state),
                self.running,
                state=state,
                steps=steps,
            )

    def prepared(self) -> Any:
        """A context for many looks at the same weights."""
        return prepared(self.objective)

    def running(self, state: Any) -> Any:
        """Whether any example is still moving."""
        return ops.any(state["active"]) if self.early_stop else True

    def finish(self, inputs: Any, state: Any) -> Any:
        """The result: `x`, and where scored `loss` and `success`."""
        x = self._tighten(inputs, state["x"])
        if not (self.scored or self.keep_best):
            return {"x": x}
        # The next draw of a randomized model, as if there were one more step.
        i = state["shared"]["i"] * self.eot
        values, success = self.objective({**inputs, "draw": i}, x)
        result = {"x": x, "loss": values, "success": success}
        if self.keep_best:
            result = keep_better(state["best"], result)
            result["x"] = self._tighten(inputs, result["x"])
        return result

    def run(self, inputs: Any, steps: int) -> Any:
        """All of it, for use inside a train step."""
        state = self.advance(inputs, self.init(inputs), steps)
        return self.finish(inputs, state)

    def _constrain(self, inputs, x):
        """Projects to the ball, then clips to the box."""
        if self.inside_ball:
            center = inputs["center"]
            x = center + self.ball.shrink(x - center, inputs["epsilon"])
        return ops.clip(x, *self.value_range)

    def _tighten(self, inputs, x):
        """Once more, rounding towards the center: the norm holds in float32."""
        if self.inside_ball:
            center = inputs["center"]
            delta = self.ball.shrink(x - center, inputs["epsilon"])
            x = add_towards(center, delta)
        return ops.clip(x, *self.value_range)
