"""Ends of classifiers, and how their outputs are read."""

from dataclasses import dataclass

import keras
import numpy as np
from keras import layers
from keras import ops

from .blocks import Block


class Probabilities(layers.Layer):
    """A head that no library knows."""

    def call(self, x):
        positive = ops.exp(x - ops.max(x, axis=-1, keepdims=True))
        return positive / ops.sum(positive, axis=-1, keepdims=True)


class Centered(layers.Layer):
    """Logits, from a layer that no library knows."""

    def call(self, x):
        return x - ops.mean(x, axis=-1, keepdims=True)


class OwnSoftmax(layers.Softmax):
    """A subclass that is something else."""

    def call(self, x, mask=None):
        return super().call(0.3 * x, mask=mask)


def softmax(x):
    """A function whose name is not all of it."""
    return ops.softmax(0.3 * x)


def sigmoid(x):
    return ops.sigmoid(0.3 * x)


@dataclass
class Head:
    """The end of a network.

    Args:
        parts: Function of the number of classes: a list of layers and blocks.
        reads: What comes out: `"logits"`, `"logit"` (a single one),
            `"probabilities"`, `"probability"` (a single one) or `"sigmoids"`.
        from_logits: What has to be told to the library.
        refused: Part of the error if the library must refuse it, or `None`.
        classes: `None`, or how many there must be.
    """

    parts: object
    reads: str
    from_logits: bool | None = None
    refused: str | None = None
    classes: int | None = None


def _dense(*after, **options):
    return lambda classes: [
        layers.Dense(classes, **options),
        *(make() for make in after),
    ]


def _single(*after, **options):
    return lambda classes: [
        layers.Dense(1, **options),
        *(make() for make in after),
    ]


def _op(name, function):
    return lambda: Block(name, [], function)


def _linear():
    return layers.Activation("linear", dtype="float32")


HEADS = {
    "logits": Head(_dense(dtype="float32"), "logits"),
    "logits of the policy": Head(_dense(), "logits"),
    "logits, cast": Head(_dense(_linear), "logits"),
    "logits, scaled": Head(_dense(lambda: layers.Rescaling(0.5)), "logits"),
    "logits without bias": Head(_dense(use_bias=False), "logits"),
    "logits by an unknown layer": Head(_dense(Centered), "logits"),
    "logits, batch norm": Head(_dense(layers.BatchNormalization), "logits"),
    "log-softmax": Head(_dense(activation="log_softmax"), "logits"),
    "softmax as activation": Head(
        _dense(activation="softmax"), "probabilities"
    ),
    "softmax as a function": Head(
        _dense(activation=keras.activations.softmax), "probabilities"
    ),
    "softmax, Activation": Head(
        _dense(lambda: layers.Activation("softmax")), "probabilities"
    ),
    "softmax as layer": Head(_dense(layers.Softmax), "probabilities"),
    "softmax as operation": Head(
        _dense(_op("ops.softmax", ops.softmax)), "probabilities"
    ),
    "softmax, cast": Head(
        _dense(_linear, activation="softmax"), "probabilities"
    ),
    "softmax layer, cast": Head(
        _dense(layers.Softmax, _linear), "probabilities"
    ),
    "softmax, identity, dropout": Head(
        _dense(
            layers.Identity,
            lambda: layers.Dropout(0.2),
            activation="softmax",
        ),
        "probabilities",
    ),
    "softmax, reshaped": Head(
        lambda classes: [
            layers.Dense(classes, activation="softmax"),
            layers.Reshape((classes,)),
        ],
        "probabilities",
    ),
    "softmax twice": Head(
        _dense(layers.Softmax, activation="softmax"), "probabilities"
    ),
    "softmax of own name": Head(
        _dense(activation=softmax), "probabilities", False
    ),
    "softmax of own class": Head(_dense(OwnSoftmax), "probabilities", False),
    "softmax layer as activation": Head(
        _dense(activation=layers.Softmax()), "probabilities", False
    ),
    "anonymous softmax": Head(
        _dense(activation=lambda x: ops.softmax(x)), "probabilities", False
    ),
    "softmax by hand": Head(
        _dense(
            _op("exp(z) / sum", lambda z: ops.exp(z)),
            _op("", lambda p: p / ops.sum(p, axis=-1, keepdims=True)),
        ),
        "probabilities",
        False,
    ),
    "unknown probabilities": Head(
        _dense(Probabilities), "probabilities", False
    ),
    "unknown probabilities, not told": Head(
        _dense(Probabilities), "probabilities", None, "from_logits"
    ),
    "sigmoid, one unit": Head(
        _single(activation="sigmoid"), "probability", classes=2
    ),
    "sigmoid layer, one unit": Head(
        _single(lambda: layers.Activation("sigmoid")), "probability", classes=2
    ),
    "sigmoid, one unit, cast": Head(
        _single(_linear, activation="sigmoid"), "probability", classes=2
    ),
    "sigmoid as operation": Head(
        _single(_op("ops.sigmoid", ops.sigmoid)), "probability", classes=2
    ),
    "sigmoid of own name": Head(
        _single(activation=sigmoid), "probability", False, classes=2
    ),
    "one logit": Head(_single(), "logit", True, classes=2),
    "sigmoid, many units": Head(_dense(activation="sigmoid"), "sigmoids"),
    "sigmoid, many units, cast": Head(
        _dense(_linear, activation="sigmoid"), "sigmoids"
    ),
    "one softmax unit": Head(
        _single(activation="softmax"),
        "probability",
        None,
        "softmax",
        classes=2,
    ),
}


def read(outputs, reads):
    """What `predict` gave, as float64 logits `(N, C)` and as float64 numbers.

    Args:
        outputs: NumPy array `(N, C)` or `(N, 1)`.
        reads: As in `Head`.

    Returns:
        Float64 array `(N, C)`.
    """
    z = np.asarray(outputs, "float64")
    if reads == "logits":
        return z
    if reads == "logit":
        return np.concatenate([np.zeros_like(z), z], axis=-1)
    tiny = 1e-37
    positive = np.log(np.maximum(z, tiny))
    if reads == "probabilities":
        return positive
    negative = np.log(np.maximum(1 - z, tiny))
    if reads == "probability":
        return np.concatenate([negative, positive], axis=-1)
    return positive - negative


def log_softmax(logits):
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
