"""Errors of the AM207 report, each alone, so that its effect can be measured.

The AM207 report is a class report with a public notebook that replicates Ilyas
et al. 2019 (Capitolo, Hare, Penrod, Rajananda 2021).
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_robust.attacks.fgsm import FGSMAttack
from keras_robust.layers import PadAndCrop
from keras_robust.transforms import NonRobustifier

# Each has a training set of its own in `training_sets`, but for
# `broken_linf`, an attack on all models.
AM207_ERRORS = (
    "frozen_flips",
    "unpooled",
    "nine_targets",
    "no_box",
    "broken_linf",
)
# Radii of the AM207 report's L-infinity attack. Every image can be turned into
# grey, or into any other one, within them.
AM207_RADII = (0.25, 0.5)
# So wide that no image reaches a bound.
NO_BOX = (-100.0, 101.0)


def unpooled_layer(model: keras.Model) -> str:
    """Name of the layer whose output the `"representation"` pools.

    Args:
        model: A network of `models`.

    Returns:
        String.
    """
    names: list[str] = [layer.name for layer in model.layers]
    return names[names.index("representation") - 1]


class NineTargets(NonRobustifier):
    """A `NonRobustifier` that never aims at the last class.

    The AM207 report drew targets by `np.random.randint(0, 9)`, which excludes
    the upper bound.
    """

    def draw_targets(self, y: Any, num_classes: int, random: Any = None) -> Any:
        """As in `NonRobustifier`, of one class less."""
        return super().draw_targets(y, num_classes - 1, random)


def broken_linf(
    model: keras.Model,
    x: np.ndarray,
    y: np.ndarray,
    epsilon: float,
    step_size: float = 0.1,
    steps: int = 7,
    verbose: int = 1,
) -> np.ndarray:
    """The AM207 report's L-infinity attack, which clips the wrong array.

    It clips the perturbation, not the perturbed image, to the ball around the
    image: `delta = clip(delta + step_size * sign(g), x - epsilon, x +
    epsilon)`. So a pixel of value 1 may become 2.25 at epsilon 0.25. For
    comparison only.

    Args:
        model: A built Keras classifier.
        x: Float array `(N, ...)` in [0, 1].
        y: True labels `(N,)`.
        epsilon: Its nominal radius.
        step_size: Length of a step.
        steps: Int.
        verbose: 0 for no progress bars.

    Returns:
        Float32 array like `x`, far outside ball and box.
    """
    # A step of length 1 without a box is the sign of the gradient.
    signs = FGSMAttack(epsilon=1.0, value_range=NO_BOX)
    delta = np.zeros_like(x)
    for _ in range(steps):
        moved = x + delta
        sign = np.round(signs(model, moved, y, verbose=verbose) - moved)
        delta = np.clip(delta + step_size * sign, x - epsilon, x + epsilon)
    return np.asarray(x + delta, "float32")


def enlarged_and_cropped(
    shape: tuple[int, ...], seed: int | None
) -> Callable[[Any, Any], tuple[Any, Any]]:
    """The AM207 report's augmentation, as a function for `tf.data`'s `map`.

    It enlarges an image by an eighth instead of padding it with zeros, and
    crops. Its flip had a constant seed, so that an image was flipped in every
    epoch or in none.

    Args:
        shape: `(H, W, C)`.
        seed: Int.

    Returns:
        Function of `(images, labels)`.
    """
    height, width = shape[:2]
    padding = height // 16
    layers = [
        keras.layers.Resizing(height + 2 * padding, width + 2 * padding),
        PadAndCrop(padding, seed=seed),
        keras.layers.CenterCrop(height, width),
    ]

    def augment(images: Any, labels: Any) -> tuple[Any, Any]:
        for layer in layers:
            images = layer(images, training=True)
        return images, labels

    return augment
