"""Random layers at the front of a model, drawn once per training step."""

import warnings
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import keras
from keras import ops

from keras_robust.attacks.compiled_loss import CompiledLoss
from keras_robust.attacks.compiled_loss import output_names
from keras_robust.attacks.compiled_objective import RawOutputs
from keras_robust.backend import Tensor
from keras_robust.classifier import Classifier
from keras_robust.classifier.graph import output_structure
from keras_robust.classifier.graph import shows_graph
from keras_robust.classifier.graph_run import GraphRun
from keras_robust.classifier.graph_run import training_argument
from keras_robust.classifier.head import as_logits
from keras_robust.classifier.inputs import Held
from keras_robust.training.front_layers import Chain
from keras_robust.training.front_layers import chains_in_front
from keras_robust.training.front_layers import is_random
from keras_robust.training.front_layers import layer_ids
from keras_robust.training.front_layers import random_image_layers
from keras_robust.training.front_layers import rescales
from keras_robust.training.front_layers import scale_and_offset

# Keys of inputs that start after the layers in front.
_IMAGE = "keras_robust_drawn"
_HELD = "keras_robust_held"


class Drawn(NamedTuple):
    """Inputs of the network after the layers in front.

    Attributes:
        image: Tensor, a drawn image in the units of the input.
        held: The inputs that are not attacked.
    """

    image: Tensor
    held: Held

    def as_inputs(self) -> dict[str, Any]:
        """As a dictionary, which Keras passes to the model."""
        return {_IMAGE: self.image, _HELD: self.held}


def drawn_from(inputs: Any) -> Drawn | None:
    """Read the result of `Drawn.as_inputs`; `None` for other inputs."""
    if isinstance(inputs, dict) and _IMAGE in inputs:
        return Drawn(inputs[_IMAGE], inputs[_HELD])
    return None


def search_front(
    classifier: Classifier,
) -> "tuple[Front | None, list[keras.Layer]]":
    """Find the random layers that the attacked input goes through first.

    Args:
        classifier: The `Classifier` of a model.

    Returns:
        `(front, refused)`: the `Front`, or `None` if there are no such layers
        or the graph of the model is hidden; and random layers after it, which
        cannot be drawn before an attack.
    """
    model = classifier.model
    refused: list[keras.Layer] = []
    if not shows_graph(model):
        return None, refused
    try:
        chains = list(chains_in_front(model, classifier.inputs.tensor, refused))
    except (AttributeError, ValueError):
        return None, refused
    # The longest chain that ends in a random layer.
    kept = [chain for chain in chains if chain.ends_random]
    return Front(classifier, kept[-1]) if kept else None, refused


class Front:
    """Random layers at the front of a model, and the network after them.

    Args:
        classifier: The `Classifier` of the whole model.
        chain: Its layers in front, up to the last random one.

    Attributes:
        layers: The layers in front, in order.
        entry: `Entry` where the network after them begins.
    """

    def __init__(self, classifier: Classifier, chain: Chain) -> None:
        self.classifier = classifier
        self.layers = chain.layers
        self.entry = chain.entry
        self._scaling = [layer for layer in chain.layers if rescales(layer)]
        model = classifier.model
        tensor = classifier.inputs.tensor
        self._attacked = next(
            i for i, other in enumerate(model.inputs) if other is tensor
        )
        self._dtype = model.inputs[self._attacked].dtype
        self._structure = output_structure(model)
        self._run = GraphRun(
            keras.tree.flatten(self._structure),
            model.inputs,
            self.entry,
            self._attacked,
        )

    @property
    def keeps_shape(self) -> bool:
        """Whether the layers in front keep the shape of an image."""
        shape = tuple(self.entry.tensor.shape[1:])
        return shape == self.classifier.input_shape

    def draw(self, image: Any, value_range: Any) -> Any:
        """Run the layers in front once, in training mode.

        Args:
            image: Tensor `(N, ...)`.
            value_range: `(low, high)`, to which the result is clipped.

        Returns:
            Float32 tensor in the units of the input.
        """
        h = ops.cast(image, self._dtype)
        for layer in self.layers:
            h = layer(h, **training_argument(layer, True))
        h = ops.cast(h, "float32")
        for layer in reversed(self._scaling):
            scale, offset = scale_and_offset(layer)
            h = (h - offset) / scale
        low, high = value_range
        return ops.stop_gradient(ops.clip(h, low, high))

    def _to_network_units(self, x: Tensor) -> Tensor:
        """A drawn image in the units of the network after the front."""
        for layer in self._scaling:
            scale, offset = scale_and_offset(layer)
            x = x * scale + offset
        return ops.cast(x, self.entry.tensor.dtype)

    def finish(self, x: Any, held: Any, training: bool | None) -> Any:
        """Run the network after the layers in front.

        Args:
            x: A drawn image, in the units of the input.
            held: The inputs that are not attacked.
            training: As in a call of the model.

        Returns:
            Outputs in the structure of the model's.
        """
        values = self.classifier.inputs.flat(x, held)
        cast = [
            self._to_network_units(value)
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
        """The outputs that attacks differentiate; see `RawOutputs`."""
        return RestOutputs(
            self.classifier, loss, self.entry, self._to_network_units
        )


class RestOutputs(RawOutputs):
    """Raw outputs of the network after a front.

    Args:
        classifier: See `RawOutputs`.
        loss: See `RawOutputs`.
        entry: Where the network begins.
        to_network_units: From the units of the input to those of the network.
    """

    def __init__(
        self,
        classifier: Any,
        loss: Any,
        entry: Any,
        to_network_units: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__(classifier, loss, entry)
        self._to_network_units = to_network_units

    def _cast(
        self, value: Tensor, source: keras.KerasTensor, moves: bool
    ) -> Tensor:
        return (
            self._to_network_units(value)
            if moves
            else super()._cast(value, source, moves)
        )

    def logits(self, takes_log: bool) -> Any:
        """Logits of the one output, as a `Classifier` gives them.

        Args:
            takes_log: Whether an output whose last activation is unknown holds
                probabilities.

        Returns:
            `(x, draw=None, held=None) -> (N, C)`.
        """

        def call(
            x: Tensor, draw: Any = None, held: Held | None = None
        ) -> Tensor:
            (raw,) = self(x, draw, held)
            return as_logits(raw.values, takes_log and raw.kind is None)

        return call


def plain_logits(front: Front, classifier: Classifier | None = None) -> Any:
    """Logits of the network after a front, in inference mode.

    Args:
        front: A `Front`.
        classifier: A classifier of the same model, with the output that
            classifies; `None` for that of the front.

    Returns:
        `(x, draw=None, held=None) -> (N, C)`.
    """
    classifier = classifier or front.classifier
    names = output_names(classifier.model)
    loss = CompiledLoss("mse", None, names).only(classifier.output)
    takes_log = classifier.logits.gives_probabilities
    return front.outputs(loss).logits(takes_log)


def front_to_draw(
    classifier: Classifier, augmentation: str | None
) -> Front | None:
    """The random layers that a training step draws before its attack.

    Warns of random layers that change images after the attack instead.

    Args:
        classifier: The `Classifier` of the model.
        augmentation: As in `AdversarialModel`.
    """
    front, refused = search_front(classifier)
    drawn = () if front is None else front.layers
    if augmentation is None:
        front, drawn, refused = (
            None,
            (),
            [*filter(is_random, drawn), *refused],
        )
    known = layer_ids(drawn)
    found = [
        layer
        for layer in random_image_layers(classifier.model)
        if id(layer) not in known
    ]
    inside = layer_ids(found)
    found += [layer for layer in refused if id(layer) not in inside]
    if found:
        names = [layer.name for layer in found]
        warnings.warn(
            f"Random layers {names} change the image after the attack, which "
            "undoes it in training. Move them to the data, or to the front of "
            "the model with augmentation='auto'; in inference mode a layer "
            "there must return images unchanged, and what else it does (such "
            "as a rescaling) needs a layer of its own.",
            UserWarning,
            stacklevel=3,
        )
    return front
