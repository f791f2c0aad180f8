"""Folding BatchNorm into the convolution or dense layer before it."""

from typing import Any

import keras
from keras import layers
from keras import ops

_FOLDING = (layers.Conv1D, layers.Conv2D, layers.Conv3D, layers.Dense)
_POOLING = (layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D)


def can_fold(layer: Any, norm: Any, rank: int) -> bool:
    """Whether `norm(layer(x))` is one convolution or dense layer.

    Args:
        layer: A Keras operation.
        norm: The operation that reads its output.
        rank: Number of axes of that output.
    """
    if type(layer) not in _FOLDING:
        return False
    if type(norm) is not layers.BatchNormalization:
        return False
    # A causal convolution pads in its `call`.
    causal = getattr(layer, "padding", None) == "causal"
    first = getattr(layer, "data_format", None) == "channels_first"
    return (
        norm.axis % rank == (1 if first else rank - 1)
        and layer.activation is keras.activations.linear
        and not causal
    )


def commutes(pool: Any, norm: Any) -> bool:
    """Whether `norm(pool(x))` is `pool(norm(x))` for every `x`.

    A maximum commutes with `x * s + b` where `s > 0`. A trained gamma can
    become negative at any step, so only a BatchNorm built with `scale=False`
    is known to have `s = 1 / sqrt(variance + epsilon) > 0`.

    Args:
        pool: A Keras operation.
        norm: The operation that reads its output.
    """
    return (
        type(pool) in _POOLING
        and type(norm) is layers.BatchNormalization
        and not norm.scale
    )


def can_run_folded(pool: Any, layer: Any) -> bool:
    """Whether a pool may run inside `apply_folded`.

    Args:
        pool: A pooling layer.
        layer: The convolution or `Dense` layer whose output it reads.
    """
    return (
        pool.compute_dtype == layer.compute_dtype
        and pool.data_format == getattr(layer, "data_format", "channels_last")
    )


def folded_weights(layer: Any, norm: Any) -> tuple[Any, Any]:
    """Kernel and bias of `norm(layer(x))` in inference mode.

    With `s = gamma / sqrt(variance + epsilon)` they are `kernel * s` and
    `beta + (bias - mean) * s`: Jacob et al. 2018 (arXiv:1712.05877),
    section 3.2.

    Args:
        layer: A convolution or `Dense` layer without activation.
        norm: The `BatchNormalization` on its channels.

    Returns:
        `(kernel, bias)` in the layer's compute dtype.
    """
    scale = ops.rsqrt(norm.moving_variance + norm.epsilon)
    if norm.scale:
        scale = scale * norm.gamma
    bias = -norm.moving_mean * scale
    if layer.bias is not None:
        bias = bias + layer.bias * scale
    if norm.center:
        bias = bias + norm.beta
    dtype = layer.compute_dtype
    return ops.cast(layer.kernel * scale, dtype), ops.cast(bias, dtype)


def apply_folded(
    layer: Any,
    norm: Any,
    x: Any,
    weights: dict[tuple[int, int], Any],
    pools: tuple[keras.Layer, ...] = (),
) -> Any:
    """`norm(layer(x))` in inference mode, as one layer.

    Args:
        layer: As in `folded_weights`.
        norm: As in `folded_weights`.
        x: Tensor.
        weights: Results of `folded_weights` by ids of layer and norm; missing
            ones are computed.
        pools: Pooling layers between the two, in order; see `commutes`.

    Returns:
        Tensor like the output of `norm`.
    """
    known = weights.get((id(layer), id(norm)))
    kernel, bias = known or folded_weights(layer, norm)
    x = ops.cast(x, layer.compute_dtype)
    if isinstance(layer, layers.Dense):
        x = ops.matmul(x, kernel)
    else:
        x = layer.convolution_op(x, kernel)
        if layer.data_format == "channels_first":
            bias = ops.reshape(bias, (-1,) + (1,) * (len(x.shape) - 2))
    for pool in pools:
        x = pool.call(x)
    # After the pools, where there are fewer numbers to add to.
    return ops.cast(x + bias, norm.compute_dtype)
