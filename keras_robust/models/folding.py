"""From the graph of a model to the same with BatchNorm folded in."""

import inspect

import keras
from keras import layers
from keras import ops

from keras_robust.layers import ResidualBlock
from keras_robust.models.folded_model import FoldedModel
from keras_robust.models.folded_model import Step
from keras_robust.models.folded_model import apply_folded

_FOLDING = (layers.Conv1D, layers.Conv2D, layers.Conv3D, layers.Dense)
_MERGING = (layers.Add, layers.Average, layers.Concatenate, layers.Multiply)
_IDENTITY = (
    *(layers.Dropout, layers.SpatialDropout2D, layers.GaussianNoise),
    *(layers.GaussianDropout, layers.Identity),
)
# Whose `call` needs nothing of what `__call__` does around it.
_DIRECT = (
    *(*_FOLDING, *_MERGING, layers.DepthwiseConv2D, layers.ZeroPadding2D),
    *(layers.ReLU, layers.LeakyReLU, layers.ELU, layers.Activation),
    *(layers.Flatten, layers.Reshape, layers.Rescaling, layers.Normalization),
    *(layers.MaxPooling2D, layers.AveragePooling2D),
    *(layers.GlobalMaxPooling2D, layers.GlobalAveragePooling2D),
)


def folded(model):
    """The model in inference mode, with BatchNorm folded in.

    Args:
        model: A built Keras model.

    Returns:
        `FoldedModel`, or `None` where the graph does not show: a subclass, a
        layer that is used twice, several inputs, operations with constants.
    """
    if not type(model).__module__.startswith("keras."):
        # A subclass, whose `call` may do something else.
        return None
    if not getattr(model, "inputs", None):
        return None
    graph = model
    if isinstance(model, keras.Sequential):
        graph = keras.Model(model.inputs, model.outputs)
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        return None
    try:
        return _plan(graph)
    except (AttributeError, ValueError):
        # A layer that is called twice has no one input.
        return None


def _plan(graph):
    source, result = id(graph.inputs[0]), id(graph.outputs[0])
    operations = [
        operation
        for operation in graph.operations
        if not isinstance(operation, layers.InputLayer)
    ]
    tensors = _tensors(operations, source, result)
    makers, readers = {}, {}
    for layer, (reads, writes) in tensors:
        for name in keras.tree.flatten(reads):
            if name != source and name not in makers:
                # Of another call of a layer, or out of order.
                return None
            readers.setdefault(name, []).append(layer)
        makers[writes] = layer
    pairs = {
        id(norm): (makers[reads], norm)
        for norm, (reads, _) in tensors
        if type(norm) is layers.BatchNormalization
        and _folds(makers.get(reads), norm)
        and readers[reads] == [norm]
        and reads != result
    }
    passed = {id(layer) for layer, _ in pairs.values()}
    steps, all_pairs, pure = [], list(pairs.values()), True
    for layer, (reads, writes) in tensors:
        several = isinstance(reads, list) and type(layer) not in _MERGING
        if not isinstance(layer, layers.Layer):
            count = len(reads) if isinstance(reads, list) else 1
            if not _takes(layer, count):
                return None
            function = _operation(layer, several)
        elif several:
            return None
        elif id(layer) in pairs:
            function = _folding(*pairs[id(layer)])
        elif id(layer) in passed or type(layer) in _IDENTITY:
            # What is passed runs where its BatchNorm stands.
            function = _nothing
        elif type(layer) is ResidualBlock:
            function = _block(layer)
            all_pairs += layer.pairs
        else:
            inner = folded(layer) if isinstance(layer, keras.Model) else None
            all_pairs += inner.pairs if inner else []
            function, unchanging = (
                (inner, inner.pure) if inner else _plain(layer)
            )
            pure = pure and unchanging
        steps.append(Step(function, reads, writes))
    return FoldedModel(steps, source, result, all_pairs, pure)


def _tensors(operations, source, result):
    """Each layer with the ids of what it reads, and of what it writes."""
    found, nested = {}, []
    for layer in operations:
        if isinstance(layer, keras.Model):
            nested.append(layer)
            continue
        inputs = layer.input
        names = [id(tensor) for tensor in keras.tree.flatten(inputs)]
        reads = names if isinstance(inputs, (list, tuple)) else names[0]
        found[id(layer)] = (reads, id(layer.output))
    if nested:
        # It tells of its own graph only; here it is what closes the gap.
        read = set(keras.tree.flatten([reads for reads, _ in found.values()]))
        written = {source, *(writes for _, writes in found.values())}
        (enters,) = written - read - {result}
        (leaves,) = (read | {result}) - written
        (inner,) = nested
        found[id(inner)] = (enters, leaves)
    return [(layer, found[id(layer)]) for layer in operations]


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


def _nothing(x, weights):
    del weights
    return x


def _folding(layer, norm):
    return lambda x, weights: apply_folded(layer, norm, x, weights)


def _block(block):
    def run(x, weights):
        return block.run(
            ops.cast(x, block.compute_dtype),
            lambda layer, norm, h: apply_folded(layer, norm, h, weights),
        )

    return run


def _plain(layer):
    """A function for any other layer, and whether it has no state to change."""
    if type(layer) is layers.BatchNormalization:
        return lambda x, weights: layer(x, training=False), True
    # In mixed precision `__call__` casts the weights.
    exact = layer.compute_dtype == layer.variable_dtype
    if exact and type(layer) in _DIRECT:
        return _direct(layer), True
    options = {}
    if "training" in inspect.signature(layer.call).parameters:
        options = {"training": False}
    return lambda x, weights: layer(x, **options), False


def _takes(operation, count):
    """Whether tensors are all that the operation is called with."""
    parameters = inspect.signature(operation.call).parameters.values()
    needed = all(p.default is p.empty for p in parameters)
    return needed and len(parameters) == count


def _operation(operation, several):
    if several:
        return lambda x, weights: operation.call(*x)
    return lambda x, weights: operation.call(x)


def _direct(layer):
    def call(x, weights):
        del weights
        x = keras.tree.map_structure(
            lambda part: ops.cast(part, layer.compute_dtype), x
        )
        return layer.call(x)

    return call
