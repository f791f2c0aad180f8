"""ResNet-50 for 32x32 images."""

from typing import Any

import keras

from keras_robust.layers import ResidualBlock
from keras_robust.models.parts import CIFAR_MEAN
from keras_robust.models.parts import CIFAR_STD
from keras_robust.models.parts import convolve
from keras_robust.models.parts import head
from keras_robust.models.parts import image_input


def resnet50(
    num_classes: int = 10,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    width: int = 64,
    weight_decay: float = 5e-4,
    mean: Any = CIFAR_MEAN,
    std: Any = CIFAR_STD,
    name: str = "resnet50",
) -> keras.Model:
    """ResNet-50 with a 3x3 stem and no first pooling, as the paper uses it.

    He et al. 2016 (arXiv:1512.03385), Table 1, with the stem that MadryLab's
    `robustness` puts on CIFAR images: 23.5 million parameters, a
    representation of 2048 numbers.

    Args:
        num_classes: Int.
        input_shape: `(H, W, C)`.
        width: Int, channels of the first stage; 64 is the paper's.
        weight_decay: Float >= 0, as L2 in the loss (torch's convention).
        mean: Channel means in units of the input, `None` for no
            normalization.
        std: Channel standard deviations.
        name: Name of the model.

    Returns:
        A functional `keras.Model` with logits `(N, num_classes)`.
    """
    inputs, h = image_input(input_shape, mean, std)
    h = convolve(h, width, weight_decay)
    for stage, blocks in enumerate((3, 4, 6, 3)):
        for block in range(blocks):
            h = ResidualBlock(
                width * 2**stage,
                strides=2 if stage and not block else 1,
                bottleneck=True,
                shortcut="projection",
                weight_decay=weight_decay,
                name=f"stage{stage + 1}_block{block + 1}",
            )(h)
    outputs = head(h, num_classes, weight_decay)
    return keras.Model(inputs, outputs, name=name)
