"""A fully connected network."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_robust.layers.residual_block import l2_decay
from keras_robust.models.parts import image_input
from keras_robust.models.parts import logits


def mlp(
    input_shape: tuple[int, int, int] = (16, 16, 1),
    num_classes: int = 10,
    widths: Sequence[int] = (256, 128),
    weight_decay: float = 5e-4,
    mean: Any = None,
    std: Any = None,
    name: str = "mlp",
) -> keras.Model:
    """Dense layers with ReLU, for images without spatial structure.

    Uses layers of Keras only, so that a saved model loads without this package.

    Args:
        input_shape: `(H, W, C)`.
        num_classes: Int.
        widths: Units of each layer; the last one is the representation.
        weight_decay: Float >= 0, as L2 in the loss (torch's convention).
        mean: Channel means in units of the input, `None` for no
            normalization.
        std: Channel standard deviations.
        name: Name of the model.

    Returns:
        A functional `keras.Model` with logits `(N, num_classes)` and a layer
        `"representation"`.
    """
    inputs, h = image_input(input_shape, mean, std)
    h = keras.layers.Flatten()(h)
    for i, units in enumerate(widths):
        last = i == len(widths) - 1
        h = keras.layers.Dense(
            units, kernel_regularizer=l2_decay(weight_decay)
        )(h)
        h = keras.layers.ReLU(name="representation" if last else None)(h)
    outputs = logits(h, num_classes, weight_decay)
    return keras.Model(inputs, outputs, name=name)
