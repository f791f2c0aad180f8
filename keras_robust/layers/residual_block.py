"""The residual block of the CIFAR networks."""

from collections.abc import Callable
from typing import Any
from typing import TypeAlias

import keras
from keras import ops

from keras_robust.layers.fake_relu import FakeReLU

# Defaults of PyTorch's BatchNorm2d. With those of Keras (0.99, 1e-3), running
# averages go over ten times as many steps.
BATCH_NORM = {"momentum": 0.9, "epsilon": 1e-5}
EXPANSION = 4
Shape: TypeAlias = tuple[int | None, ...]
# `(convolution, norm, x) -> x`.
Unit: TypeAlias = Callable[[keras.Layer, keras.Layer, Any], Any]


def convolution(
    filters: int,
    kernel_size: Any,
    strides: int = 1,
    weight_decay: float = 0.0,
    **kwargs: Any,
) -> Any:
    """A convolution without bias, with the initialization of He et al.

    Args:
        filters: Int, output channels.
        kernel_size: Int.
        strides: Int.
        weight_decay: Float >= 0, see `l2_decay`.
        **kwargs: Arguments of `keras.layers.Conv2D`.

    Returns:
        `keras.layers.Conv2D`.
    """
    return keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        kernel_regularizer=l2_decay(weight_decay),
        **kwargs,
    )


def l2_decay(weight_decay: float) -> Any:
    """Weight decay as in PyTorch's SGD: its gradient is `weight_decay * w`.

    The gradient passes through momentum. The `weight_decay` of Keras optimizers
    does not, and is about ten times weaker at momentum 0.9.

    Args:
        weight_decay: Float >= 0.

    Returns:
        A `keras.regularizers.L2`; `None` for zero.
    """
    return keras.regularizers.L2(weight_decay / 2) if weight_decay else None


def batch_norm(weight_decay: float = 0.0, **kwargs: Any) -> Any:
    """BatchNorm with the constants of PyTorch.

    Args:
        weight_decay: Float >= 0, on scale and shift too, as in PyTorch.
        **kwargs: Arguments of `keras.layers.BatchNormalization`.

    Returns:
        `keras.layers.BatchNormalization`.
    """
    return keras.layers.BatchNormalization(
        **BATCH_NORM,
        gamma_regularizer=l2_decay(weight_decay),
        beta_regularizer=l2_decay(weight_decay),
        **kwargs,
    )


@keras.saving.register_keras_serializable("keras_robust")
class ResidualBlock(keras.layers.Layer):
    """Two 3x3 convolutions, or a 1-3-1 bottleneck, around a shortcut.

    He et al. 2016 (arXiv:1512.03385), Fig. 5: convolution, BatchNorm, ReLU,
    with the shortcut added before the last ReLU. Images are channels-last.

    Args:
        filters: Int, channels of the 3x3 convolutions.
        strides: Int, of the first 3x3 convolution.
        bottleneck: Whether it is the 1-3-1 block with `4 * filters` outputs.
        shortcut: Where the shape changes: `"pad"` takes every `strides`-th
            pixel and pads the channels with zeros (option A, no parameters);
            `"projection"` is a 1x1 convolution with BatchNorm (option B).
        activation: The last activation, `"relu"` or `"fake_relu"`.
        weight_decay: Float >= 0, on every weight, as L2 in the loss.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If `shortcut` or `activation` is unknown.
    """

    def __init__(
        self,
        filters: int,
        strides: int = 1,
        bottleneck: bool = False,
        shortcut: str = "pad",
        activation: str = "relu",
        weight_decay: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _check_choice("shortcut", shortcut, ("pad", "projection"))
        _check_choice("activation", activation, ("relu", "fake_relu"))
        self.filters = filters
        self.strides = strides
        self.bottleneck = bottleneck
        self.shortcut = shortcut
        self.activation = activation
        self.weight_decay = weight_decay

    def build(self, input_shape: Any) -> None:
        """Create the convolutions and, where needed, a projection.

        Args:
            input_shape: `(N, H, W, C)`.
        """
        kernels = [(3, self.strides), (3, 1)]
        if self.bottleneck:
            kernels = [(1, 1), (3, self.strides), (1, 1)]
        self.channels = self.filters * (EXPANSION if self.bottleneck else 1)
        self.branch: list[keras.Layer] = []
        shape = tuple(input_shape)
        for i, (size, strides) in enumerate(kernels):
            last = i == len(kernels) - 1
            filters = self.channels if last else self.filters
            shape = self._add(self.branch, shape, filters, size, strides)
        self.projection: list[keras.Layer] = []
        changes = self.strides != 1 or input_shape[-1] != self.channels
        self.changes = changes
        if changes and self.shortcut == "projection":
            self._add(
                self.projection, input_shape, self.channels, 1, self.strides
            )
        self.last_relu = (
            FakeReLU() if self.activation == "fake_relu" else ops.relu
        )
        self.built = True

    def _add(
        self,
        where: list[keras.Layer],
        shape: Shape,
        filters: int,
        size: int,
        strides: int,
    ) -> Shape:
        dtype = self.dtype_policy
        layer = convolution(
            filters, size, strides, self.weight_decay, dtype=dtype
        )
        norm = batch_norm(self.weight_decay, dtype=dtype)
        layer.build(shape)
        shape = layer.compute_output_shape(shape)
        norm.build(shape)
        where.extend([layer, norm])
        return shape

    def call(self, x: Any, training: Any = None) -> Any:
        """The block's output, `(N, H / strides, W / strides, channels)`."""
        return self.run(
            x, lambda layer, norm, h: norm(layer(h), training=training)
        )

    def run(self, x: Any, unit: Unit) -> Any:
        """Run the block, with `unit(convolution, norm, x)` for convolutions.

        Args:
            x: Tensor `(N, H, W, C)`.
            unit: Called for each convolution and the BatchNorm after it.

        Returns:
            Tensor.
        """
        h = x
        *first, last = _pairs(self.branch)
        for layer, norm in first:
            h = ops.relu(unit(layer, norm, h))
        layer, norm = last
        return self.last_relu(unit(layer, norm, h) + self.skip(x, unit))

    @property
    def pairs(self) -> list[tuple[keras.Layer, keras.Layer]]:
        """Each convolution with the BatchNorm after it."""
        return [*_pairs(self.branch), *_pairs(self.projection)]

    def skip(self, x: Any, unit: Unit) -> Any:
        """The shortcut: `x` itself, projected, or subsampled and padded.

        Args:
            x: Tensor `(N, H, W, C)`.
            unit: As in `run`.

        Returns:
            Tensor like the output of the branch.
        """
        if not self.changes:
            return x
        for layer, norm in _pairs(self.projection):
            return unit(layer, norm, x)
        x = x[:, :: self.strides, :: self.strides]
        more = self.channels - x.shape[-1]
        return ops.pad(
            x, [[0, 0], [0, 0], [0, 0], [more // 2, more - more // 2]]
        )

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """`(N, ceil(H / strides), ceil(W / strides), outputs)`."""
        outputs = self.filters * (EXPANSION if self.bottleneck else 1)
        sizes = [
            None if size is None else -(-size // self.strides)
            for size in input_shape[1:3]
        ]
        return (input_shape[0], *sizes, outputs)

    def get_config(self) -> dict[str, Any]:
        """Configuration of the layer."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "strides": self.strides,
            "bottleneck": self.bottleneck,
            "shortcut": self.shortcut,
            "activation": self.activation,
            "weight_decay": self.weight_decay,
        }


def _pairs(where: list[keras.Layer]) -> list[tuple[keras.Layer, keras.Layer]]:
    return list(zip(where[::2], where[1::2], strict=True))


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(
            f"Argument `{name}` must be one of {choices}. "
            f"Received: {name}={value!r}"
        )
