"""Intervals of tensors, and the arithmetic of their bounds.

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

from keras import ops

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


def of_valley(
    function: Callable[[Tensor], Tensor], lowest: float, x: Interval
) -> Interval:
    """Bounds of a function that falls up to a point and rises from there.

    Args:
        function: `x -> values`, computed with rounding errors.
        lowest: Where it is lowest.
        x: Its input.
    """
    ends = function(x.lower), function(x.upper)
    found = Interval(
        # The point of the interval that is nearest to the lowest one.
        function(ops.minimum(ops.maximum(x.lower, lowest), x.upper)),
        ops.maximum(ends[0], ends[1]),
    )
    # They are products of the input and of a factor of at most 1, such as
    # GELU's (1 + erf) / 2, which is rounded beside 1: kernels for different
    # processors give values of GELU at -4 that differ by a hundredth.
    size = 1 + found.magnitude + x.magnitude
    return found.widened(_MORE * _ROUNDOFF * size)


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


def of_sum(*inputs: Interval) -> Interval:
    """Bounds of a sum."""
    found = of_ends(lambda *values: sum(values), *inputs)
    size: Any = sum(x.magnitude for x in inputs)
    return found.widened(2 * rounding_of_sum(len(inputs)) * size)


def difference(first: Interval, second: Interval) -> Interval:
    """Bounds of `first - second`."""
    found = Interval(first.lower - second.upper, first.upper - second.lower)
    return found.widened(2 * _ROUNDOFF * (first.magnitude + second.magnitude))
