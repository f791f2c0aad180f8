"""What makes small programs run in less time than they take to compile."""

from contextlib import contextmanager

import keras

from .draws import level


@contextmanager
def cheap_compilation(seed, quick, eager=True, cheap=True):
    """A context for one case.

    Args:
        seed: Int.
        quick: Whether TensorFlow runs three of four cases operation by
            operation, instead of tracing every function of a new model.
        eager: Whether the case can.
        cheap: Whether JAX leaves out most optimizations.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        # As in `conftest.py`, for runs without pytest.
        before = jax.config.read("jax_disable_most_optimizations")
        jax.config.update("jax_disable_most_optimizations", cheap)
        yield
        jax.config.update("jax_disable_most_optimizations", before)
    elif backend == "tensorflow" and quick and eager:
        import tensorflow as tf

        tf.config.run_functions_eagerly(
            level(seed, "eager", (True, True, True, False))
        )
        yield
        tf.config.run_functions_eagerly(False)
    else:
        yield
