"""Convolutions that start as partial identities."""

from typing import Any

import keras
import numpy as np
from keras import ops


def torch_uniform() -> keras.initializers.Initializer:
    """PyTorch's default for convolutions and dense layers.

    Its `kaiming_uniform_(a=sqrt(5))` is uniform in `+-1 / sqrt(fan_in)`. Keras
    draws from `+-sqrt(3 * scale / fan_in)`, so the scale is 1/3.

    Returns:
        `keras.initializers.VarianceScaling`.
    """
    return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")


@keras.saving.register_keras_serializable("keras_robust")
class Dirac(keras.initializers.Initializer):
    """Identity in the first filters, another initializer in the others.

    Filter `i < in_channels` copies input channel `i`, with stride 1 and
    padding `"same"`. Zagoruyko and Komodakis 2017
    (arXiv:1706.00388) start networks without shortcuts this way; Jordan 2024
    (arXiv:2404.00498, "Identity initialization") has it in the first filters,
    over PyTorch's default. For convolutions of any rank, without groups.

    Args:
        base: Initializer of the other filters, as Keras takes it; `None` for
            PyTorch's default, uniform in `+-1 / sqrt(fan_in)`.

    Example:

    ```python
    layer = keras.layers.Conv2D(
        64,
        3,
        padding="same",
        kernel_initializer=keras_robust.layers.Dirac(),
    )
    ```
    """

    def __init__(self, base: Any = None) -> None:
        self.base = keras.initializers.get(
            torch_uniform() if base is None else base
        )

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """Create a kernel.

        Args:
            shape: `(*sizes, in_channels, filters)`, the spatial sizes first.
            dtype: Dtype of the kernel; `None` for Keras's `floatx`.

        Returns:
            Tensor of this shape.

        Raises:
            ValueError: If it is not the shape of a convolution's kernel.
        """
        if len(shape) < 3:
            raise ValueError(
                "Argument `shape` must be (*sizes, in_channels, filters) with "
                f"at least one size. Received: shape={shape}"
            )
        *sizes, channels, filters = shape
        dtype = dtype or keras.config.floatx()
        count = min(channels, filters)
        identity = np.zeros((*sizes, channels, count))
        # The tap on the pixel itself: Keras pads even kernels with one pixel
        # less before than after.
        center = tuple((size - 1) // 2 for size in sizes)
        taps: tuple[Any, ...] = (*center, np.arange(count), np.arange(count))
        identity[taps] = 1
        identity = ops.convert_to_tensor(identity, dtype=dtype)
        if count == filters:
            return identity
        rest = self.base(shape, dtype=dtype)[..., count:]
        return ops.concatenate([identity, rest], axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Configuration of the initializer."""
        return {"base": keras.saving.serialize_keras_object(self.base)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "Dirac":
        """Create an initializer from the result of `get_config`."""
        return cls(keras.saving.deserialize_keras_object(config["base"]))
