"""PyTorch: eager steps; `jit_compile=True` hands them to `torch.compile`."""

from collections.abc import Callable
from typing import Any

import keras
import torch

from keras_robust.backend.common import StatefulTrainer
from keras_robust.backend.common import equal_chunks
from keras_robust.backend.protocol import State
from keras_robust.backend.protocol import Tensor

Trainer = StatefulTrainer
folds_batch_norm = True
compiles_image_transforms = True
runs_lookups = True


def value_and_gradient(
    function: Callable[[Tensor], tuple[Tensor, Any]], x: Tensor
) -> tuple[tuple[Tensor, Any], Tensor]:
    """See `Backend`; works inside `no_grad` too."""
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        values, auxiliary = function(x)
        if not values.requires_grad:
            return (values, auxiliary), torch.zeros_like(x)
        (gradient,) = torch.autograd.grad(
            values.sum(), x, allow_unused=True, materialize_grads=True
        )
    return (values.detach(), auxiliary), gradient


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
    with torch.enable_grad():
        values = [value.detach().requires_grad_(True) for value in values]
        total, auxiliary = function(values)
        found = torch.autograd.grad(
            total, values, allow_unused=True, materialize_grads=True
        )
    return (total.detach(), auxiliary), list(found)


@torch.no_grad()
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
    """See `Backend`."""
    for _ in range(steps):
        if not running(state):
            break
        state = step(state)
    return state


def compile(
    function: Callable[..., Any],
    variables: Any,
    jit_compile: bool | str = "auto",
    takes_steps: bool = False,
) -> Callable[..., Any]:
    """See `Backend`; eager, as Keras is, unless `jit_compile` is `True`.

    The function records no graph for gradients.
    """
    del variables, takes_steps
    if jit_compile is True:
        function = torch.compile(function)

    def call(*args: Any) -> Any:
        with torch.no_grad():
            return function(*args)

    return call


def shard_batch(tensors: Any) -> Any:
    """See `Backend`; tensors stay: Keras does not distribute PyTorch."""
    return tensors


def chunks(
    steps: int, jit_compile: bool | str = "auto", unrolls: bool = True
) -> list[int]:
    """See `Backend`; chunks only let a long loop report its progress."""
    del jit_compile, unrolls
    return equal_chunks(steps)


def needs_padding(jit_compile: bool | str = "auto") -> bool:
    """See `Backend`; only `torch.compile` specializes on the batch size."""
    return jit_compile is True


def has_accelerator() -> bool:
    """See `Backend`."""
    return torch.accelerator.is_available()


def is_traced(x: Any) -> bool:
    """See `Backend`; PyTorch tensors always have values."""
    del x
    return False
