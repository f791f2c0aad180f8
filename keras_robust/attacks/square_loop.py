"""Square: random search over windows, by the model's outputs alone."""

from dataclasses import dataclass
from typing import Any
from typing import ClassVar

from keras import ops

from keras_robust.attacks.balls import l2_norm
from keras_robust.attacks.balls import nonzero
from keras_robust.attacks.balls import per_example
from keras_robust.attacks.loop import GradientLoop
from keras_robust.attacks.loop import keep_better
from keras_robust.attacks.loop import select


@dataclass(frozen=True, kw_only=True)
class SquareLoop(GradientLoop):
    """Random search (Andriushchenko et al. 2020, arXiv:1912.00049, alg. 1-3).

    `inputs["start"]` is the first proposal; `inputs["shared"]` holds the
    tables of `square_proposals`.

    A proposal of larger (success, value) of the objective is kept.
    """

    unrolls: ClassVar[bool] = False

    def init(self, inputs: Any) -> Any:
        """State after the first query."""
        x = ops.clip(inputs["start"], *self.value_range)
        here = self.ask(inputs, x, 0)
        state = {"best": here, "shared": {"i": ops.zeros((), "int32")}}
        if self.early_stop:
            state["active"] = ops.logical_not(here["success"])
        return state

    def ask(self, inputs: Any, x: Any, i: Any) -> dict:
        """One query: the point, its loss and success."""
        values, success = self.objective({**inputs, "draw": i}, x)
        return {"x": x, "loss": values, "success": success}

    def step(self, inputs: Any, state: Any) -> Any:
        """One proposal for every example, kept where it is better."""
        i, best = state["shared"]["i"], state["best"]
        shared = inputs["shared"]
        query = {
            key: ops.take(shared[key], i, axis=0)
            for key in ("windows", "signs", "turned")
        }
        propose = self._propose_l2 if self.ball.name == "l2" else self._propose
        delta = propose(inputs, query, best["x"] - inputs["center"])
        x = ops.clip(inputs["center"] + delta, *self.value_range)
        here = self.ask(inputs, x, i + 1)
        kept = keep_better(best, here)
        if self.early_stop:
            kept = select(state["active"], kept, best)
        best = kept
        state = {**state, "best": best, "shared": {"i": i + 1}}
        if self.early_stop:
            state["active"] = ops.logical_not(best["success"])
        return state

    def finish(self, inputs: Any, state: Any) -> dict:
        """The best point."""
        best = state["best"]
        return {**best, "x": self._tighten(inputs, best["x"])}

    def _propose(self, inputs, query, delta):
        """L-infinity: a window of `+-epsilon` in each channel."""
        window = _window(query["windows"], 2, delta.shape)[..., None]
        epsilon = per_example(inputs["epsilon"], delta)
        fill = epsilon * self._free(inputs, query["signs"] * window)
        # Twice, so that whatever was there ends on the other side.
        return ops.clip(delta + 2 * fill, -epsilon, epsilon)

    def _propose_l2(self, inputs, query, delta):
        """L2: a window takes over the norm of another one, and the rest."""
        size, channels = delta.shape, delta.shape[-1]
        first = _window(query["windows"], 2, size)[..., None]
        second = _window(query["windows"], 4, size)[..., None]
        epsilon = per_example(inputs["epsilon"], delta)
        pattern = _pattern(inputs["shared"]["patterns"], query, size)
        in_first = delta * first
        new = pattern[..., None] * query["signs"] + in_first / nonzero(
            _plane_norm(in_first)
        )
        new = self._free(inputs, new * first)
        either = delta * ops.maximum(first, second)
        unused = ops.square(epsilon) - ops.square(l2_norm(delta, keepdims=True))
        budget = ops.maximum(unused, 0.0) / channels + ops.square(
            l2_norm(either, keepdims=True)
        )
        new = new / nonzero(_plane_norm(new)) * ops.sqrt(budget)
        outside = (1 - first) * (1 - second)
        delta = delta * outside + new
        return epsilon * self.ball.unit(delta)

    @staticmethod
    def _free(inputs, fill):
        return fill * inputs["mask"] if "mask" in inputs else fill


def _plane_norm(delta):
    """L2 norms over the pixels of each channel."""
    return ops.sqrt(ops.sum(ops.square(delta), axis=(1, 2), keepdims=True))


def _window(query, at, shape):
    """1 inside the window, else 0: shape `(1, height, width)`."""
    side, row, column = query[1], query[at], query[at + 1]
    rows = ops.arange(shape[1], dtype="int32")[:, None] - row
    columns = ops.arange(shape[2], dtype="int32")[None] - column
    in_rows = ops.logical_and(rows >= 0, rows < side)
    in_columns = ops.logical_and(columns >= 0, columns < side)
    return ops.cast(ops.logical_and(in_rows, in_columns), "float32")[None]


def _pattern(patterns, query, shape):
    """The pattern of the query's level, moved to its first window."""
    level, row, column = (query["windows"][k] for k in (0, 2, 3))
    pattern = ops.take(patterns, level, axis=0)
    pattern = ops.where(query["turned"] > 0, _turn(pattern), pattern)
    rows = ops.clip(ops.arange(shape[1], dtype="int32") - row, 0, shape[1] - 1)
    columns = ops.clip(
        ops.arange(shape[2], dtype="int32") - column, 0, shape[2] - 1
    )
    moved = ops.take(ops.take(pattern, rows, axis=0), columns, axis=1)
    return moved[None]


def _turn(pattern):
    """Transposes the square in the corner of a rectangle."""
    height, width = pattern.shape
    side = min(height, width)
    corner = ops.transpose(pattern[:side, :side])
    return ops.pad(corner, [[0, height - side], [0, width - side]])
