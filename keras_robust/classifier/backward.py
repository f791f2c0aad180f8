"""Layers that are differentiated as something else (BPDA)."""

import hashlib
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from typing import TypeAlias

import keras
from keras import ops

from keras_robust.classifier.fingerprint import callable_sha256
from keras_robust.classifier.fingerprint import weights_sha256
from keras_robust.classifier.graph import Node
from keras_robust.classifier.graph import inner_nodes
from keras_robust.classifier.graph import shows_graph
from keras_robust.classifier.graph_run import training_argument
from keras_robust.classifier.head import without_activation
from keras_robust.classifier.layer_search import inner_layers
from keras_robust.classifier.through_flat import ACTIVATED
from keras_robust.classifier.through_flat import ThroughFlat
from keras_robust.utils.messages import shown

STRAIGHT_THROUGH = "straight_through"
THROUGH_FLAT = "through_flat"
_WORDS = (STRAIGHT_THROUGH, THROUGH_FLAT)
# A name, a class, a layer or another operation; `None` for all that are known
# to have no gradient.
Selector: TypeAlias = str | type | keras.Operation | None
# A callable of a tensor, or one of the words.
Replacement: TypeAlias = Callable[[Any], Any] | str
# What to differentiate in place of an operation, by its id.
Replaced: TypeAlias = dict[int, Callable[[Any], Any]]

_STEPS = (ops.round, ops.floor, ops.ceil, ops.trunc, ops.sign)
_STEP_NAMES = ("Round", "Floor", "Ceil", "Trunc", "Sign")


@keras.saving.register_keras_serializable("keras_robust")
@dataclass(frozen=True)
class Backward:
    """Which layers are differentiated as what, in the backward pass only.

    Backward pass differentiable approximation, Athalye et al. 2018
    (arXiv:1802.00420), section 4.1.

    Attributes:
        pairs: Selectors of layers with what replaces them. Where several fit a
            layer, the first counts.
    """

    pairs: tuple[tuple[Selector, Replacement], ...]

    @classmethod
    def of(cls, value: Any) -> "Backward | None":
        """Read the argument `backward` of an attack.

        Args:
            value: A mapping from layers, their names or their classes to
                callables of a tensor, `"straight_through"` (the identity's
                gradient) or `"through_flat"` (the identity's gradient where
                the layer's own is zero); or `"straight_through"` alone, for all
                layers that are known to have no gradient; or `None`.

        Raises:
            ValueError: If it is something else.
        """
        if value is None or isinstance(value, cls):
            return value
        if isinstance(value, str) and value == STRAIGHT_THROUGH:
            return cls(((None, STRAIGHT_THROUGH),))
        if not isinstance(value, Mapping) or not value:
            raise ValueError(
                "Argument `backward` must be 'straight_through' or map layers, "
                "their names or classes to callables of a tensor, "
                "'straight_through' or 'through_flat'. "
                f"Received: backward={shown(value)}"
            )
        for selector, replacement in value.items():
            _check_pair(selector, replacement)
        return cls(tuple(value.items()))

    @property
    def variables(self) -> list[keras.Variable]:
        """Variables of the Keras layers among the replacements."""
        return [
            variable
            for _, replacement in self.pairs
            if isinstance(replacement, keras.layers.Layer)
            for variable in replacement.variables
        ]

    @property
    def functions(self) -> list[Any]:
        """The replacements that are neither Keras layers nor names."""
        return [
            replacement
            for _, replacement in self.pairs
            if not isinstance(replacement, (str, keras.layers.Layer))
        ]

    def sha256(self) -> str:
        """A hash of selectors and replacements, their code and weights."""
        saved = [
            (_saved_selector(selector), callable_sha256(replacement))
            for selector, replacement in self.pairs
        ]
        return hashlib.sha256(repr(saved).encode()).hexdigest()

    def besides(self, other: "Backward") -> "Backward | None":
        """The pairs of operations that another mapping does not replace.

        Args:
            other: The other mapping.

        Returns:
            `None` if there are no such pairs.
        """
        pairs = tuple(
            (selector, replacement)
            for selector, replacement in self.pairs
            if not isinstance(selector, keras.Operation)
            or not other._replaces(selector)
        )
        return Backward(pairs) if pairs else None

    def after(self, other: "Backward | None") -> "Backward":
        """This mapping, where another one, if there is any, does not count."""
        return self if other is None else Backward(other.pairs + self.pairs)

    def replaced_in(self, model: keras.Model, output: Any = None) -> Replaced:
        """What to differentiate in place of the layers of a graph.

        Args:
            model: A functional or sequential model.
            output: Which of several outputs, see `Classifier`.
        """
        found = {}
        for node in inner_nodes(model, output, self._replaces):
            replacement = self._replacement(node.operation)
            if replacement is not None:
                found[id(node.operation)] = _as_function(node, replacement)
        return found

    def check(self, model: keras.Model, output: Any = None) -> None:
        """Check that every selector finds a layer, and none a hidden one.

        Args:
            model: A built Keras model.
            output: Which of several outputs, see `Classifier`.

        Raises:
            ValueError: If it is not so.
        """
        if not shows_graph(model):
            raise ValueError(
                "Argument `backward` needs a functional or sequential model, "
                "whose layers can be found. Received: a model of type "
                f"{type(model).__name__}, whose graph is hidden; in its `call`,"
                " keras_robust.layers.straight_through does the same"
            )
        nodes = list(inner_nodes(model, output, self._replaces))
        for selector, replacement in self.pairs:
            chosen = [n for n in nodes if _fits(selector, n.operation)]
            _check_found(selector, nodes, chosen)
            for node in chosen:
                _check_node(node, replacement)

    def _replaces(self, operation: keras.Operation) -> bool:
        return self._replacement(operation) is not None

    def _replacement(self, operation: keras.Operation) -> Replacement | None:
        return next((r for s, r in self.pairs if _fits(s, operation)), None)

    def get_config(self) -> dict[str, Any]:
        """Selectors and replacements, ready for JSON.

        A layer is described by its name. Of a replacement with weights only
        their hash is kept.
        """
        return {
            "pairs": [[_saved_selector(s), _saved(r)] for s, r in self.pairs]
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Backward":
        """The inverse of `get_config`.

        Raises:
            ValueError: If a function or class is not registered with Keras, or
                a replacement had weights.
        """
        return cls(
            tuple(
                (_restored_selector(selector), _restored(replacement))
                for selector, replacement in config["pairs"]
            )
        )


def variables_with(
    model: keras.Model, backward: Backward | None
) -> list[keras.Variable]:
    """The variables of a model and of what replaces its layers, each once."""
    more = [] if backward is None else backward.variables
    every = {id(variable): variable for variable in (*model.variables, *more)}
    return list(every.values())


def has_no_gradient(operation: keras.Operation) -> bool:
    """Whether the derivative of an operation is known to be zero everywhere.

    Known are `Discretization`, and rounding and sign as an operation, as the
    function of a `Lambda` or as an activation.
    """
    if isinstance(operation, keras.layers.Discretization):
        return True
    if not isinstance(operation, keras.layers.Layer):
        kind = type(operation)
        is_keras = kind.__module__.startswith("keras.")
        return is_keras and kind.__name__ in _STEP_NAMES
    functions = (
        getattr(operation, "activation", None),
        getattr(operation, "function", None),
    )
    return any(function in _STEPS for function in functions if function)


def _fits(selector: Selector, operation: keras.Operation) -> bool:
    if selector is None:
        return has_no_gradient(operation)
    if isinstance(selector, str):
        return bool(operation.name == selector)
    if isinstance(selector, type):
        return isinstance(operation, selector)
    return operation is selector


def _check_pair(selector: Any, replacement: Any) -> None:
    if not isinstance(selector, (str, type, keras.Operation)):
        raise ValueError(
            "A key of argument `backward` must be a layer, its name or its "
            f"class. Received: {shown(selector)}"
        )
    is_word = isinstance(replacement, str)
    is_class = isinstance(replacement, type)
    wrong = replacement not in _WORDS if is_word else is_class
    if wrong or not (is_word or callable(replacement)):
        raise ValueError(
            "A value of argument `backward` must be a callable of a tensor, "
            "such as a Keras layer, 'straight_through' or 'through_flat'. "
            f"Received: {shown(selector)}: {shown(replacement)}"
        )


def _check_found(
    selector: Selector, nodes: list[Node], chosen: list[Node]
) -> None:
    seen = {id(node.operation) for node in chosen}
    hidden = [
        f"{inner.name!r} inside {node.operation.name!r}"
        for node in nodes
        if id(node.operation) not in seen
        for inner in inner_layers(node.operation)
        if _fits(selector, inner)
    ]
    if hidden:
        raise ValueError(
            "Argument `backward` must choose layers of the model's graph. "
            f"Received: {_described(selector)}, which fits {', '.join(hidden)},"
            " whose calls cannot be seen; replace the outer layer"
        )
    if chosen:
        return
    names = list(dict.fromkeys(node.operation.name for node in nodes))
    if selector is None:
        raise ValueError(
            "backward='straight_through' needs a layer that is known to have "
            "no gradient, such as Discretization or a Lambda of "
            f"keras.ops.round; map others by name. Received: layers {names}"
        )
    raise ValueError(
        "A key of argument `backward` must fit one of the layers "
        f"{names}. Received: {_described(selector)}"
    )


def _check_node(node: Node, replacement: Replacement) -> None:
    """Check that a call can be replaced."""
    name, source = node.operation.name, node.only_input
    if source is None or len(node.outputs) != 1:
        raise ValueError(
            "Argument `backward` must choose layers of one input and output. "
            f"Received: {name!r}, called with {len(node.inputs)} tensors, "
            f"giving {len(node.outputs)}"
        )
    keeps_shape = tuple(source.shape) == tuple(node.outputs[0].shape)
    if (
        isinstance(replacement, str)
        and not keeps_shape
        and not isinstance(node.operation, ACTIVATED)
    ):
        raise ValueError(
            f"A layer that is differentiated as {replacement!r} must keep "
            "the shape of its input; map it to a function of that shape. "
            f"Received: {name!r}, from {tuple(source.shape)} to "
            f"{tuple(node.outputs[0].shape)}"
        )


def _as_function(node: Node, replacement: Replacement) -> Callable[[Any], Any]:
    """What is differentiated in place of a call."""
    if not isinstance(replacement, str):
        return _in_inference(replacement, node)
    if replacement == THROUGH_FLAT:
        return ThroughFlat(node.operation)
    if isinstance(node.operation, ACTIVATED):
        return without_activation(node.operation)
    return lambda x: x


def _in_inference(
    replacement: Callable[[Any], Any], node: Node
) -> Callable[[Any], Any]:
    if not isinstance(replacement, keras.layers.Layer):
        return replacement
    if not replacement.built:
        # Weights cannot be made inside a compiled function.
        source: Any = node.only_input
        replacement(keras.Input(batch_shape=source.shape, dtype=source.dtype))
    training = training_argument(replacement, False)
    return lambda x: replacement(x, **training)


def _described(selector: Selector) -> str:
    if isinstance(selector, type):
        return f"class {selector.__name__}"
    if isinstance(selector, keras.Operation):
        return f"{type(selector).__name__} {selector.name!r}"
    return repr(selector)


def _saved_selector(selector: Selector) -> Any:
    if isinstance(selector, type):
        return {"class": keras.saving.get_registered_name(selector)}
    if isinstance(selector, keras.Operation):
        return selector.name
    return selector


def _restored_selector(saved: Any) -> Selector:
    if not isinstance(saved, dict):
        return saved
    name = saved["class"]
    found = keras.saving.get_registered_object(name)
    found = found or getattr(keras.layers, name, None)
    if found is None:
        raise ValueError(
            "A class in `backward` must be registered with Keras to be "
            f"restored. Received: {name!r}"
        )
    return found


def _saved(replacement: Replacement) -> Any:
    if isinstance(replacement, str):
        return replacement
    if isinstance(replacement, keras.layers.Layer):
        saved = {"layer": keras.saving.serialize_keras_object(replacement)}
        if replacement.weights:
            saved["weights"] = weights_sha256(replacement)
        return saved
    named = replacement
    if not hasattr(named, "__name__"):
        named = type(replacement)
    return {"function": keras.saving.get_registered_name(named)}


def _restored(saved: Any) -> Replacement:
    if isinstance(saved, str):
        return saved
    if "weights" in saved:
        raise ValueError(
            "A layer with weights in `backward` cannot be restored from a "
            "configuration, which does not hold them; give it again. "
            f"Received: {saved['layer']['class_name']}"
        )
    if "layer" in saved:
        return keras.saving.deserialize_keras_object(saved["layer"])
    found = keras.saving.get_registered_object(saved["function"])
    if found is None or isinstance(found, type):
        raise ValueError(
            "A function in `backward` must be registered with Keras to be "
            f"restored. Received: {saved['function']!r}"
        )
    return found
