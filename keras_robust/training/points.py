"""Points near images, inside a training step."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust.attacks.balls import box
from keras_robust.attacks.balls import per_example
from keras_robust.attacks.gradient_attack import GradientAttack
from keras_robust.backend import Tensor

# Standard deviation of the noise that attacks on a divergence start from, as
# a share of the width of the value range.
_NOISE = 1e-3


def near(center: Tensor, attack: GradientAttack, seed: Any) -> Tensor:
    """Points with a little Gaussian noise around images, in the box.

    Args:
        center: Images, tensor `(N, ...)`.
        attack: The attack that starts there.
        seed: `keras.random.SeedGenerator`.
    """
    low, high = box(attack.value_range)
    width = high - low
    if np.ndim(attack.value_range[0]) == 0 and not np.isfinite(width):
        width = 1.0
    noise = keras.random.normal(ops.shape(center), dtype="float32", seed=seed)
    noise = _NOISE * width * noise
    if attack.mask is not None:
        noise = noise * ops.convert_to_tensor(attack.mask)
    return ops.clip(center + noise, low, high)


def any_difference(first: Tensor, second: Tensor) -> Tensor:
    """Whether two tensors differ anywhere, as a float scalar."""
    return ops.cast(ops.any(ops.not_equal(first, second)), "float32")


def to_integers(
    attack: GradientAttack, center: Tensor, perturbed: Tensor, epsilon: Any
) -> Tensor:
    """Round to integers that stay inside the ball and the value range.

    Args:
        attack: The attack that moved the images.
        center: Images, tensor `(N, ...)`.
        perturbed: The same images, moved.
        epsilon: Scalar tensor, the radius; `None` for the attack's.
    """
    delta = perturbed - center
    towards = center + ops.sign(delta) * ops.floor(ops.abs(delta))
    if np.ndim(attack.epsilon):
        return towards
    radius = attack.epsilon if epsilon is None else epsilon
    nearest = ops.round(perturbed)
    low, high = attack.value_range
    nearest = ops.clip(nearest, low, high)
    norm = attack.ball.norm(nearest - center)
    inside = norm <= radius * (1 + 1e-6)
    return ops.where(per_example(inside, center), nearest, towards)
