"""A compiled loop: as a whole, or in pieces between which examples leave."""

from typing import Any

import numpy as np
from keras import ops

from keras_robust import backend
from keras_robust.attacks.batches import padding

# Steps between two looks at which examples have stopped: as many as before,
# since most fall in the first few, up to this.
STEPS_PER_LOOK = 10
# A batch is made smaller once this share of it, or less, still moves.
WORTH_SHRINKING = 0.75
# Where each size is compiled, batches are not made smaller than this: the
# compilation would cost more than the rows.
HANDFUL = 32


def rows_of(tree: Any, rows: Any) -> dict:
    """The rows of every array, of what is one per example."""
    return {
        key: value
        if key == "shared"
        else rows_of(value, rows)
        if isinstance(value, dict)
        else ops.convert_to_tensor(ops.convert_to_numpy(value)[rows])
        for key, value in tree.items()
    }


def _write_rows(target, rows, tree):
    for key, value in tree.items():
        if key == "shared":
            target[key] = value
        elif isinstance(value, dict):
            _write_rows(target.setdefault(key, {}), rows, value)
        else:
            value = ops.convert_to_numpy(value)
            if rows is None:
                target[key] = np.array(value)
            else:
                target[key][rows] = value


class _Moving:
    """The examples of a batch that still move, and the others' last state."""

    def __init__(self, inputs: Any, pads: bool, fixed: bool = False) -> None:
        self.inputs = self.moving_inputs = inputs
        self.pads = pads
        self.fixed = fixed
        self.rows = None
        self.last = {}

    def shrink(self, state: Any, active: Any) -> Any:
        """A state of fewer rows, or the same one where it does not pay."""
        size = len(active)
        count = int(active.sum())
        if self.fixed:
            return state
        if count > WORTH_SHRINKING * size:
            return state
        target = count
        if self.pads:
            # Each new size is compiled: halves only.
            target = count + padding(count, size, HANDFUL)
            if target == size:
                return state
        _write_rows(self.last, self.rows, state)
        keep = np.flatnonzero(active)
        keep = np.concatenate([keep, keep[:1].repeat(target - count)])
        self.rows = keep if self.rows is None else self.rows[keep]
        self.moving_inputs = rows_of(self.inputs, self.rows)
        return rows_of(state, keep)

    def whole(self, state: Any) -> Any:
        """The last state of every example."""
        if self.rows is None:
            return state
        _write_rows(self.last, self.rows, state)
        return _as_tensors(self.last)


def _as_tensors(tree):
    return {
        key: value
        if key == "shared"
        else _as_tensors(value)
        if isinstance(value, dict)
        else ops.convert_to_tensor(value)
        for key, value in tree.items()
    }


class CompiledLoop:
    """A loop (`GradientLoop` or alike), compiled.

    A short one is compiled as a whole; a long one as init, advance and finish,
    so that progress shows and examples that have stopped can leave.

    Args:
        loop: The loop: `init`, `advance`, `finish`, `early_stop`, `unrolls`.
            What its state and inputs hold is one row per example, but for
            what is under the key `"shared"`.
        variables: Keras variables that its objective reads.
        jit_compile: `True`, `False` or `"auto"`, see `backend`.
        fixed: Whether the model takes one batch size only.
    """

    def __init__(
        self,
        loop: Any,
        variables: Any,
        jit_compile: bool | str,
        fixed: bool = False,
    ) -> None:
        self.loop = loop
        self.fixed = fixed
        self.jit_compile = jit_compile
        self.pads = backend.needs_padding(jit_compile)
        # Looks are of several lengths: compiled one by one, each would cost.
        self._unrolls = loop.unrolls and not loop.early_stop
        options = {"variables": variables, "jit_compile": jit_compile}
        self._run = backend.compile(loop.run, takes_steps=True, **options)
        self._init = backend.compile(loop.init, **options)
        self._advance = backend.compile(
            loop.advance, takes_steps=True, **options
        )
        self._finish = backend.compile(loop.finish, **options)

    def __call__(self, inputs: Any, steps: int, report: Any = None) -> dict:
        """Runs the loop.

        Args:
            inputs: Dictionary of tensors, see `GradientLoop`.
            steps: Int >= 0.
            report: Called with the number of steps done after each piece.

        Returns:
            Dictionary with `x`, and where scored `loss` and `success`.
        """
        pieces = backend.chunks(steps, self.jit_compile, self._unrolls)
        if len(pieces) == 1 and not self.loop.early_stop:
            # One call instead of three, which a small model feels.
            result = self._run(inputs, steps)
            if report is not None:
                report(steps)
            return result
        state = self._init(inputs)
        begun = ("noise", "start")
        inputs = {k: v for k, v in inputs.items() if k not in begun}
        moving = _Moving(inputs, self.pads, self.fixed)
        done = 0
        for look in self._looks(steps):
            for piece in backend.chunks(look, self.jit_compile, self._unrolls):
                state = self._advance(moving.moving_inputs, state, piece)
                if report is not None:
                    report(piece)
            done += look
            if self.loop.early_stop and done < steps:
                active = ops.convert_to_numpy(state["active"])
                if not active.any():
                    break
                state = moving.shrink(state, active)
        return self._finish(inputs, moving.whole(state))

    def _looks(self, steps):
        """Steps up to each look at which examples have stopped."""
        done = 0
        while done < steps:
            look = steps - done
            if self.loop.early_stop:
                look = min(max(done, 1), STEPS_PER_LOOK, look)
            yield look
            done += look
