"""Running the graph of a model from its inputs or from an inner tensor."""

import inspect
from typing import Any
from typing import NamedTuple

import keras

from keras_robust.classifier.graph import Node
from keras_robust.classifier.graph import nodes_to


class Entry(NamedTuple):
    """A tensor inside a graph that takes the place of an input.

    Attributes:
        tensor: The Keras tensor.
        path: For a tensor inside nested models the tensors that these models
            read, the outermost first.
    """

    tensor: keras.KerasTensor
    path: tuple[keras.KerasTensor, ...] = ()


class GraphRun:
    """The layers between tensors of a graph.

    Unlike a `keras.Model` from an inner tensor it adds no nodes to the layers.

    Args:
        tensors: Keras tensors to compute.
        inputs: Keras tensors of the model's inputs.
        entry: Where to start; `None` for the inputs.
        attacked: Position of the input that the entry depends on.
    """

    def __init__(
        self,
        tensors: list[keras.KerasTensor],
        inputs: list[keras.KerasTensor],
        entry: Entry | None = None,
        attacked: int = 0,
    ) -> None:
        self._tensors = tensors
        self._inner: GraphRun | None = None
        self.sources = list(inputs)
        if entry is not None and not entry.path:
            self.sources[attacked] = entry.tensor
        elif entry is not None:
            nested = self._reader(_nodes(tensors, inputs), entry.path[0])
            self.sources[attacked] = nested.outputs[0]
            self._inner = GraphRun(
                nested.operation.outputs,
                nested.operation.inputs,
                Entry(entry.tensor, entry.path[1:]),
            )
        self._attacked = attacked
        self._nodes = _nodes(tensors, self.sources)

    def _reader(self, nodes: list[Node], tensor: keras.KerasTensor) -> Node:
        return next(node for node in nodes if single_input(node) is tensor)

    def __call__(self, values: list[Any], training: bool = False) -> list[Any]:
        """Compute the tensors.

        Args:
            values: Tensors in the order of the inputs, with that of the entry
                in place of the attacked one.
            training: Passed to every layer that takes it, as in Keras.

        Returns:
            List of tensors.
        """
        values = list(values)
        if self._inner is not None:
            (values[self._attacked],) = self._inner(
                [values[self._attacked]], training
            )
        known = {
            id(source): value
            for source, value in zip(self.sources, values, strict=True)
        }
        for node in self._nodes:
            results = keras.tree.flatten(_call(node, known, training))
            for tensor, value in zip(node.outputs, results, strict=True):
                known[id(tensor)] = value
        return [known[id(tensor)] for tensor in self._tensors]


def single_input(node: Node) -> keras.KerasTensor | None:
    """The only tensor that a call reads, or `None`; ignores `training`."""
    kwargs = {k: v for k, v in node.kwargs.items() if k != "training"}
    return node._replace(kwargs=kwargs).only_input


def _nodes(
    tensors: list[keras.KerasTensor], inputs: list[keras.KerasTensor]
) -> list[Node]:
    """Every call between inputs and tensors, once, in order."""
    ordered: list[Node] = []
    seen: set[int] = set()
    for tensor in tensors:
        for node in nodes_to(tensor, inputs):
            if id(node.outputs[0]) not in seen:
                seen.add(id(node.outputs[0]))
                ordered.append(node)
    return ordered


def _call(node: Node, values: dict[int, Any], training: bool) -> Any:
    args, kwargs = node.arguments(values)
    kwargs = {**kwargs, **training_argument(node.operation, training)}
    return node.operation(*args, **kwargs)


def training_argument(operation: Any, training: bool) -> dict[str, bool]:
    """`{"training": training}` for an operation that takes it."""
    takes_it = "training" in inspect.signature(operation.call).parameters
    return {"training": training} if takes_it else {}
