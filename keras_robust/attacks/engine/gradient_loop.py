"""The gradient loop: move along a gradient, inside a ball and a box."""

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import replace
from typing import Any
from typing import ClassVar

from keras import ops

from keras_robust import backend
from keras_robust.attacks.balls import Ball
from keras_robust.attacks.balls import add_towards
from keras_robust.attacks.balls import box
from keras_robust.attacks.balls import l1_norm
from keras_robust.attacks.balls import nonzero
from keras_robust.attacks.balls import per_example
from keras_robust.attacks.engine.hook_checks import check_objective
from keras_robust.attacks.engine.loop import Candidate
from keras_robust.attacks.engine.loop import Inputs
from keras_robust.attacks.engine.loop import Loop
from keras_robust.attacks.engine.loop import State
from keras_robust.attacks.engine.loop import Tensor
from keras_robust.attacks.engine.loop import keep_better
from keras_robust.attacks.engine.loop import zeros_per_example

# `(inputs, x) -> (loss, success)`, both `(N,)`; the loss is increased.
Objective = Callable[[dict[str, Any], Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class ProjectedLoop(Loop):
    """Base class of loops that stay inside a ball around `center` and a box.

    Attributes:
        ball: A class of `balls`: distances, unit steps, projection.
    """

    ball: type[Ball]

    def random_point(self, inputs: Inputs) -> Tensor:
        """Return a uniform draw from the ball, clipped to the box."""
        return self.ball.random_point(
            inputs.rows["center"],
            inputs.rows["epsilon"],
            noise=inputs.rows["noise"],
            value_range=self.value_range,
            mask=inputs.rows.get("mask"),
        )

    def project(self, inputs: Inputs, x: Tensor) -> Tensor:
        """Project to the ball, then clip to the box."""
        center = inputs.rows["center"]
        x = center + self.ball.project(x - center, inputs.rows["epsilon"])
        return ops.clip(x, *self.value_range)

    def project_exactly(self, inputs: Inputs, x: Tensor) -> Tensor:
        """Project, rounding towards the center: the norm holds in float32."""
        center = inputs.rows["center"]
        delta = self.ball.project(x - center, inputs.rows["epsilon"])
        return ops.clip(add_towards(center, delta), *self.value_range)


@dataclass(frozen=True, kw_only=True)
class GradientLoop(ProjectedLoop):
    """`x <- project(x + step_size * unit(gradient))`.

    Besides `center`, `epsilon` and what the objective reads, the inputs hold
    `step_size`, `(N,)` or like `center`; where to begin (`start` like
    `center`, or `noise` for a random point of the ball, or neither for the
    center itself); and optionally `mask` like `center`.

    Attributes:
        objective: `(inputs, x) -> (loss, success)`, both `(N,)`; the loss is
            increased.
        inside_ball: Whether to stay within `epsilon` of the center; otherwise
            only the box holds.
        keep_best: Whether to return the best iterate instead of the last.
        scored: Whether the result includes `loss` and `success`, as it does
            with `keep_best`; costs one more forward pass.
        momentum: Share of the last direction that the next one keeps.
        schedule: `None`, or `step index -> factor` of `step_size`.
        eot: How many gradients, each with fresh randomness of the model, are
            averaged in a step.
        watches: Whether the result includes `moves`, bool `(N,)`: whether any
            gradient of an example was not zero.
    """

    unrolls: ClassVar[bool] = True

    objective: Objective
    inside_ball: bool = True
    keep_best: bool = False
    scored: bool = False
    momentum: float = 0.0
    schedule: Callable[[Tensor], Tensor] | None = None
    eot: int = 1
    watches: bool = False

    def init(self, inputs: Inputs) -> State:
        """See `Loop`."""
        x = self.start(inputs)
        rows: dict[str, Any] = {"x": x}
        zeros = zeros_per_example(x)
        if self.momentum:
            rows["direction"] = ops.zeros_like(x)
        if self.keep_best:
            failed = ops.cast(zeros, "bool")
            rows["best"] = Candidate(x=x, loss=zeros - 1e30, success=failed)
        if self.early_stop:
            rows["active"] = ops.equal(zeros, 0)
        if self.watches:
            rows["moves"] = ops.cast(zeros, "bool")
        return State(rows=rows, shared={"step": ops.zeros((), "int32")})

    def step(self, inputs: Inputs, state: State) -> State:
        """See `Loop`."""
        rows, i = dict(state.rows), state.shared["step"]
        x = rows["x"]
        loss, success, gradient = self.value_and_gradient(inputs, x, i)
        if self.watches:
            axes = tuple(range(1, len(x.shape)))
            moves = ops.any(ops.not_equal(gradient, 0), axis=axes)
            rows["moves"] = ops.logical_or(rows["moves"], moves)
        if self.momentum:
            gradient = self._with_momentum(rows["direction"], gradient)
            rows["direction"] = gradient
        direction = self.ball.unit(self._without_blocked(x, gradient))
        moved = self.project(inputs, x + self._length(inputs, x, i) * direction)
        if self.keep_best:
            here = Candidate(x=x, loss=loss, success=success)
            rows["best"] = keep_better(rows["best"], here)
        if self.early_stop:
            still = ops.logical_and(rows["active"], ops.logical_not(success))
            rows["active"] = still
            moved = ops.where(per_example(still, x), moved, x)
        rows["x"] = moved
        return State(rows=rows, shared={"step": i + 1})

    def finish(self, inputs: Inputs, state: State) -> dict[str, Tensor]:
        """See `Loop`."""
        x = self.project_exactly(inputs, state.rows["x"])
        watched = {k: v for k, v in state.rows.items() if k == "moves"}
        if not (self.scored or self.keep_best):
            return {"x": x, **watched}
        # The next draw of a randomized model, as if there were one more step.
        draw = state.shared["step"] * self.eot
        found = self.objective({**inputs.rows, "draw": draw}, x)
        loss, success = check_objective(found, x)
        last = Candidate(x=x, loss=loss, success=success)
        if not self.keep_best:
            return {**last._asdict(), **watched}
        best = keep_better(state.rows["best"], last)
        x = self.project_exactly(inputs, best.x)
        return {**best._replace(x=x)._asdict(), **watched}

    def with_scores(self) -> "GradientLoop":
        """See `Loop`."""
        return replace(self, scored=True)

    def start(self, inputs: Inputs) -> Tensor:
        """Return the first point."""
        if "start" in inputs.rows:
            return inputs.rows["start"]
        if "noise" in inputs.rows:
            return self.random_point(inputs)
        return inputs.rows["center"]

    def value_and_gradient(
        self, inputs: Inputs, x: Tensor, step: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Evaluate the objective and its gradient at the point of a step.

        Args:
            inputs: Inputs of the loop.
            x: Points, `(N, ...)`.
            step: Index of the step, which chooses the draws of a randomized
                model.

        Returns:
            Loss `(N,)` and gradient like `x`, means over `eot` draws of the
            model's randomness; between them `success` of the last draw.
        """
        if self.eot == 1:
            found = self._one_draw(inputs, x, step * self.eot)
        else:
            found = self._mean_of_draws(inputs, x, step * self.eot)
        loss, success, gradient = found
        if "mask" in inputs.rows:
            # Before the norm, so that no part of the step is spent on blocked
            # entries.
            gradient = gradient * inputs.rows["mask"]
        return loss, success, gradient

    def _one_draw(
        self, inputs: Inputs, x: Tensor, draw: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        rows = {**inputs.rows, "draw": draw}
        (loss, success), gradient = backend.value_and_gradient(
            lambda x: check_objective(self.objective(rows, x), x), x
        )
        return loss, success, gradient

    def _mean_of_draws(
        self, inputs: Inputs, x: Tensor, first: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        def add(total: dict[str, Tensor]) -> dict[str, Tensor]:
            loss, success, gradient = self._one_draw(
                inputs, x, first + total["draw"]
            )
            return {
                "loss": total["loss"] + loss / self.eot,
                "success": success,
                "gradient": total["gradient"] + gradient / self.eot,
                "draw": total["draw"] + 1,
            }

        zeros = zeros_per_example(x)
        total = backend.iterate(
            add,
            lambda total: True,
            state={
                "loss": zeros,
                "success": ops.cast(zeros, "bool"),
                "gradient": ops.zeros_like(x),
                "draw": ops.zeros((), "int32"),
            },
            steps=self.eot,
        )
        return total["loss"], total["success"], total["gradient"]

    def _with_momentum(self, before: Tensor, gradient: Tensor) -> Tensor:
        """Return `momentum * before + gradient / ||gradient||_1`."""
        size = l1_norm(gradient, keepdims=True)
        return self.momentum * before + gradient / nonzero(size)

    def _without_blocked(self, x: Tensor, gradient: Tensor) -> Tensor:
        """Return the gradient, in L1 without what leads out of the box.

        A sparse step could otherwise be spent on pixels that cannot move.
        """
        if self.ball.name != "l1":
            return gradient
        return without_blocked(x, gradient, self.value_range)

    def _length(self, inputs: Inputs, x: Tensor, step: Tensor) -> Tensor:
        length = per_example(inputs.rows["step_size"], x)
        if self.schedule is None:
            return length
        return length * ops.cast(self.schedule(step), x.dtype)

    def project(self, inputs: Inputs, x: Tensor) -> Tensor:
        """Project to the ball where there is one, then clip to the box."""
        if self.inside_ball:
            return super().project(inputs, x)
        return ops.clip(x, *self.value_range)

    def project_exactly(self, inputs: Inputs, x: Tensor) -> Tensor:
        """See `ProjectedLoop`."""
        if self.inside_ball:
            return super().project_exactly(inputs, x)
        return ops.clip(x, *self.value_range)


def without_blocked(x: Tensor, gradient: Tensor, value_range: Any) -> Tensor:
    """Return the gradient without the entries that lead out of the box."""
    low, high = box(value_range)
    blocked = ops.where(gradient > 0, x >= high, x <= low)
    return ops.where(blocked, 0.0, gradient)
