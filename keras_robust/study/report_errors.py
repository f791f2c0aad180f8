"""Errors of the AM207 report, one by one, so that what each does shows.

Found in the report and its public notebook (Capitolo, Hare, Penrod, Rajananda
2021). Each is the right thing with one thing wrong.
"""

from typing import Any

import keras
import numpy as np

from keras_robust.attacks.fgsm import FGSMAttack
from keras_robust.layers import PadAndCrop
from keras_robust.transforms import NonRobustifier

# Name: the model beside which it stands, and what is different. `None`: not a
# model, but an attack on all of them.
REPORT_ERRORS = {
    "frozen_flips": (
        "standard",
        "the data set, all images enlarged and cropped, none flipped anew",
    ),
    "unpooled": ("D_R", "D_R with the representation before its pooling"),
    "nine_targets": ("D_rand", "D_rand with targets of all classes but one"),
    "no_box": ("D_rand", "D_rand whose images may leave [0, 1]"),
    "broken_linf": (None, "an L-infinity attack that leaves ball and box"),
}
# At which the AM207 report ran its L-infinity attack: every image can be turned
# into grey, or into any other one.
AM207_RADII = (0.25, 0.5)
# Far enough out that no image of a study gets there.
NO_BOX = (-100.0, 101.0)


def unpooled_layer(model: Any) -> str:
    """Name of the layer whose output the `"representation"` pools.

    Args:
        model: A network of `models`.

    Returns:
        String.
    """
    names = [layer.name for layer in model.layers]
    return names[names.index("representation") - 1]


class NineTargets(NonRobustifier):
    """A `NonRobustifier` that never aims at the last class.

    The report drew targets by `np.random.randint(0, 9)`, whose end is open.
    """

    def draw_targets(self, y: Any, num_classes: int, random: Any = None) -> Any:
        """As in `NonRobustifier`, of one class less."""
        return super().draw_targets(y, num_classes - 1, random)


def broken_linf(
    model: Any,
    x: Any,
    y: Any,
    epsilon: Any,
    step_size: Any = 0.1,
    steps: int = 7,
    verbose: int = 1,
) -> np.ndarray:
    """The report's L-infinity attack, which clips the wrong thing.

    It clips the perturbation, not the perturbed image, to the ball around the
    image: `delta = clip(delta + step_size * sign(g), x - epsilon, x +
    epsilon)`. So a pixel of value 1 may become 2.25 at epsilon 0.25. For
    comparison only.

    Args:
        model: A built Keras classifier.
        x: Float array `(N, ...)` in [0, 1].
        y: True labels `(N,)`.
        epsilon: The radius it is said to have.
        step_size: Length of a step.
        steps: Int.
        verbose: 0 for no progress bars.

    Returns:
        Float32 array like `x`, far outside ball and box.
    """
    # A step of length 1 where no box is in the way is the gradient's sign.
    signs = FGSMAttack(epsilon=1.0, value_range=NO_BOX)
    delta = np.zeros_like(x)
    for _ in range(steps):
        at = x + delta
        sign = np.round(signs(model, at, y, verbose=verbose) - at)
        delta = np.clip(delta + step_size * sign, x - epsilon, x + epsilon)
    return (x + delta).astype("float32")


def enlarged_and_cropped(shape: tuple, seed: int | None) -> Any:
    """The report's augmentation, as a function for `tf.data`'s `map`.

    It enlarges an image by an eighth where zeros should be put around it, and
    crops; the flip had a constant seed, so that no image had another one.

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

    def augment(images, labels):
        for layer in layers:
            images = layer(images, training=True)
        return images, labels

    return augment
