"""The last activation of a classifier, and the logits before it."""

from dataclasses import dataclass
from typing import Any

import keras
from keras import layers
from keras import ops

from keras_robust.classifier.graph import input_structure
from keras_robust.classifier.graph import output_of
from keras_robust.classifier.graph import producer
from keras_robust.classifier.graph import shows_graph

# Layers after an activation that change no value in inference.
_TRANSPARENT = (
    layers.Identity,
    layers.Dropout,
    layers.GaussianNoise,
    layers.GaussianDropout,
    layers.ActivityRegularization,
)
_SHAPING = (layers.Flatten, layers.Reshape)
_KINDS = ("softmax", "sigmoid", "linear", "log_softmax")
# From the largest number below 1 to 1.
_STEPS = {
    "float16": 2.0**-11,
    "bfloat16": 2.0**-8,
    "float32": 2.0**-24,
    "float64": 2.0**-53,
}


@dataclass(frozen=True)
class Head:
    """The end of a model.

    Attributes:
        kind: `"softmax"`, `"sigmoid"`, `"linear"` (logits), or `None` if the
            last activation cannot be found.
        body: The model up to the input of `finish`, or `None` if the
            activation cannot be removed.
        layer: The layer that reads the body's output, without its activation;
            or `None`.
        shaping: Layers after the activation that only change shapes.
    """

    kind: str | None
    body: keras.Model | None = None
    layer: Any = None
    shaping: tuple[keras.Layer, ...] = ()

    def finish(self, h: Any) -> Any:
        """The logits, given the body's output."""
        if self.layer is not None:
            h = self.layer(h)
        for layer in self.shaping:
            h = layer(h)
        return h


def find_head(model: Any, output: str | int | None = None) -> Head:
    """Find the last activation of a model.

    It is found in the last layer's `activation`, as a layer or an operation
    of its own, in nested models, in layers that were called several times, and
    before layers that change nothing, such as the linear layer that casts the
    output in mixed precision.

    Args:
        model: A Keras model.
        output: Which of several outputs; `None` for the first.

    Returns:
        `Head`.
    """
    if not shows_graph(model):
        return Head(None)
    try:
        return _find(model, output_of(model, output))
    except (AttributeError, ValueError, KeyError, IndexError):
        return Head(None)


def _find(model: keras.Model, tensor: keras.KerasTensor) -> Head:
    shaping: list[keras.Layer] = []
    while (node := producer(tensor)) is not None:
        operation, only = node.operation, node.only_input
        kind = _kind(operation, len(tensor.shape))
        if only is None or len(node.outputs) != 1:
            return Head(None)
        if isinstance(operation, keras.Model):
            inner = find_head(operation)
            return _head_of_nested(model, only, inner, shaping)
        if _only_activates(operation) and kind in ("softmax", "sigmoid"):
            body = keras.Model(input_structure(model), only)
            return Head(kind, body, None, tuple(reversed(shaping)))
        if type(operation) in _TRANSPARENT or (
            _only_activates(operation) and kind == "linear"
        ):
            tensor = only
            continue
        if type(operation) in _SHAPING:
            shaping.append(operation)
            tensor = only
            continue
        if kind in ("softmax", "sigmoid"):
            body = keras.Model(input_structure(model), only)
            twin = without_activation(operation)
            return Head(kind, body, twin, tuple(reversed(shaping)))
        return Head("linear" if kind in ("linear", "log_softmax") else None)
    return Head(None)


def _head_of_nested(
    model: keras.Model,
    tensor: keras.KerasTensor,
    inner: Head,
    shaping: list[keras.Layer],
) -> Head:
    """The head of a model that ends in a nested one, which reads `tensor`."""
    if inner.body is None:
        return Head(inner.kind)
    body = keras.Model(input_structure(model), inner.body(tensor))
    return Head(
        inner.kind, body, inner.layer, (*inner.shaping, *reversed(shaping))
    )


def _kind(operation: keras.Operation, rank: int) -> str | None:
    """The activation of an operation: a name of `_KINDS`, or `None`."""
    kind = type(operation)
    if not kind.__module__.startswith("keras."):
        return None
    # A softmax over an axis other than the classes.
    is_last = getattr(operation, "axis", -1) in (-1, rank - 1)
    if isinstance(operation, layers.Softmax):
        return "softmax" if is_last else None
    if not isinstance(operation, layers.Layer):
        known = {"Softmax": "softmax", "Sigmoid": "sigmoid", "Cast": "linear"}
        known["LogSoftmax"] = "log_softmax"
        return known.get(kind.__name__) if is_last else None
    activation = getattr(operation, "activation", None)
    name = getattr(activation, "__name__", None)
    is_keras = activation is getattr(keras.activations, name or "", None)
    return name if name in _KINDS and is_keras else None


def _only_activates(operation: keras.Operation) -> bool:
    """Whether an operation is only an activation or a cast."""
    return (
        not isinstance(operation, layers.Layer)
        or type(operation) is layers.Activation
        or type(operation) is layers.Softmax
    )


def without_activation(layer: Any) -> Any:
    """A copy of a layer that shares its variables but has no activation.

    The layer itself does not change, since other threads may be using it.

    Args:
        layer: One of Keras's own layers with an `activation`.
    """
    twin = object.__new__(type(layer))
    vars(twin).update(vars(layer))
    vars(twin)["activation"] = keras.activations.linear
    return twin


def precise_dtype(outputs: Any) -> str:
    """The dtype in which outputs are compared without rounding them.

    Args:
        outputs: A float tensor.

    Returns:
        `"float64"` for outputs in it, otherwise `"float32"`.
    """
    own = keras.backend.standardize_dtype(outputs.dtype)
    return "float64" if own == "float64" else "float32"


def as_logits(outputs: Any, takes_log: bool, dtype: str = "float32") -> Any:
    """Convert outputs to two or more logits per example.

    Args:
        outputs: Tensor `(N, C)`, logits or probabilities.
        takes_log: Whether they are probabilities.
        dtype: Of the logits.

    Returns:
        Tensor `(N, C)`, C >= 2: a single output `z` stands for `[0, z]`, a
        single probability `p` for `[log(1 - p), log p]`, where `1 - p` is at
        least half of the distance between 1 and the number before it.

    Raises:
        ValueError: If the shape is not `(N, C)`.
    """
    if not ops.is_tensor(outputs) or len(outputs.shape) != 2:
        raise ValueError(
            "A classifier must have one output of shape (N, C); with several, "
            "`output=` chooses one. "
            f"Received: output {getattr(outputs, 'shape', type(outputs))}"
        )
    step = _STEPS.get(keras.backend.standardize_dtype(outputs.dtype), 0.0)
    outputs = ops.cast(outputs, dtype)
    single = outputs.shape[-1] == 1
    if takes_log:
        tiny = 1e-37
        positive = ops.log(ops.maximum(outputs, tiny))
        if not single:
            return positive
        # A probability that was rounded to 1 is no certainty.
        negative = ops.log(ops.maximum(1 - outputs, max(step / 2, tiny)))
        return ops.concatenate([negative, positive], axis=-1)
    if single:
        return ops.concatenate([ops.zeros_like(outputs), outputs], axis=-1)
    return outputs
