"""The Gaussian model as a Keras layer, for training by gradients."""

from typing import Any

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("keras_robust")
class GaussianLogits(keras.layers.Layer):
    """Log likelihoods of x under N(-m, S) and N(m, S), with S diagonal.

    Its outputs are logits of the two labels -1 and 1. With the loss
    `-logits[y]` (`GaussianLogits.loss`) plain training is maximum likelihood,
    and adversarial training the robust one of Ilyas et al. 2019, equation
    (15).

    Example:

    ```python
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras_robust.theory.GaussianLogits()(inputs))
    ```
    """

    def build(self, input_shape: Any) -> None:
        """Create the mean and the logarithms of variances."""
        dimension = input_shape[-1]
        self.mean = self.add_weight(
            shape=(dimension,), initializer="zeros", name="mean"
        )
        self.log_variance = self.add_weight(
            shape=(dimension,), initializer="zeros", name="log_variance"
        )

    def call(self, inputs: Any) -> Any:
        """Logits `(N, 2)`."""
        volume = ops.sum(self.log_variance) + inputs.shape[-1] * np.log(
            2 * np.pi
        )
        logits = [
            -0.5
            * (
                ops.sum(
                    ops.square(inputs - sign * self.mean)
                    * ops.exp(-self.log_variance),
                    axis=-1,
                )
                + volume
            )
            for sign in (-1.0, 1.0)
        ]
        return ops.stack(logits, axis=-1)

    def compute_output_shape(
        self, input_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        """`(N, 2)`."""
        return (*input_shape[:-1], 2)

    @property
    def covariance(self) -> np.ndarray:
        """The learned variances, `(d,)`."""
        return np.exp(ops.convert_to_numpy(self.log_variance))

    @staticmethod
    def loss(y: Any, logits: Any) -> Any:
        """Negative log likelihood of each example under its own label.

        Args:
            y: Int tensor `(N,)`: 0 for the label -1, 1 for the label 1.
            logits: Tensor `(N, 2)`.

        Returns:
            Tensor `(N,)`.
        """
        y = ops.cast(ops.reshape(y, (-1, 1)), "int32")
        return -ops.take_along_axis(logits, y, axis=-1)[:, 0]
