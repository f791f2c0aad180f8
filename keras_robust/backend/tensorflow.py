"""TensorFlow: graph mode on CPU, XLA with the loop inside on accelerators."""

import functools

import tensorflow as tf

from keras_robust.backend.common import EagerStyleTrainer
from keras_robust.backend.common import equal_chunks

Trainer = EagerStyleTrainer


def value_and_gradient(function, x):
    """See `keras_robust.backend`."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        values, auxiliary = function(x)
        total = tf.reduce_sum(values)
    gradient = tape.gradient(
        total, x, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    return (values, auxiliary), gradient


def iterate(step, running, state, steps):
    """See `keras_robust.backend`."""
    if isinstance(steps, int) and steps == 1:
        return step(state)
    state = tf.nest.map_structure(tf.convert_to_tensor, state)

    def condition(i, state):
        return tf.logical_and(i < steps, running(state))

    _, state = tf.while_loop(
        condition,
        lambda i, state: (i + 1, step(state)),
        (tf.constant(0), state),
        parallel_iterations=1,
    )
    return state


def _uses_xla(jit_compile):
    if jit_compile == "auto":
        return bool(tf.config.list_logical_devices("GPU")) or bool(
            tf.config.list_logical_devices("TPU")
        )
    return jit_compile


def compile(function, variables, jit_compile="auto", takes_steps=False):
    """Compiles `function` of nested tensors once for every batch size.

    Args:
        function: Callable of dictionaries of tensors; where `takes_steps`,
            its last argument is a number of steps.
        variables: Keras variables that `function` reads; captured.
        jit_compile: `True`, `False`, or `"auto"`: XLA on accelerators only.
        takes_steps: Whether the last argument is a number of steps.

    Returns:
        The compiled callable.
    """
    del variables, takes_steps
    compiled = None

    def relaxed(value):
        value = tf.convert_to_tensor(value)
        return tf.TensorSpec(
            [None, *value.shape[1:]][: value.ndim], value.dtype
        )

    def call(*args):
        nonlocal compiled
        if compiled is None:
            # A batch dimension of None: one trace serves every batch size. A
            # partial: TensorFlow counts traces by code, and would take the
            # loops of all models for one that is traced again and again.
            compiled = tf.function(
                functools.partial(function),
                input_signature=tf.nest.map_structure(relaxed, args),
                jit_compile=_uses_xla(jit_compile),
                autograph=False,
            )
        return compiled(*args)

    return call


def chunks(steps, jit_compile="auto", most=None, unrolls=True):
    """Splits `steps` so that a long loop can report its progress."""
    del jit_compile, unrolls
    return equal_chunks(steps, most)


def needs_padding(jit_compile="auto"):
    """XLA compiles for each batch size; the graph does not."""
    return _uses_xla(jit_compile)


def is_traced(x):
    """Whether `x` is a symbolic tensor of a `tf.function`."""
    return tf.is_tensor(x) and not hasattr(x, "numpy")
