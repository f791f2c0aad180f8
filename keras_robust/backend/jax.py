"""JAX: variables are arguments; on CPU no convolution inside an XLA loop."""

from collections.abc import Callable
from typing import Any

import jax
import keras
from jax import numpy as jnp

from keras_robust.backend.common import equal_chunks

folds_batch_norm = False
runs_lookups = False
# Unrolled loops of up to this many steps compile in seconds.
UNROLL_LIMIT = 8


def value_and_gradient(function: Callable, x: Any) -> tuple:
    """See `keras_robust.backend`."""

    def total(x):
        values, auxiliary = function(x)
        return jnp.sum(values), (values, auxiliary)

    (_, outputs), gradient = jax.value_and_grad(total, has_aux=True)(x)
    return outputs, gradient


def iterate(step: Any, running: Any, state: Any, steps: int) -> Any:
    """See `keras_robust.backend`."""
    if isinstance(steps, int) and (steps == 1 or _on_cpu()):
        for _ in range(steps):
            state = step(state)
        return state
    _, state = jax.lax.while_loop(
        lambda carry: (carry[0] < steps) & running(carry[1]),
        lambda carry: (carry[0] + 1, step(carry[1])),
        (0, state),
    )
    return state


def _on_cpu():
    return jax.default_backend() == "cpu"


def _static_steps(jit_compile):
    return _on_cpu() and jit_compile is not True


def compile(
    function: Callable,
    variables: Any,
    jit_compile: bool | str = "auto",
    takes_steps: int | bool = False,
) -> Any:
    """Compiles `function`, reading `variables` anew at every call.

    Args:
        function: Callable of dictionaries of arrays; where `takes_steps`,
            its last argument is a number of steps.
        variables: Keras variables that `function` reads. They are passed as
            arguments: closed over, `jax.jit` would keep their first values.
        jit_compile: `False` runs operation by operation; `True` keeps the
            loop inside XLA on CPU too; `"auto"` does so on accelerators.
        takes_steps: Whether the last argument is a number of steps.

    Returns:
        The compiled callable.
    """
    variables = list(variables)

    def stateless(values, steps, *args):
        mapping = zip(variables, values, strict=True)
        with keras.StatelessScope(state_mapping=list(mapping)):
            return function(*args, *steps)

    static = _static_steps(jit_compile)
    if jit_compile is not False:
        stateless = jax.jit(stateless, static_argnums=(1,) if static else ())

    def call(*args):
        steps = ()
        if takes_steps:
            args, steps = args[:-1], args[-1:]
        return stateless([v.value for v in variables], steps, *args)

    return call


def spread(tensors: Any) -> Any:
    """Puts each example on one device of a `keras.distribution`.

    The compiled functions then run on all of them. A batch that does not
    divide evenly stays whole.
    """
    distribution = keras.distribution.distribution()
    if distribution is None:
        return tensors

    def place(tensor):
        layout = distribution.get_data_layout(tensor.shape)
        try:
            return keras.distribution.distribute_tensor(tensor, layout)
        except ValueError:
            return tensor

    return jax.tree.map(place, tensors)


def chunks(
    steps: int, jit_compile: bool | str = "auto", unrolls: int | bool = True
) -> Any:
    """One unrolled piece on CPU, single steps beyond the unrolling limit."""
    if not _static_steps(jit_compile):
        return equal_chunks(steps)
    if unrolls and steps <= UNROLL_LIMIT:
        return [steps]
    return [1] * steps


def needs_padding(jit_compile: bool | str = "auto") -> Any:
    """Every new batch size would be compiled again."""
    return jit_compile is not False


def is_traced(x: Any) -> bool:
    """Whether `x` is a tracer of a JAX transformation."""
    return isinstance(x, jax.core.Tracer)


class Trainer:
    """Train and test steps that attack first; state goes in and comes out."""

    def train_step(self, state: Any, data: Any) -> tuple:
        """One optimizer step on the attacked batch."""
        trainable, non_trainable, optimizer, metrics = state
        with self._scope(trainable, non_trainable, metrics) as scope:
            data, findings = self.attacked_batch(data)
        non_trainable = _current(scope, self.non_trainable_variables)
        metrics = _current(scope, self.metrics_variables)
        state = (trainable, non_trainable, optimizer, metrics)
        logs, state = super().train_step(state, data)
        return {**logs, **findings}, state

    def test_step(self, state: Any, data: Any) -> tuple:
        """Metrics of one batch, clean and attacked."""
        with self._scope(*state):
            data = self.safe_batch(data)
        logs, (trainable, non_trainable, metrics) = super().test_step(
            state, data
        )
        with self._scope(trainable, non_trainable, metrics) as scope:
            logs = {**logs, **self.robust_test_step(data)}
        non_trainable = _current(scope, self.non_trainable_variables)
        metrics = _current(scope, self.metrics_variables)
        return logs, (trainable, non_trainable, metrics)

    def sync_state(self) -> None:
        """Gives variables their values back, also after an error."""
        self.jax_state_sync()

    def _scope(self, trainable, non_trainable, metrics):
        variables = self.trainable_variables + self.non_trainable_variables
        variables = variables + self.metrics_variables
        values = [*trainable, *non_trainable, *metrics]
        mapping = list(zip(variables, values, strict=True))
        return keras.StatelessScope(state_mapping=mapping)


def _current(scope, variables):
    return [scope.get_current_value(variable) for variable in variables]
