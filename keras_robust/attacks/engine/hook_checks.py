"""What the hooks of an attack and its loop return, checked.

An attack of one's own is told what it returned, before NumPy broadcasts it.
"""

import dataclasses
import functools
from typing import Any

import keras
import numpy as np

from keras_robust.attacks.config import hidden_defaults
from keras_robust.attacks.engine.loop import Inputs
from keras_robust.attacks.engine.loop import Loop
from keras_robust.attacks.engine.loop import State
from keras_robust.attacks.engine.loop import Tensor
from keras_robust.utils.messages import describe
from keras_robust.utils.messages import shown

# What the search knows how to keep.
_RESULTS = ("x", "loss", "success")


def check_loop(attack: str, loop: Any) -> None:
    """Raise a ValueError where a loop cannot be compiled once for its fields.

    Args:
        attack: The name of the attack's class.
        loop: What its hook has returned.
    """
    if not isinstance(loop, Loop):
        raise ValueError(
            f"{attack}.loop must return a Loop. Received: {describe(loop)}"
        )
    kind = type(loop).__name__
    known = {field.name for field in dataclasses.fields(loop)}
    more = [
        name
        for name in getattr(loop, "__dict__", {})
        if name not in known and not _is_computed(type(loop), name)
    ]
    more += hidden_defaults(type(loop))
    if more:
        raise ValueError(
            f"Attributes of {kind} must be fields, by which compiled loops are "
            "told apart: decorate the class with @dataclass(frozen=True, "
            f"kw_only=True) and annotate them. Received: {', '.join(more)}"
        )
    try:
        hash(loop)
    except TypeError as error:
        fields = {name: getattr(loop, name) for name in sorted(known)}
        wrong = [name for name, value in fields.items() if not _hashes(value)]
        raise ValueError(
            f"Fields of {kind} must be hashable, for compiled loops are kept "
            "by them; arrays belong into the inputs. "
            f"Received: {', '.join(wrong) or error}"
        ) from None


def check_inputs(attack: str, inputs: Any, size: int) -> None:
    """Raise a ValueError where inputs are no rows of the batch's length.

    Args:
        attack: The name of the attack's class.
        inputs: What its hook has returned.
        size: The number of examples in the batch.
    """
    if not isinstance(inputs, Inputs):
        raise ValueError(
            f"{attack}.inputs must return Inputs(rows, shared). "
            f"Received: {describe(inputs)}"
        )
    for name, value in inputs.rows.items():
        for part in keras.tree.flatten(value):
            shape = np.shape(part) if _is_plain(part) else tuple(part.shape)
            if part is None or not shape or shape[0] != size:
                raise ValueError(
                    f"{attack}.inputs must return rows with one entry for each "
                    f"of the {size} examples of the batch; what belongs to all "
                    f"goes to `shared`. Received: {name}={shown(part)}"
                )


def check_state(loop: Loop, state: Any, size: int) -> None:
    """Raise a ValueError where a stopping loop has no rows of who moves.

    Args:
        loop: The loop.
        state: Its first state, of tensors.
        size: The number of examples in the batch.
    """
    kind = type(loop).__name__
    if not isinstance(state, State):
        raise ValueError(
            f"{kind}.init must return State(rows, shared). "
            f"Received: {describe(state)}"
        )
    if not loop.early_stop:
        return
    active = state.rows.get("active")
    if active is None or not _is_bool(active) or tuple(active.shape) != (size,):
        raise ValueError(
            f"With early_stop=True, `active` in the rows of {kind}'s state "
            f"must be bool of shape ({size},). Received: active="
            f"{shown(active)}"
        )
    for name, value in state.rows.items():
        for part in keras.tree.flatten(value):
            shape = tuple(getattr(part, "shape", ()))
            if shape[:1] != (size,):
                raise ValueError(
                    f"The rows of {kind}'s state must have one entry for each "
                    f"of the {size} examples of the batch; what belongs to all "
                    f"goes to `shared`. Received: {name}={shown(part)}"
                )


def check_result(
    loop: Loop, result: Any, shape: tuple[int, ...], compares: bool
) -> None:
    """Raise a ValueError where a loop's result cannot be kept.

    Args:
        loop: The loop.
        result: What its `finish` has returned.
        shape: `(n, ...)`, the shape of the inputs of the batch.
        compares: Whether losses and successes are needed.
    """
    kind = type(loop).__name__
    needed = _RESULTS if compares else ("x",)
    names = list(result) if isinstance(result, dict) else None
    if names is None or not set(needed) <= set(names) <= set(_RESULTS):
        why = ", by which runs are compared" if compares else ""
        only = " and" if compares else ", and perhaps"
        raise ValueError(
            f"{kind}.finish must return a dictionary of `x`{only} `loss` and "
            f"`success`{why}. "
            f"Received: {describe(result) if names is None else names}"
        )
    for name, value in result.items():
        expected = shape if name == "x" else shape[:1]
        if tuple(value.shape) != expected:
            raise ValueError(
                f"{kind}.finish must return `{name}` of shape {expected}. "
                f"Received: {name}.shape={tuple(value.shape)}"
            )
    if "success" in result and not _is_bool(result["success"]):
        raise ValueError(
            f"{kind}.finish must return `success` as bool. "
            f"Received: success={shown(result['success'])}"
        )


def check_values(name: str, values: Any, x: Tensor) -> Tensor:
    """Return values of points `x`, one for each.

    Args:
        name: What they are, for the error.
        values: What a function of the user's own has returned.
        x: Tensor `(N, ...)`.

    Raises:
        ValueError: If there is not one for each: the sum of others would have
            a gradient too.
    """
    shape = getattr(values, "shape", None)
    if shape is None or len(shape) != 1 or not _agree(shape[0], x.shape[0]):
        received = describe(values) if shape is None else tuple(shape)
        raise ValueError(
            f"The {name} must be one number for each example, of shape "
            f"({x.shape[0]},). Received: {received}"
        )
    return values


def check_objective(found: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return loss and success of points `x`.

    Args:
        found: What an objective has returned.
        x: Tensor `(N, ...)`.

    Raises:
        ValueError: If it is no pair of `(N,)`, the second of bools.
    """
    if not isinstance(found, tuple) or len(found) != 2:
        raise ValueError(
            "An objective must return a tuple of the value to increase and of "
            f"where the goal is reached. Received: {describe(found)}"
        )
    loss = check_values("value of an objective", found[0], x)
    success = check_values("success of an objective", found[1], x)
    if not _is_bool(success):
        raise ValueError(
            "The success of an objective must be of bools. "
            f"Received: dtype={keras.backend.standardize_dtype(success.dtype)}"
        )
    return loss, success


def rows_in(inputs: Inputs) -> int:
    """Return the number of rows of the inputs of a batch."""
    return int(keras.tree.flatten(inputs.rows)[0].shape[0])


def _is_computed(kind: type, name: str) -> bool:
    """Whether an attribute follows from the fields."""
    return isinstance(getattr(kind, name, None), functools.cached_property)


def _agree(first: int | None, second: int | None) -> bool:
    """Whether two lengths agree; in a trace they may not be known."""
    return first is None or second is None or first == second


def _hashes(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _is_plain(value: Any) -> bool:
    return not hasattr(value, "shape")


def _is_bool(value: Any) -> bool:
    return keras.backend.standardize_dtype(value.dtype) == "bool"
