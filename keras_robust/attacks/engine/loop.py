"""Loops: what an attack does to a batch of examples, step by step."""

from abc import ABC
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import fields
from typing import Any
from typing import ClassVar
from typing import NamedTuple

import keras
from keras import ops

from keras_robust import backend
from keras_robust.attacks.balls import Box
from keras_robust.attacks.balls import per_example
from keras_robust.classifier import cached_weights

# Tensors and arrays of Keras's three backends have no common type.
Tensor = Any


class Inputs(NamedTuple):
    """What a loop reads and does not change.

    Attributes:
        rows: Tensors with one row per example, nested dictionaries allowed:
            `center` `(N, ...)`, the unperturbed inputs; `epsilon`, the radius,
            `(N,)` or like `center`; `y`, the labels; and what else the loop
            and its objective read.
        shared: Tensors that belong to the batch as a whole.
    """

    rows: dict[str, Any]
    shared: dict[str, Any] = {}


class State(NamedTuple):
    """What a loop carries from step to step.

    Attributes:
        rows: Tensors with one row per example, nested. With `early_stop`,
            `active` marks the examples that are still moving.
        shared: Scalars of the batch as a whole, such as `step`, the index of
            the next step.
    """

    rows: dict[str, Any]
    shared: dict[str, Any]


class Candidate(NamedTuple):
    """Points with their loss and success.

    Attributes:
        x: Points, `(N, ...)`.
        loss: Values of the objective, `(N,)`.
        success: Whether the goal is reached, bool `(N,)`.
    """

    x: Tensor
    loss: Tensor
    success: Tensor


@dataclass(frozen=True, kw_only=True)
class Loop(ABC):
    """Iterates `init`, `step`, ..., `finish` for a batch of examples.

    A loop holds settings only, no tensors. It is hashable, and two loops of
    one class with equal fields do the same, so that what is compiled for one
    serves the other.

    Attributes:
        value_range: `(low, high)`, the box that holds all points.
        early_stop: Whether an example stops at its first success; then
            `state.rows["active"]` marks those that are still moving.
    """

    # Whether a step is small enough to compile several as one.
    unrolls: ClassVar[bool] = False
    # Whether steps are NumPy code, which is not compiled.
    on_host: ClassVar[bool] = False

    value_range: Any
    early_stop: bool = False

    def __post_init__(self) -> None:
        # A tuple of arrays would not be hashable.
        object.__setattr__(self, "value_range", Box(self.value_range))

    @abstractmethod
    def init(self, inputs: Inputs) -> State:
        """Return the state before the first step."""

    @abstractmethod
    def step(self, inputs: Inputs, state: State) -> State:
        """Return the state after one more step."""

    @abstractmethod
    def finish(self, inputs: Inputs, state: State) -> dict[str, Tensor]:
        """Return `x` and, where they are computed, `loss` and `success`."""

    def with_scores(self) -> "Loop":
        """Return a loop whose result includes `loss` and `success`."""
        return self

    @contextmanager
    def cached_weights(self) -> Iterator[None]:
        """Fold weights once for all that the fields of a loop evaluate."""
        with ExitStack() as stack:
            for field in fields(self):
                value = getattr(self, field.name)
                stack.enter_context(cached_weights(value))
            yield

    def is_running(self, state: State) -> Tensor:
        """Return whether any example is still moving."""
        return ops.any(state.rows["active"]) if self.early_stop else True

    def next_state(self, inputs: Inputs, state: State) -> State:
        """Return the state after one more step of what is still moving.

        What has stopped stays as it was, however long the rest of its batch
        moves on. Loops of NumPy code do so themselves.
        """
        after = self.step(inputs, state)
        if not self.early_stop or self.on_host:
            return after
        rows = select(state.rows["active"], after.rows, state.rows)
        return State(rows=rows, shared=after.shared)

    def advance(self, inputs: Inputs, state: State, steps: int) -> State:
        """Make `steps` steps, or fewer where every example has stopped."""
        with self.cached_weights():
            state = backend.iterate(
                lambda state: self.next_state(inputs, state),
                self.is_running,
                state=state,
                steps=steps,
            )
        return State(rows=state.rows, shared=state.shared)

    def run(self, inputs: Inputs, steps: int) -> dict[str, Tensor]:
        """Make all steps, inside a compiled function or outside."""
        state = self.advance(inputs, self.init(inputs), steps)
        return self.finish(inputs, state)


def select(where: Tensor, first: Any, second: Any) -> Any:
    """Return per example the values of `first` where true, else of `second`.

    Args:
        where: Bool tensor of shape `(N,)`.
        first: Tensor of shape `(N, ...)`, or a nested structure of such.
        second: The same.
    """
    return keras.tree.map_structure(
        lambda one, other: ops.where(per_example(where, other), one, other),
        first,
        second,
    )


def keep_better(first: Candidate, second: Candidate) -> Candidate:
    """Return per example the candidate of larger (success, loss).

    Ties keep the first.
    """
    better = ops.where(
        ops.equal(first.success, second.success),
        second.loss > first.loss,
        second.success,
    )
    kept: Candidate = select(better, second, first)
    return kept


def zeros_per_example(x: Tensor) -> Tensor:
    """Return zeros of shape `(N,)` for `x` of shape `(N, ...)`."""
    return ops.zeros_like(x[(slice(None),) + (0,) * (len(x.shape) - 1)])


def nearest_within(
    inputs: Inputs, x: Tensor, distance: Tensor
) -> dict[str, Tensor]:
    """Return a loop's result: the nearest success, if inside the radius.

    Args:
        inputs: Inputs of the loop.
        x: Nearest adversarial examples, `(N, ...)`.
        distance: Their distances, `(N,)`, 1e30 where there is none.

    Returns:
        Dictionary with `x`, `loss` (minus the distance) and `success`.
    """
    rows = inputs.rows
    success = distance <= ops.minimum(rows["epsilon"], 1e29)
    x = ops.where(per_example(success, x), x, rows["center"])
    return {"x": x, "loss": -distance, "success": success}
