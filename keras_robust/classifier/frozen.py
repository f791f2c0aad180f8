"""Frozen models: called in inference mode, without changing their state."""

import inspect
from collections.abc import Callable
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import keras
from keras import ops

# Random numbers that a layer can draw in one call before two draws overlap.
STRIDE = 16


def inner_model(model: Any) -> Any:
    """The model inside an `AdversarialModel`; other models unchanged."""
    return getattr(model, "attacked_model", model)


def check_built(model: Any) -> None:
    """Check that `model` is a built `keras.Model`.

    Args:
        model: Any object.

    Raises:
        ValueError: If it is not a Keras model or has no weights yet.
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
    """Names of required arguments after the first."""
    parameters = list(inspect.signature(call).parameters.values())[1:]
    return [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind
        not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and parameter.name not in ("training", "mask")
    ]


def frozen_scope(
    model: keras.Model,
    draw: Any = None,
    more: Sequence[keras.Variable] = (),
) -> Any:
    """A context in which no variable of the model changes.

    Args:
        model: A built Keras model.
        draw: `None`, or an int (tensor): which draw of its noise a randomized
            model makes. It is added to the counter of each
            `keras.random.SeedGenerator`, which calls do not advance here.
        more: Variables besides the model's own.
    """
    mapping = []
    for variable in (*model.variables, *more):
        value = variable.value
        if draw is not None and "seed_generator_state" in variable.name:
            step = ops.stack([0, STRIDE * ops.cast(draw, "int32")])
            value = value + ops.cast(step, variable.dtype)
        mapping.append((variable, value))
    return keras.StatelessScope(state_mapping=mapping, collect_losses=True)


def call_in_inference(model: keras.Model, inputs: Any) -> Any:
    """Call a model as its `predict` does.

    `training=False` is explicit, since a model called inside the `call` of
    another one inherits `training=True`. As in `predict`, it is left out where
    `call` does not take it: Keras's augmentation layers inside, whose default
    is `training=True`, are then active in `predict` too.
    """
    if "training" in inspect.signature(model.call).parameters:
        return model(inputs, training=False)
    return model(inputs)


def call_frozen(model: keras.Model, inputs: Any, draw: Any = None) -> Any:
    """Call a model in inference mode, with state updates discarded.

    The scope discards assignments to BatchNorm statistics and random seeds.

    Args:
        model: A built Keras model.
        inputs: Inputs of the model.
        draw: See `frozen_scope`.

    Returns:
        The output of the model.
    """
    with frozen_scope(model, draw):
        return call_in_inference(model, inputs)


def cached_weights(function: Any) -> Any:
    """A context in which folded weights are computed once for all calls.

    Args:
        function: An object with such a context, such as `FrozenModel`; for
            others the context does nothing.
    """
    return getattr(function, "cached_weights", nullcontext)()
