"""Frozen models with less to do: BatchNorm folded into what it follows."""

from dataclasses import dataclass
from typing import Any

import keras
from keras import layers
from keras import ops


def folded_weights(layer, norm):
    """Kernel and bias of `norm(layer(x))` in inference mode.

    With `s = gamma / sqrt(variance + epsilon)` they are `kernel * s` and
    `beta + (bias - mean) * s`: Jacob et al. 2018 (arXiv:1712.05877),
    section 3.2.

    Args:
        layer: A convolution or `Dense` layer without activation.
        norm: The `BatchNormalization` on its channels.

    Returns:
        `(kernel, bias)` in the layer's compute dtype.
    """
    scale = ops.rsqrt(norm.moving_variance + norm.epsilon)
    if norm.scale:
        scale = scale * norm.gamma
    bias = -norm.moving_mean * scale
    if layer.bias is not None:
        bias = bias + layer.bias * scale
    if norm.center:
        bias = bias + norm.beta
    dtype = layer.compute_dtype
    return ops.cast(layer.kernel * scale, dtype), ops.cast(bias, dtype)


def apply_folded(layer, norm, x, weights):
    """`norm(layer(x))` in inference mode, as one layer.

    Args:
        layer: As in `folded_weights`.
        norm: As in `folded_weights`.
        x: Tensor.
        weights: Dictionary of `folded_weights` by id of the layer; what is
            not in it is computed.

    Returns:
        Tensor like the output of `norm`.
    """
    known = weights.get(id(layer))
    kernel, bias = known or folded_weights(layer, norm)
    x = ops.cast(x, layer.compute_dtype)
    if isinstance(layer, layers.Dense):
        x = ops.matmul(x, kernel)
    else:
        x = layer.convolution_op(x, kernel)
        if layer.data_format == "channels_first":
            bias = ops.reshape(bias, (-1,) + (1,) * (len(x.shape) - 2))
    return ops.cast(x + bias, norm.compute_dtype)


@dataclass
class Step:
    """`(x, weights) -> y` on tensors of the graph, by id."""

    function: Any
    reads: Any
    writes: int
    # Tensors that nobody reads any more.
    frees: tuple = ()


class FoldedModel:
    """A functional model in inference mode, as a function of its input.

    The weights are those of the model's layers, read at every call. Keras's
    own layers are called without what surrounds a call, so that small models
    are not held up by it.

    Args:
        steps: List of `Step` in the order of the graph.
        source: Id of the input tensor.
        result: Id of the output tensor.
        pairs: Layers with the BatchNorm that is folded into them.
        pure: Whether nothing in it can change its state.
    """

    def __init__(self, steps, source, result, pairs, pure):
        self._steps = steps
        self._source = source
        self._result = result
        self.pairs = pairs
        self.pure = pure
        last = {}
        for step in steps:
            for name in keras.tree.flatten(step.reads):
                last[name] = step
        for name, step in last.items():
            if name != result:
                step.frees = (*step.frees, name)

    def __call__(self, x, weights=None):
        """The model's output.

        Args:
            x: Tensor `(N, ...)`.
            weights: What `weights()` gave, or `None`.
        """
        values = {self._source: x}
        for step in self._steps:
            inputs = keras.tree.map_structure(values.get, step.reads)
            values[step.writes] = step.function(inputs, weights or {})
            for name in step.frees:
                del values[name]
        return values[self._result]

    def weights(self):
        """Folded kernels and biases, for many calls with the same weights."""
        return {
            id(layer): folded_weights(layer, norm) for layer, norm in self.pairs
        }
