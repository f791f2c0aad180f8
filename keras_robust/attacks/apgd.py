"""Auto-PGD: gradient ascent that finds its own step size."""

import math
from collections.abc import Callable
from dataclasses import KW_ONLY
from dataclasses import dataclass
from typing import Any
from typing import ClassVar
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_robust.attacks.balls import box
from keras_robust.attacks.balls import per_example
from keras_robust.attacks.engine.gradient_loop import GradientLoop
from keras_robust.attacks.engine.gradient_loop import Objective
from keras_robust.attacks.engine.gradient_loop import without_blocked
from keras_robust.attacks.engine.loop import Candidate
from keras_robust.attacks.engine.loop import Inputs
from keras_robust.attacks.engine.loop import State
from keras_robust.attacks.engine.loop import Tensor
from keras_robust.attacks.engine.loop import keep_better
from keras_robust.attacks.engine.loop import select
from keras_robust.attacks.engine.search import Batch
from keras_robust.attacks.engine.search import Run
from keras_robust.attacks.l1_ball import L1Ball
from keras_robust.attacks.l1_ball import soft_threshold_into
from keras_robust.attacks.loop_attack import LoopAttack
from keras_robust.attacks.objectives import LEAST_CLASSES
from keras_robust.attacks.objectives import AwayToTarget
from keras_robust.attacks.objectives import LabelObjective
from keras_robust.attacks.objectives import difference
from keras_robust.attacks.objectives import get_loss
from keras_robust.attacks.objectives import targeted_dlr
from keras_robust.attacks.problem import Problem
from keras_robust.attacks.target_order import nearest_targets
from keras_robust.attacks.target_order import ranked_targets
from keras_robust.utils import checks
from keras_robust.utils.messages import shown

# Losses towards a target class: any wrong class is a success.
_TO_TARGETS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "targeted_dlr": targeted_dlr,
    "targeted_margin": difference,
}
_ORDERS = ("logits", "malt")
# Share of the last move in the next (Croce & Hein 2020, section 3).
_MOMENTUM = 0.25
# Share of the steps that must have raised the loss, or the step is halved.
_RISING = 0.75


@keras.saving.register_keras_serializable("keras_robust")
@dataclass(eq=False, repr=False)
class APGDAttack(LoopAttack):
    """Auto-PGD: no step size to choose.

    Croce & Hein 2020 (arXiv:2003.01690), section 3, in the L2 and L-infinity
    ball; Croce & Hein 2021 (arXiv:2103.01208), section 4, in the L1 ball.
    Examples that are wrong from the start stay unchanged; those that are broken
    in one restart, or towards one target, are skipped in the next.

    Args:
        norm: `"l2"` (or 2), `"linf"` (or `numpy.inf`) or `"l1"` (or 1).
        epsilon: As in `PGDAttack`.
        steps: Int >= 1, gradient steps of a run.
        loss: `"cross_entropy"`; `"dlr"` (difference of logits ratio, three
            classes or more); `"targeted_dlr"` (four or more): one run towards
            each of the `targets` likeliest wrong classes, where any wrong
            class is a success; `"targeted_margin"`: the same by difference of
            logits, for any number of classes; `"margin"`;
            `"probability_margin"`, that of probabilities (Xie et al. 2024,
            arXiv:2411.15210); or a callable `(y, logits) -> (N,)`, larger where
            the label fits worse.
        targets: Int >= 1, how many classes the targeted losses try.
        targets_by: Which classes they try first: `"logits"`, the likeliest; or
            `"malt"`, those whose boundary is nearest by a linear estimate
            (Melamed et al. 2024, arXiv:2407.02240), for a gradient more for
            each wrong class, of at most 100.
        restarts: Int >= 1, runs from new random points.
        random_start: Whether to start from a random point on the ball's
            surface (cut off by the box); otherwise from the image.
        targeted: Whether `y` holds the labels to reach.
        value_range: As in `PGDAttack`.
        seed: Int for the same random starts in every call, on every backend
            and for every batch size; `None` for fresh ones.
        early_stop: Whether an example stops at its first success, instead of
            going on to a higher loss.
        eot: Int >= 1, gradients averaged in each step, as in `PGDAttack`.
        mask: As in `PGDAttack`.
        backward: As in `PGDAttack`.
        batch_size: Int >= 1, how many examples are attacked at once.
        from_logits: As in `PGDAttack`.
        jit_compile: As in `PGDAttack`.
        attacked: As in `PGDAttack`.
        output: As in `PGDAttack`.

    Example:

    ```python
    attack = keras_robust.APGDAttack(norm="linf", epsilon=8 / 255, loss="dlr")
    x_adv = attack(model, x, y)
    ```
    """

    norm: Any = "l2"
    epsilon: Any = None
    steps: int = 100
    loss: Any = "cross_entropy"
    _: KW_ONLY
    targets: int = 9
    targets_by: str = "logits"
    restarts: int = 1
    random_start: bool = True
    targeted: bool = False
    seed: int | None = None
    early_stop: bool = False
    eot: int = 1
    mask: Any = None
    backward: Any = None

    follows_gradients: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.steps = checks.check_positive_integer(self.steps, "steps")
        self.early_stop = bool(self.early_stop)
        if self.loss not in _TO_TARGETS:
            get_loss(self.loss)
        elif self.targeted:
            raise ValueError(
                f"With loss={shown(self.loss)} the targets are found, so "
                "`targeted` must be False; to reach labels of your own, take "
                f"another loss. Received: targeted={self.targeted}"
            )
        self.targets = checks.check_positive_integer(self.targets, "targets")
        if self.targets_by not in _ORDERS or (
            self.targets_by != "logits" and self.loss not in _TO_TARGETS
        ):
            raise ValueError(
                f"Argument `targets_by` must be one of {_ORDERS}, and 'logits' "
                f"unless the loss is one of {tuple(_TO_TARGETS)}. Received: "
                f"targets_by={shown(self.targets_by)}, loss={shown(self.loss)}"
            )
        self.random_start = bool(self.random_start)
        self.eot = checks.check_positive_integer(self.eot, "eot")
        checks.check_restarts(self.restarts, self.random_start)

    def runs(self, num_classes: int | None) -> list[Run]:
        """See `LoopAttack`: restarts, each towards every target."""
        least = LEAST_CLASSES.get(self.loss, 2)
        if num_classes is None or num_classes < least:
            raise ValueError(
                f"loss={self.loss!r} needs at least {least} classes; take "
                "'margin' or 'targeted_margin'. "
                f"Received: {num_classes} classes"
            )
        ranks = range(1)
        if self.loss in _TO_TARGETS:
            ranks = range(1, min(self.targets, num_classes - 1) + 1)
        return [Run(r, rank) for r in range(self.restarts) for rank in ranks]

    def loop(self, problem: Problem, run: Run) -> "AutoPGDLoop":
        """See `LoopAttack`: the same loop in every run."""
        del run
        logits = problem.classifier.logits
        first_loss = 0.0
        objective: Objective
        if self.loss in _TO_TARGETS:
            objective = AwayToTarget(logits, _TO_TARGETS[self.loss])
        else:
            loss = get_loss(self.loss)
            objective = LabelObjective(logits, loss, self.targeted)
            if self.loss in ("cross_entropy", "probability_margin"):
                # Both are raised as logarithms.
                first_loss = -1e30
        kind = AutoPGDL1Loop if self.norm == "l1" else AutoPGDLoop
        return kind(
            objective=objective,
            ball=self.ball,
            value_range=self.value_range,
            steps=self.steps,
            first_loss=first_loss,
            early_stop=self.early_stop,
            eot=self.eot,
        )

    def inputs(self, problem: Problem, run: Run, batch: Batch) -> Inputs:
        """See `LoopAttack`: the target, and where to start."""
        inputs = super().inputs(problem, run, batch)
        if run.target_rank:
            inputs.rows["target"] = self._targets(
                problem, inputs, batch, run.target_rank
            )
        if self.random_start:
            inputs.rows["noise"] = self.noise(problem, batch)
        return inputs

    def _targets(
        self, problem: Problem, inputs: Inputs, batch: Batch, rank: int
    ) -> np.ndarray:
        """Return the class that each example tries as its `rank`-th."""
        if self.targets_by == "logits":
            return ranked_targets(batch.clean_logits, inputs.rows["y"], rank)
        memory = {} if problem.memory is None else problem.memory
        # By example: batches are smaller in later runs.
        known = memory.setdefault(self, {})
        if not all(row in known for row in batch.rows):
            order = nearest_targets(
                problem, inputs, batch.clean_logits, self.norm, self.jit_compile
            )
            known.update(zip(batch.rows.tolist(), order, strict=True))
        return np.stack([known[row] for row in batch.rows])[:, rank - 1]

    @property
    def takes_rows(self) -> bool:
        """Whether there may be a radius per feature: in an L-infinity ball."""
        return self.norm == "linf"

    @property
    def name(self) -> str:
        """The name in progress bars and reports."""
        return f"APGD {self.loss}" if isinstance(self.loss, str) else "APGD"


class Best(NamedTuple):
    """The point of the highest loss, from which a halved step continues."""

    x: Tensor
    loss: Tensor
    gradient: Tensor


@dataclass(frozen=True, kw_only=True)
class AutoPGDLoop(GradientLoop):
    """Auto-PGD in an L2 or L-infinity ball (Croce & Hein 2020, algorithm 1).

    Checkpoints come after 22 % of the steps, then after shorter and shorter
    windows. At each, an example whose loss did not rise often enough, or whose
    best loss and step size both stayed as they were, continues from its best
    point with half the step.

    Attributes, besides those of `GradientLoop`:
        steps: Int, steps in all; the schedule depends on it.
        first_loss: Loss that the first step must exceed to count as progress.
            The reference code uses 0; a cross-entropy of 0 is a log-odds of
            minus infinity.
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
    def window_decrease(self) -> int:
        """How much shorter each window is than the one before."""
        return max(int(0.03 * self.steps), 1)

    def init(self, inputs: Inputs) -> State:
        """See `Loop`: the first point is evaluated."""
        x = self.project(inputs, self.start(inputs))
        loss, success, gradient = self.value_and_gradient(inputs, x, 0)
        rows = {
            "x": x,
            "before": x,
            "gradient": gradient,
            "step_size": self.first_step * inputs.rows["epsilon"],
            "best": Best(x=x, loss=loss, gradient=gradient),
            # The result: the best by (success, loss).
            "found": Candidate(x=x, loss=loss, success=success),
            "loss": ops.zeros_like(loss) + self.first_loss,
            "rises": ops.zeros_like(loss),
            "checked_loss": loss,
            "just_halved": ops.ones_like(success),
            **self.more_rows(inputs, x),
        }
        if self.early_stop:
            rows["active"] = ops.logical_not(success)
        shared = {
            "step": ops.ones((), "int32"),
            "window": ops.zeros((), "int32") + self.first_window,
            "since_check": ops.zeros((), "int32"),
        }
        return State(rows=rows, shared=shared)

    def more_rows(self, inputs: Inputs, x: Tensor) -> dict[str, Tensor]:
        """Return what a variant keeps besides."""
        del inputs, x
        return {}

    def random_point(self, inputs: Inputs) -> Tensor:
        """Return a point of the ball's surface; `init` clips it to the box."""
        rows = inputs.rows
        point = self.ball.sample_sphere(rows["noise"], rows.get("mask"))
        center = rows["center"]
        return center + per_example(rows["epsilon"], center) * point

    def step(self, inputs: Inputs, state: State) -> State:
        """See `Loop`: one step, and where a window ends, the check."""
        rows, shared = state
        x = self.move(inputs, state)
        loss, success, gradient = self.value_and_gradient(
            inputs, x, shared["step"]
        )
        here = Candidate(x=x, loss=loss, success=success)
        found = keep_better(rows["found"], here)
        stopped = {}
        if self.early_stop:
            stopped = {"active": ops.logical_not(success)}
        best = Best(x=x, loss=loss, gradient=gradient)
        rises = ops.cast(loss > rows["loss"], loss.dtype)
        rows = {
            **rows,
            **stopped,
            "x": x,
            "before": rows["x"],
            "gradient": gradient,
            "found": found,
            "best": select(loss > rows["best"].loss, best, rows["best"]),
            "rises": rows["rises"] + rises,
            "loss": loss,
        }
        shared = {
            **shared,
            "step": shared["step"] + 1,
            "since_check": shared["since_check"] + 1,
        }
        return self.check(inputs, State(rows=rows, shared=shared))

    def move(self, inputs: Inputs, state: State) -> Tensor:
        """Return the next point: a projected step, mixed with the last move."""
        rows = state.rows
        x = rows["x"]
        length = per_example(rows["step_size"], x)
        step = x + length * self.ball.unit(rows["gradient"])
        step = self.project(inputs, step)
        # No last move before the first step.
        kept = ops.where(state.shared["step"] > 1, _MOMENTUM, 0.0)
        kept = ops.cast(kept, x.dtype)
        mixed = x + (step - x) * (1 - kept) + (x - rows["before"]) * kept
        return self.project(inputs, mixed)

    def check(self, inputs: Inputs, state: State) -> State:
        """Halve steps where a window ends."""
        del inputs
        rows, shared = state
        best_loss = rows["best"].loss
        window = ops.cast(shared["window"], rows["rises"].dtype)
        now = ops.equal(shared["since_check"], shared["window"])
        stuck = ops.logical_and(
            ops.logical_not(rows["just_halved"]),
            rows["checked_loss"] >= best_loss,
        )
        halve = ops.logical_or(rows["rises"] <= _RISING * window, stuck)
        halve_now = ops.logical_and(halve, now)
        step = rows["step_size"]
        rows = {
            **rows,
            "step_size": ops.where(
                per_example(halve_now, step), step / 2, step
            ),
            "just_halved": ops.where(now, halve, rows["just_halved"]),
            "checked_loss": ops.where(now, best_loss, rows["checked_loss"]),
            "rises": ops.where(now, 0.0, rows["rises"]),
        }
        shorter = ops.maximum(
            shared["window"] - self.window_decrease, self.least_window
        )
        shared = {
            **shared,
            "window": ops.where(now, shorter, shared["window"]),
            "since_check": ops.where(now, 0, shared["since_check"]),
        }
        return State(rows=_return_to_best(rows, halve_now), shared=shared)

    def finish(self, inputs: Inputs, state: State) -> dict[str, Tensor]:
        """See `Loop`: the best iterate by (success, loss)."""
        found = state.rows["found"]
        x = self.project_exactly(inputs, found.x)
        return found._replace(x=x)._asdict()

    def with_scores(self) -> "AutoPGDLoop":
        """See `Loop`: the result always includes scores."""
        return self


def _return_to_best(rows: dict[str, Any], where: Tensor) -> dict[str, Any]:
    """Return the chosen examples to their best points."""
    best = rows["best"]
    there = {"x": best.x, "gradient": best.gradient}
    here = {key: rows[key] for key in there}
    return {**rows, **select(where, there, here)}


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
        """The fewest steps between two checkpoints: windows do not change."""
        return self.first_window

    @property
    def window_decrease(self) -> int:
        """How much shorter windows become: 0, they do not change."""
        return 0

    def more_rows(self, inputs: Inputs, x: Tensor) -> dict[str, Tensor]:
        """Share of the entries that a step moves, and the last sparsity."""
        zeros = ops.zeros_like(inputs.rows["epsilon"])
        return {
            "share": zeros + self._share,
            "sparsity": (zeros + 1) * math.prod(x.shape[1:]),
        }

    def move(self, inputs: Inputs, state: State) -> Tensor:
        """Return the next point: a sparse step, projected."""
        rows = state.rows
        x = rows["x"]
        gradient = without_blocked(x, rows["gradient"], self.value_range)
        unit = L1Ball.sparse_unit(gradient, rows["share"])
        step = x + per_example(rows["step_size"], x) * unit
        return self.project(inputs, step)

    def project(self, inputs: Inputs, x: Tensor) -> Tensor:
        """Return the nearest point of ball and box together."""
        center = inputs.rows["center"]
        delta = x - center
        low, high = box(self.value_range)
        bound = ops.where(delta > 0, high - center, center - low)
        inside = soft_threshold_into(delta, inputs.rows["epsilon"], bound)
        return ops.clip(center + inside, low, high)

    def check(self, inputs: Inputs, state: State) -> State:
        """Adapt share and step to the sparsity of the best point."""
        rows, shared = state
        now = ops.equal(shared["since_check"], shared["window"])
        moved = rows["best"].x - inputs.rows["center"]
        sparsity = ops.sum(
            ops.cast(moved != 0, moved.dtype),
            axis=tuple(range(1, len(moved.shape))),
        )
        sparser = sparsity < 0.95 * rows["sparsity"]
        longest = self.first_step * inputs.rows["epsilon"]
        step = ops.where(sparser, longest, rows["step_size"] / 1.5)
        step = ops.maximum(step, longest / 10)
        share = sparsity / math.prod(moved.shape[1:]) / 1.5
        rows = {
            **rows,
            "share": ops.where(now, share, rows["share"]),
            "sparsity": ops.where(now, sparsity, rows["sparsity"]),
            "step_size": ops.where(now, step, rows["step_size"]),
        }
        since_check = ops.where(now, 0, shared["since_check"])
        return State(
            rows=_return_to_best(rows, ops.logical_and(sparser, now)),
            shared={**shared, "since_check": since_check},
        )
