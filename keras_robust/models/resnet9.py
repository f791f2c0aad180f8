"""The fast residual network of the CIFAR-10 speed runs."""

from typing import Any

import keras

from keras_robust.models.parts import CIFAR_MEAN
from keras_robust.models.parts import CIFAR_STD
from keras_robust.models.parts import convolve
from keras_robust.models.parts import head
from keras_robust.models.parts import image_input


def resnet9(
    width: int = 64,
    num_classes: int = 10,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    weight_decay: float = 5e-4,
    mean: Any = CIFAR_MEAN,
    std: Any = CIFAR_STD,
    name: str = "resnet9",
) -> keras.Model:
    """Eight convolutions and a dense layer, after Page's DAWNBench network.

    Page 2018 ("How to train your ResNet"): a convolution, three stages that
    double the channels and halve the image by max pooling, a residual pair of
    convolutions after the first and the third stage. Jordan trained D_rand on
    such a network (83.9 %). Here average pooling gives the representation, in
    place of max pooling and a scaled output. Width 64 has 6.6 million
    parameters.

    Args:
        width: Int, channels of the first convolution.
        num_classes: Int.
        input_shape: `(H, W, C)`, at least 8x8.
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
    h = convolve(h, width, weight_decay)
    for stage in range(3):
        channels = width * 2 ** (stage + 1)
        h = convolve(h, channels, weight_decay)
        h = keras.layers.MaxPooling2D()(h)
        if stage != 1:
            branch = convolve(h, channels, weight_decay)
            branch = convolve(branch, channels, weight_decay)
            h = keras.layers.Add()([h, branch])
    outputs = head(h, num_classes, weight_decay)
    return keras.Model(inputs, outputs, name=name)
