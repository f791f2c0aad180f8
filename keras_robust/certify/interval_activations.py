"""Bounds after the activations of layers."""

from typing import Any

import keras
from keras import layers

from keras_robust.certify.intervals import Interval
from keras_robust.certify.intervals import of_ends
from keras_robust.certify.intervals import of_rounded_ends
from keras_robust.certify.intervals import of_valley

_INCREASING = (
    "linear",
    "relu",
    "relu6",
    "leaky_relu",
    "elu",
    "selu",
    "celu",
    "sigmoid",
    "hard_sigmoid",
    "log_sigmoid",
    "tanh",
    "hard_tanh",
    "softplus",
    "softsign",
    "exponential",
)
# Those that fall to one minimum and rise from there, and where it is.
LOWEST = {
    "gelu": -0.7517915247,
    "silu": -1.2784645428,
    "mish": -1.1924312136,
    "hard_silu": -1.5,
    # What `keras.ops.gelu` computes by default.
    "approximate_gelu": -0.7524614221,
}


def activated(layer: Any, x: Interval) -> Interval:
    """Bounds after the activation of a layer; see `check_settings`."""
    function: Any = layer.activation
    if function is keras.activations.linear:
        return x
    if function is keras.activations.relu:
        return of_ends(function, x)
    for name, lowest in LOWEST.items():
        known: Any = getattr(keras.activations, name, None)
        if function is known:
            return of_valley(function, lowest, x)
    return of_rounded_ends(function, x)


def check_settings(layer: Any) -> None:
    """Check that the activation of a layer is known to increase.

    Or to fall to one minimum, and to increase from there.

    Raises:
        ValueError: If it is not.
    """
    function = getattr(layer, "activation", keras.activations.linear)
    wrong = []
    # Keras has no other activation that a setting makes decrease.
    if isinstance(layer, layers.ELU) and layer.alpha < 0:
        wrong.append(f"alpha={layer.alpha}")
    names = [*_INCREASING, *LOWEST]
    names = [name for name in names if hasattr(keras.activations, name)]
    known = [getattr(keras.activations, name) for name in names]
    # That of a `ResidualBlock` is a name, for one of two kinds of ReLU.
    if callable(function) and not any(function is one for one in known):
        wrong.append(f"activation {getattr(function, '__name__', function)!r}")
    if wrong:
        raise ValueError(
            "Interval bounds are known for activations that increase, or have "
            f"one minimum: {', '.join(names)}. Received: {', '.join(wrong)} in "
            f"layer {layer.name!r} of type {type(layer).__name__}"
        )
