"""A plain convolutional network that trains in seconds."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_robust.models.parts import convolve
from keras_robust.models.parts import head
from keras_robust.models.parts import image_input


def small_cnn(
    input_shape: tuple[int, int, int] = (8, 8, 1),
    num_classes: int = 10,
    filters: Sequence[int] = (32, 64, 128),
    weight_decay: float = 5e-4,
    mean: Any = None,
    std: Any = None,
    name: str = "small_cnn",
) -> keras.Model:
    """3x3 convolutions with BatchNorm, halving the image after the first.

    Uses layers of Keras only, so that a saved model loads without this package.

    Args:
        input_shape: `(H, W, C)`.
        num_classes: Int.
        filters: Channels of each convolution; from the second on, stride 2.
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
    for i, channels in enumerate(filters):
        h = convolve(h, channels, weight_decay, strides=2 if i else 1)
    outputs = head(h, num_classes, weight_decay)
    return keras.Model(inputs, outputs, name=name)
