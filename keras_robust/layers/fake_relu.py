"""ReLU with the gradient of the identity."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_robust")
class FakeReLU(keras.layers.Layer):
    """`max(x, 0)` forwards, the identity backwards.

    A dead unit has no ReLU gradient, so an inversion that must switch it on
    gets no hint. MadryLab's `robustness` (`fake_relu`) uses this as the last
    ReLU when it matches representations. See `Robustifier(fake_relu=True)`.

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
