"""Which layers in front of a network can be drawn before an attack."""

from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple
from typing import TypeAlias

import keras
import numpy as np
from keras import layers
from keras import ops

from keras_robust.classifier.graph import nodes_to
from keras_robust.classifier.graph import shows_graph
from keras_robust.classifier.graph_run import Entry
from keras_robust.classifier.graph_run import single_input
from keras_robust.classifier.graph_run import training_argument
from keras_robust.layers import PadAndCrop

# Layers that move or recolour images at random, by their names in Keras.
_NAMES = (
    "AugMix",
    "CutMix",
    "GaussianNoise",
    "MixUp",
    "RandAugment",
    *(name for name in dir(layers) if name.startswith("Random")),
)
_RANDOM = (
    PadAndCrop,
    *(getattr(layers, name) for name in _NAMES if hasattr(layers, name)),
)
# Random layers of a network itself, which change features, not images.
_OF_THE_NETWORK = (
    "Dropout",
    "RNN",
    "GRU",
    "LSTM",
    "Attention",
    "Bidirectional",
)
# Layers in front that change neither the units of pixels nor their order.
_PASSING = (
    layers.Identity,
    layers.ZeroPadding2D,
    layers.Cropping2D,
    layers.CenterCrop,
    layers.Resizing,
)
Shape: TypeAlias = tuple[int | None, ...]
# The size of an axis that a model leaves open, where layers are tried out.
_PROBE_SIZE = 8
# What casts to a type of floats may do to values in [0, 1].
_ROUNDING = {"float16": 2e-3, "bfloat16": 2e-2}


def is_random_image_layer(layer: Any) -> bool:
    """Whether a layer draws a random transformation of images."""
    if isinstance(layer, _RANDOM):
        return True
    if isinstance(layer, layers.Pipeline):
        return any(is_random_image_layer(inner) for inner in layer.layers)
    return False


def random_image_layers(model: Any) -> list[Any]:
    """The random image layers anywhere in a model.

    Args:
        model: A Keras model.

    Returns:
        List of layers, without those inside other random layers; of a
        `Pipeline` the layers in it.
    """
    found = [
        layer
        for layer in model._flatten_layers(include_self=False)
        if isinstance(layer, _RANDOM)
    ]
    inner = layer_ids(found, include_self=False)
    return [layer for layer in found if id(layer) not in inner]


def layer_ids(
    some: Iterable[keras.Layer], include_self: bool = True
) -> set[int]:
    """Identities of layers and of all layers inside them.

    Args:
        some: Layers.
        include_self: Whether those of the layers themselves count.
    """
    return {
        id(inner)
        for layer in some
        for inner in layer._flatten_layers(include_self=include_self)
    }


def is_random(layer: Any) -> bool:
    """Whether a layer that is read first draws anything."""
    if is_random_image_layer(layer):
        return True
    if isinstance(layer, layers.Pipeline):
        return any(is_random(inner) for inner in layer.layers)
    name = type(layer).__name__
    if any(part in name for part in _OF_THE_NETWORK):
        return False
    # One of a user's own.
    ours = not type(layer).__module__.startswith("keras.")
    return ours and not layer.weights and bool(layer.variables)


def rescales(layer: Any) -> bool:
    """Whether a layer is `x * scale + offset`; see `scale_and_offset`."""
    if type(layer) is layers.Rescaling:
        one = np.ndim(layer.scale) == np.ndim(layer.offset) == 0
        return one or keras.config.image_data_format() == "channels_last"
    if type(layer) is layers.Normalization:
        known = layer.mean is not None and not layer.invert
        return known and all(
            max(value.shape[:-1], default=1) == 1
            for value in (layer.mean, layer.variance)
        )
    return False


def scale_and_offset(layer: Any) -> tuple[Any, Any]:
    """Scale and offset of a layer that changes the units of pixels."""
    if type(layer) is layers.Rescaling:
        pair = layer.scale, layer.offset
        return tuple(ops.convert_to_tensor(value, "float32") for value in pair)
    spread = ops.maximum(ops.sqrt(layer.variance), 1e-7)
    return 1 / spread, -layer.mean / spread


def _sublayers(layer: keras.Layer) -> list[keras.Layer]:
    """The layers that a layer is a chain of; otherwise itself."""
    if type(layer) in (layers.Pipeline, keras.Sequential):
        return [piece for part in layer.layers for piece in _sublayers(part)]
    return [layer]


def _front_sublayers(
    layer: keras.Layer, tensor: keras.KerasTensor
) -> list[keras.Layer] | None:
    """What to run in place of a layer in front.

    Args:
        layer: A layer.
        tensor: The Keras tensor that it reads.

    Returns:
        Layers, of which each draws, changes units in a known way, or neither;
        `None` for a layer that is none of these.
    """
    for pieces in (_sublayers(layer), [layer]):
        if _are_front_layers(pieces, tensor.shape):
            return pieces
    return None


def _are_front_layers(pieces: list[keras.Layer], shape: Shape) -> bool:
    # A layer that is tried out may fail in ways of its own.
    try:
        with keras.StatelessScope():
            for i, piece in enumerate(pieces):
                known = type(piece) in _PASSING or rescales(piece)
                if not known and not (
                    is_random(piece) and _keeps_images(piece, shape)
                ):
                    return False
                if i + 1 < len(pieces):
                    shape = _inference_output(
                        piece, _random_input(piece, shape)
                    ).shape
    except Exception:
        return False
    return True


def _keeps_images(layer: keras.Layer, shape: Shape) -> bool:
    """Whether a layer gives images as they are when nothing is trained.

    One that does more, such as a rescaling, would change units in a way that
    nothing here can undo.
    """
    image = _random_input(layer, shape)
    moves = isinstance(layer, layers.RandomCrop)
    if moves:
        # Each image of one value, wherever its pixels go.
        first = (slice(None), *(slice(1) for _ in shape[1:]))
        image = np.broadcast_to(image[first], image.shape).copy()
    found = _inference_output(layer, image)
    if moves and len(found) == len(image):
        found = found.reshape((len(image), -1))
        image = image.reshape((len(image), -1))[:, :1]
    elif found.shape != image.shape:
        return False
    rounding = _ROUNDING.get(layer.compute_dtype, 1e-5)
    return bool((np.abs(found - image) <= rounding).all())


def _random_input(layer: keras.Layer, shape: Shape) -> np.ndarray:
    """Random values that a layer can take."""
    sizes = [size or _PROBE_SIZE for size in shape]
    values = np.random.default_rng(0).random(sizes).astype("float32")
    if "float" in layer.compute_dtype:
        return values
    return np.round(values * 100)


def _inference_output(layer: keras.Layer, image: np.ndarray) -> np.ndarray:
    """What a layer gives in inference mode, as a float32 array."""
    value = ops.cast(ops.convert_to_tensor(image), layer.compute_dtype)
    value = layer(value, **training_argument(layer, False))
    return ops.convert_to_numpy(ops.cast(value, "float32"))


class Chain(NamedTuple):
    """How far from an input a chain of layers in front goes.

    Attributes:
        layers: The layers so far, in order.
        entry: `Entry` behind them.
        draws: Whether the last step draws anything.
        is_whole: Whether they are all of the model.
    """

    layers: tuple[keras.Layer, ...]
    entry: Entry
    draws: bool
    is_whole: bool = False


def chains_in_front(
    model: keras.Model, tensor: keras.KerasTensor, refused: list[keras.Layer]
) -> Iterator[Chain]:
    """Every point that a chain of layers in front of a model comes to.

    Args:
        model: A model that shows its graph.
        tensor: Where to begin.
        refused: List to which layers are added that draw something but end
            the front.
    """
    before: tuple[keras.Layer, ...] = ()
    outputs = {id(output) for output in model.outputs}
    nodes = [
        node
        for output in model.outputs
        for node in nodes_to(output, model.inputs)
    ]
    while id(tensor) not in outputs:
        readers = {
            id(node.outputs[0]): node
            for node in nodes
            if any(read is tensor for read in node.inputs)
        }
        node = next(iter(readers.values()), None)
        if (
            node is None
            or len(readers) != 1
            or single_input(node) is None
            or len(node.outputs) != 1
        ):
            operations = [node.operation for node in readers.values()]
            refused += [layer for layer in operations if is_random(layer)]
            return
        layer, following = node.operation, node.outputs[0]
        if shows_graph(layer):
            inner = None
            if not len(layer.outputs) == len(layer.inputs) == 1:
                return
            for inner in chains_in_front(layer, layer.inputs[0], refused):
                path = (tensor, *inner.entry.path)
                yield Chain(
                    (*before, *inner.layers),
                    Entry(inner.entry.tensor, path),
                    inner.draws,
                )
            if inner is None or not inner.is_whole:
                return
            before, draws = (*before, *inner.layers), inner.draws
        else:
            pieces, draws = _front_sublayers(layer, tensor), is_random(layer)
            if pieces is None:
                if draws:
                    refused.append(layer)
                return
            before = (*before, *pieces)
        is_whole = id(following) in outputs
        yield Chain(before, Entry(following), draws, is_whole)
        tensor = following
