"""PyTorch: eager steps; `jit_compile=True` hands them to `torch.compile`."""

import torch

from keras_robust.backend.common import EagerStyleTrainer as Trainer
from keras_robust.backend.common import equal_chunks

__all__ = [
    "Trainer",
    "chunks",
    "compile",
    "is_traced",
    "iterate",
    "needs_padding",
    "value_and_gradient",
]


def value_and_gradient(function, x):
    """Per-example values of `function` at `x` and the gradient of their sum.

    Args:
        function: `x -> (values, auxiliary)`, values of shape `(N,)`.
        x: Tensor of shape `(N, ...)`.

    Returns:
        `(values, auxiliary), gradient`; the sum, not the mean, so that the
        gradient of one example does not depend on the batch. The `.grad` of
        the weights stays untouched, also inside `torch.no_grad()`.
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


def iterate(step, running, state, steps):
    """Runs `state = step(state)` `steps` times, or until nothing runs."""
    for _ in range(steps):
        if not running(state):
            break
        state = step(state)
    return state


def compile(function, variables, jit_compile="auto", takes_steps=False):
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


def chunks(steps, jit_compile="auto"):
    """Splits `steps` so that a long loop can report its progress."""
    del jit_compile
    return equal_chunks(steps)


def needs_padding(jit_compile="auto"):
    """Only `torch.compile` specializes on the batch size."""
    return jit_compile is True


def is_traced(x):
    """PyTorch tensors always carry values."""
    del x
    return False
