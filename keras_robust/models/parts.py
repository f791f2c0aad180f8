"""What the networks share, and a copy with a fake ReLU."""

from typing import Any

import keras

from keras_robust.classifier import inner_model
from keras_robust.classifier.graph import output_of
from keras_robust.classifier.graph import producer
from keras_robust.classifier.graph import shows_graph
from keras_robust.classifier.layer_search import inner_layers
from keras_robust.layers import FakeReLU
from keras_robust.layers import ResidualBlock
from keras_robust.layers import straight_through
from keras_robust.layers.residual_block import batch_norm
from keras_robust.layers.residual_block import convolution
from keras_robust.layers.residual_block import l2_decay

# Channel statistics of the CIFAR-10 training images. (`robustness` has
# standard deviations of .2023, .1994, .2010, known to be wrong.)
CIFAR_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR_STD = (0.2470, 0.2435, 0.2616)


def image_input(
    input_shape: tuple[int, ...], mean: Any, std: Any
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Input and pixel normalization inside the model.

    Args:
        input_shape: `(H, W, C)`.
        mean: Channel means in units of the input, or `None`.
        std: Channel standard deviations, or `None`.

    Returns:
        `(inputs, outputs)` as Keras tensors.
    """
    inputs = keras.Input(input_shape, name="image")
    if mean is None:
        return inputs, inputs
    normalization = keras.layers.Normalization(
        mean=list(mean), variance=[s**2 for s in std], name="normalization"
    )
    return inputs, normalization(inputs)


def convolve(
    h: keras.KerasTensor, filters: int, weight_decay: float, strides: int = 1
) -> keras.KerasTensor:
    """3x3 convolution, BatchNorm, ReLU.

    Args:
        h: Keras tensor of shape `(N, H, W, C)`.
        filters: Int, output channels.
        weight_decay: Float >= 0.
        strides: Int.

    Returns:
        Keras tensor.
    """
    h = convolution(filters, 3, strides, weight_decay)(h)
    h = batch_norm(weight_decay)(h)
    return keras.layers.ReLU()(h)


def head(
    h: keras.KerasTensor, num_classes: int, weight_decay: float
) -> keras.KerasTensor:
    """Global average pooling (`"representation"`), then the logits.

    Args:
        h: Keras tensor of shape `(N, H, W, C)`.
        num_classes: Int.
        weight_decay: Float >= 0.

    Returns:
        Keras tensor of shape `(N, num_classes)`, float32.
    """
    h = keras.layers.GlobalAveragePooling2D(name="representation")(h)
    return logits(h, num_classes, weight_decay)


def logits(
    h: keras.KerasTensor, num_classes: int, weight_decay: float
) -> keras.KerasTensor:
    """The last layer, in float32 under any dtype policy.

    Args:
        h: Keras tensor of shape `(N, D)`.
        num_classes: Int.
        weight_decay: Float >= 0.

    Returns:
        Keras tensor of shape `(N, num_classes)`.
    """
    return keras.layers.Dense(
        num_classes,
        kernel_regularizer=l2_decay(weight_decay),
        bias_regularizer=l2_decay(weight_decay),
        dtype="float32",
        name="logits",
    )(h)


def fake_relu_copy(model: Any, output: str | int | None = None) -> keras.Model:
    """A copy of the model whose last ReLU has the identity's gradient.

    The last one is the nearest to the output, which need not be the last in
    `model.layers`.

    Args:
        model: A built Keras model with a ReLU: a `ReLU` or `ResidualBlock`
            layer, or the activation of another layer.
        output: Name or position of the output, of a model with several.

    Returns:
        A Keras model with the same outputs and its own copy of the weights.

    Raises:
        ValueError: If the model has no such layer, or the last ReLU is an
            operation or inside a nested model.
    """
    model = inner_model(model)
    last = _last_relu(model, output)

    def clone(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        if layer is last and isinstance(layer, ResidualBlock):
            config = {**config, "activation": "fake_relu"}
        made: Any = layer.__class__.from_config(config)
        if layer is not last or isinstance(layer, ResidualBlock):
            return made
        if not isinstance(layer, keras.layers.ReLU):
            made.activation = straight_through(made.activation)
            return made
        name = layer.name
        if made.max_value is None and not (
            made.negative_slope or made.threshold
        ):
            return FakeReLU(name=name)
        return keras.layers.Activation(straight_through(made), name=name)

    copy = keras.models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy


def _last_relu(model: keras.Model, output: str | int | None) -> keras.Layer:
    waiting = [output_of(model, output)] if shows_graph(model) else []
    seen = set()
    while waiting:
        tensor = waiting.pop(0)
        node = None if id(tensor) in seen else producer(tensor)
        seen.add(id(tensor))
        if node is None:
            continue
        operation: Any = node.operation
        if _is_relu(operation):
            return operation
        if _hides_relu(operation):
            break
        waiting += node.inputs
    raise ValueError(
        "The model must have a ReLU layer, a layer with this activation or a "
        "ResidualBlock, and as its last ReLU none of a nested model or of "
        "`keras.ops`. "
        f"Received: layers {[layer.name for layer in model.layers]}"
    )


def _is_relu(layer: Any) -> bool:
    """Whether a layer is or ends in a ReLU that can be replaced."""
    known = (keras.activations.relu, keras.activations.relu6)
    return isinstance(layer, (keras.layers.ReLU, ResidualBlock)) or (
        isinstance(layer, keras.layers.Layer)
        and any(getattr(layer, "activation", None) is one for one in known)
    )


def _hides_relu(operation: Any) -> bool:
    """Whether an operation contains or is a ReLU that cannot be replaced."""
    if isinstance(operation, keras.Model):
        return any(_is_relu(layer) for layer in inner_layers(operation))
    name = type(operation).__name__
    return not isinstance(operation, keras.layers.Layer) and "Relu" in name
