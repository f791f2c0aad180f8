"""Rotations and translations, the worst of a grid."""

import math
from dataclasses import dataclass
from typing import Any
from typing import ClassVar

import keras
import numpy as np
from keras import ops

from keras_robust.attacks import checks
from keras_robust.attacks.attack import Problem
from keras_robust.attacks.layout import OnImages
from keras_robust.attacks.layout import check_data_format
from keras_robust.attacks.loop import GradientLoop
from keras_robust.attacks.loop import keep_better
from keras_robust.attacks.objectives import LabelObjective
from keras_robust.attacks.objectives import get_loss
from keras_robust.attacks.survivor_attack import SurvivorAttack
from keras_robust.messages import shown


@keras.saving.register_keras_serializable("keras_robust")
class SpatialAttack(OnImages, SurvivorAttack):
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

    any_distance = True

    def __init__(
        self,
        rotation: float = 30.0,
        translation: float = 3.0,
        angles: int = 31,
        shifts: int = 5,
        loss: Any = "cross_entropy",
        targeted: bool = False,
        value_range: Any = (0.0, 1.0),
        early_stop: bool = False,
        batch_size: int = 128,
        from_logits: bool | None = None,
        jit_compile: bool | str = "auto",
        attacked: str | int | None = None,
        output: str | int | None = None,
        data_format: str | None = None,
    ) -> None:
        self.angles = checks.check_positive_integer(angles, "angles")
        self.shifts = checks.check_positive_integer(shifts, "shifts")
        super().__init__(
            norm="linf",
            epsilon=None,
            steps=angles * shifts**2,
            early_stop=early_stop,
            targeted=targeted,
            value_range=value_range,
            batch_size=batch_size,
            from_logits=from_logits,
            jit_compile=jit_compile,
            attacked=attacked,
            output=output,
        )
        self.data_format = check_data_format(data_format)
        self.rotation = checks.check_non_negative(rotation, "rotation")
        self.translation = checks.check_non_negative(translation, "translation")
        get_loss(loss)
        self.loss = loss

    def check(self, problem: Problem) -> None:
        """Images only."""
        if np.ndim(self.value_range[0]):
            raise ValueError(
                "The spatial attack needs one value_range for all pixels. "
                f"Received: value_range={shown(self.value_range)}"
            )
        if len(problem.x.shape) != 4:
            raise ValueError(
                "The spatial attack needs images of shape (N, H, W, C) or "
                "(N, C, H, W). "
                f"Received: x.shape={tuple(problem.x.shape)}"
            )

    def goes(self, classes: int | None) -> list[tuple]:
        """One go."""
        return [(0,)]

    def extra(self, problem: Problem, go: Any, rows: Any, clean: Any) -> dict:
        """The grid, as projective transformations."""
        height, width = self.image_shape(problem)[:2]
        return {"shared": {"grid": self.grid(height, width)}}

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

    def begin(
        self, problem: Problem, go: Any, draws: Any, rows: Any, inputs: Any
    ) -> dict:
        """The image itself."""
        return {}

    def loop(self, problem: Problem, go: Any) -> Any:
        """The only loop."""
        objective = LabelObjective(
            self.image_logits(problem),
            get_loss(self.loss),
            self.targeted,
        )
        return _GridLoop(
            objective=objective,
            ball=None,
            value_range=self.value_range,
            early_stop=self.early_stop,
            scored=True,
        )


def _symmetric(most, count):
    """`count` numbers from -most to most, the smallest first."""
    values = np.linspace(-most, most, count) if count > 1 else np.zeros(1)
    return values[np.argsort(abs(values), kind="stable")]


@dataclass(frozen=True, kw_only=True)
class _GridLoop(GradientLoop):
    """Tries one transformation of the grid per step, keeps the best."""

    unrolls: ClassVar[bool] = False

    def init(self, inputs: Any) -> Any:
        x = inputs["center"]
        values, success = self.objective({**inputs, "draw": 0}, x)
        state = {
            "best": {"x": x, "loss": values, "success": success},
            "shared": {"i": ops.zeros((), "int32")},
        }
        if self.early_stop:
            state["active"] = ops.logical_not(success)
        return state

    def step(self, inputs: Any, state: Any) -> Any:
        center, i = inputs["center"], state["shared"]["i"]
        transform = ops.take(inputs["shared"]["grid"], i, axis=0)
        ones = ops.ones_like(inputs["epsilon"])[:, None]
        # Shifted so that what comes in from outside is the low end.
        low = self.value_range[0]
        x = low + ops.image.affine_transform(
            center - low, ones * transform, data_format="channels_last"
        )
        x = ops.clip(x, *self.value_range)
        values, success = self.objective({**inputs, "draw": i + 1}, x)
        here = {"x": x, "loss": values, "success": success}
        best = keep_better(state["best"], here)
        state = {**state, "best": best, "shared": {"i": i + 1}}
        if self.early_stop:
            state["active"] = ops.logical_not(best["success"])
        return state

    def finish(self, inputs: Any, state: Any) -> Any:
        return state["best"]
