"""Square, the black-box attack."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust.attacks.attack import Problem
from keras_robust.attacks.balls import L2Ball
from keras_robust.attacks.batches import as_tensors
from keras_robust.attacks.layout import OnImages
from keras_robust.attacks.layout import check_data_format
from keras_robust.attacks.objectives import LabelObjective
from keras_robust.attacks.objectives import get_loss
from keras_robust.attacks.square_loop import SquareLoop
from keras_robust.attacks.square_proposals import checkerboard
from keras_robust.attacks.square_proposals import windows
from keras_robust.attacks.survivor_attack import SurvivorAttack


@keras.saving.register_keras_serializable("keras_robust")
class SquareAttack(OnImages, SurvivorAttack):
    """Square: random search that asks only for the model's outputs.

    Andriushchenko et al. 2020 (arXiv:1912.00049). It needs no gradients, so
    that it shows where those of a model mislead the other attacks.

    Args:
        norm: `"l2"` (or 2) or `"linf"` (or `numpy.inf`).
        epsilon: As in `PGDAttack`, a number or one per example; `None` for
            8/255 of the width of `value_range`.
        queries: Int >= 1, proposals after the start.
        loss: `"margin"`, or as in `PGDAttack`.
        share: Float in (0, 1], share of the pixels in the first window
            (0.8 in AutoAttack).
        edges: Whether a window may end in the last row and column, as in the
            paper's algorithm 2; the published code stops one short of them,
            and so is weaker (`False`, which AutoAttack takes, to compare with
            published numbers).
        restarts: Int >= 1, independent searches.
        targeted: Whether `y` holds the labels to reach.
        value_range: `(low, high)`, the box that holds all inputs.
        seed: As in `APGDAttack`.
        early_stop: Whether an example stops at its first success.
        mask: As in `PGDAttack`.
        batch_size: Int >= 1, how many examples are attacked at once.
        from_logits: As in `PGDAttack`.
        jit_compile: As in `PGDAttack`.
        attacked: As in `PGDAttack`.
        output: As in `PGDAttack`.
        data_format: `"channels_last"`, `"channels_first"`, or `None` to find
            out from the shape of the images and the layers of the model.

    Example:

    ```python
    attack = keras_robust.SquareAttack(norm="linf", epsilon=8 / 255)
    x_adv = attack(model, x, y)  # x of shape (N, H, W, C)
    ```
    """

    norms = ("l2", "linf")
    default_share = 8 / 255

    def __init__(
        self,
        norm: Any = "linf",
        epsilon: Any = None,
        queries: int = 5000,
        loss: Any = "margin",
        share: float = 0.8,
        edges: bool = True,
        restarts: int = 1,
        targeted: bool = False,
        value_range: Any = (0.0, 1.0),
        seed: int | None = None,
        early_stop: bool = True,
        mask: Any = None,
        batch_size: int = 128,
        from_logits: bool | None = None,
        jit_compile: bool | str = "auto",
        attacked: str | int | None = None,
        output: str | int | None = None,
        data_format: str | None = None,
    ) -> None:
        super().__init__(
            norm=norm,
            epsilon=epsilon,
            steps=queries,
            restarts=restarts,
            early_stop=early_stop,
            mask=mask,
            targeted=targeted,
            value_range=value_range,
            seed=seed,
            batch_size=batch_size,
            from_logits=from_logits,
            jit_compile=jit_compile,
            attacked=attacked,
            output=output,
        )
        if not 0 < share <= 1:
            raise ValueError(
                f"Argument `share` must be in (0, 1]. Received: share={share}"
            )
        get_loss(loss)
        self.queries = self.steps
        self.loss = loss
        self.share = share
        self.edges = bool(edges)
        self.data_format = check_data_format(data_format)

    def check(self, problem: Problem) -> None:
        """Images only."""
        shape = tuple(problem.x.shape)
        if len(shape) != 4 or min(self.image_shape(problem)[:2]) < 3:
            raise ValueError(
                "The Square attack needs images of shape (N, H, W, C) or "
                f"(N, C, H, W), H and W >= 3. Received: x.shape={shape}"
            )

    def goes(self, classes: int | None) -> list[tuple]:
        """One go per restart."""
        return [(restart,) for restart in range(self.restarts)]

    def extra(self, problem: Problem, go: Any, rows: Any, clean: Any) -> dict:
        """The tables of the go's proposals."""
        tables = windows(
            seed=self.seed,
            restart=go[0],
            queries=self.steps,
            share=self.share,
            shape=self.image_shape(problem),
            norm=self.norm,
            edges=self.edges,
        )
        return {"shared": tables}

    def begin(
        self, problem: Problem, go: Any, draws: Any, rows: Any, inputs: Any
    ) -> Any:
        """The first proposal: stripes or a checkerboard of random signs."""
        height, width, channels = self.image_shape(problem)
        draw = draws.for_rows(rows)
        if self.norm == "linf":
            # Vertical stripes, a sign for each column and channel.
            signs = _signs(draw.uniform((len(rows), 1, width, channels)))
            point = np.broadcast_to(signs, (len(rows), height, width, channels))
        else:
            pattern, tile = checkerboard(
                self.seed, go[0], (height, width, channels)
            )
            signs = _signs(draw.uniform((len(rows), tile.max() + 1, channels)))
            point = pattern[..., None] * signs[:, tile]
        if "mask" in inputs:
            point = point * ops.convert_to_numpy(inputs["mask"])
        if self.norm == "l2":
            point = ops.convert_to_numpy(
                L2Ball.unit(ops.convert_to_tensor(point))
            )
        epsilon = ops.convert_to_numpy(inputs["epsilon"])[:, None, None, None]
        start = ops.convert_to_numpy(inputs["center"]) + epsilon * point
        return as_tensors({"start": start})

    def loop(self, problem: Problem, go: Any) -> Any:
        """One loop for all goes."""
        objective = LabelObjective(
            self.image_logits(problem),
            get_loss(self.loss),
            self.targeted,
        )
        return SquareLoop(
            objective=objective,
            ball=self.ball,
            value_range=self.value_range,
            early_stop=self.early_stop,
        )


def _signs(uniform):
    return np.where(ops.convert_to_numpy(uniform) < 0.5, -1.0, 1.0).astype(
        "float32"
    )
