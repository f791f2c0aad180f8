"""JAX: variables are arguments; on CPU no convolution inside an XLA loop."""

import contextlib
import functools
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import jax
import keras
from jax import numpy as jnp

from keras_robust.backend.common import equal_chunks
from keras_robust.backend.protocol import State
from keras_robust.backend.protocol import Tensor

folds_batch_norm = False
compiles_image_transforms = True
runs_lookups = False
# Unrolled loops of up to this many steps compile in seconds.
UNROLL_LIMIT = 8


def value_and_gradient(
    function: Callable[[Tensor], tuple[Tensor, Any]], x: Tensor
) -> tuple[tuple[Tensor, Any], Tensor]:
    """See `Backend`."""

    def total(x: Tensor) -> tuple[Tensor, tuple[Tensor, Any]]:
        values, auxiliary = function(x)
        return jnp.sum(values), (values, auxiliary)

    (_, outputs), gradient = jax.value_and_grad(total, has_aux=True)(x)
    return outputs, gradient


def gradients(
    function: Callable[[list[Tensor]], Tensor], values: list[Tensor]
) -> list[Tensor]:
    """See `Backend`."""
    return jax.grad(function)(values)


def value_and_gradients(
    function: Callable[[list[Tensor]], tuple[Tensor, Any]],
    values: list[Tensor],
) -> tuple[tuple[Tensor, Any], list[Tensor]]:
    """See `Backend`."""
    return jax.value_and_grad(function, has_aux=True)(values)


def apply_gradients(
    optimizer: keras.optimizers.Optimizer,
    gradients: list[Tensor],
    variables: list[keras.Variable],
) -> None:
    """See `Backend`; inside a `keras.StatelessScope`."""
    own = optimizer.variables
    changed = optimizer.stateless_apply(
        [variable.value for variable in own],
        gradients,
        [variable.value for variable in variables],
    )
    for group, values in zip((variables, own), changed, strict=True):
        for variable, value in zip(group, values, strict=True):
            variable.assign(value)


def iterate(
    step: Callable[[State], State],
    running: Callable[[State], Any],
    state: State,
    steps: Any,
) -> State:
    """See `Backend`; unrolled on CPU, where `running` is not looked at."""
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


def has_accelerator() -> bool:
    """See `Backend`."""
    return not _on_cpu()


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def _unrolls(jit_compile: bool | str) -> bool:
    """Whether numbers of steps are compiled in, and loops unrolled."""
    return _on_cpu() and jit_compile is not True


def compile(
    function: Callable[..., Any],
    variables: Any,
    jit_compile: bool | str = "auto",
    takes_steps: bool = False,
) -> Callable[..., Any]:
    """See `Backend`; `jit_compile=False` runs operation by operation.

    `True` keeps the loop inside XLA on CPU too, `"auto"` on accelerators only.
    Variables are passed as arguments: if `function` closed over them,
    `jax.jit` would keep their first values.
    """
    variables = list(variables)

    def stateless(
        values: list[Tensor], steps: tuple[int, ...], *args: Any
    ) -> Any:
        mapping = zip(variables, values, strict=True)
        with keras.StatelessScope(state_mapping=list(mapping)):
            return function(*args, *steps)

    static = _unrolls(jit_compile)
    if jit_compile is not False:
        stateless = jax.jit(stateless, static_argnums=(1,) if static else ())

    def call(*args: Any) -> Any:
        steps: tuple[int, ...] = ()
        if takes_steps:
            args, steps = args[:-1], args[-1:]
        return stateless([v.value for v in variables], steps, *args)

    return call


def shard_batch(tensors: Any) -> Any:
    """See `Backend`; compiled functions then run on all devices."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return tensors

    def place(tensor: Tensor) -> Tensor:
        layout = distribution.get_data_layout(tensor.shape)
        try:
            return keras.distribution.distribute_tensor(tensor, layout)
        except ValueError:
            return tensor

    return jax.tree.map(place, tensors)


def chunks(
    steps: int, jit_compile: bool | str = "auto", unrolls: bool = True
) -> list[int]:
    """See `Backend`; on CPU one unrolled loop, or single steps if long."""
    if not _unrolls(jit_compile):
        return equal_chunks(steps)
    if unrolls and steps <= UNROLL_LIMIT:
        return [steps]
    return [1] * steps


def needs_padding(jit_compile: bool | str = "auto") -> bool:
    """See `Backend`; compiled functions take one batch size."""
    return jit_compile is not False


def is_traced(x: Any) -> bool:
    """See `Backend`; whether `x` is a tracer of a JAX transformation."""
    return isinstance(x, jax.core.Tracer)


class Trainer(keras.Model):
    """See `Backend.Trainer`; steps take the state and return the new one."""

    train_function: Any
    test_function: Any
    predict_function: Any
    # Whether an error in a step gave the variables their values back, so that
    # what Keras keeps of an earlier step is older.
    variables_restored: bool = False

    @functools.wraps(keras.Model.fit)
    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """As in Keras; weights and their averages are arrays of their own.

        Keras lets the averages that an optimizer keeps become the weights: both
        are one array then, which the next step is given twice, or which
        `evaluate` uses up.
        """
        history = super().fit(*args, **kwargs)
        weights = {id(variable.value) for variable in self.variables}
        for variable in self.optimizer.variables:
            if id(variable.value) in weights:
                variable.assign(jnp.array(variable.value, copy=True))
        return history

    def jax_state_sync(self) -> None:
        """As in Keras, which writes the values of the last step."""
        if not self.variables_restored:
            super().jax_state_sync()

    def make_train_function(self, force: bool = False) -> None:
        """As in Keras; an error in a step leaves the variables as they were."""
        is_old = self.train_function is not None and not force
        with _single_steps(self):
            super().make_train_function(force)
        if not is_old:
            self.train_function = _restoring(
                self,
                self.train_function,
                lambda: [
                    self.trainable_variables,
                    self.non_trainable_variables,
                    self.optimizer.variables,
                    self.metrics_variables,
                ],
                lambda: self.steps_per_execution,
            )

    def make_test_function(self, force: bool = False) -> None:
        """The same for evaluation."""
        is_old = self.test_function is not None and not force
        with _single_steps(self):
            super().make_test_function(force)
        if not is_old:
            self.test_function = _restoring(
                self,
                self.test_function,
                lambda: [
                    self.trainable_variables,
                    self.non_trainable_variables,
                    self.metrics_variables,
                ],
                lambda: self.steps_per_execution,
            )

    def make_predict_function(self, force: bool = False) -> None:
        """The same for prediction."""
        is_old = self.predict_function is not None and not force
        super().make_predict_function(force)
        if not is_old:
            self.predict_function = _restoring(
                self,
                self.predict_function,
                lambda: [
                    self.trainable_variables,
                    self.non_trainable_variables,
                ],
            )

    def train_step(self, state: Any, data: Any) -> tuple[dict[str, Any], Any]:
        """One optimizer step on the attacked batch."""
        trainable, non_trainable, optimizer, metrics = state
        if self.replays > 1:
            with self._scope(
                trainable, non_trainable, metrics, optimizer
            ) as scope:
                logs = self.replayed_step(data)
            groups = (
                self.trainable_variables,
                self.non_trainable_variables,
                self.optimizer.variables,
                self.metrics_variables,
            )
            return logs, tuple(_current(scope, group) for group in groups)
        with self._scope(trainable, non_trainable, metrics, optimizer) as scope:
            data, findings = self.attacked_batch(data)
            shifts = self.weight_shifts(data)
        non_trainable = _current(scope, self.non_trainable_variables)
        metrics = _current(scope, self.metrics_variables)
        if shifts is not None:
            trainable = list(map(jnp.add, trainable, shifts))
        state = (trainable, non_trainable, optimizer, metrics)
        logs, state = super().train_step(state, data)
        if shifts is not None:
            state = (list(map(jnp.subtract, state[0], shifts)), *state[1:])
        return {**logs, **findings}, state

    def test_step(self, state: Any, data: Any) -> tuple[dict[str, Any], Any]:
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
        """Give variables their values back, also after an error."""
        self.jax_state_sync()

    def _scope(
        self,
        trainable: Any,
        non_trainable: Any,
        metrics: Any,
        optimizer: Any = (),
    ) -> keras.StatelessScope:
        variables = self.trainable_variables + self.non_trainable_variables
        variables = variables + self.metrics_variables
        values = [*trainable, *non_trainable, *metrics]
        if optimizer:
            variables = variables + self.optimizer.variables
            values += optimizer
        mapping = list(zip(variables, values, strict=True))
        return keras.StatelessScope(state_mapping=mapping)


def _current(
    scope: keras.StatelessScope, variables: list[keras.Variable]
) -> list[Tensor]:
    return [scope.get_current_value(variable) for variable in variables]


@contextlib.contextmanager
def _single_steps(model: Any) -> Iterator[None]:
    """A context in which Keras makes functions of one step for each call."""
    steps, model.steps_per_execution = model.steps_per_execution, 1
    try:
        yield
    finally:
        model.steps_per_execution = steps


def _restoring(
    model: Any,
    function: Callable[..., Any],
    variables: Callable[[], list[list[keras.Variable]]],
    steps: Callable[[], int] = lambda: 1,
) -> Callable[..., Any]:
    """Call a function several times; variables have values after an error.

    Keras takes the values out of the variables before the first step of an
    epoch. An error would lose them: while a step is traced, or in the data.

    Args:
        model: The model.
        function: A train, test or predict function of Keras, `(state, data)`.
        variables: The variables of each part of the state.
        steps: Returns the number of calls, each with the state that the one
            before returns. As in Keras it may change after `compile`.
    """

    def call(state: Any, data: Any) -> Any:
        model.variables_restored = False
        found = None
        try:
            for _ in range(steps()):
                found, state = function(state, data)
        except StopIteration:
            # The data are at their end.
            if found is None:
                raise
        except BaseException:
            pairs = [
                pair
                for group, values in zip(variables(), state, strict=True)
                for pair in zip(group, values, strict=True)
            ]
            for variable, value in pairs:
                # A step that ran has given up what it was passed.
                if not value.is_deleted():
                    variable.assign(value)
            model.variables_restored = not any(
                value.is_deleted() for _, value in pairs
            )
            raise
        return found, state

    return call
