"""Finds the layers at the front of a model that are drawn before attacks."""

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
from keras_robust.classifier.layer_search import inner_layers
from keras_robust.layers import PadAndCrop

# Layers that randomly transform images, by their names in Keras.
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
# Random layers inside networks, which change features, not images.
_OF_THE_NETWORK = (
    "Dropout",
    "RNN",
    "GRU",
    "LSTM",
    "Attention",
    "Bidirectional",
)
# Layers that keep the units of pixels.
_PASSING = (
    layers.Identity,
    layers.ZeroPadding2D,
    layers.Cropping2D,
    layers.CenterCrop,
    layers.Resizing,
)
Shape: TypeAlias = tuple[int | None, ...]
# Size of open axes in random inputs, on which layers are tried out.
_PROBE_SIZE = 8
# Rounding errors of values in [0, 1], by dtype.
_ROUNDING = {"float16": 2e-3, "bfloat16": 2e-2}


def is_random_image_layer(layer: Any) -> bool:
    """Whether a layer transforms images at random."""
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
        List of layers, without those inside other random layers. For a
        `Pipeline`, the layers in it.
    """
    found = [
        layer for layer in inner_layers(model) if isinstance(layer, _RANDOM)
    ]
    inner = layer_ids(found, include_self=False)
    return [layer for layer in found if id(layer) not in inner]


def layer_ids(
    parents: Iterable[keras.Layer], include_self: bool = True
) -> set[int]:
    """Ids of layers and of all layers inside them.

    Args:
        parents: Layers.
        include_self: Whether to include the layers themselves.
    """
    found = list(parents)
    ids = {id(inner) for layer in found for inner in inner_layers(layer)}
    return ids | {id(layer) for layer in found} if include_self else ids


def is_random(layer: Any) -> bool:
    """Whether a layer at the front of a model is random."""
    if is_random_image_layer(layer):
        return True
    if isinstance(layer, layers.Pipeline):
        return any(is_random(inner) for inner in layer.layers)
    name = type(layer).__name__
    if any(part in name for part in _OF_THE_NETWORK):
        return False
    # User-defined layers with a seed generator.
    is_user_defined = not type(layer).__module__.startswith("keras.")
    return is_user_defined and not layer.weights and bool(layer.variables)


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
    """Scale and offset of a layer for which `rescales` is true."""
    if type(layer) is layers.Rescaling:
        pair = layer.scale, layer.offset
        return tuple(ops.convert_to_tensor(value, "float32") for value in pair)
    std = ops.maximum(ops.sqrt(layer.variance), 1e-7)
    return 1 / std, -layer.mean / std


def _sublayers(layer: keras.Layer) -> list[keras.Layer]:
    """The layers in a `Pipeline` or `Sequential`; otherwise the layer."""
    if type(layer) in (layers.Pipeline, keras.Sequential):
        return [piece for part in layer.layers for piece in _sublayers(part)]
    return [layer]


def _front_sublayers(
    layer: keras.Layer, tensor: keras.KerasTensor
) -> list[keras.Layer] | None:
    """A layer at the front as layers that are random, rescale, or do neither.

    Args:
        layer: A layer.
        tensor: The Keras tensor that it reads.

    Returns:
        Layers that together do what the layer does; `None` if it changes
        images in another way, so that it belongs to the network.
    """
    for pieces in (_sublayers(layer), [layer]):
        if _are_front_layers(pieces, tensor.shape):
            return pieces
    return None


def _are_front_layers(pieces: list[keras.Layer], shape: Shape) -> bool:
    # A user-defined layer may raise anything here.
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
    """Whether a layer returns images unchanged in inference mode.

    One that does more, such as a rescaling, would change units in a way that
    cannot be undone here.
    """
    image = _random_input(layer, shape)
    moves = isinstance(layer, layers.RandomCrop)
    if moves:
        # Images of one value each, since crops move pixels.
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
    """A batch of random values that a layer can take."""
    sizes = [size or _PROBE_SIZE for size in shape]
    values = np.random.default_rng(0).random(sizes).astype("float32")
    if "float" in layer.compute_dtype:
        return values
    return np.round(values * 100)


def _inference_output(layer: keras.Layer, image: np.ndarray) -> np.ndarray:
    """The output of a layer in inference mode, as a float32 array."""
    value = ops.cast(ops.convert_to_tensor(image), layer.compute_dtype)
    value = layer(value, **training_argument(layer, False))
    return ops.convert_to_numpy(ops.cast(value, "float32"))


class Chain(NamedTuple):
    """The first layers of a model, in a row.

    Attributes:
        layers: The layers, in order.
        entry: `Entry` after them.
        ends_random: Whether the last of them is random.
        is_whole: Whether they are the whole model.
    """

    layers: tuple[keras.Layer, ...]
    entry: Entry
    ends_random: bool
    is_whole: bool = False


def chains_in_front(
    model: keras.Model, tensor: keras.KerasTensor, refused: list[keras.Layer]
) -> Iterator[Chain]:
    """The chains of layers at the front of a model, from short to long.

    Args:
        model: A model for which `shows_graph` is true.
        tensor: The Keras tensor where they begin.
        refused: A list, to which random layers are added that cannot belong to
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
                    inner.ends_random,
                )
            if inner is None or not inner.is_whole:
                return
            before, draws = (*before, *inner.layers), inner.ends_random
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
