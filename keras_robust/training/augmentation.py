"""Random layers in front of a network, drawn once for attack and training."""

import warnings
from typing import Any
from typing import NamedTuple

import keras
import numpy as np
from keras import layers
from keras import ops

from keras_robust.attacks.compiled_loss import CompiledLoss
from keras_robust.attacks.compiled_loss import output_names
from keras_robust.attacks.compiled_objective import RawOutputs
from keras_robust.classifier import Classifier
from keras_robust.classifier.graph import nodes_to
from keras_robust.classifier.graph import output_structure
from keras_robust.classifier.graph import shows_graph
from keras_robust.classifier.graph_run import Entry
from keras_robust.classifier.graph_run import GraphRun
from keras_robust.classifier.graph_run import single_input
from keras_robust.classifier.graph_run import training_argument
from keras_robust.classifier.head import as_logits
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


def is_random_image_layer(layer: Any) -> bool:
    """Whether a layer draws a random transformation of images."""
    if isinstance(layer, _RANDOM):
        return True
    if isinstance(layer, layers.Pipeline):
        return any(is_random_image_layer(inner) for inner in layer.layers)
    return False


def random_image_layers(model: Any) -> list[str]:
    """Names of the random image layers anywhere in a model."""
    return [
        layer.name
        for layer in model._flatten_layers(include_self=False)
        if is_random_image_layer(layer)
    ]


def _draws(layer):
    """Whether a layer that is read first draws anything."""
    if is_random_image_layer(layer):
        return True
    name = type(layer).__name__
    if any(part in name for part in _OF_THE_NETWORK):
        return False
    # One of a user's own.
    ours = not type(layer).__module__.startswith("keras.")
    return ours and not layer.weights and bool(layer.variables)


def _changes_units(layer):
    """Whether a layer is `x * scale + offset`, as `_units` gives it."""
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


def _units(layer):
    """Scale and offset of a layer that changes the units of pixels."""
    if type(layer) is layers.Rescaling:
        pair = layer.scale, layer.offset
        return tuple(ops.convert_to_tensor(value, "float32") for value in pair)
    spread = ops.maximum(ops.sqrt(layer.variance), 1e-7)
    return 1 / spread, -layer.mean / spread


class _Walk(NamedTuple):
    """How far from an input a chain of layers in front goes.

    Attributes:
        layers: The layers so far, in order.
        entry: `Entry` behind them.
        is_whole: Whether they are all of the model.
    """

    layers: tuple
    entry: Entry
    is_whole: bool = False


def _walks(model, tensor):
    """Every point that a chain of layers in front of a model comes to."""
    before, outputs = (), {id(output) for output in model.outputs}
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
        if len(readers) != 1:
            return
        (node,) = readers.values()
        if single_input(node) is None or len(node.outputs) != 1:
            return
        layer, following = node.operation, node.outputs[0]
        if isinstance(layer, keras.Model):
            inner = None
            single = len(layer.outputs or []) == len(layer.inputs or []) == 1
            if not shows_graph(layer) or not single:
                return
            for inner in _walks(layer, layer.inputs[0]):
                path = (tensor, *inner.entry.path)
                yield _Walk(
                    (*before, *inner.layers), Entry(inner.entry.tensor, path)
                )
            if inner is None or not inner.is_whole:
                return
            before = (*before, *inner.layers)
        elif (
            isinstance(layer, _PASSING)
            or _changes_units(layer)
            or _draws(layer)
        ):
            before = (*before, layer)
        else:
            return
        yield _Walk(before, Entry(following), id(following) in outputs)
        tensor = following


def find_front(classifier: Classifier) -> "Front | None":
    """The random layers that a model's attacked input goes through first.

    Args:
        classifier: The `Classifier` of a model.

    Returns:
        `Front`; `None` where there are none, or the model shows no graph.
    """
    model = classifier.model
    if not shows_graph(model):
        return None
    try:
        walks = list(_walks(model, classifier.inputs.tensor))
    except (AttributeError, ValueError):
        return None
    # The last of them; of a nested model that is over there, behind it.
    kept = [walk for walk in walks if _draws(walk.layers[-1])]
    return Front(classifier, kept[-1]) if kept else None


class Front:
    """Random layers in front of a network, and the network behind them.

    Args:
        classifier: The `Classifier` of the whole model.
        walk: Where its random layers end.

    Attributes:
        layers: The layers in front, in order.
        entry: `Entry` where the network behind them begins.
    """

    def __init__(self, classifier: Classifier, walk: _Walk):
        self.classifier = classifier
        self.layers = walk.layers
        self.entry = walk.entry
        self._scaling = [
            layer for layer in walk.layers if _changes_units(layer)
        ]
        model = classifier.model
        tensor = classifier.inputs.tensor
        self._attacked = next(
            i for i, other in enumerate(model.inputs) if other is tensor
        )
        self._structure = output_structure(model)
        self._run = GraphRun(
            keras.tree.flatten(self._structure),
            model.inputs,
            self.entry,
            self._attacked,
        )

    @property
    def keeps_shape(self) -> bool:
        """Whether a drawn image has the shape of an input."""
        shape = tuple(self.entry.tensor.shape[1:])
        return shape == self.classifier.input_shape

    def draw(self, image: Any, value_range: Any) -> Any:
        """Runs the layers in front once, as in training.

        Args:
            image: Tensor `(N, ...)`.
            value_range: The box, to which the result is clipped.

        Returns:
            Float32 tensor in the units of the input.
        """
        h = ops.cast(image, self.classifier.inputs.tensor.dtype)
        for layer in self.layers:
            h = layer(h, **training_argument(layer, True))
        h = ops.cast(h, "float32")
        for layer in reversed(self._scaling):
            scale, offset = _units(layer)
            h = (h - offset) / scale
        low, high = value_range
        return ops.stop_gradient(ops.clip(h, low, high))

    def _into(self, x):
        """A drawn image in the units of the network behind."""
        for layer in self._scaling:
            scale, offset = _units(layer)
            x = x * scale + offset
        return ops.cast(x, self.entry.tensor.dtype)

    def finish(self, x: Any, held: Any, training: bool | None) -> Any:
        """The network behind the layers in front.

        Args:
            x: A drawn image, in the units of the input.
            held: The other inputs.
            training: As in a call of the model.

        Returns:
            Outputs in the structure of the model's.
        """
        values = self.classifier.inputs.flat(x, held)
        cast = [
            self._into(value)
            if i == self._attacked
            else ops.cast(value, source.dtype)
            for i, (value, source) in enumerate(
                zip(values, self._run.sources, strict=True)
            )
        ]
        found = self._run(cast, bool(training))
        if len(found) == 1 and not isinstance(self._structure, dict):
            return found[0]
        return keras.tree.pack_sequence_as(self._structure, found)

    def outputs(self, loss: CompiledLoss) -> "RestOutputs":
        """What attacks climb on the network behind; see `RawOutputs`."""
        return RestOutputs(self.classifier, loss, self.entry, self._into)


class RestOutputs(RawOutputs):
    """Raw outputs of the network behind a front.

    Args:
        classifier: See `RawOutputs`.
        loss: See `RawOutputs`.
        entry: Where the network begins.
        into: From the units of the input to its own.
    """

    def __init__(self, classifier, loss, entry, into):
        super().__init__(classifier, loss, entry)
        self._into = into

    def _cast(self, value, source, moves):
        return (
            self._into(value) if moves else super()._cast(value, source, moves)
        )

    def logits(self, takes_log: bool) -> Any:
        """Logits of the one output, as a `Classifier` gives them.

        Args:
            takes_log: Whether an output whose last activation does not show
                is of probabilities.

        Returns:
            `(x, draw=None, held=None) -> (N, C)`.
        """

        def call(x, draw=None, held=None):
            (raw,) = self(x, draw, held)
            return as_logits(raw.values, takes_log and raw.kind is None)

        return call


def plain_logits(front: Front) -> Any:
    """Logits of the network behind a front, in inference mode.

    Args:
        front: A `Front` of a model with one output.

    Returns:
        `(x, draw=None, held=None) -> (N, C)`.
    """
    classifier = front.classifier
    names = output_names(classifier.model)
    loss = CompiledLoss("mse", None, names).only(classifier.output)
    takes_log = classifier.logits.gives_probabilities
    return front.outputs(loss).logits(takes_log)


def warn_of_random_layers(model: Any, drawn: tuple = ()) -> None:
    """Warns of random image layers that the attack does not see.

    Args:
        model: The plain model.
        drawn: Layers that are drawn for attack and training alike.
    """
    known = {layer.name for layer in drawn}
    names = [name for name in random_image_layers(model) if name not in known]
    if names:
        warnings.warn(
            f"Random layers {names} change the image after the attack, which "
            "undoes it in training. Move them to the data, or to the front of "
            "the model with augmentation='auto'.",
            UserWarning,
            stacklevel=3,
        )
