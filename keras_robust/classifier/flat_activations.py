"""Activations that hide the gradient in flat places inside their range."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust.backend import Tensor
from keras_robust.classifier.backward import THROUGH_FLAT
from keras_robust.classifier.backward import Backward
from keras_robust.classifier.backward import Replacement
from keras_robust.classifier.backward import Selector
from keras_robust.classifier.backward import has_no_gradient
from keras_robust.classifier.frozen_model import FrozenModel
from keras_robust.classifier.graph import Node
from keras_robust.classifier.graph import inner_nodes
from keras_robust.classifier.graph import shows_graph
from keras_robust.classifier.through_flat import ACTIVATED
from keras_robust.classifier.through_flat import ThroughFlat
from keras_robust.classifier.through_flat import slope_of

# Examples on which activations are measured.
_EXAMPLES = 32
# A smaller share of flat places is not worth an attack.
_SHARE = 0.01


def find_flat_activations(
    classifier: Any, image: Any, held: Any
) -> Backward | None:
    """Activations that are flat inside the range of what they read.

    They are found by measuring layers of the graph, and activations inside
    layers, that are not Keras's own. A layer counts if it keeps the shape of
    its input, the derivative of an entry depends on no other entry, and it is
    exactly zero for a hundredth of the entries or more that lie between others
    of the same unit where it is not; or everywhere, though outputs differ. So a
    saturated end, such as a ReLU's negative half, does not count, wherever its
    threshold is.

    Args:
        classifier: A `Classifier`.
        image: Array `(N, ...)`, examples to measure on.
        held: The inputs that are not attacked.

    Returns:
        What passes gradients there, for `Classifier.of`; `None` if there are
        no such activations, or the graph is hidden.
    """
    model = classifier.model
    if not shows_graph(model):
        return None
    nodes = list(inner_nodes(model, classifier.output))
    measured = {
        id(node.operation): _Measured(ThroughFlat(node.operation))
        for node in nodes
        if _may_be_flat(node)
    }
    if not measured:
        return None
    _measure(classifier, list(measured.values()), image, held)
    pairs: list[tuple[Selector, Replacement]] = [
        (each.function.operation, THROUGH_FLAT)
        for each in measured.values()
        if each.is_flat
    ]
    return Backward(tuple(pairs)) if pairs else None


def _may_be_flat(node: Node) -> bool:
    """Whether a call is to be measured."""
    operation: Any = node.operation
    source, kind = node.only_input, type(operation)
    if source is None or len(node.outputs) != 1:
        return False
    if "float" not in keras.backend.standardize_dtype(source.dtype):
        return False
    keeps_shape = tuple(source.shape) == tuple(node.outputs[0].shape)
    activation = getattr(operation, "activation", None)
    if kind.__module__.startswith("keras."):
        own = getattr(keras.activations, getattr(activation, "__name__", ""), 0)
        if activation is not None and activation is not own:
            return keeps_shape or isinstance(operation, ACTIVATED)
        is_lambda = isinstance(operation, keras.layers.Lambda)
        return keeps_shape and (is_lambda or has_no_gradient(operation))
    return keeps_shape


class _Measured:
    """Stands for a layer in the backward pass, and measures what it reads."""

    def __init__(self, function: ThroughFlat) -> None:
        self.function = function
        self.is_flat = False

    def __call__(self, x: Tensor) -> Tensor:
        z = self.function.before(x)
        self.is_flat |= _is_flat_inside(self.function.activation, z)
        return z


def _measure(
    classifier: Any, measured: list[_Measured], image: Any, held: Any
) -> None:
    """Run a few examples through the model, once and without compilation."""
    pairs: list[tuple[Selector, Replacement]] = [
        (each.function.operation, each) for each in measured
    ]
    run = FrozenModel(
        classifier.model,
        classifier.inputs,
        classifier.output,
        classifier.integer_input,
        Backward(tuple(pairs)),
    )
    size = classifier.batch_size or min(_EXAMPLES, len(image))
    rows = np.arange(size) % len(image)
    x = ops.convert_to_tensor(np.asarray(image)[rows], "float32")
    others = {k: ops.convert_to_tensor(v[rows]) for k, v in held.items()}
    run(classifier.outputs.scale(x), 0, others)


def _is_flat_inside(function: Callable[[Tensor], Tensor], z: Tensor) -> bool:
    """Whether a function is local and flat inside the range of its inputs."""
    shape = tuple(z.shape)
    if len(shape) < 2:
        return False
    random = np.random.default_rng(0)
    signs = random.choice([-1.0, 1.0], shape).astype("float32")
    half = random.choice([0.0, 1.0], shape).astype("float32")
    slope, of_half, values = (
        ops.convert_to_numpy(ops.cast(found, "float32"))
        for found in (
            slope_of(function, z, ops.convert_to_tensor(signs)),
            slope_of(function, z, ops.convert_to_tensor(signs * half)),
            function(z),
        )
    )
    if values.shape != shape or of_half[half == 0].any():
        # One entry's output depends on another entry.
        return False
    inputs = ops.convert_to_numpy(ops.cast(z, "float32"))
    flat = slope == 0
    lowest = np.where(flat, np.inf, inputs).min(0)
    highest = np.where(flat, -np.inf, inputs).max(0)
    inside = flat & (lowest < inputs) & (inputs < highest)
    is_step = flat.all(0) & (values.max(0) > values.min(0))
    return bool((inside | is_step).mean() >= _SHARE)
