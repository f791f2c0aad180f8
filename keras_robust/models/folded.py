"""Frozen models with less to do: BatchNorm folded into what it follows."""

import keras
from keras import ops

from keras_robust.layers import ResidualBlock

_FOLDING = (
    *(keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D),
    keras.layers.Dense,
)


def fold(layer, norm, x):
    """`norm(layer(x))` in inference mode, as one convolution.

    With `s = gamma / sqrt(variance + epsilon)` it is the convolution by
    `kernel * s`, plus `beta + (bias - mean) * s`: Jacob et al. 2018
    (arXiv:1712.05877), section 3.2. The layers' weights are read at the call.

    Args:
        layer: A convolution or `Dense` layer without activation.
        norm: The `BatchNormalization` on its channels.
        x: Tensor.

    Returns:
        Tensor like the output of `norm`.
    """
    scale = ops.rsqrt(norm.moving_variance + norm.epsilon)
    if norm.scale:
        scale = scale * norm.gamma
    shift = -norm.moving_mean * scale
    if layer.bias is not None:
        shift = shift + layer.bias * scale
    if norm.center:
        shift = shift + norm.beta
    dtype = layer.compute_dtype
    x = ops.cast(x, dtype)
    kernel = ops.cast(layer.kernel * scale, dtype)
    if isinstance(layer, keras.layers.Dense):
        x = ops.matmul(x, kernel)
    else:
        x = layer.convolution_op(x, kernel)
        if layer.data_format == "channels_first":
            shift = ops.reshape(shift, (-1,) + (1,) * (len(x.shape) - 2))
    return ops.cast(x + ops.cast(shift, dtype), norm.compute_dtype)


class _Stand(keras.layers.Layer):
    """Calls a function in the place of a layer, whose weights it uses."""

    def __init__(self, function, **kwargs):
        # The inputs are cast by whoever is called.
        super().__init__(autocast=False, **kwargs)
        self._function = function

    def call(self, *args, **kwargs):
        return self._function(*args, **kwargs)


def folded(model):
    """The same model in inference mode, with BatchNorm folded in.

    Args:
        model: A built Keras model.

    Returns:
        A functional model without weights of its own, which calls the
        model's layers and reads their weights at every call; or `None` where
        there is nothing to fold, or the graph does not show.
    """
    if not type(model).__module__.startswith("keras."):
        # A subclass, whose `call` may do something else.
        return None
    inner = {
        id(layer): folded(layer)
        for layer in model.layers
        if isinstance(layer, keras.Model)
    }
    try:
        # A nested model hides which tensors of this graph it reads.
        pairs = [] if inner else _pairs(model)
    except (AttributeError, ValueError):
        # No graph, or a layer that is used more than once.
        return None
    blocks = any(isinstance(layer, ResidualBlock) for layer in model.layers)
    if not pairs and not blocks and not any(inner.values()):
        return None
    norms = {id(norm): (layer, norm) for layer, norm in pairs}
    passed = {id(layer) for layer, _ in pairs}

    def stand_in(layer):
        if isinstance(layer, keras.layers.InputLayer):
            return layer.__class__.from_config(layer.get_config())
        function = _plain(inner.get(id(layer)) or layer)
        if id(layer) in passed:
            # It runs where its BatchNorm stands.
            function = _nothing
        elif id(layer) in norms:
            function = _pair(*norms[id(layer)])
        elif isinstance(layer, ResidualBlock):
            function = _block(layer)
        return _Stand(function, name=layer.name)

    return keras.models.clone_model(model, clone_function=stand_in)


def _plain(layer):
    # A function, so that Keras does not take the layer for a part of another.
    return lambda *args, **kwargs: layer(*args, **kwargs)


def _nothing(x):
    return x


def _pair(layer, norm):
    return lambda x, **kwargs: fold(layer, norm, x)


def _block(block):
    return lambda x, **kwargs: block.run(ops.cast(x, block.compute_dtype), fold)


def _pairs(model):
    """Layers each followed by a BatchNorm on their channels, by it alone."""
    readers, makers = {}, {}
    # Not only layers: `conv(x) + y` reads a tensor too.
    for operation in _graph(model).operations:
        for tensor in keras.tree.flatten(operation.output):
            makers[id(tensor)] = operation
        if not isinstance(operation, keras.layers.InputLayer):
            for tensor in keras.tree.flatten(operation.input):
                readers.setdefault(id(tensor), []).append(operation)
    outputs = {id(tensor) for tensor in model.outputs}
    found = []
    for norm in model.layers:
        if type(norm) is not keras.layers.BatchNormalization:
            continue
        tensor = norm.input
        layer = makers.get(id(tensor))
        alone = len(readers[id(tensor)]) == 1 and id(tensor) not in outputs
        if alone and _folds(layer, norm):
            found.append((layer, norm))
    return found


def _graph(model):
    if isinstance(model, keras.Sequential):
        return keras.Model(model.inputs, model.outputs)
    return model


def _folds(layer, norm):
    if type(layer) not in _FOLDING:
        return False
    rank = len(norm.input.shape)
    axis = norm.axis % rank
    first = getattr(layer, "data_format", None) == "channels_first"
    return (
        axis == (1 if first else rank - 1)
        and layer.activation is keras.activations.linear
        and getattr(layer, "quantization_mode", None) is None
    )
