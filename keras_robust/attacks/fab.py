"""Fast adaptive boundary, a minimum-norm attack."""

import functools
from collections.abc import Callable
from dataclasses import KW_ONLY
from dataclasses import dataclass
from typing import Any
from typing import ClassVar
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_robust import backend
from keras_robust.attacks.balls import DUAL_NORMS
from keras_robust.attacks.balls import Ball
from keras_robust.attacks.balls import box
from keras_robust.attacks.balls import per_example
from keras_robust.attacks.engine.loop import Inputs
from keras_robust.attacks.engine.loop import Loop
from keras_robust.attacks.engine.loop import State
from keras_robust.attacks.engine.loop import Tensor
from keras_robust.attacks.engine.loop import nearest_within
from keras_robust.attacks.engine.loop import select
from keras_robust.attacks.engine.search import Batch
from keras_robust.attacks.engine.search import Run
from keras_robust.attacks.hyperplane import step_to_hyperplane
from keras_robust.attacks.loop_attack import LoopAttack
from keras_robust.attacks.objectives import difference
from keras_robust.attacks.objectives import is_predicted
from keras_robust.attacks.problem import Problem
from keras_robust.attacks.target_order import ranked_targets
from keras_robust.utils import checks
from keras_robust.utils.messages import shown


@keras.saving.register_keras_serializable("keras_robust")
@dataclass(eq=False, repr=False)
class FABAttack(LoopAttack):
    """Fast adaptive boundary: the smallest perturbation that it finds.

    Croce & Hein 2020 (arXiv:1907.02044), algorithm 1; with `targets`, the
    targeted version of AutoAttack: one run towards the boundary of each of
    the likeliest wrong classes, for one gradient a step instead of C.

    Args:
        norm: `"l2"` (or 2), `"linf"` (or `numpy.inf`) or `"l1"` (or 1).
        epsilon: Radius in units of `value_range` inside which a success
            counts, a number or one per example; an example without one is
            returned as it was. `None` for the nearest adversarial example at
            any distance.
        steps: Int >= 1, steps of a run.
        targets: `None`, or Int >= 1: how many classes to try.
        restarts: Int >= 1; the first run starts from the image, the others
            from random points nearby.
        targeted: Whether `y` holds the labels to reach; then without
            `targets`.
        value_range: `(low, high)`, the box that holds all inputs.
        mix: Float in [0, 1], largest weight of the step from the image
            (alpha_max in the paper).
        overshoot: Float >= 1, factor of the steps (eta).
        shrink_back: Float in (0, 1), share of a success's distance from which
            the search goes on (beta).
        seed: As in `APGDAttack`.
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
    attack = keras_robust.FABAttack(norm="l2", epsilon=None)
    distance = numpy.linalg.norm((attack(model, x, y) - x).reshape(len(x), -1))
    ```
    """

    any_distance: ClassVar[bool] = True

    norm: Any = "l2"
    epsilon: Any = None
    steps: int = 100
    targets: int | None = None
    restarts: int = 1
    targeted: bool = False
    _: KW_ONLY
    mix: float = 0.1
    overshoot: float = 1.05
    shrink_back: float = 0.9
    seed: int | None = None
    early_stop: bool = False
    mask: Any = None
    backward: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.steps = checks.check_positive_integer(self.steps, "steps")
        self.early_stop = bool(self.early_stop)
        self.mix = checks.check_number(self.mix, "mix", most=1.0)
        self.shrink_back = checks.check_share(self.shrink_back, "shrink_back")
        self.overshoot = checks.check_number(self.overshoot, "overshoot")
        if self.overshoot < 1:
            raise ValueError(
                "Argument `overshoot` must be >= 1. "
                f"Received: overshoot={self.overshoot}"
            )
        if self.targets is None:
            return
        self.targets = checks.check_positive_integer(self.targets, "targets")
        if self.targeted:
            raise ValueError(
                "Argument `targets` must be None with targeted=True, where `y` "
                f"holds the targets. Received: targets={shown(self.targets)}"
            )

    def runs(self, num_classes: int | None) -> list[Run]:
        """See `LoopAttack`: restarts, each towards every target."""
        ranks = range(1)
        if self.targets is not None:
            most = self.targets if num_classes is None else num_classes - 1
            ranks = range(1, min(self.targets, most) + 1)
        return [Run(r, rank) for rank in ranks for r in range(self.restarts)]

    @property
    def improves_broken(self) -> bool:
        """See `LoopAttack`: another run may find a nearer example."""
        return not self.early_stop

    def loop(self, problem: Problem, run: Run) -> "FABLoop":
        """See `LoopAttack`: the same loop in every run."""
        del run
        return FABLoop(
            logits=problem.classifier.logits,
            ball=self.ball,
            value_range=self.value_range,
            num_classes=problem.classes or 0,
            to_target=self.targeted or self.targets is not None,
            targeted=self.targeted,
            mix=self.mix,
            overshoot=self.overshoot,
            shrink_back=self.shrink_back,
            early_stop=self.early_stop,
        )

    def inputs(self, problem: Problem, run: Run, batch: Batch) -> Inputs:
        """See `LoopAttack`: target, label to leave, where to start."""
        inputs = super().inputs(problem, run, batch)
        rows = inputs.rows
        if self.targeted:
            rows["target"] = rows["y"]
            rows["y"] = batch.clean_logits.argmax(-1).astype("int32")
        elif run.target_rank:
            rows["target"] = ranked_targets(
                batch.clean_logits, rows["y"], run.target_rank
            )
        if run.restart:
            rows["noise"] = self.noise(problem, batch)
        return inputs


class Boundary(NamedTuple):
    """A function that is 0 at the decision boundary, at a point.

    Attributes:
        value: `(N,)`.
        gradient: `(N, ...)`, zero where a mask says so.
        distance: Linear estimate of the distance to the boundary, `(N,)`.
    """

    value: Tensor
    gradient: Tensor
    distance: Tensor


@dataclass(frozen=True, kw_only=True)
class FABLoop(Loop):
    """Fast adaptive boundary (Croce & Hein 2020, arXiv:1907.02044, alg. 1).

    Each step moves to the linearized boundary from the current point and from
    the image, mixes the two and overshoots a little; a point beyond the
    boundary is remembered if it is nearer than before, and moved back towards
    the image.

    Attributes, besides those of `Loop`:
        logits: `(x, draw, held) -> (N, C)` logits of a frozen model.
        ball: A class of `balls`, for its norm.
        num_classes: Int, the number C of logits.
        to_target: Whether the boundary is that to `target` of the inputs,
            instead of the nearest one.
        targeted: Whether only the target counts as a success.
        mix: Largest weight of the step from the image (alpha_max).
        overshoot: Factor of the steps (eta).
        shrink_back: Factor of a success's distance to continue from (beta).
        early_stop: Whether an example stops at its first success inside its
            radius.
    """

    logits: Callable[..., Tensor]
    ball: type[Ball]
    num_classes: int
    to_target: bool
    targeted: bool = False
    mix: float = 0.1
    overshoot: float = 1.05
    shrink_back: float = 0.9

    def init(self, inputs: Inputs) -> State:
        """See `Loop`."""
        center = inputs.rows["center"]
        zeros = ops.zeros_like(inputs.rows["epsilon"])
        rows = {
            "x": self.start(inputs),
            "nearest": {"x": center, "distance": zeros + 1e30},
        }
        if self.early_stop:
            rows["active"] = zeros > -1
        return State(rows=rows, shared={"step": ops.zeros((), "int32")})

    def start(self, inputs: Inputs) -> Tensor:
        """Return the image, or a random point at half the radius from it.

        Where there is no radius, at a tenth of half the box.
        """
        rows = inputs.rows
        if "noise" not in rows:
            return rows["center"]
        low, high = box(self.value_range)
        width = high - low
        width = ops.min(width) if np.ndim(self.value_range[0]) else width
        reach = ops.minimum(rows["epsilon"], width / 10)
        point = self.ball.sample_sphere(rows["noise"], rows.get("mask"))
        x = rows["center"] + per_example(reach, point) / 2 * point
        return ops.clip(x, low, high)

    def step(self, inputs: Inputs, state: State) -> State:
        """See `Loop`: two projections, and where their mixture is."""
        rows, i = state.rows, state.shared["step"]
        center, nearest = inputs.rows["center"], rows["nearest"]
        x = self.move(inputs, rows["x"], 2 * i)
        held = inputs.rows.get("held")
        success = self.succeeds(inputs, self.logits(x, 2 * i + 1, held))
        distance = self.ball.norm(x - center)
        nearer = ops.logical_and(success, distance < nearest["distance"])
        nearest = select(nearer, {"x": x, "distance": distance}, nearest)
        back = center + self.shrink_back * (x - center)
        rows = {
            **rows,
            "x": ops.where(per_example(success, x), back, x),
            "nearest": nearest,
        }
        if self.early_stop:
            radius = ops.minimum(inputs.rows["epsilon"], 1e29)
            rows["active"] = nearest["distance"] > radius
        return State(rows=rows, shared={"step": i + 1})

    def move(self, inputs: Inputs, x: Tensor, draw: Tensor) -> Tensor:
        """Return the mixture of the steps from the point and the image."""
        center = inputs.rows["center"]
        boundary = self.boundary(inputs, x, draw)
        normal = _flat(boundary.gradient)
        offset = ops.sum(normal * _flat(x), axis=-1) - boundary.value

        def to_boundary(start: Tensor) -> Tensor:
            step = step_to_hyperplane(
                norm=self.ball.name,
                x=_flat(start),
                normal=normal,
                offset=offset,
                value_range=self._flat_range(),
            )
            return ops.reshape(step, ops.shape(x))

        step, from_image = to_boundary(x), to_boundary(center)
        length = ops.maximum(self.ball.norm(step), 1e-8)
        other = ops.maximum(self.ball.norm(from_image), 1e-8)
        weight = ops.minimum(length / (length + other), self.mix)
        weight = per_example(weight, x)
        x = (x + self.overshoot * step) * (1 - weight) + (
            center + self.overshoot * from_image
        ) * weight
        return ops.clip(x, *self.value_range)

    def boundary(self, inputs: Inputs, x: Tensor, draw: Tensor) -> Boundary:
        """Return the boundary to the target, or the nearest one."""
        y = inputs.rows["y"]
        if self.to_target:
            return self._boundary_to(inputs, inputs.rows["target"], x, draw)

        def boundary_to(other: int) -> Boundary:
            label = ops.zeros_like(y) + other
            found = self._boundary_to(inputs, label, x, draw)
            far = ops.where(ops.equal(label, y), 1e30, found.distance)
            return found._replace(distance=far)

        # One after the other, so that few gradients are held at once.
        others = range(self.num_classes)
        return functools.reduce(_nearer, map(boundary_to, others))

    def _boundary_to(
        self, inputs: Inputs, target: Tensor, x: Tensor, draw: Tensor
    ) -> Boundary:
        y, held = inputs.rows["y"], inputs.rows.get("held")
        (value, _), gradient = backend.value_and_gradient(
            lambda x: (difference(y, target, self.logits(x, draw, held)), 0.0),
            x,
        )
        if "mask" in inputs.rows:
            # What may not move brings no boundary nearer.
            gradient = gradient * inputs.rows["mask"]
        # The distance to a hyperplane divides by the dual norm of its normal.
        size = DUAL_NORMS[self.ball.name](gradient)
        distance = ops.abs(value) / ops.where(size > 0, size, 1e-12)
        return Boundary(value=value, gradient=gradient, distance=distance)

    def succeeds(self, inputs: Inputs, logits: Tensor) -> Tensor:
        """Return whether the goal is reached, bool `(N,)`."""
        if self.targeted:
            return is_predicted(inputs.rows["target"], logits)
        return ops.logical_not(is_predicted(inputs.rows["y"], logits))

    def finish(self, inputs: Inputs, state: State) -> dict[str, Tensor]:
        """See `Loop`: the nearest point found, where inside the radius."""
        return nearest_within(inputs, **state.rows["nearest"])

    def _flat_range(self) -> Any:
        """Return the box of flat examples."""
        if np.ndim(self.value_range[0]) == 0:
            return self.value_range
        return tuple(np.reshape(end, (1, -1)) for end in self.value_range)


def _nearer(first: Boundary, second: Boundary) -> Boundary:
    closer = second.distance < first.distance
    nearer: Boundary = select(closer, second, first)
    return nearer


def _flat(x: Tensor) -> Tensor:
    return ops.reshape(x, (ops.shape(x)[0], -1))
