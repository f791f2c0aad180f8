"""What every backend offers, method by method."""

from collections.abc import Callable
from typing import Any
from typing import Protocol
from typing import TypeAlias
from typing import TypeVar

import keras

# A tensor of the active framework. Keras has no type for it.
Tensor: TypeAlias = Any
# Nested lists, tuples and dictionaries of tensors.
State = TypeVar("State")


class Backend(Protocol):
    """What differs between TensorFlow, JAX and PyTorch.

    Everything else in the package is written with `keras.ops`. A backend is a
    module with these names; a type checker holds the three modules to this
    class, and `tests/backend/test_backend.py` runs every part of it.
    """

    @property
    def folds_batch_norm(self) -> bool:
        """Whether folding BatchNorm into convolutions by hand pays off.

        It does not where XLA does the same by itself.
        """

    @property
    def compiles_image_transforms(self) -> bool:
        """Whether a compiled model may hold Keras's affine image transforms."""

    @property
    def runs_lookups(self) -> bool:
        """Whether compiled functions can run layers such as `Hashing`."""

    @property
    def Trainer(self) -> Any:
        """A subclass of `keras.Model` whose steps attack a batch first.

        A class that inherits from it defines

        * `attacked_batch(data) -> (data, findings)`: what a training step
          trains on, and a dictionary that is added to the logs,
        * `weight_shifts(data) -> list | None`: tensors that the trainable
          variables are shifted by in a training step, and back after it,
        * `replays`, an int, and `replayed_step(data) -> logs`: with more than
          one, this takes the place of Keras's own step on attacked data,
        * `safe_batch(data) -> data`: what Keras's own test step takes,
        * `robust_test_step(data) -> logs`: the logs of attacked inputs.

        `sync_state()` gives variables their values back where a training or
        test loop keeps them elsewhere.
        """

    def value_and_gradient(
        self, function: Callable[[Tensor], tuple[Tensor, Any]], x: Tensor
    ) -> tuple[tuple[Tensor, Any], Tensor]:
        """Values of a function, and the gradient of their sum.

        Of the sum, not the mean: so the gradient of one example does not
        depend on how many there are. Works inside compiled functions and
        outside, and leaves the gradients of weights alone.

        Args:
            function: `x -> (values, auxiliary)`, values of shape `(N,)`,
                auxiliary any nested tensors.
            x: Float tensor of shape `(N, ...)`.

        Returns:
            `((values, auxiliary), gradient)`, the gradient like `x`: zeros
            where the values do not depend on it.
        """

    def gradients(
        self,
        function: Callable[[list[Tensor]], Tensor],
        values: list[Tensor],
    ) -> list[Tensor]:
        """Gradients of a scalar function of several tensors.

        Works inside compiled functions and outside.

        Args:
            function: `values -> scalar`.
            values: Float tensors.

        Returns:
            One gradient for each of `values`: zeros where the function does
            not depend on it.
        """

    def value_and_gradients(
        self,
        function: Callable[[list[Tensor]], tuple[Tensor, Any]],
        values: list[Tensor],
    ) -> tuple[tuple[Tensor, Any], list[Tensor]]:
        """The same, with the value and what else the function finds.

        Args:
            function: `values -> (scalar, auxiliary)`, auxiliary any nested
                tensors.
            values: Float tensors.

        Returns:
            `((scalar, auxiliary), gradients)`.
        """

    def apply_gradients(
        self,
        optimizer: keras.optimizers.Optimizer,
        gradients: list[Tensor],
        variables: list[keras.Variable],
    ) -> None:
        """Take a step of an optimizer, inside a training step.

        Args:
            optimizer: A built optimizer.
            gradients: One tensor for each of `variables`.
            variables: Its trainable variables.
        """

    def iterate(
        self,
        step: Callable[[State], State],
        running: Callable[[State], Any],
        state: State,
        steps: Any,
    ) -> State:
        """Apply `step` to a state, `steps` times.

        Works inside compiled functions and outside.

        Args:
            step: `state -> state`, of the same structure, shapes and dtypes.
            running: `state -> bool`. Once it is false, the remaining steps may
                be left out. A backend that unrolls the loop runs them all, so
                `step` must not change a state that is not running.
            state: Nested tensors.
            steps: Int >= 0, or a scalar int tensor.

        Returns:
            The last state.
        """

    def compile(
        self,
        function: Callable[..., Any],
        variables: Any,
        jit_compile: bool | str = "auto",
        takes_steps: bool = False,
    ) -> Callable[..., Any]:
        """Compile a function once for each shape of its arguments.

        Nothing is compiled before the first call. `needs_padding` is true where
        a new batch size alone is compiled again.

        Args:
            function: Takes nested tensors of shape `(N, ...)` or `()`, and
                returns nested tensors. What a named tuple holds in a field
                named `shared` has no rows, whatever its shape, and is not
                split over devices.
            variables: The Keras variables that `function` reads. Their values
                are those at the time of each call.
            jit_compile: `True` for XLA (`torch.compile`), `False` to do
                without, `"auto"` for what is fastest on the device.
            takes_steps: Whether the last argument is a number of steps for
                `iterate`, an int.

        Returns:
            A callable with the arguments and results of `function`.
        """

    def chunks(
        self,
        steps: int,
        jit_compile: bool | str = "auto",
        unrolls: bool = True,
    ) -> list[int]:
        """Split a loop into the numbers of steps that are compiled as one.

        A progress bar moves between them.

        Args:
            steps: Int >= 0.
            jit_compile: As for `compile`.
            unrolls: Whether a step is small enough to compile several as one
                where the loop is unrolled.

        Returns:
            Positive ints that add up to `steps`; for no steps, `[]` or `[0]`.
        """

    def needs_padding(self, jit_compile: bool | str = "auto") -> bool:
        """Whether a new batch size costs a compilation.

        Args:
            jit_compile: As for `compile`.
        """

    def shard_batch(self, tensors: Any) -> Any:
        """Put a batch on the devices of a `keras.distribution` in scope.

        Args:
            tensors: Nested tensors of shape `(N, ...)` or `()`.

        Returns:
            The same values. A batch that does not divide evenly, or without a
            distribution, stays where it is.
        """

    def has_accelerator(self) -> bool:
        """Whether the framework computes on something else than the CPU."""

    def is_traced(self, x: Any) -> bool:
        """Whether `x` is symbolic, so that its values cannot be read."""
