"""Whether accuracy falls when flat activations pass gradients."""

import numpy as np

from keras_robust.attacks.apgd import APGDAttack
from keras_robust.classifier import find_flat_activations
from keras_robust.evaluation.data import Examples
from keras_robust.evaluation.flags import Flag
from keras_robust.evaluation.outcomes import attacked_image


def flat_activations(
    measured: Examples, survivors: Examples, attack: APGDAttack, least: int
) -> Flag | None:
    """Attack survivors through activations whose gradient is zero in places.

    Twice with the same settings: with the model's gradients, and with the
    gradient of the identity added wherever an activation is flat inside the
    range of its inputs (see `find_flat_activations`), as it is in MeanSparse
    (arXiv:2406.05927) and in networks where the k largest activations win. An
    image counts if the model's own prediction is wrong on it after the second
    attack alone, in the same ball.

    Args:
        measured: Examples on which activations are measured.
        survivors: Examples that the attacks of an evaluation have left.
        attack: The attack.
        least: How many more images the second attack must break.

    Returns:
        A flag named `flat activations hide gradients`, or `None`.
    """
    if len(survivors.y) < least:
        return None
    backward = find_flat_activations(
        measured.classifier, measured.image, measured.held
    )
    if backward is None:
        return None
    plain = _is_broken(survivors, attack)
    passing = _is_broken(survivors, attack.replace(backward=backward))
    gained = int((passing & ~plain).sum())
    lost = int((plain & ~passing).sum())
    if gained < max(least, 2 * lost):
        return None
    names = [getattr(operation, "name", "") for operation, _ in backward.pairs]
    return Flag(
        "flat activations hide gradients",
        "more survivors fall when activations pass gradients where, and only "
        "where, they are flat: attack with `backward`, these layers mapped to "
        "'through_flat'",
        {
            "layers": ", ".join(names),
            "survivors": len(survivors.y),
            "broken": int(passing.sum()),
            "by the model's own gradients": int(plain.sum()),
        },
    )


def _is_broken(examples: Examples, attack: APGDAttack) -> np.ndarray:
    """Which examples the model itself classifies wrongly after an attack."""
    result = attack.run(examples.classifier, examples.x, examples.y, verbose=0)
    image = attacked_image(examples, result["x"])
    labels = examples.predict(image, slice(None), attack.batch_size)
    broken: np.ndarray = labels != examples.y
    return broken
