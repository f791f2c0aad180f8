"""The graph of a functional model, node by node."""

from collections.abc import Callable
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

import keras


class Node(NamedTuple):
    """One call of an operation.

    Attributes:
        operation: A layer or another `keras.Operation`.
        args: What it was called with; Keras tensors stand for results.
        kwargs: The same, by keyword.
        outputs: The Keras tensors that the call returned.
    """

    operation: keras.Operation
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[keras.KerasTensor, ...]

    @property
    def inputs(self) -> list[keras.KerasTensor]:
        """The Keras tensors among the arguments."""
        flat = keras.tree.flatten((self.args, self.kwargs))
        return [part for part in flat if isinstance(part, keras.KerasTensor)]

    @property
    def only_input(self) -> keras.KerasTensor | None:
        """The tensor that is its only argument, or `None`.

        An argument `training` is ignored: the outer call decides on it.
        """
        if len(self.args) != 1 or any(
            value is not None
            for name, value in self.kwargs.items()
            if name != "training"
        ):
            return None
        (first,) = self.args
        return first if isinstance(first, keras.KerasTensor) else None

    def arguments(
        self, values: dict[int, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of the call, with results in place of Keras tensors.

        Args:
            values: Results by id of their Keras tensors.

        Returns:
            Tuple `(args, kwargs)`.
        """

        def fill(part: Any) -> Any:
            is_tensor = isinstance(part, keras.KerasTensor)
            return values[id(part)] if is_tensor else part

        return keras.tree.map_structure(fill, (self.args, self.kwargs))


def shows_graph(model: Any) -> bool:
    """Whether calling `model` runs its Keras graph and nothing else.

    A subclass that defines `call` may do anything.
    """
    if not isinstance(model, keras.Model) or "call" in vars(model):
        return False
    for cls in type(model).__mro__:
        if "call" in vars(cls) or "__call__" in vars(cls):
            return cls.__module__.startswith("keras.") and bool(
                getattr(model, "inputs", None)
            )
    return False


def producer(tensor: keras.KerasTensor) -> Node | None:
    """The call that returned a Keras tensor; `None` for an input.

    A layer may have been called several times: the history of the tensor tells
    which call it was.
    """
    history = getattr(tensor, "_keras_history", None)
    if history is None or isinstance(
        history.operation, keras.layers.InputLayer
    ):
        return None
    call = history.operation._inbound_nodes[history.node_index]
    return Node(
        history.operation,
        tuple(call.arguments.args),
        dict(call.arguments.kwargs),
        tuple(call.output_tensors),
    )


def nodes_to(
    output: keras.KerasTensor, inputs: list[keras.KerasTensor]
) -> list[Node]:
    """Every call between `inputs` and `output`, in order.

    Raises:
        ValueError: If `output` depends on anything but `inputs`.
    """
    sources = {id(tensor) for tensor in inputs}
    ordered: list[Node] = []
    done: set[int] = set()
    waiting = [(output, False)]
    while waiting:
        tensor, is_ready = waiting.pop()
        if id(tensor) in sources or id(tensor) in done:
            continue
        node = producer(tensor)
        if node is None:
            raise ValueError("The graph has another input.")
        if is_ready:
            ordered.append(node)
            done.update(id(output) for output in node.outputs)
            continue
        waiting.append((tensor, True))
        waiting += [(needed, False) for needed in reversed(node.inputs)]
    return ordered


def input_structure(model: keras.Model) -> Any:
    """The Keras tensors of the inputs, as a list, a dictionary or one."""
    if isinstance(model, keras.Sequential):
        return model.inputs[0]
    return model.input


def output_structure(model: keras.Model) -> Any:
    """The Keras tensors of the outputs, as a list, a dictionary or one."""
    if isinstance(model, keras.Sequential):
        return model.outputs[0]
    return model.output


def output_of(model: keras.Model, key: str | int | None) -> keras.KerasTensor:
    """The Keras tensor of one output of a model; see `shows_graph`."""
    if key is None:
        return model.outputs[0]
    structure = output_structure(model)
    if isinstance(key, str) and not isinstance(structure, dict):
        names = list(getattr(model, "output_names", None) or [])
        return model.outputs[names.index(key)]
    if isinstance(key, int) and not isinstance(structure, (list, tuple)):
        # A single tensor would give one of its rows.
        return model.outputs[key]
    return structure[key]


def inner_nodes(
    model: Any,
    output: str | int | None = None,
    is_closed: Callable[[keras.Operation], bool] = lambda operation: False,
) -> Iterator[Node]:
    """Calls in a graph, and in place of those of nested models theirs.

    Args:
        model: A model of which `shows_graph` is true.
        output: See `output_of`.
        is_closed: Tells nested models that stay one call.
    """
    for node in nodes_to(output_of(model, output), model.inputs):
        operation: Any = node.operation
        is_open = (
            shows_graph(operation)
            and len(operation.outputs) == 1
            and node.only_input is not None
        )
        if is_open and not is_closed(operation):
            yield from inner_nodes(operation, None, is_closed)
        else:
            yield node
