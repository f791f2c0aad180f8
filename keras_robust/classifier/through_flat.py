"""Layers that pass gradients where they are flat."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from keras_robust import backend
from keras_robust.backend import Tensor
from keras_robust.classifier.graph_run import training_argument
from keras_robust.classifier.head import without_activation

# Layers that apply an activation to a weighted sum.
ACTIVATED = (
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)


@dataclass(frozen=True)
class ThroughFlat:
    """A layer with the identity's gradient added wherever its own is zero.

    Attributes:
        operation: A layer or operation that acts on each entry by itself, or a
            layer with an activation that does.
    """

    operation: Any

    def __call__(self, x: Tensor) -> Tensor:
        """What has that gradient; its values are not the layer's."""
        z = self.before(x)
        slope = slope_of(self.activation, z, 1.0)
        is_flat = ops.cast(ops.equal(slope, 0), z.dtype)
        y = self.activation(z)
        passed = ops.stop_gradient(is_flat) * z
        return ops.cast(y, passed.dtype) + passed

    def before(self, x: Tensor) -> Tensor:
        """What the activation reads."""
        if not isinstance(self.operation, ACTIVATED):
            return x
        return without_activation(self.operation)(x)

    def activation(self, z: Tensor) -> Tensor:
        """The activation."""
        if isinstance(self.operation, ACTIVATED):
            return self.operation.activation(z)
        if not isinstance(self.operation, keras.layers.Layer):
            return self.operation(z)
        return self.operation(z, **training_argument(self.operation, False))


def slope_of(
    function: Callable[[Tensor], Tensor], z: Tensor, weights: Any
) -> Tensor:
    """The gradient of a weighted sum of outputs, in float32."""
    axes = tuple(range(1, len(z.shape)))

    def total(z: Tensor) -> tuple[Tensor, float]:
        y = ops.cast(function(z), "float32")
        return ops.sum(weights * y, axis=axes), 0.0

    _, gradient = backend.value_and_gradient(total, ops.stop_gradient(z))
    return gradient
