"""Square, the black-box attack."""

from dataclasses import KW_ONLY
from dataclasses import dataclass
from typing import Any
from typing import ClassVar

import keras
import numpy as np
from keras import ops

from keras_robust.attacks.balls import L2Ball
from keras_robust.attacks.balls import l2_norm
from keras_robust.attacks.balls import nonzero
from keras_robust.attacks.balls import per_example
from keras_robust.attacks.engine.gradient_loop import Objective
from keras_robust.attacks.engine.gradient_loop import ProjectedLoop
from keras_robust.attacks.engine.loop import Candidate
from keras_robust.attacks.engine.loop import Inputs
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
from keras_robust.attacks.square_proposals import checkerboard
from keras_robust.attacks.square_proposals import windows
from keras_robust.utils import checks


@keras.saving.register_keras_serializable("keras_robust")
@dataclass(eq=False, repr=False)
class SquareAttack(ImageAttack):
    """Square: random search that needs only the model's outputs.

    Andriushchenko et al. 2020 (arXiv:1912.00049). It needs no gradients, so
    that it shows where those of a model mislead the other attacks.

    Args:
        norm: `"l2"` (or 2) or `"linf"` (or `numpy.inf`).
        epsilon: As in `PGDAttack`, a number or one per example; `None` for
            8/255 of the width of `value_range`.
        queries: Int >= 1, proposals after the start; as many again for
            integers whose first success rounding undoes.
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

    norms: ClassVar[tuple[str, ...]] = ("l2", "linf")
    default_share: ClassVar[float] = 8 / 255
    needs: ClassVar[str] = "scores"

    norm: Any = "linf"
    epsilon: Any = None
    queries: int = 5000
    loss: Any = "margin"
    _: KW_ONLY
    share: float = 0.8
    edges: bool = True
    restarts: int = 1
    targeted: bool = False
    seed: int | None = None
    early_stop: bool = True
    mask: Any = None
    data_format: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.queries = checks.check_positive_integer(self.queries, "queries")
        if not 0 < self.share <= 1:
            raise ValueError(
                "Argument `share` must be in (0, 1]. "
                f"Received: share={self.share}"
            )
        get_loss(self.loss)
        self.early_stop = bool(self.early_stop)
        self.edges = bool(self.edges)

    def check(self, problem: Problem) -> None:
        """See `LoopAttack`: images only."""
        shape = problem.shape
        if len(shape) != 4 or min(self.image_shape(problem)[:2]) < 3:
            raise ValueError(
                "The Square attack needs images of shape (N, H, W, C) or "
                f"(N, C, H, W), H and W >= 3. Received: x.shape={shape}"
            )

    def loop(self, problem: Problem, run: Run) -> "SquareLoop":
        """See `LoopAttack`: the same loop in every run."""
        del run
        objective = LabelObjective(
            self.image_logits(problem), get_loss(self.loss), self.targeted
        )
        return SquareLoop(
            objective=objective,
            ball=self.ball,
            value_range=self.value_range,
            early_stop=self.early_stop,
            channels_first=self.is_channels_first(problem),
        )

    def inputs(self, problem: Problem, run: Run, batch: Batch) -> Inputs:
        """See `LoopAttack`: the first proposal, tables of the others."""
        rows = self.image_rows(problem, super().inputs(problem, run, batch))
        epsilon = rows["epsilon"][:, None, None, None]
        point = self._first_point(problem, run, batch, rows.get("mask"))
        rows["start"] = rows["center"] + epsilon * point
        tables = windows(
            seed=self.seed,
            restart=run.restart,
            queries=self.queries,
            share=self.share,
            shape=self.image_shape(problem),
            norm=self.norm,
            edges=self.edges,
        )
        return Inputs(rows, shared=tables)

    def _first_point(
        self, problem: Problem, run: Run, batch: Batch, mask: Any
    ) -> np.ndarray:
        """Return stripes or a checkerboard of random signs, of norm 1."""
        height, width, channels = self.image_shape(problem)
        size = len(batch.rows)
        if self.norm == "linf":
            # Vertical stripes, a sign for each column and channel.
            signs = _signs(batch.draws.uniform((size, 1, width, channels)))
            point = np.broadcast_to(signs, (size, height, width, channels))
            return point if mask is None else point * mask
        pattern, tile = checkerboard(
            self.seed, run.restart, (height, width, channels)
        )
        signs = _signs(batch.draws.uniform((size, tile.max() + 1, channels)))
        point = pattern[..., None] * signs[:, tile]
        point = point if mask is None else point * mask
        unit = L2Ball.unit(ops.convert_to_tensor(point.astype("float32")))
        return np.asarray(ops.convert_to_numpy(unit))

    @property
    def loop_steps(self) -> int:
        """See `LoopAttack`."""
        return self.queries


def _signs(uniform: Tensor) -> np.ndarray:
    return np.where(ops.convert_to_numpy(uniform) < 0.5, -1.0, 1.0).astype(
        "float32"
    )


@dataclass(frozen=True, kw_only=True)
class SquareLoop(ProjectedLoop):
    """Random search (Andriushchenko et al. 2020, arXiv:1912.00049, alg. 1-3).

    `start` of the inputs is the first proposal; their `shared` holds the
    tables of `square_proposals`. A proposal of larger (success, loss) is
    kept.

    Attributes, besides those of `ProjectedLoop`:
        objective: `(inputs, x) -> (loss, success)` of channels-last images.
        channels_first: Whether the result has its channels first.
    """

    objective: Objective
    channels_first: bool = False

    def init(self, inputs: Inputs) -> State:
        """See `Loop`: the first query."""
        x = ops.clip(inputs.rows["start"], *self.value_range)
        best = self.query(inputs, x, 0)
        rows: dict[str, Any] = {"best": best}
        if self.early_stop:
            rows["active"] = ops.logical_not(best.success)
        return State(rows=rows, shared={"step": ops.zeros((), "int32")})

    def query(self, inputs: Inputs, x: Tensor, draw: Any) -> Candidate:
        """Return points with their loss and success."""
        loss, success = self.objective({**inputs.rows, "draw": draw}, x)
        return Candidate(x=x, loss=loss, success=success)

    def step(self, inputs: Inputs, state: State) -> State:
        """See `Loop`: one proposal per example, kept where it is better."""
        i, best = state.shared["step"], state.rows["best"]
        center, shared = inputs.rows["center"], inputs.shared
        proposal = {
            key: ops.take(shared[key], i, axis=0)
            for key in ("windows", "signs", "turned")
        }
        propose = self._propose_l2 if self.ball.name == "l2" else self._propose
        delta = propose(inputs, proposal, best.x - center)
        x = ops.clip(center + delta, *self.value_range)
        kept = keep_better(best, self.query(inputs, x, i + 1))
        rows: dict[str, Any] = {"best": kept}
        if self.early_stop:
            rows["active"] = ops.logical_not(kept.success)
        return State(rows=rows, shared={"step": i + 1})

    def finish(self, inputs: Inputs, state: State) -> dict[str, Tensor]:
        """See `Loop`: the best point."""
        best = state.rows["best"]
        x = self.project_exactly(inputs, best.x)
        x = to_first(x) if self.channels_first else x
        return best._replace(x=x)._asdict()

    def _propose(
        self, inputs: Inputs, proposal: dict[str, Tensor], delta: Tensor
    ) -> Tensor:
        """L-infinity: a window of `+-epsilon` in each channel."""
        window = _window(proposal["windows"], 2, delta.shape)[..., None]
        epsilon = per_example(inputs.rows["epsilon"], delta)
        fill = epsilon * _masked(inputs, proposal["signs"] * window)
        # Twice, so that whatever was there ends on the other side.
        return ops.clip(delta + 2 * fill, -epsilon, epsilon)

    def _propose_l2(
        self, inputs: Inputs, proposal: dict[str, Tensor], delta: Tensor
    ) -> Tensor:
        """L2: a window takes over the norm of another one, and the rest."""
        size, channels = delta.shape, delta.shape[-1]
        first = _window(proposal["windows"], 2, size)[..., None]
        second = _window(proposal["windows"], 4, size)[..., None]
        epsilon = per_example(inputs.rows["epsilon"], delta)
        pattern = _pattern(inputs.shared["patterns"], proposal, size)
        in_first = delta * first
        new = pattern[..., None] * proposal["signs"] + in_first / nonzero(
            _plane_norm(in_first)
        )
        new = _masked(inputs, new * first)
        either = delta * ops.maximum(first, second)
        unused = ops.square(epsilon) - ops.square(l2_norm(delta, keepdims=True))
        budget = ops.maximum(unused, 0.0) / channels + ops.square(
            l2_norm(either, keepdims=True)
        )
        new = new / nonzero(_plane_norm(new)) * ops.sqrt(budget)
        outside = (1 - first) * (1 - second)
        delta = delta * outside + new
        return epsilon * self.ball.unit(delta)


def _masked(inputs: Inputs, delta: Tensor) -> Tensor:
    mask = inputs.rows.get("mask")
    return delta if mask is None else delta * mask


def _plane_norm(delta: Tensor) -> Tensor:
    """L2 norms over the pixels of each channel."""
    return ops.sqrt(ops.sum(ops.square(delta), axis=(1, 2), keepdims=True))


def _window(table: Tensor, at: int, shape: tuple[int, ...]) -> Tensor:
    """1 inside the window, else 0: shape `(1, height, width)`."""
    side, row, column = table[1], table[at], table[at + 1]
    rows = ops.arange(shape[1], dtype="int32")[:, None] - row
    columns = ops.arange(shape[2], dtype="int32")[None] - column
    in_rows = ops.logical_and(rows >= 0, rows < side)
    in_columns = ops.logical_and(columns >= 0, columns < side)
    return ops.cast(ops.logical_and(in_rows, in_columns), "float32")[None]


def _pattern(
    patterns: Tensor, proposal: dict[str, Tensor], shape: tuple[int, ...]
) -> Tensor:
    """The pattern of the proposal's level, moved to its first window."""
    level, row, column = (proposal["windows"][k] for k in (0, 2, 3))
    pattern = ops.take(patterns, level, axis=0)
    pattern = ops.where(proposal["turned"] > 0, _transpose(pattern), pattern)
    rows = ops.clip(ops.arange(shape[1], dtype="int32") - row, 0, shape[1] - 1)
    columns = ops.clip(
        ops.arange(shape[2], dtype="int32") - column, 0, shape[2] - 1
    )
    moved = ops.take(ops.take(pattern, rows, axis=0), columns, axis=1)
    return moved[None]


def _transpose(pattern: Tensor) -> Tensor:
    """Transpose the square in the corner of a rectangle."""
    height, width = pattern.shape
    side = min(height, width)
    corner = ops.transpose(pattern[:side, :side])
    return ops.pad(corner, [[0, height - side], [0, width - side]])
