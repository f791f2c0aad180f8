"""Auto-PGD: gradient ascent with momentum that finds its own step size."""

import math
from dataclasses import dataclass
from typing import Any
from typing import ClassVar

from keras import ops

from keras_robust.attacks.balls import box
from keras_robust.attacks.balls import per_example
from keras_robust.attacks.l1_ball import L1Ball
from keras_robust.attacks.l1_ball import soft_threshold_into
from keras_robust.attacks.loop import GradientLoop
from keras_robust.attacks.loop import keep_better
from keras_robust.attacks.loop import select

# Share of the last move in the next (Croce & Hein 2020, section 3).
_MOMENTUM = 0.25
# Steps that must have raised the loss, or the step size is halved.
_RISING = 0.75


@dataclass(frozen=True, kw_only=True)
class AutoPGDLoop(GradientLoop):
    """Auto-PGD in an L2 or L-infinity ball (Croce & Hein 2020, algorithm 1).

    Checkpoints come after 22 % of the steps, then after shorter and shorter
    windows. At each, an example whose loss did not rise often enough, or whose
    best loss and step size both stayed as they were, halves its step and goes
    back to its best point.

    Attributes, besides those of `GradientLoop`:
        steps: Int, steps in all; the schedule depends on it.
        first_loss: What the loss after the first step is compared with, to
            count it as a rise. The published code has 0 there, not the loss
            at the start; for log-odds that is minus infinity.
    """

    unrolls: ClassVar[bool] = False
    # The first step, in units of epsilon.
    first_step: ClassVar[float] = 2.0

    steps: int
    first_loss: float = 0.0

    @property
    def first_window(self) -> int:
        """Steps up to the first checkpoint."""
        return max(int(0.22 * self.steps), 1)

    @property
    def least_window(self) -> int:
        """The fewest steps between two checkpoints."""
        return max(int(0.06 * self.steps), 1)

    @property
    def shorter(self) -> int:
        """How much shorter each window is than the one before."""
        return max(int(0.03 * self.steps), 1)

    def init(self, inputs: Any) -> Any:
        """State after a look at the start."""
        x = self._constrain(inputs, self._start(inputs))
        values, success, gradient = self.look(inputs, x, 0)
        here = {"x": x, "loss": values}
        state = {
            "x": x,
            "before": x,
            "gradient": gradient,
            "step_size": self.first_step * inputs["epsilon"],
            # The best loss is where a halved step goes on from; the best
            # (success, loss) is the result.
            "best": {**here, "gradient": gradient},
            "found": {**here, "success": success},
            "loss": ops.zeros_like(values) + self.first_loss,
            "rises": ops.zeros_like(values),
            "checked_loss": values,
            "just_halved": ops.ones_like(success),
            "shared": {
                "i": ops.ones((), "int32"),
                "window": ops.zeros((), "int32") + self.first_window,
                "since": ops.zeros((), "int32"),
            },
            **self.extra_state(inputs, x),
        }
        if self.early_stop:
            state["active"] = ops.logical_not(success)
        return state

    def extra_state(self, inputs: Any, x: Any) -> dict:
        """What a variant keeps besides."""
        del inputs, x
        return {}

    def _start(self, inputs):
        if "start" in inputs or "noise" not in inputs:
            return super()._start(inputs)
        center = inputs["center"]
        point = self.ball.surface(inputs["noise"], inputs.get("mask"))
        return center + per_example(inputs["epsilon"], center) * point

    def step(self, inputs: Any, state: Any) -> Any:
        """One step, one look, and where a window ends, the check."""
        shared = state["shared"]
        x = self.move(inputs, state)
        values, success, gradient = self.look(inputs, x, shared["i"])
        state = {**state, "x": x, "before": state["x"], "gradient": gradient}
        here = {"x": x, "loss": values, "success": success}
        if self.early_stop:
            found = keep_better(state["found"], here)
            state["found"] = select(state["active"], found, state["found"])
            state["active"] = ops.logical_and(
                state["active"], ops.logical_not(success)
            )
        else:
            state["found"] = keep_better(state["found"], here)
        best = {"x": x, "loss": values, "gradient": gradient}
        better = values > state["best"]["loss"]
        state["best"] = select(better, best, state["best"])
        rise = ops.cast(values > state["loss"], values.dtype)
        state["rises"] = state["rises"] + rise
        state["loss"] = values
        state["shared"] = {
            **shared,
            "i": shared["i"] + 1,
            "since": shared["since"] + 1,
        }
        return self.check(inputs, state)

    def move(self, inputs: Any, state: Any) -> Any:
        """The next point: a projected step, mixed with the last move."""
        x = state["x"]
        length = per_example(state["step_size"], x)
        step = x + length * self.ball.unit(state["gradient"])
        step = self._constrain(inputs, step)
        # No last move before the first step.
        kept = ops.where(state["shared"]["i"] > 1, _MOMENTUM, 0.0)
        kept = ops.cast(kept, x.dtype)
        mixed = x + (step - x) * (1 - kept) + (x - state["before"]) * kept
        return self._constrain(inputs, mixed)

    def check(self, inputs: Any, state: Any) -> Any:
        """Halves steps where a window ends."""
        del inputs
        shared, best = state["shared"], state["best"]
        window = ops.cast(shared["window"], state["rises"].dtype)
        now = ops.equal(shared["since"], shared["window"])
        stuck = ops.logical_and(
            ops.logical_not(state["just_halved"]),
            state["checked_loss"] >= best["loss"],
        )
        halve = ops.logical_or(state["rises"] <= _RISING * window, stuck)
        back = ops.logical_and(halve, now)
        state = {
            **state,
            "step_size": ops.where(
                per_example(back, state["step_size"]),
                state["step_size"] / 2,
                state["step_size"],
            ),
            "just_halved": ops.where(now, halve, state["just_halved"]),
            "checked_loss": ops.where(now, best["loss"], state["checked_loss"]),
            "rises": ops.where(now, 0.0, state["rises"]),
        }
        shorter = ops.maximum(
            shared["window"] - self.shorter, self.least_window
        )
        state["shared"] = {
            **shared,
            "window": ops.where(now, shorter, shared["window"]),
            "since": ops.where(now, 0, shared["since"]),
        }
        return self.go_back(state, back)

    @staticmethod
    def go_back(state: Any, where: Any) -> dict:
        """Returns the chosen examples to their best points."""
        from_best = {key: state["best"][key] for key in ("x", "gradient")}
        here = {key: state[key] for key in from_best}
        return {**state, **select(where, from_best, here)}

    def finish(self, inputs: Any, state: Any) -> dict:
        """The best iterate by (success, loss)."""
        found = state["found"]
        return {**found, "x": self._tighten(inputs, found["x"])}


@dataclass(frozen=True, kw_only=True)
class AutoPGDL1Loop(AutoPGDLoop):
    """Auto-PGD in the L1 ball (Croce & Hein 2021, arXiv:2103.01208, sec. 4).

    Steps move a share of the entries with the largest gradients, the share
    following the sparsity of the best point; points are projected to ball and
    box together; there is no momentum.
    """

    first_step: ClassVar[float] = 1.0
    # Entries moved by the first steps, as a share.
    _share: ClassVar[float] = 0.2

    @property
    def first_window(self) -> int:
        """Steps between two checkpoints."""
        return max(int(0.04 * self.steps), 1)

    @property
    def least_window(self) -> int:
        """The same: windows do not change."""
        return self.first_window

    @property
    def shorter(self) -> int:
        """0: windows do not change."""
        return 0

    def extra_state(self, inputs: Any, x: Any) -> dict:
        """Share of the entries that a step moves, and the last sparsity."""
        entries = ops.ones_like(inputs["epsilon"]) * math.prod(x.shape[1:])
        return {
            "share": ops.zeros_like(inputs["epsilon"]) + self._share,
            "sparsity": entries,
        }

    def move(self, inputs: Any, state: Any) -> Any:
        """A sparse step, projected."""
        x = state["x"]
        gradient = self._into_the_box(x, state["gradient"])
        unit = L1Ball.sparse_unit(gradient, state["share"])
        step = x + per_example(state["step_size"], x) * unit
        return self._constrain(inputs, step)

    def _constrain(self, inputs, x):
        """The nearest point of ball and box together."""
        center = inputs["center"]
        delta = x - center
        low, high = box(self.value_range)
        room = ops.where(delta > 0, high - center, center - low)
        inside = soft_threshold_into(delta, inputs["epsilon"], room)
        return ops.clip(center + inside, low, high)

    def check(self, inputs: Any, state: Any) -> Any:
        """Adapts share and step to the sparsity of the best point."""
        shared = state["shared"]
        now = ops.equal(shared["since"], shared["window"])
        moved = state["best"]["x"] - inputs["center"]
        sparsity = ops.sum(
            ops.cast(moved != 0, moved.dtype),
            axis=tuple(range(1, len(moved.shape))),
        )
        sparser = sparsity < 0.95 * state["sparsity"]
        longest = self.first_step * inputs["epsilon"]
        step = ops.where(sparser, longest, state["step_size"] / 1.5)
        step = ops.maximum(step, longest / 10)
        state = {
            **state,
            "share": ops.where(
                now, sparsity / math.prod(moved.shape[1:]) / 1.5, state["share"]
            ),
            "sparsity": ops.where(now, sparsity, state["sparsity"]),
            "step_size": ops.where(now, step, state["step_size"]),
            "shared": {
                **shared,
                "since": ops.where(now, 0, shared["since"]),
            },
        }
        return self.go_back(state, ops.logical_and(sparser, now))
