"""PyTorch: eager steps; `jit_compile=True` hands them to `torch.compile`."""

from collections.abc import Callable
from typing import Any

import torch

from keras_robust.backend.common import EagerStyleTrainer
from keras_robust.backend.common import equal_chunks

Trainer = EagerStyleTrainer
folds_batch_norm = True
runs_lookups = True


def value_and_gradient(function: Callable, x: Any) -> tuple:
    """See `keras_robust.backend`; inside `no_grad` too,
    and without touching `.grad` of the weights.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        values, auxiliary = function(x)
        if not values.requires_grad:
            return (values, auxiliary), torch.zeros_like(x)
        (gradient,) = torch.autograd.grad(
            values.sum(), x, allow_unused=True, materialize_grads=True
        )
    return (values.detach(), auxiliary), gradient


def iterate(step: Any, running: Any, state: Any, steps: int) -> Any:
    """See `keras_robust.backend`."""
    for _ in range(steps):
        if not running(state):
            break
        state = step(state)
    return state


def compile(
    function: Callable,
    variables: Any,
    jit_compile: bool | str = "auto",
    takes_steps: int | bool = False,
) -> Any:
    """Wraps `function` so that it records no graph; compiles it if asked to.

    Args:
        function: Callable of dictionaries of tensors.
        variables: Keras variables that `function` reads; read as they are.
        jit_compile: `True` for `torch.compile`; `"auto"` and `False` for
            eager execution, which is what Keras does.
        takes_steps: Whether the last argument is a number of steps.

    Returns:
        The callable.
    """
    del variables, takes_steps
    if jit_compile is True:
        function = torch.compile(function)

    def call(*args):
        with torch.no_grad():
            return function(*args)

    return call


def spread(tensors: Any) -> Any:
    """Tensors stay where they are: Keras does not distribute PyTorch."""
    return tensors


def chunks(
    steps: int, jit_compile: bool | str = "auto", unrolls: int | bool = True
) -> Any:
    """Splits `steps` so that a long loop can report its progress."""
    del jit_compile, unrolls
    return equal_chunks(steps)


def needs_padding(jit_compile: bool | str = "auto") -> Any:
    """Only `torch.compile` specializes on the batch size."""
    return jit_compile is True


def is_traced(x: Any) -> bool:
    """PyTorch tensors always carry values."""
    del x
    return False
