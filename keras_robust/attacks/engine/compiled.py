"""A compiled loop: as a whole, or in pieces between which examples leave."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust import backend
from keras_robust.attacks.engine.batches import padding
from keras_robust.attacks.engine.hook_checks import check_state
from keras_robust.attacks.engine.hook_checks import rows_in
from keras_robust.attacks.engine.loop import Inputs
from keras_robust.attacks.engine.loop import Loop
from keras_robust.attacks.engine.loop import State
from keras_robust.attacks.engine.loop import Tensor

# Early stopping is checked after 1, 2, 4, ... steps, since most examples are
# broken in the first few, and at most this many steps apart.
MAX_STEPS_BETWEEN_CHECKS = 10
# A batch is made smaller once this share of it, or less, still moves.
WORTH_SHRINKING = 0.75
# Where each size is compiled, batches are not made smaller than this: the
# compilation would cost more than the rows.
MIN_SHRUNK_BATCH = 32
# Inputs that `init` alone reads.
_START = ("noise", "start")


class CompiledLoop:
    """A loop, compiled for a model.

    A short one is compiled as a whole; a long one as `init`, `advance` and
    `finish`, so that progress shows and examples that have stopped can leave.

    Args:
        loop: The loop.
        variables: Keras variables that its objective reads.
        jit_compile: `True`, `False` or `"auto"`, see `backend`.
        fixed: Whether the model takes one batch size only.
        on_host: Whether nothing is compiled, and steps are Python calls.
    """

    def __init__(
        self,
        loop: Loop,
        variables: Iterable[keras.Variable],
        jit_compile: bool | str,
        fixed: bool = False,
        on_host: bool = False,
    ) -> None:
        self.loop = loop
        self.fixed = fixed
        self.jit_compile = jit_compile
        self.on_host = on_host
        self.pads = not on_host and backend.needs_padding(jit_compile)
        # Pieces between checks have several lengths: compiling each as one
        # program would cost more than it gains.
        self._unrolls = loop.unrolls and not loop.early_stop
        if on_host:
            self._run: Callable[..., Any] = self._run_on_host
            self._init: Callable[..., Any] = loop.init
            self._advance: Callable[..., Any] = self._advance_on_host
            self._finish: Callable[..., Any] = loop.finish
            return
        options: dict[str, Any] = {
            "variables": variables,
            "jit_compile": jit_compile,
        }
        self._run = backend.compile(loop.run, takes_steps=True, **options)
        self._init = backend.compile(loop.init, **options)
        self._advance = backend.compile(
            loop.advance, takes_steps=True, **options
        )
        self._finish = backend.compile(loop.finish, **options)

    def __call__(
        self,
        inputs: Inputs,
        steps: int,
        report: Callable[[int], None] | None = None,
    ) -> dict[str, Tensor]:
        """Run the loop.

        Args:
            inputs: Tensors, see `Loop`.
            steps: Int >= 0.
            report: Called with the number of steps done after each piece.

        Returns:
            Dictionary with `x`, and where scored `loss` and `success`.
        """
        if len(self._pieces(steps)) == 1 and not self.loop.early_stop:
            # One call instead of three, which saves time on small models.
            result: dict[str, Tensor] = self._run(inputs, steps)
            if report is not None:
                report(steps)
            return result
        state = self._init(inputs)
        check_state(self.loop, state, rows_in(inputs))
        rows = {k: v for k, v in inputs.rows.items() if k not in _START}
        active = _ActiveRows(
            inputs._replace(rows=rows), pads=self.pads, fixed=self.fixed
        )
        done = 0
        for stretch in self._stretches(steps):
            for piece in self._pieces(stretch):
                state = self._advance(active.inputs, state, piece)
                if report is not None:
                    report(piece)
            done += stretch
            if self.loop.early_stop and done < steps:
                moving = ops.convert_to_numpy(state.rows["active"])
                if not moving.any():
                    break
                state = active.drop_finished(state, moving)
        return self._finish(active.all_inputs, active.all_rows(state))

    def _advance_on_host(
        self, inputs: Inputs, state: State, steps: int
    ) -> State:
        for _ in range(steps):
            if not bool(self.loop.is_running(state)):
                break
            state = self.loop.next_state(inputs, state)
        return state

    def _run_on_host(self, inputs: Inputs, steps: int) -> dict[str, Tensor]:
        state = self._advance_on_host(inputs, self.loop.init(inputs), steps)
        return self.loop.finish(inputs, state)

    def _pieces(self, steps: int) -> Sequence[int]:
        if self.on_host:
            return [1] * steps
        return backend.chunks(steps, self.jit_compile, self._unrolls)

    def _stretches(self, steps: int) -> Iterator[int]:
        """Yield the numbers of steps between checks of early stopping."""
        done = 0
        while done < steps:
            stretch = steps - done
            if self.loop.early_stop:
                stretch = min(max(done, 1), MAX_STEPS_BETWEEN_CHECKS, stretch)
            yield stretch
            done += stretch


class _ActiveRows:
    """The examples of a batch that still move, and the others' last state."""

    def __init__(self, inputs: Inputs, pads: bool, fixed: bool) -> None:
        self.all_inputs = self.inputs = inputs
        self.pads = pads
        self.fixed = fixed
        # Positions of the rows in the whole batch; `None` for all of it.
        self.index: np.ndarray | None = None
        self._last: Any = None

    def drop_finished(self, state: State, active: np.ndarray) -> State:
        """Return a state of fewer rows, or the same if it saves too little."""
        size, count = len(active), int(active.sum())
        if self.fixed or count > WORTH_SHRINKING * size:
            return state
        target = count
        if self.pads:
            # Each new size is compiled: halves only.
            target = count + padding(count, size, MIN_SHRUNK_BATCH)
            if target == size:
                return state
        self._remember(state)
        keep = np.flatnonzero(active)
        keep = np.concatenate([keep, keep[:1].repeat(target - count)])
        self.index = keep if self.index is None else self.index[keep]
        rows = take_rows(self.all_inputs.rows, self.index)
        self.inputs = self.all_inputs._replace(rows=rows)
        return State(rows=take_rows(state.rows, keep), shared=state.shared)

    def all_rows(self, state: State) -> State:
        """Return the last state of every example."""
        if self.index is None:
            return state
        self._remember(state)
        rows = keras.tree.map_structure(ops.convert_to_tensor, self._last)
        return State(rows=rows, shared=state.shared)

    def _remember(self, state: State) -> None:
        index = slice(None) if self.index is None else self.index

        def write(last: np.ndarray, value: Tensor) -> None:
            last[index] = ops.convert_to_numpy(value)

        if self._last is None:
            self._last = keras.tree.map_structure(
                lambda value: np.array(ops.convert_to_numpy(value)), state.rows
            )
        else:
            keras.tree.map_structure(write, self._last, state.rows)


def take_rows(tree: Any, index: np.ndarray) -> Any:
    """Return the given rows of every tensor of a nested structure."""
    return keras.tree.map_structure(
        lambda value: ops.convert_to_tensor(ops.convert_to_numpy(value)[index]),
        tree,
    )
