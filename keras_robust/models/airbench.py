"""The whitened network of the CIFAR-10 speed records."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust.layers import Dirac
from keras_robust.layers import PatchWhitening
from keras_robust.layers.dirac import torch_uniform
from keras_robust.layers.patch_whitening import image_chunks
from keras_robust.layers.residual_block import l2_decay
from keras_robust.models.parts import CIFAR_MEAN
from keras_robust.models.parts import CIFAR_STD
from keras_robust.models.parts import image_input

# Keras's momentum is the share of the running averages that is kept, PyTorch's
# is the rest, 0.4. The paper's code has epsilon 1e-12: for a channel that is
# constant over a batch it multiplies rounding errors, and a folded kernel, by a
# million. 1e-5 is the value of the other networks, and negligible beside the
# variances of convolutions that start as identities.
_BATCH_NORM = {"momentum": 0.6, "epsilon": 1e-5, "scale": False}
_KERNEL_SIZE = 2
# The smallest image of which three poolings leave a pixel.
_SMALLEST = 9
_POOLINGS = {
    "max": keras.layers.MaxPooling2D,
    "average": keras.layers.AveragePooling2D,
}


def airbench(
    widths: tuple[int, int, int] = (64, 128, 128),
    num_classes: int = 10,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    whitening: bool = True,
    scale: float = 1 / 9,
    weight_decay: float = 1.3e-3,
    mean: Any = CIFAR_MEAN,
    std: Any = CIFAR_STD,
    pooling: str = "max",
    name: str = "airbench",
) -> keras.Model:
    """Six convolutions over whitened patches, after Jordan's airbench94.

    Jordan 2024 (arXiv:2404.00498): a frozen 2x2 convolution that whitens
    patches, then three groups of convolution, max pooling, BatchNorm, GELU,
    convolution, BatchNorm, GELU; max pooling over the rest (layer
    `"representation"`), logits without bias. BatchNorm has no scale, and
    convolutions start as partial identities (`layers.Dirac`).

    Widths (64, 256, 256) are the paper's network of 94 %, (128, 384, 384) that
    of 95 %; the default is half as wide, for CPUs, and has 568,728 trainable
    parameters.

    The whitening needs images: call `adapt_whitening(model, x_train)` before
    `fit`. The paper trains the bias of the whitening for three epochs only, and
    biases of BatchNorm at 64 times the learning rate.

    Args:
        widths: Channels of the three groups.
        num_classes: Int.
        input_shape: `(H, W, C)`, at least 9x9.
        whitening: Whether the first convolution is `layers.PatchWhitening`;
            otherwise it is a trained one of the same shape.
        scale: Float > 0, factor of the logits.
        weight_decay: Float >= 0, as L2 in the loss (torch's convention). The
            paper's code has 0.0153 / 11.5.
        mean: Channel means in units of the input, `None` for no
            normalization.
        std: Channel standard deviations.
        pooling: What the last pooling takes of its up to 3x3 pixels: `"max"`
            as in the paper, or `"average"`. Of a maximum the gradient knows one
            pixel, so that images can hardly be given a representation
            (`Robustifier`): of networks trained for three epochs 100 steps left
            14 % of the distance, with an average 3 %
            (`benchmarks/inversion_optimizers.py --poolings`).
        name: Name of the model.

    Returns:
        A functional `keras.Model` with logits `(N, num_classes)` and a layer
        `"representation"`.

    Raises:
        ValueError: If images are too small, there are not three `widths`, or
            `pooling` is not known.

    Example:

    ```python
    model = keras_robust.models.airbench()
    keras_robust.models.adapt_whitening(model, x_train)
    ```
    """
    if len(widths) != 3:
        raise ValueError(
            "Argument `widths` must be three integers. "
            f"Received: widths={widths}"
        )
    if min(input_shape[:2]) < _SMALLEST:
        raise ValueError(
            f"Argument `input_shape` must be at least {_SMALLEST}x{_SMALLEST}. "
            f"Received: input_shape={input_shape}"
        )
    if pooling not in _POOLINGS:
        raise ValueError(
            f"Argument `pooling` must be one of {tuple(_POOLINGS)}. "
            f"Received: pooling={pooling!r}"
        )
    inputs, h = image_input(input_shape, mean, std)
    h = _first(whitening, input_shape[-1], weight_decay)(h)
    h = keras.layers.Activation("gelu")(h)
    for width in widths:
        h = _group(h, width, weight_decay)
    # Three pixels are left of 32.
    last = _POOLINGS[pooling]
    h = last([min(3, size) for size in h.shape[1:3]])(h)
    outputs = _head(h, num_classes, scale, weight_decay)
    return keras.Model(inputs, outputs, name=name)


def adapt_whitening(model: keras.Model, images: Any) -> None:
    """Compute the whitening of a model from input images.

    `PatchWhitening.adapt` takes inputs of the layer; this runs images through
    the layers before it, such as the normalization. A model without
    `PatchWhitening` does not change.

    Args:
        model: A functional or sequential Keras model with one input.
        images: `(N, H, W, C)`, or an iterable of batches; the first 5,000 are
            used. See `PatchWhitening.adapt`.
    """
    whitening = [
        layer for layer in model.layers if isinstance(layer, PatchWhitening)
    ]
    # An iterator of batches can be read only once.
    chunks = list(image_chunks(images)) if whitening else []
    for layer in whitening:
        before = keras.Model(model.inputs, layer.input)
        layer.adapt(_outputs(before, chunk) for chunk in chunks)


def _outputs(model: keras.Model, images: np.ndarray) -> np.ndarray:
    x = ops.convert_to_tensor(images, dtype="float32")
    return ops.convert_to_numpy(model(x, training=False))


def _first(whitening: bool, channels: int, weight_decay: float) -> keras.Layer:
    """The first convolution; its shape is the same in both cases."""
    if whitening:
        return PatchWhitening(
            kernel_size=_KERNEL_SIZE,
            bias_regularizer=l2_decay(weight_decay),
            name="whitening",
        )
    return keras.layers.Conv2D(
        2 * _KERNEL_SIZE**2 * channels,
        _KERNEL_SIZE,
        kernel_initializer=Dirac(),
        kernel_regularizer=l2_decay(weight_decay),
        bias_regularizer=l2_decay(weight_decay),
        name="unwhitened",
    )


def _group(
    h: keras.KerasTensor, width: int, weight_decay: float
) -> keras.KerasTensor:
    """Convolution, max pooling, BatchNorm, GELU, and again without pooling."""
    for pools in (True, False):
        h = keras.layers.Conv2D(
            width,
            3,
            padding="same",
            use_bias=False,
            kernel_initializer=Dirac(),
            kernel_regularizer=l2_decay(weight_decay),
        )(h)
        if pools:
            h = keras.layers.MaxPooling2D()(h)
        h = keras.layers.BatchNormalization(
            **_BATCH_NORM, beta_regularizer=l2_decay(weight_decay)
        )(h)
        h = keras.layers.Activation("gelu")(h)
    return h


def _head(
    h: keras.KerasTensor, num_classes: int, scale: float, weight_decay: float
) -> keras.KerasTensor:
    """`scale` times a dense layer without bias, in float32."""
    # The factor comes before the dense layer, which is the same function with
    # the same gradients. So the last layer gives the logits and reads the
    # representation, as in the other networks.
    h = keras.layers.Rescaling(scale, dtype="float32")(h)
    h = keras.layers.Flatten(dtype="float32", name="representation")(h)
    return keras.layers.Dense(
        num_classes,
        use_bias=False,
        kernel_initializer=torch_uniform(),
        kernel_regularizer=l2_decay(weight_decay),
        dtype="float32",
        name="logits",
    )(h)
