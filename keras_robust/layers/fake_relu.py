"""ReLU with the gradient of the identity."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_robust")
class FakeReLU(keras.layers.Layer):
    """`max(x, 0)` in the forward pass, the identity in the backward pass.

    A unit that is off has no ReLU gradient, which leaves an inversion that must
    turn it on without a signal. MadryLab's `robustness` (`fake_relu`) matches
    representations with this as the last ReLU; see
    `Robustifier(fake_relu=True)`.

    Example:

    ```python
    y = keras_robust.layers.FakeReLU()(x)
    ```
    """

    def call(self, x: Any) -> Any:
        """`max(x, 0)`."""
        # Exact: x + (0 - x) is 0 and x + 0 is x in floating point.
        return x + ops.stop_gradient(ops.relu(x) - x)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the input."""
        return input_shape
