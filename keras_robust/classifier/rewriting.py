"""Rewrites a model's graph: BatchNorm folded, layers called directly."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from typing import NamedTuple
from typing import TypeAlias

import keras
from keras import layers
from keras import ops

from keras_robust.backend import Tensor
from keras_robust.classifier.backward import Replaced
from keras_robust.classifier.folding import apply_folded
from keras_robust.classifier.folding import can_fold
from keras_robust.classifier.folding import can_run_folded
from keras_robust.classifier.folding import commutes
from keras_robust.classifier.folding import folded_weights
from keras_robust.classifier.graph import Node
from keras_robust.classifier.graph import nodes_to
from keras_robust.classifier.graph import output_of
from keras_robust.classifier.graph import shows_graph
from keras_robust.layers import PatchWhitening
from keras_robust.layers import ResidualBlock
from keras_robust.layers.straight_through import with_gradient_of

_MERGING = (layers.Add, layers.Average, layers.Concatenate, layers.Multiply)
_IDENTITY = (
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.GaussianNoise,
    layers.GaussianDropout,
    layers.Identity,
)
# Layers whose `call` gives the same without what `__call__` does around it.
_DIRECT = _MERGING + (
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv3D,
    layers.Dense,
    layers.DepthwiseConv2D,
    layers.ZeroPadding2D,
    layers.ReLU,
    layers.LeakyReLU,
    layers.ELU,
    layers.Activation,
    layers.Flatten,
    layers.Reshape,
    layers.Rescaling,
    layers.Normalization,
    layers.MaxPooling2D,
    layers.AveragePooling2D,
    layers.GlobalMaxPooling2D,
    layers.GlobalAveragePooling2D,
    PatchWhitening,
)
_MASKING = (layers.Masking, layers.Embedding)


def is_plain(layer: Any) -> bool:
    """Whether a layer is unmodified: not quantized, no LoRA, no own `call`."""
    return (
        getattr(layer, "quantization_mode", None) is None
        and not getattr(layer, "lora_enabled", False)
        and "call" not in vars(layer)
    )


# Results by the ids of their Keras tensors.
Values: TypeAlias = dict[int, Any]
# Folded kernels and biases by the ids of layer and BatchNorm.
Weights: TypeAlias = dict[tuple[int, int], tuple[Tensor, Tensor]]
# `(values, weights) -> result`.
Run: TypeAlias = Callable[[Values, Weights], Any]


@dataclass
class Step:
    """One operation of a rewritten graph.

    Attributes:
        run: `(values, weights) -> result`, with values by id of Keras tensors.
        reads: Ids of its input tensors.
        writes: Ids of its output tensors.
        name: Name of the operation.
        is_moved: Whether the operation is computed in the step of its
            BatchNorm, so that this step only passes on its input.
        frees: Ids of tensors that no later step reads.
    """

    run: Run
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    name: str
    is_moved: bool = False
    frees: tuple[int, ...] = ()


class Rewritten:
    """A functional model in inference mode, as a function of its inputs.

    The weights are those of the model's layers, read at every call.

    Args:
        steps: Steps in the order of the graph.
        sources: The Keras tensors of the inputs.
        result: Id of the output tensor.
        pairs: Layers with the BatchNorm that is folded into each.
        pure: Whether no step changes the state of a layer.
        casts: Whether inputs are cast to the dtype of the model's Inputs, as
            Keras does. A cast to integers has no gradient.
    """

    def __init__(
        self,
        steps: list[Step],
        sources: list[keras.KerasTensor],
        result: int,
        pairs: list[tuple[Any, Any]],
        pure: bool,
        casts: bool = True,
    ) -> None:
        self._steps = steps
        self._sources = [
            (id(source), keras.backend.standardize_dtype(source.dtype))
            for source in sources
        ]
        self._result = result
        self._casts = casts
        self.pairs = pairs
        self.pure = pure
        last = {}
        for step in steps:
            for name in step.reads:
                last[name] = step
        for name, step in last.items():
            if name != result:
                step.frees = (*step.frees, name)

    def __call__(
        self, inputs: list[Any], weights: Weights | None = None
    ) -> Any:
        """The model's output.

        Args:
            inputs: Tensors `(N, ...)` in the order of the sources.
            weights: Result of `weights()`, or `None`.
        """
        return self.values(inputs, weights)[self._result]

    def values(
        self,
        inputs: list[Any],
        weights: Weights | None = None,
        keep: bool = False,
    ) -> Values:
        """Results by id of their Keras tensors.

        Args:
            inputs: See the call.
            weights: See the call.
            keep: Whether to keep the results of all steps, not only the last.
        """
        weights = weights or {}
        values = {}
        for (name, dtype), x in zip(self._sources, inputs, strict=True):
            values[name] = ops.cast(x, dtype) if self._casts else x
        for step in self._steps:
            result = step.run(values, weights)
            if len(step.writes) == 1:
                values[step.writes[0]] = result
            else:
                results = keras.tree.flatten(result)
                values.update(zip(step.writes, results, strict=True))
            if not keep:
                for name in step.frees:
                    del values[name]
        return values

    @property
    def steps(self) -> list[Step]:
        """The operations, in order."""
        return self._steps

    def weights(self) -> Weights:
        """Folded kernels and biases, to share between calls."""
        return {
            (id(layer), id(norm)): folded_weights(layer, norm)
            for layer, norm in self.pairs
        }


def rewrite(
    model: Any,
    output: str | int | None = None,
    fold: bool = True,
    casts: bool = True,
    replaced: Replaced | None = None,
) -> Rewritten | None:
    """Rewrite a model in inference mode as a cheaper, equal function.

    Args:
        model: A built Keras model.
        output: Which of several outputs, see `Classifier`; `None` for the
            first.
        fold: Whether BatchNorm is folded and `call` replaces `__call__` where
            that is the same; otherwise every layer is called as in Keras.
        casts: See `Rewritten`.
        replaced: What is differentiated in place of operations, by their ids.

    Returns:
        `Rewritten`; `None` if the graph is hidden, or passes masks between
        layers.
    """
    replaced = replaced or {}
    if not shows_graph(model):
        return None
    try:
        tensor = output_of(model, output)
        nodes = nodes_to(tensor, model.inputs)
    except (AttributeError, ValueError, KeyError, IndexError):
        return None
    if fold and any(_makes_masks(node.operation) for node in nodes):
        return None
    pairs = _pairs(nodes, tensor, set(replaced)) if fold else {}
    moved = {name for pair in pairs.values() for name in pair.moved}
    all_pairs = [(pair.layer, pair.norm) for pair in pairs.values()]
    steps, pure = [], True
    for node in nodes:
        name = id(node.outputs[0])
        if name in pairs:
            run = _single(node, _folding(pairs[name]))
        elif name in moved:
            run = _single(node, _identity)
        else:
            run, more, is_pure = _step(node, fold, casts, replaced)
            all_pairs += more
            pure = pure and is_pure
        steps.append(
            Step(
                run,
                tuple(id(needed) for needed in node.inputs),
                tuple(id(output) for output in node.outputs),
                node.operation.name,
                is_moved=name in moved,
            )
        )
    return Rewritten(steps, model.inputs, id(tensor), all_pairs, pure, casts)


def _makes_masks(operation: keras.Operation) -> bool:
    if isinstance(operation, _MASKING):
        return True
    method = getattr(type(operation), "compute_mask", None)
    return (
        not _is_keras(operation)
        and method is not None
        and method is not layers.Layer.compute_mask
    )


def _is_keras(operation: keras.Operation) -> bool:
    """Whether its class is Keras's own, not a subclass."""
    return type(operation).__module__.startswith("keras.")


class _Pair(NamedTuple):
    """A layer and the BatchNorm that is folded into it.

    Attributes:
        layer: A convolution or `Dense` layer.
        norm: The `BatchNormalization`.
        pools: Pooling layers between them, in order.
        moved: Ids of the outputs of `layer` and `pools`.
    """

    layer: Any
    norm: Any
    pools: tuple[keras.Layer, ...]
    moved: tuple[int, ...]


def _pairs(
    nodes: list[Node], result: keras.KerasTensor, kept: set[int]
) -> dict[int, _Pair]:
    """The `_Pair` of each BatchNorm to fold, by id of the norm's output.

    Operations whose ids are in `kept` are left as they are.
    """
    makers: dict[int, Node] = {}
    readers: dict[int, int] = {}
    calls: dict[int, int] = {}
    for node in nodes:
        calls[id(node.operation)] = calls.get(id(node.operation), 0) + 1
        for tensor in node.inputs:
            readers[id(tensor)] = readers.get(id(tensor), 0) + 1
        makers[id(node.outputs[0])] = node

    def is_free(operation: keras.Operation) -> bool:
        return is_plain(operation) and id(operation) not in kept

    def before(node: Node) -> Node | None:
        """The call whose result no one but `node` reads, or `None`."""
        read = node.only_input
        maker = None if read is None else makers.get(id(read))
        if (
            maker is None
            or maker.only_input is None
            or read is result
            or readers[id(read)] != 1
            or not is_free(maker.operation)
        ):
            return None
        return maker

    pairs = {}
    for node in nodes:
        pair = _pair(node, before) if is_free(node.operation) else None
        if pair is not None and calls[id(pair.layer)] == 1:
            pairs[id(node.outputs[0])] = pair
    return pairs


def _pair(node: Node, before: Callable[[Node], Node | None]) -> _Pair | None:
    """The layer that a call of BatchNorm is folded into, if there is one."""
    norm = node.operation
    pools: list[Node] = []
    maker = before(node)
    while maker is not None and commutes(maker.operation, norm):
        pools.insert(0, maker)
        maker = before(maker)
    if maker is None:
        return None
    layer, output = maker.operation, maker.outputs[0]
    if not can_fold(layer, norm, len(output.shape)) or not all(
        can_run_folded(pool.operation, layer) for pool in pools
    ):
        return None
    return _Pair(
        layer,
        norm,
        tuple(pool.operation for pool in pools),
        (id(output), *(id(pool.outputs[0]) for pool in pools)),
    )


def _step(
    node: Node, fold: bool, casts: bool, replaced: Replaced
) -> tuple[Run, list[tuple[keras.Layer, keras.Layer]], bool]:
    """How to run a call, the pairs in it, and whether it is pure."""
    operation, only = node.operation, node.only_input
    other = replaced.get(id(operation))
    if other is not None:
        return _single(node, _differentiated_as(operation, other)), [], False
    if not isinstance(operation, layers.Layer):
        return _general(node, operation), [], True
    if isinstance(operation, keras.Model) and only is not None:
        inner = None
        if (fold or replaced or not casts) and len(
            getattr(operation, "outputs", None) or []
        ) == 1:
            inner = rewrite(
                operation, fold=fold, casts=casts, replaced=replaced
            )
        if inner is not None:
            return _single(node, _nested(inner)), inner.pairs, inner.pure
    if fold and only is not None and is_plain(operation):
        if type(operation) in _IDENTITY:
            return _single(node, _identity), [], True
        if type(operation) is ResidualBlock and all(
            is_plain(part) for pair in operation.pairs for part in pair
        ):
            return _single(node, _block(operation)), operation.pairs, True
        if type(operation) is layers.BatchNormalization:
            return _single(node, _unfolded(operation)), [], True
    if fold and is_plain(operation) and type(operation) in _DIRECT:
        # In mixed precision `__call__` casts the weights.
        exact = operation.compute_dtype == operation.variable_dtype
        if exact and operation.autocast and _takes_only_tensors(node):
            return _direct(node), [], True
    return _general(node, _called_frozen(operation)), [], False


def _takes_only_tensors(node: Node) -> bool:
    (first, *more) = node.args
    several = isinstance(first, (list, tuple))
    return (
        not more
        and all(
            value is None
            for name, value in node.kwargs.items()
            if name != "training"
        )
        and several == (type(node.operation) in _MERGING)
    )


def _single(node: Node, function: Callable[[Tensor, Weights], Tensor]) -> Run:
    name = id(node.only_input)
    return lambda values, weights: function(values[name], weights)


def _general(node: Node, function: Callable[..., Any]) -> Run:
    """Run a call with the arguments that it has in the graph."""

    def run(values: Values, weights: Weights) -> Any:
        del weights
        args, kwargs = node.arguments(values)
        return function(*args, **kwargs)

    return run


def _differentiated_as(
    operation: Any, other: Callable[[Any], Any]
) -> Callable[[Tensor, Weights], Tensor]:
    function = _called_frozen(operation)

    def run(x: Tensor, weights: Weights) -> Tensor:
        del weights
        try:
            return with_gradient_of(function(x), other(x))
        except ValueError as error:
            raise ValueError(
                f"Argument `backward`, layer {operation.name!r}: {error}"
            ) from error

    return run


def _called_frozen(layer: Any) -> Callable[..., Any]:
    parameters = inspect.signature(layer.call).parameters
    if "training" not in parameters:
        return layer
    return lambda *args, **kwargs: layer(*args, **{**kwargs, "training": False})


def _identity(x: Tensor, weights: Weights) -> Tensor:
    del weights
    return x


def _folding(pair: _Pair) -> Callable[[Tensor, Weights], Tensor]:
    return lambda x, weights: apply_folded(
        pair.layer, pair.norm, x, weights, pair.pools
    )


def _unfolded(norm: keras.Layer) -> Callable[[Tensor, Weights], Tensor]:
    return lambda x, weights: norm(x, training=False)


def _nested(inner: Rewritten) -> Callable[[Tensor, Weights], Tensor]:
    return lambda x, weights: inner([x], weights)


def _block(block: ResidualBlock) -> Callable[[Tensor, Weights], Tensor]:
    def run(x: Tensor, weights: Weights) -> Tensor:
        return block.run(
            ops.cast(x, block.compute_dtype),
            lambda layer, norm, h: apply_folded(layer, norm, h, weights),
        )

    return run


def _direct(node: Node) -> Run:
    layer, (argument,) = node.operation, node.args
    if not isinstance(argument, (list, tuple)):
        name = id(argument)

        def call(values: Values, weights: Weights) -> Tensor:
            del weights
            return layer.call(ops.cast(values[name], layer.compute_dtype))

        return call
    names = [id(part) for part in argument]

    def call_all(values: Values, weights: Weights) -> Tensor:
        del weights
        return layer.call(
            [ops.cast(values[name], layer.compute_dtype) for name in names]
        )

    return call_all
