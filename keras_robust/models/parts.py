"""What the networks share, and views of finished ones."""

import keras

from keras_robust.layers import FakeReLU
from keras_robust.layers import ResidualBlock
from keras_robust.layers.residual_block import batch_norm
from keras_robust.layers.residual_block import convolution
from keras_robust.layers.residual_block import l2_decay

# Channel statistics of the CIFAR-10 training images. (`robustness` has
# standard deviations of .2023, .1994, .2010, known to be wrong.)
CIFAR_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR_STD = (0.2470, 0.2435, 0.2616)


def image_input(input_shape, mean, std):
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


def convolve(h, filters, weight_decay, strides=1):
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


def head(h, num_classes, weight_decay):
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


def logits(h, num_classes, weight_decay):
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


def representation_view(model, layer=None):
    """The model from its input to its representation.

    The representation is what the last `Dense` layer reads: the paper's
    penultimate layer, after pooling.

    Args:
        model: A built functional or sequential Keras model.
        layer: `None` to find it, or the name of a layer whose output it is.

    Returns:
        A functional Keras model that shares its layers with `model`.

    Raises:
        ValueError: If there is no such layer.
    """
    if not getattr(model, "inputs", None):
        raise ValueError(
            "The representation can be found in functional and sequential "
            f"models. Received: model={model!r} of {type(model).__name__}"
        )
    if layer is not None:
        names = [candidate.name for candidate in model.layers]
        if layer not in names:
            raise ValueError(
                f"Argument `layer` must be one of {names}. "
                f"Received: layer={layer!r}"
            )
        return keras.Model(model.inputs, model.get_layer(layer).output)
    for candidate in reversed(model.layers):
        if isinstance(candidate, keras.layers.Dense):
            return keras.Model(model.inputs, candidate.input)
        if isinstance(candidate, keras.Model):
            inner = representation_view(candidate)
            return keras.Model(model.inputs, inner(_input_of(model, candidate)))
    raise ValueError(
        "The model must have a Dense layer whose input is the representation; "
        "name another one by `layer=`. "
        f"Received: layers {[candidate.name for candidate in model.layers]}"
    )


def _input_of(model, inner):
    """What a model nested in a sequential model reads."""
    if not isinstance(model, keras.Sequential):
        raise ValueError(
            "The representation of a model nested in a functional model "
            "cannot be found; name a layer of the outer model by `layer=`. "
            f"Received: nested model {inner.name!r}"
        )
    h = model.inputs[0]
    for layer in model.layers:
        if layer is inner:
            break
        h = layer(h)
    return h


def fake_relu_copy(model):
    """A copy of the model whose last ReLU has the identity's gradient.

    Args:
        model: A built Keras model with a `ReLU` or `ResidualBlock` layer.

    Returns:
        A Keras model with the same outputs and its own copy of the weights.

    Raises:
        ValueError: If it has no such layer.
    """
    kinds = (keras.layers.ReLU, ResidualBlock)
    last = [layer for layer in model.layers if isinstance(layer, kinds)][-1:]
    if not last:
        raise ValueError(
            "The model must have a ReLU or ResidualBlock layer. "
            f"Received: layers {[layer.name for layer in model.layers]}"
        )

    def clone(layer):
        if layer is not last[0]:
            return layer.__class__.from_config(layer.get_config())
        if isinstance(layer, keras.layers.ReLU):
            return FakeReLU(name=layer.name)
        config = {**layer.get_config(), "activation": "fake_relu"}
        return ResidualBlock.from_config(config)

    copy = keras.models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy
