"""Bounds on what each kind of layer gives, for all inputs between two bounds.

See `intervals` for the arithmetic and its rounding errors.
"""

from collections.abc import Callable
from typing import Any
from typing import TypeAlias

import keras
import numpy as np
from keras import layers
from keras import ops

from keras_robust.certify.interval_activations import activated
from keras_robust.certify.intervals import Interval
from keras_robust.certify.intervals import Tensor
from keras_robust.certify.intervals import difference
from keras_robust.certify.intervals import of_ends
from keras_robust.certify.intervals import of_linear
from keras_robust.certify.intervals import of_rounded_ends
from keras_robust.certify.intervals import of_scaling
from keras_robust.certify.intervals import of_sum
from keras_robust.certify.intervals import rounding_of_sum
from keras_robust.classifier.rewriting import is_plain
from keras_robust.layers import FakeReLU
from keras_robust.layers import PadAndCrop
from keras_robust.layers import PatchWhitening
from keras_robust.layers import ResidualBlock

# What a layer gives for intervals in its arguments.
Rule: TypeAlias = Callable[..., Interval]


def _dense(layer: Any, x: Interval) -> Interval:
    found = of_linear(
        x, ops.matmul, layer.kernel, layer.bias, layer.kernel.shape[0]
    )
    if layer.activation is keras.activations.linear:
        return Interval(found.lower, found.upper, (layer, x))
    return activated(layer, found)


def _convolution(layer: Any, x: Interval) -> Interval:
    kernel, padding = layer.kernel, layer.padding
    if padding == "causal":
        width = layer.dilation_rate[0] * (layer.kernel_size[0] - 1)
        pads = [[0, 0], [width, 0], [0, 0]]
        if layer.data_format == "channels_first":
            pads = [[0, 0], [0, 0], [width, 0]]
        x = of_ends(lambda value: ops.pad(value, pads), x)
        padding = "valid"

    def convolve(x: Tensor, kernel: Tensor) -> Tensor:
        return ops.conv(
            x,
            kernel,
            strides=list(layer.strides),
            padding=padding,
            dilation_rate=layer.dilation_rate,
            data_format=layer.data_format,
        )

    terms = int(np.prod(kernel.shape[:-1]))
    bias = _channels(layer, layer.bias, len(x.lower.shape))
    return activated(layer, of_linear(x, convolve, kernel, bias, terms))


def _depthwise_convolution(layer: Any, x: Interval) -> Interval:
    def convolve(x: Tensor, kernel: Tensor) -> Tensor:
        return ops.depthwise_conv(
            x,
            kernel,
            strides=layer.strides,
            padding=layer.padding,
            dilation_rate=layer.dilation_rate,
            data_format=layer.data_format,
        )

    terms = int(np.prod(layer.kernel.shape[:-2]))
    bias = _channels(layer, layer.bias, len(x.lower.shape))
    found = of_linear(x, convolve, layer.kernel, bias, terms)
    return activated(layer, found)


def _separable_convolution(layer: Any, x: Interval) -> Interval:
    """One convolution for each channel, then one of size 1 over channels."""

    def each(x: Tensor, kernel: Tensor) -> Tensor:
        return ops.depthwise_conv(
            x,
            kernel,
            strides=layer.strides,
            padding=layer.padding,
            dilation_rate=layer.dilation_rate,
            data_format=layer.data_format,
        )

    def across(x: Tensor, kernel: Tensor) -> Tensor:
        return ops.conv(
            x, kernel, padding="valid", data_format=layer.data_format
        )

    terms = int(np.prod(layer.depthwise_kernel.shape[:-2]))
    h = of_linear(x, each, layer.depthwise_kernel, None, terms)
    terms = layer.pointwise_kernel.shape[-2]
    bias = _channels(layer, layer.bias, len(x.lower.shape))
    found = of_linear(h, across, layer.pointwise_kernel, bias, terms)
    return activated(layer, found)


def _channels(layer: Any, values: Any, rank: int) -> Any:
    """Values of channels in a shape that broadcasts to the outputs."""
    if values is None or layer.data_format == "channels_last":
        return values
    return ops.reshape(values, (1, -1) + (1,) * (rank - 2))


def _batch_norm(layer: Any, x: Interval) -> Interval:
    """Inference: a scale and an offset for each channel.

    That folding it into the layer before would give the same bounds: |s W| is
    |s| |W|.
    """
    rank = len(x.lower.shape)
    shape = [1] * rank
    shape[layer.axis] = -1

    def spread(values: Any) -> Tensor:
        return ops.reshape(ops.cast(values, "float32"), shape)

    scale = ops.rsqrt(spread(layer.moving_variance) + layer.epsilon)
    if layer.scale:
        scale = scale * spread(layer.gamma)
    shift = -spread(layer.moving_mean) * scale
    size = ops.abs(shift)
    if layer.center:
        shift = shift + spread(layer.beta)
        size = size + ops.abs(spread(layer.beta))
    return of_scaling(x, scale, shift, size)


def _rescaling(layer: Any, x: Interval) -> Interval:
    """By the layer itself, whose axis of channels is a setting of Keras."""
    ends = [ops.cast(layer.call(end), "float32") for end in (x.lower, x.upper)]
    found = Interval(
        ops.minimum(ends[0], ends[1]), ops.maximum(ends[0], ends[1])
    )
    # |scale x| <= |scale x + offset| + |offset|
    size = found.magnitude + 2 * float(np.abs(layer.offset).max())
    return found.widened(rounding_of_sum(2) * size)


def _normalization(layer: Any, x: Interval) -> Interval:
    mean, variance = (
        ops.convert_to_tensor(part, "float32")
        for part in (layer.mean, layer.variance)
    )
    tiny = keras.config.epsilon()
    scale = 1 / ops.maximum(ops.sqrt(variance), tiny)
    shift = -mean * scale
    if layer.invert:
        scale, shift = ops.maximum(ops.sqrt(variance), tiny), mean
    return of_scaling(x, scale, shift, ops.abs(shift))


def _exact(layer: Any, x: Interval) -> Interval:
    """A layer that selects, moves or pads, or takes a maximum."""
    return of_ends(layer.call, x)


def _average(layer: Any, x: Interval) -> Interval:
    """A mean; its rounding error is at most that of a sum of all inputs."""
    terms = int(np.prod(x.lower.shape[1:]))
    if hasattr(layer, "pool_size"):
        terms = int(np.prod(layer.pool_size))
    size = layer.call(x.magnitude)
    return of_ends(layer.call, x).widened(2 * rounding_of_sum(terms) * size)


def _unchanged(layer: Any, x: Interval) -> Interval:
    """A layer that changes nothing in inference."""
    del layer
    return x


def _relu(layer: Any, x: Interval) -> Interval:
    if layer.negative_slope:
        return of_rounded_ends(layer.call, x)
    return of_ends(layer.call, x)


def _smooth(layer: Any, x: Interval) -> Interval:
    """A layer that increases, and is computed with rounding errors."""
    return of_rounded_ends(layer.call, x)


def _patch_whitening(layer: Any, x: Interval) -> Interval:
    def convolve(x: Tensor, kernel: Tensor) -> Tensor:
        return ops.conv(x, kernel, padding="valid", data_format="channels_last")

    terms = int(np.prod(layer.kernel.shape[:-1]))
    return of_linear(x, convolve, layer.kernel, layer.bias, terms)


def _residual_block(block: Any, x: Interval) -> Interval:
    def unit(layer: Any, norm: Any, h: Interval) -> Interval:
        return _batch_norm(norm, _convolution(layer, h))

    h = x
    *first, last = zip(block.branch[::2], block.branch[1::2], strict=True)
    for layer, norm in first:
        h = of_ends(ops.relu, unit(layer, norm, h))
    h = unit(last[0], last[1], h)
    if block.projection:
        skip = block.skip(x, unit)
    else:
        skip = of_ends(lambda value: block.skip(value, unit), x)
    return of_ends(ops.relu, of_sum(h, skip))


def _merged(layer: Any, inputs: list[Interval]) -> Interval:
    """A sum, mean, maximum, minimum or concatenation: all increase."""
    found = of_ends(lambda *values: layer.call(list(values)), *inputs)
    if type(layer) not in (layers.Add, layers.Average):
        return found
    size: Any = sum(x.magnitude for x in inputs)
    return found.widened(2 * rounding_of_sum(len(inputs)) * size)


def _subtracted(layer: Any, inputs: list[Interval]) -> Interval:
    del layer
    first, second = inputs
    return difference(first, second)


_NAMES_UNCHANGED = (
    "ActivityRegularization",
    "AlphaDropout",
    "Dropout",
    "GaussianDropout",
    "GaussianNoise",
    "Identity",
    "RandomBrightness",
    "RandomContrast",
    "RandomFlip",
    "RandomRotation",
    "RandomTranslation",
    "RandomZoom",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
)
_NAMES_EXACT = (
    "Cropping1D",
    "Cropping2D",
    "Cropping3D",
    "Flatten",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "GlobalMaxPooling3D",
    "MaxPooling1D",
    "MaxPooling2D",
    "MaxPooling3D",
    "Permute",
    "RepeatVector",
    "Reshape",
    "UpSampling1D",
    "ZeroPadding1D",
    "ZeroPadding2D",
    "ZeroPadding3D",
)
_NAMES_AVERAGE = (
    "AveragePooling1D",
    "AveragePooling2D",
    "AveragePooling3D",
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
    "GlobalAveragePooling3D",
)


def _named(names: tuple[str, ...], rule: Rule) -> dict[type, Rule]:
    return {getattr(layers, name): rule for name in names}


# Exact types: a subclass may compute something else.
RULES: dict[type, Rule] = {
    **_named(_NAMES_UNCHANGED, _unchanged),
    **_named(_NAMES_EXACT, _exact),
    **_named(_NAMES_AVERAGE, _average),
    **_named(("Add", "Average", "Concatenate", "Maximum", "Minimum"), _merged),
    **_named(("Conv1D", "Conv2D", "Conv3D"), _convolution),
    **_named(("DepthwiseConv1D", "DepthwiseConv2D"), _depthwise_convolution),
    **_named(("SeparableConv1D", "SeparableConv2D"), _separable_convolution),
    PadAndCrop: _unchanged,
    FakeReLU: lambda layer, x: of_ends(ops.relu, x),
    PatchWhitening: _patch_whitening,
    ResidualBlock: _residual_block,
    layers.Activation: activated,
    layers.BatchNormalization: _batch_norm,
    layers.Dense: _dense,
    layers.ELU: _smooth,
    layers.LeakyReLU: _smooth,
    layers.Normalization: _normalization,
    layers.ReLU: _relu,
    layers.Rescaling: _rescaling,
    layers.Subtract: _subtracted,
}


def rule_of(operation: Any) -> Rule | None:
    """The rule of a layer; `None` for a layer without bounds."""
    dtype = getattr(operation, "compute_dtype", "float32")
    if dtype not in ("float32", "float64") or not is_plain(operation):
        return None
    return RULES.get(type(operation))
