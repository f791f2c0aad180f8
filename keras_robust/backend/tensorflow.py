"""TensorFlow: graph mode on CPU, XLA with the loop inside on accelerators."""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_robust.backend.common import StatefulTrainer
from keras_robust.backend.common import equal_chunks
from keras_robust.backend.protocol import State
from keras_robust.backend.protocol import Tensor

Trainer = StatefulTrainer
folds_batch_norm = True
# XLA under TensorFlow has no kernel for them.
compiles_image_transforms = False
runs_lookups = True


def value_and_gradient(
    function: Callable[[Tensor], tuple[Tensor, Any]], x: Tensor
) -> tuple[tuple[Tensor, Any], Tensor]:
    """See `Backend`."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        values, auxiliary = function(x)
        total = tf.reduce_sum(values)
    gradient = tape.gradient(
        total, x, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    return (values, auxiliary), gradient


def gradients(
    function: Callable[[list[Tensor]], Tensor], values: list[Tensor]
) -> list[Tensor]:
    """See `Backend`."""
    return value_and_gradients(lambda v: (function(v), None), values)[1]


def value_and_gradients(
    function: Callable[[list[Tensor]], tuple[Tensor, Any]],
    values: list[Tensor],
) -> tuple[tuple[Tensor, Any], list[Tensor]]:
    """See `Backend`."""
    values = [tf.identity(value) for value in values]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(values)
        total, auxiliary = function(values)
    found = tape.gradient(
        total, values, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    found = [tf.convert_to_tensor(gradient) for gradient in found]
    return (total, auxiliary), found


def apply_gradients(
    optimizer: keras.optimizers.Optimizer,
    gradients: list[Tensor],
    variables: list[keras.Variable],
) -> None:
    """See `Backend`."""
    optimizer.apply(gradients, variables)


def iterate(
    step: Callable[[State], State],
    running: Callable[[State], Any],
    state: State,
    steps: Any,
) -> State:
    """See `Backend`; the replicas of a strategy make all steps."""
    if isinstance(steps, int) and steps == 1:
        return step(state)
    state = tf.nest.map_structure(tf.convert_to_tensor, state)
    # A replica that stopped alone would have another number of the next step
    # than the others, and `_replicated` returns the number of the first.
    stops = tf.distribute.get_strategy().num_replicas_in_sync == 1

    def condition(i: Tensor, state: State) -> Tensor:
        more = i < steps
        return tf.logical_and(more, running(state)) if stops else more

    _, state = tf.while_loop(
        condition,
        lambda i, state: (i + 1, step(state)),
        (tf.constant(0), state),
        parallel_iterations=1,
    )
    return state


def has_accelerator() -> bool:
    """See `Backend`."""
    kinds = ("GPU", "TPU")
    return any(tf.config.list_logical_devices(kind) for kind in kinds)


def _uses_xla(jit_compile: bool | str) -> bool:
    if jit_compile == "auto":
        return has_accelerator()
    return jit_compile is True


def compile(
    function: Callable[..., Any],
    variables: Any,
    jit_compile: bool | str = "auto",
    takes_steps: bool = False,
) -> Callable[..., Any]:
    """See `Backend`; a `tf.function` for each shape after the batch axis.

    `"auto"` means XLA on accelerators only. The function captures variables.
    """
    del variables, takes_steps
    by_signature: dict[Any, Callable[..., Any]] = {}

    def open_batch_spec(value: Any) -> tf.TensorSpec:
        value = tf.convert_to_tensor(value)
        return tf.TensorSpec(
            [None, *value.shape[1:]][: value.ndim], value.dtype
        )

    replicated = functools.cache(_replicated)

    def call(*args: Any) -> Any:
        if _divides_evenly(args):
            return replicated(function, tf.distribute.get_strategy())(*args)
        signature = _signature(args)
        if signature not in by_signature:
            by_signature[signature] = traced(args, _uses_xla(jit_compile))
        try:
            return by_signature[signature](*args)
        except _KERNEL_ERRORS as error:
            if "XLA" not in str(error) or not _uses_xla(jit_compile):
                raise
            warnings.warn(
                "XLA cannot compile an operation of the model or the attack, "
                "so TensorFlow's graph runs without it; jit_compile=False "
                f"does so without a warning. {_first_cause(error)}",
                UserWarning,
                stacklevel=2,
            )
            by_signature[signature] = traced(args, False)
            return by_signature[signature](*args)

    def traced(args: Any, jit_compile: bool) -> Callable[..., Any]:
        # A batch dimension of None: one trace serves every batch size. A
        # partial: TensorFlow counts traces by code, and would take the loops
        # of all models for one that is traced again and again.
        return tf.function(
            functools.partial(function),
            input_signature=tf.nest.map_structure(open_batch_spec, args),
            jit_compile=jit_compile,
            autograph=False,
        )

    return call


def _signature(args: Any) -> tuple[Any, ...]:
    """Shapes after the batch axis, and dtypes, of all tensors."""
    return tuple(
        (tuple(value.shape[1:]), value.dtype) if tf.is_tensor(value) else ()
        for value in tf.nest.flatten(args)
    )


# What TensorFlow raises where an operation has no XLA kernel.
_KERNEL_ERRORS = (
    tf.errors.InvalidArgumentError,
    tf.errors.UnimplementedError,
    tf.errors.NotFoundError,
)


def _first_cause(error: Exception) -> str:
    """The line that names the operation, in short."""
    lines = str(error).splitlines()
    named = [line for line in lines if "No registered" in line] or lines
    return named[0].strip()[:200]


def _divides_evenly(args: Any) -> bool:
    """Whether the replicas of a strategy in scope get equal parts."""
    strategy = tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    if replicas == 1 or not tf.distribute.in_cross_replica_context():
        return False
    return all(
        len(value) % replicas == 0
        for value, shared in _leaves(args)
        if not shared
        for value in [tf.convert_to_tensor(value)]
        if value.ndim
    )


def _leaves(tree: Any) -> list[tuple[Any, bool]]:
    """All leaves, each with whether it belongs to the batch as a whole."""
    shared = tf.nest.flatten(_is_shared(tree))
    return list(zip(tf.nest.flatten(tree), shared, strict=True))


def _is_shared(tree: Any, shared: bool = False) -> Any:
    """Marks what is in a field `shared` of a named tuple, see `Backend`."""
    if isinstance(tree, dict):
        return {key: _is_shared(value, shared) for key, value in tree.items()}
    if hasattr(tree, "_fields"):
        marks = {
            name: _is_shared(getattr(tree, name), shared or name == "shared")
            for name in tree._fields
        }
        return tree._replace(**marks)
    if isinstance(tree, (list, tuple)):
        return type(tree)(_is_shared(value, shared) for value in tree)
    return shared


def _replicated(
    function: Callable[..., Any], strategy: tf.distribute.Strategy
) -> Callable[..., Any]:
    """A function that runs on all replicas, each with a part of the batch.

    Scalars and what is shared are the same for all. Results are concatenated
    in order.
    """
    replicas = strategy.num_replicas_in_sync
    run = tf.function(
        functools.partial(strategy.run, function),
        autograph=False,
        reduce_retracing=True,
    )

    def part_of(args: Any, i: int) -> Any:
        def take(value: Any, shared: bool) -> Tensor:
            value = tf.convert_to_tensor(value)
            whole = shared or not value.ndim
            return value if whole else tf.split(value, replicas)[i]

        return tf.nest.map_structure(take, args, _is_shared(args))

    def join(leaf: Any, shared: bool) -> Tensor:
        parts = strategy.experimental_local_results(leaf)
        whole = shared or not parts[0].shape.rank
        return parts[0] if whole else tf.concat(parts, 0)

    def call(*args: Any) -> Any:
        parts = [part_of(args, i) for i in range(replicas)]
        values = strategy.experimental_distribute_values_from_function(
            lambda context: parts[context.replica_id_in_sync_group]
        )
        result = run(args=values)
        return tf.nest.map_structure(join, result, _is_shared(result))

    return call


def shard_batch(tensors: Any) -> Any:
    """See `Backend`; tensors stay: `compile` splits them over replicas."""
    return tensors


def chunks(
    steps: int, jit_compile: bool | str = "auto", unrolls: bool = True
) -> list[int]:
    """See `Backend`; chunks only let a long loop report its progress."""
    del jit_compile, unrolls
    return equal_chunks(steps)


def needs_padding(jit_compile: bool | str = "auto") -> bool:
    """See `Backend`; XLA compiles for each batch size, the graph does not."""
    return _uses_xla(jit_compile)


def is_traced(x: Any) -> bool:
    """See `Backend`; whether `x` is a symbolic tensor of a `tf.function`."""
    return tf.is_tensor(x) and not hasattr(x, "numpy")
