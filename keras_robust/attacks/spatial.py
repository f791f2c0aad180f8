"""Rotations and translations, the worst of a grid."""

import math
from dataclasses import KW_ONLY
from dataclasses import dataclass
from typing import Any
from typing import ClassVar

import keras
import numpy as np
from keras import ops

from keras_robust.attacks.engine.gradient_loop import Objective
from keras_robust.attacks.engine.loop import Candidate
from keras_robust.attacks.engine.loop import Inputs
from keras_robust.attacks.engine.loop import Loop
from keras_robust.attacks.engine.loop import State
from keras_robust.attacks.engine.loop import Tensor
from keras_robust.attacks.engine.loop import keep_better
from keras_robust.attacks.engine.search import Batch
from keras_robust.attacks.engine.search import Run
from keras_robust.attacks.image_attack import ImageAttack
from keras_robust.attacks.image_attack import to_first
from keras_robust.attacks.objectives import LabelObjective
from keras_robust.attacks.objectives import get_loss
from keras_robust.attacks.problem import Problem
from keras_robust.utils import checks
from keras_robust.utils.messages import shown


@keras.saving.register_keras_serializable("keras_robust")
@dataclass(eq=False, repr=False)
class SpatialAttack(ImageAttack):
    """The worst rotation and translation of a grid.

    Engstrom et al. 2019 (arXiv:1712.02779), section 3.1: every angle with
    every shift, bilinear, black (the low end of `value_range`) outside.

    Args:
        rotation: Float >= 0, largest angle in degrees, either way.
        translation: Float >= 0, largest shift in pixels, either way.
        angles: Int >= 1, angles in the grid.
        shifts: Int >= 1, shifts in the grid along each axis.
        loss: As in `PGDAttack`.
        targeted: Whether `y` holds the labels to reach.
        value_range: `(low, high)`, the box that holds all inputs.
        early_stop: Whether an example stops at its first success, instead of
            going on to the largest loss of the grid.
        batch_size: Int >= 1, how many examples are attacked at once.
        from_logits: As in `PGDAttack`.
        jit_compile: As in `PGDAttack`.
        attacked: As in `PGDAttack`.
        output: As in `PGDAttack`.
        data_format: `"channels_last"`, `"channels_first"`, or `None` to find
            out from the shape of the images and the layers of the model.

    Example:

    ```python
    attack = keras_robust.SpatialAttack(rotation=30, translation=3)
    x_adv = attack(model, x, y)  # x of shape (N, H, W, C)
    ```
    """

    any_distance: ClassVar[bool] = True
    needs: ClassVar[str] = "labels"

    rotation: float = 30.0
    translation: float = 3.0
    angles: int = 31
    shifts: int = 5
    loss: Any = "cross_entropy"
    targeted: bool = False
    _: KW_ONLY
    early_stop: bool = False
    data_format: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.angles = checks.check_positive_integer(self.angles, "angles")
        self.shifts = checks.check_positive_integer(self.shifts, "shifts")
        self.rotation = checks.check_number(self.rotation, "rotation")
        self.translation = checks.check_number(self.translation, "translation")
        self.early_stop = bool(self.early_stop)
        get_loss(self.loss)

    def check(self, problem: Problem) -> None:
        """See `LoopAttack`: images only."""
        if np.ndim(self.value_range[0]):
            raise ValueError(
                "The spatial attack needs one value_range for all pixels. "
                f"Received: value_range={shown(self.value_range)}"
            )
        if len(problem.shape) != 4:
            raise ValueError(
                "The spatial attack needs images of shape (N, H, W, C) or "
                f"(N, C, H, W). Received: x.shape={problem.shape}"
            )

    def loop(self, problem: Problem, run: Run) -> "GridLoop":
        """See `LoopAttack`."""
        del run
        objective = LabelObjective(
            self.image_logits(problem), get_loss(self.loss), self.targeted
        )
        return GridLoop(
            objective=objective,
            value_range=self.value_range,
            early_stop=self.early_stop,
            channels_first=self.is_channels_first(problem),
        )

    def inputs(self, problem: Problem, run: Run, batch: Batch) -> Inputs:
        """See `LoopAttack`: the grid, as projective transformations."""
        rows = self.image_rows(problem, super().inputs(problem, run, batch))
        height, width = self.image_shape(problem)[:2]
        return Inputs(rows, shared={"grid": self.grid(height, width)})

    @property
    def loop_steps(self) -> int:
        """See `LoopAttack`."""
        return self.angles * self.shifts**2

    def grid(self, height: int, width: int) -> np.ndarray:
        """Maps from output to input pixels, the identity among the first.

        Args:
            height: Int.
            width: Int.

        Returns:
            Float32 array `(steps, 8)`, as `keras.ops.image.affine_transform`
            takes them.
        """
        angles = np.deg2rad(_symmetric(self.rotation, self.angles))
        shifts = _symmetric(self.translation, self.shifts)
        middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
        rows = []
        for angle in angles:
            cos, sin = math.cos(angle), math.sin(angle)
            # Around the middle of the image.
            x0 = middle_x - cos * middle_x + sin * middle_y
            y0 = middle_y - sin * middle_x - cos * middle_y
            rows += [
                [cos, -sin, x0 + right, sin, cos, y0 + down, 0, 0]
                for right in shifts
                for down in shifts
            ]
        return np.array(rows, "float32")


def _symmetric(most: float, count: int) -> np.ndarray:
    """`count` numbers from -most to most, the smallest first."""
    values = np.linspace(-most, most, count) if count > 1 else np.zeros(1)
    return values[np.argsort(abs(values), kind="stable")]


@dataclass(frozen=True, kw_only=True)
class GridLoop(Loop):
    """Tries one transformation of the grid per step and keeps the best.

    Attributes, besides those of `Loop`:
        objective: `(inputs, x) -> (loss, success)` of channels-last images.
        channels_first: Whether the result has its channels first.
    """

    objective: Objective
    channels_first: bool = False

    def init(self, inputs: Inputs) -> State:
        """See `Loop`: the image itself."""
        best = self.query(inputs, inputs.rows["center"], 0)
        return self._state(best, ops.zeros((), "int32"))

    def query(self, inputs: Inputs, x: Tensor, draw: Any) -> Candidate:
        """Return points with their loss and success."""
        loss, success = self.objective({**inputs.rows, "draw": draw}, x)
        return Candidate(x=x, loss=loss, success=success)

    def step(self, inputs: Inputs, state: State) -> State:
        """See `Loop`: the next transformation."""
        center, i = inputs.rows["center"], state.shared["step"]
        transform = ops.take(inputs.shared["grid"], i, axis=0)
        ones = ops.ones_like(inputs.rows["epsilon"])[:, None]
        # Shifted so that pixels from outside the image are the low end.
        low = self.value_range[0]
        x = low + ops.image.affine_transform(
            center - low, ones * transform, data_format="channels_last"
        )
        x = ops.clip(x, *self.value_range)
        here = self.query(inputs, x, i + 1)
        return self._state(keep_better(state.rows["best"], here), i + 1)

    def _state(self, best: Candidate, step: Tensor) -> State:
        rows: dict[str, Any] = {"best": best}
        if self.early_stop:
            rows["active"] = ops.logical_not(best.success)
        return State(rows=rows, shared={"step": step})

    def finish(self, inputs: Inputs, state: State) -> dict[str, Tensor]:
        """See `Loop`: the worst transformation."""
        best = state.rows["best"]
        x = to_first(best.x) if self.channels_first else best.x
        return best._replace(x=x)._asdict()
