"""Values of one function with the gradient of another."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops


def straight_through(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a function that differentiates as the identity.

    The straight-through estimator (Bengio et al. 2013, arXiv:1308.3432), for
    functions such as rounding, whose own gradient is zero.

    Args:
        function: A callable of a tensor that keeps its shape: of `keras.ops`,
            a Keras layer, or your own.

    Returns:
        A callable of a tensor, with exactly the values of `function`.

    Example:

    ```python
    rounding = keras_robust.layers.straight_through(keras.ops.round)
    layer = keras.layers.Lambda(rounding)
    ```
    """

    def call(x: Any) -> Any:
        return with_gradient_of(function(x), x)

    return call


def with_gradient_of(values: Any, other: Any) -> Any:
    """The values of one tensor with the gradient of another.

    Args:
        values: Tensor; integers are converted to the dtype of `other`.
        other: Float tensor of the same shape, finite.

    Returns:
        Float tensor.

    Raises:
        ValueError: If their shapes differ, or `other` is not of floats.
    """
    dtype = keras.backend.standardize_dtype(values.dtype)
    gives = keras.backend.standardize_dtype(other.dtype)
    if not _fits(values.shape, other.shape) or "float" not in gives:
        raise ValueError(
            "What stands for a function in the backward pass must give floats "
            f"of its shape, {tuple(values.shape)}. "
            f"Received: shape={tuple(other.shape)}, dtype={gives}"
        )
    if "float" in dtype:
        other = ops.cast(other, dtype)
    else:
        values = ops.cast(values, gives)
    # Exact, unlike `other + stop_gradient(values - other)`: x - x is 0.
    return ops.stop_gradient(values) + (other - ops.stop_gradient(other))


def _fits(shape: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Whether two shapes are equal where both are known."""
    return len(shape) == len(other) and all(
        a is None or b is None or a == b
        for a, b in zip(shape, other, strict=True)
    )
