"""Bounds on what layers give, for all inputs between two bounds.

Interval bound propagation, Gowal et al. 2018 (arXiv:1810.12715), section 3.
All bounds are widened by the rounding errors of float32, those of the bounds
and those of the model: with u = 2^-24, a sum of k products is off by at most
`k u / (1 - k u) * sum |w| |x|` in any order of summation (Higham 2002,
"Accuracy and Stability of Numerical Algorithms", section 3.1). That leaves out
hardware that rounds inputs to fewer digits, such as TensorFloat-32.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from typing import TypeAlias

import keras
import numpy as np
from keras import layers
from keras import ops

from keras_robust.classifier.rewriting import is_plain
from keras_robust.layers import FakeReLU
from keras_robust.layers import PadAndCrop
from keras_robust.layers import PatchWhitening
from keras_robust.layers import ResidualBlock

Tensor: TypeAlias = Any

# The unit roundoff of float32, and roundings beside those of a sum.
_ROUNDOFF = 2.0**-24
_MORE = 16


@dataclass(frozen=True, eq=False)
class Interval:
    """Tensors between two bounds.

    Attributes:
        lower: Float32 tensor `(N, ...)`.
        upper: Float32 tensor of the same shape.
        dense: The `Dense` layer that gave the bounds, without an activation,
            and the interval that it read; `None` for anything else. Differences
            of its outputs have tighter bounds than those of each output.
    """

    lower: Tensor
    upper: Tensor
    dense: "tuple[Any, Interval] | None" = None

    @property
    def magnitude(self) -> Tensor:
        """The largest absolute values."""
        return ops.maximum(ops.abs(self.lower), ops.abs(self.upper))

    def widened(self, error: Tensor) -> "Interval":
        """Bounds further apart by an error on each side."""
        return Interval(self.lower - error, self.upper + error)

    def center_and_radius(self) -> tuple[Tensor, Tensor]:
        """The middle, and the distance to the bounds, rounded up."""
        center = self.lower / 2 + self.upper / 2
        radius = ops.maximum(self.upper - center, center - self.lower)
        return center, radius * (1 + 4 * _ROUNDOFF)


# What a layer gives for intervals in its arguments.
Rule: TypeAlias = Callable[..., Interval]


def rounding_of_sum(terms: int) -> float:
    """The relative error of a sum of that many products in float32."""
    error = (terms + _MORE) * _ROUNDOFF
    return error / (1 - error)


def of_linear(
    x: Interval,
    linear: Callable[[Tensor, Tensor], Tensor],
    kernel: Tensor,
    bias: Tensor | None,
    terms: int,
) -> Interval:
    """Bounds of a linear map.

    Args:
        x: Its input.
        linear: `(x, kernel) -> outputs`, without the bias.
        kernel: Tensor.
        bias: Tensor that broadcasts to the outputs, or `None`.
        terms: Products that are summed for one output.
    """
    kernel = ops.cast(kernel, "float32")
    center, radius = x.center_and_radius()
    # Twice: once for the model's own sum, once for ours.
    error = 2 * rounding_of_sum(terms)
    reach = radius + error * (ops.abs(center) + radius)
    middle = linear(center, kernel)
    reach = linear(reach, ops.abs(kernel)) * (1 + error)
    if bias is not None:
        bias = ops.cast(bias, "float32")
        middle = middle + bias
        reach = reach + error * ops.abs(bias)
    reach = reach + 4 * _ROUNDOFF * (ops.abs(middle) + reach)
    return Interval(middle - reach, middle + reach)


def of_scaling(x: Interval, scale: Any, offset: Any, size: Any) -> Interval:
    """Bounds of `scale * x + offset`.

    Args:
        x: Its input.
        scale: Number or tensor that broadcasts to `x`.
        offset: The same.
        size: Sum of the absolute terms that the offset is computed from.
    """
    scale, offset, size = (
        ops.convert_to_tensor(part, "float32") for part in (scale, offset, size)
    )
    ends = scale * x.lower, scale * x.upper
    error = _MORE * _ROUNDOFF * (ops.abs(scale) * x.magnitude + size)
    return Interval(
        ops.minimum(ends[0], ends[1]) + offset,
        ops.maximum(ends[0], ends[1]) + offset,
    ).widened(error)


def of_ends(function: Callable[..., Tensor], *inputs: Interval) -> Interval:
    """Bounds of an exact function that increases in all its arguments."""
    return Interval(
        function(*(x.lower for x in inputs)),
        function(*(x.upper for x in inputs)),
    )


def of_rounded_ends(
    function: Callable[..., Tensor], *inputs: Interval
) -> Interval:
    """The same for a function that is computed with rounding errors."""
    found = of_ends(function, *inputs)
    return found.widened(_MORE * _ROUNDOFF * (1 + found.magnitude))


def of_differences(x: Interval, y: Tensor) -> Tensor:
    """Lower bounds of the logit of a label minus each logit.

    Where a `Dense` layer gave the logits, it is merged with the difference: the
    paper's "elision of the last layer".

    Args:
        x: Logits `(N, C)`.
        y: Int tensor `(N,)`, labels.

    Returns:
        Float32 tensor `(N, C)`, 0 at the label.
    """
    classes = x.lower.shape[-1]
    is_label = ops.one_hot(y, classes, dtype="float32")
    if x.dense is None:
        own = ops.sum(is_label * x.lower, -1, keepdims=True)
        least = own - x.upper - 2 * _ROUNDOFF * (ops.abs(own) + x.magnitude)
        return least * (1 - is_label)
    layer, before = x.dense
    kernel = ops.cast(layer.kernel, "float32")
    bias = ops.zeros((classes,)) if layer.bias is None else layer.bias
    bias = ops.cast(bias, "float32")
    center, radius = before.center_and_radius()
    error = 2 * rounding_of_sum(kernel.shape[0])
    size = ops.matmul(ops.abs(center) + radius, ops.abs(kernel)) + ops.abs(bias)
    size = size + ops.sum(is_label * size, -1, keepdims=True)
    logits = ops.matmul(center, kernel) + bias
    middle = ops.sum(is_label * logits, -1, keepdims=True) - logits
    own = ops.take(ops.transpose(kernel), y, axis=0)
    between = ops.abs(own[:, :, None] - kernel[None])
    reach = ops.einsum("nd,ndc->nc", radius, between)
    least = middle - reach - (error + 8 * _ROUNDOFF) * size
    return least * (1 - is_label)


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
    offset = ops.convert_to_tensor(layer.offset, "float32")
    return of_scaling(x, layer.scale, offset, ops.abs(offset))


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


def of_sum(*inputs: Interval) -> Interval:
    """Bounds of a sum."""
    found = of_ends(lambda *values: sum(values), *inputs)
    size: Any = sum(x.magnitude for x in inputs)
    return found.widened(2 * rounding_of_sum(len(inputs)) * size)


def difference(first: Interval, second: Interval) -> Interval:
    """Bounds of `first - second`."""
    found = Interval(first.lower - second.upper, first.upper - second.lower)
    return found.widened(2 * _ROUNDOFF * (first.magnitude + second.magnitude))


def activated(layer: Any, x: Interval) -> Interval:
    """Bounds after the activation of a layer; see `check_settings`."""
    if layer.activation is keras.activations.linear:
        return x
    if layer.activation is keras.activations.relu:
        return of_ends(layer.activation, x)
    return of_rounded_ends(layer.activation, x)


def check_settings(layer: Any) -> None:
    """Check that the activation of a layer is known to increase.

    Raises:
        ValueError: If it is not.
    """
    function = getattr(layer, "activation", keras.activations.linear)
    wrong = []
    # Keras has no other activation that a setting makes decrease.
    if isinstance(layer, layers.ELU) and layer.alpha < 0:
        wrong.append(f"alpha={layer.alpha}")
    known = [getattr(keras.activations, name, None) for name in _INCREASING]
    # That of a `ResidualBlock` is a name, for one of two kinds of ReLU.
    if callable(function) and not any(function is one for one in known):
        wrong.append(f"activation {getattr(function, '__name__', function)!r}")
    if wrong:
        raise ValueError(
            "Interval bounds are known for activations that increase: "
            f"{', '.join(_INCREASING)}. Received: {', '.join(wrong)} in layer "
            f"{layer.name!r} of type {type(layer).__name__}"
        )


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
    "Flatten",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "MaxPooling1D",
    "MaxPooling2D",
    "Permute",
    "RepeatVector",
    "Reshape",
    "UpSampling1D",
    "ZeroPadding1D",
    "ZeroPadding2D",
)
_NAMES_AVERAGE = (
    "AveragePooling1D",
    "AveragePooling2D",
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
)


def _named(names: tuple[str, ...], rule: Rule) -> dict[type, Rule]:
    return {getattr(layers, name): rule for name in names}


# Exact types: a subclass may compute something else.
RULES: dict[type, Rule] = {
    **_named(_NAMES_UNCHANGED, _unchanged),
    **_named(_NAMES_EXACT, _exact),
    **_named(_NAMES_AVERAGE, _average),
    **_named(("Add", "Average", "Concatenate", "Maximum", "Minimum"), _merged),
    **_named(("Conv1D", "Conv2D"), _convolution),
    PadAndCrop: _unchanged,
    FakeReLU: lambda layer, x: of_ends(ops.relu, x),
    PatchWhitening: _patch_whitening,
    ResidualBlock: _residual_block,
    layers.Activation: activated,
    layers.BatchNormalization: _batch_norm,
    layers.Dense: _dense,
    layers.DepthwiseConv2D: _depthwise_convolution,
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
