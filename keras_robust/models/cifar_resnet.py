"""The residual networks of the CIFAR experiments."""

from typing import Any

import keras

from keras_robust.layers import ResidualBlock
from keras_robust.models.parts import CIFAR_MEAN
from keras_robust.models.parts import CIFAR_STD
from keras_robust.models.parts import convolve
from keras_robust.models.parts import head
from keras_robust.models.parts import image_input


def cifar_resnet(
    depth: int = 20,
    width: int = 16,
    num_classes: int = 10,
    input_shape: tuple[int, int, int] = (32, 32, 3),
    weight_decay: float = 5e-4,
    mean: Any = CIFAR_MEAN,
    std: Any = CIFAR_STD,
    name: str | None = None,
) -> keras.Model:
    """Residual network for 32x32 images, He et al. 2016, section 4.2.

    Three stages of `(depth - 2) / 6` two-convolution blocks with `width`,
    `2 * width` and `4 * width` channels, shortcuts without parameters
    (option A), global average pooling (layer `"representation"`), logits.
    Depth 20 and width 16 have 269,722 trainable parameters.

    Args:
        depth: Int, `6 n + 2`: 20, 32, 44, 56, ...
        width: Int, channels of the first stage: 16, or 64 for the wide one.
        num_classes: Int.
        input_shape: `(H, W, C)`.
        weight_decay: Float >= 0, as L2 in the loss (torch's convention).
        mean: Channel means in units of the input, `None` for no
            normalization.
        std: Channel standard deviations.
        name: Name of the model.

    Returns:
        A functional `keras.Model` with logits `(N, num_classes)`.

    Raises:
        ValueError: If `depth` is not `6 n + 2`.

    Example:

    ```python
    model = keras_robust.models.cifar_resnet(depth=20)
    ```
    """
    if depth < 8 or (depth - 2) % 6:
        raise ValueError(
            "Argument `depth` must be 6 n + 2 with n >= 1. "
            f"Received: depth={depth}"
        )
    inputs, h = image_input(input_shape, mean, std)
    h = convolve(h, width, weight_decay)
    for stage in range(3):
        for block in range((depth - 2) // 6):
            h = ResidualBlock(
                width * 2**stage,
                strides=2 if stage and not block else 1,
                weight_decay=weight_decay,
                name=f"stage{stage + 1}_block{block + 1}",
            )(h)
    outputs = head(h, num_classes, weight_decay)
    return keras.Model(inputs, outputs, name=name or f"resnet{depth}_{width}")
