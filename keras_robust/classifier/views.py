"""Parts of a model as models: its representation, the output of a layer."""

from typing import Any

import keras
from keras import layers

from keras_robust.classifier.graph import input_structure
from keras_robust.classifier.graph import output_of
from keras_robust.classifier.graph import producer
from keras_robust.classifier.graph import shows_graph
from keras_robust.utils.messages import shown

_CLASSIFYING = (
    layers.Dense,
    layers.EinsumDense,
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv3D,
    layers.SeparableConv1D,
    layers.SeparableConv2D,
)


def layer_view(
    model: Any, layer: str, output: str | int | None = None
) -> keras.Model:
    """The model from its inputs to the output of a layer.

    Args:
        model: A built functional or sequential Keras model.
        layer: The name of one of its layers.
        output: Which of several outputs of the model is classified, see
            `Classifier`. If the layer was called several times, the call
            nearest to this output is taken.

    Returns:
        A functional Keras model that shares its layers with `model`.

    Raises:
        ValueError: If there is no such layer.
    """
    _check_shows_graph(model)
    names = [candidate.name for candidate in model.layers]
    if layer not in names:
        raise ValueError(
            f"Argument `layer` must be one of {names}. "
            f"Received: layer={shown(layer)}"
        )
    waiting, seen = [output_of(model, output), *model.outputs], set()
    while waiting:
        tensor = waiting.pop(0)
        node = None if id(tensor) in seen else producer(tensor)
        seen.add(id(tensor))
        if node is None:
            continue
        if node.operation.name == layer:
            return keras.Model(input_structure(model), node.outputs[0])
        waiting += node.inputs
    return keras.Model(input_structure(model), model.get_layer(layer).output)


def representation_view(
    model: Any, layer: str | None = None, output: str | int | None = None
) -> keras.Model:
    """The model from its inputs to its representation.

    The representation is the input of the classifying layer (the paper's
    penultimate layer, after pooling), which is the last dense or convolutional
    layer before the output. This need not be the last one in `model.layers`.

    Args:
        model: A built functional or sequential Keras model.
        layer: Name of the layer whose output is the representation; `None` to
            find the input of the classifying layer.
        output: Which of several outputs is classified, see `Classifier`.

    Returns:
        A functional Keras model that shares its layers with `model`.

    Raises:
        ValueError: If there is no such layer.
    """
    _check_shows_graph(model)
    if layer is not None:
        return layer_view(model, layer, output)
    tensor = output_of(model, output)
    while (node := producer(tensor)) is not None:
        operation, only = node.operation, node.only_input
        if isinstance(operation, _CLASSIFYING) and only is not None:
            return keras.Model(input_structure(model), only)
        nested = isinstance(operation, keras.Model) and operation.weights
        if nested and only is not None and shows_graph(operation):
            inner = representation_view(operation)
            return keras.Model(input_structure(model), inner(only))
        norm = isinstance(operation, layers.BatchNormalization)
        if only is None or (getattr(operation, "weights", None) and not norm):
            break
        tensor = only
    raise ValueError(
        "The model must end in a Dense or convolutional layer, whose input is "
        "the representation; name another layer by `layer=`. "
        f"Received: layers {[candidate.name for candidate in model.layers]}"
    )


def _check_shows_graph(model: keras.Model) -> None:
    if not shows_graph(model):
        raise ValueError(
            "The layers of a model can be found in functional and sequential "
            "models only. Received: a model of type "
            f"{type(model).__name__}, whose graph is hidden"
        )
