"""Models as frozen functions: inference mode, nothing in them moves."""

import inspect
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import keras
from keras import ops

# Random numbers that one call of a layer may take before draws overlap.
STRIDE = 16


def inner_model(model: Any) -> Any:
    """The plain model inside an `AdversarialModel`; other models unchanged."""
    return getattr(model, "attacked_model", model)


def check_built(model: Any) -> None:
    """Checks that `model` is a built `keras.Model`.

    Args:
        model: Any object.

    Raises:
        ValueError: If it is no Keras model or has no weights yet.
    """
    if not isinstance(model, keras.Model):
        raise ValueError(
            "Argument `model` must be a keras.Model. "
            f"Received: an object of type {type(model).__name__}"
        )
    if not model.built:
        raise ValueError(
            "Argument `model` must be built: call it once on a batch, or give "
            f"it an Input. Received: unbuilt model {model.name!r}"
        )
    if "call" in vars(type(model)):
        needed = _needed(model.call)
        if needed:
            raise ValueError(
                "Argument `model` must be callable with its inputs alone. "
                f"Received: model {model.name!r} whose call needs {needed} too"
            )


def _needed(call: Callable[..., Any]) -> list[str]:
    """Names of arguments, behind the first, that a call must be given."""
    parameters = list(inspect.signature(call).parameters.values())[1:]
    return [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind
        not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and parameter.name not in ("training", "mask")
    ]


def frozen_scope(model: keras.Model, draw: Any = None) -> Any:
    """A context in which no variable of the model changes.

    Args:
        model: A built Keras model.
        draw: `None`, or an int (tensor) that is added to the counter of each
            `keras.random.SeedGenerator`: which draw of its noise a randomized
            model makes, since what it draws does not advance the counter.
    """
    mapping = []
    for variable in model.variables:
        value = variable.value
        if draw is not None and "seed_generator_state" in variable.name:
            step = ops.stack([0, STRIDE * ops.cast(draw, "int32")])
            value = value + ops.cast(step, variable.dtype)
        mapping.append((variable, value))
    return keras.StatelessScope(state_mapping=mapping, collect_losses=True)


def call_frozen(model: keras.Model, inputs: Any, draw: Any = None) -> Any:
    """`model(inputs)` in inference mode, with every state update thrown away.

    `training=False` is explicit, since a model called inside another one's
    `call` inherits `training=True`. The scope drops what is assigned to
    BatchNorm statistics and random seeds.

    Args:
        model: A built Keras model.
        inputs: What the model takes.
        draw: See `frozen_scope`.

    Returns:
        The output of the model.
    """
    with frozen_scope(model, draw):
        return model(inputs, training=False)


def prepared(function: Any) -> Any:
    """A context in which frozen functions share work between their calls.

    Args:
        function: A frozen function or something made of one; for others
            nothing happens.
    """
    return getattr(function, "prepared", nullcontext)()
