"""Whether accuracy falls when flat activations pass gradients."""

import math

import numpy as np

from keras_robust.attacks.apgd import APGDAttack
from keras_robust.classifier import Backward
from keras_robust.evaluation.data import Examples
from keras_robust.evaluation.flags import Flag
from keras_robust.evaluation.outcomes import attacked_image

# The most survivors that are attacked. Where MeanSparse hides gradients, a few
# percent of the survivors fall (arXiv:2406.05927 against BPDA).
_SURVIVORS = 500
_BATCH_SIZE = 100
# Where two attacks differ by chance, each is as likely to break an image alone.
# Five to none is the least that is less likely than this.
_CHANCE = 0.05


def nearest_to_a_boundary(examples: Examples, left: np.ndarray) -> np.ndarray:
    """The survivors whose label is the least certain.

    Args:
        examples: `Examples`.
        left: Rows of the examples that the attacks of an evaluation have left.

    Returns:
        Up to 500 of these rows, in ascending order: those with the smallest
        margin of the label's logit over the largest other one.
    """
    if len(left) <= _SURVIVORS:
        return left
    held = {name: part[left] for name, part in examples.held.items()}
    logits = examples.classifier.predict_logits(
        examples.image[left], _BATCH_SIZE, held
    )
    labels = (np.arange(len(left)), examples.y[left])
    own = logits[labels]
    others = np.array(logits, "float64")
    others[labels] = -np.inf
    nearest = np.argsort(own - others.max(-1), kind="stable")
    return np.sort(left[nearest[:_SURVIVORS]])


def flat_activations(
    survivors: Examples, attack: APGDAttack, backward: Backward
) -> Flag | None:
    """Attack survivors through activations whose gradient is zero in places.

    First with the model's gradients, for what the evaluation's attacks were too
    weak for. What is left then, with the same settings and another seed, twice:
    with the model's gradients, and with the gradient of the identity added
    wherever an activation is flat inside the range of its inputs (see
    `find_flat_activations`), as it is in MeanSparse (arXiv:2406.05927) and in
    networks where the k largest activations win. An image counts if the model's
    own prediction is wrong on it after the last attack alone, in the same ball.
    These two attacks differ by chance as well, where an image is at the edge of
    what they can do: there must be more such images than those that fall to the
    other one alone explain (sign test, 5 %).

    Args:
        survivors: Examples that the attacks of an evaluation have left.
        attack: The attack, with seed 0.
        backward: What passes gradients besides what the attack replaces.

    Returns:
        A flag named `flat activations hide gradients`, or `None`.
    """
    first = _is_broken(survivors, attack)
    left = survivors.take(np.flatnonzero(~first))
    if not len(left.y):
        return None
    attack = attack.replace(seed=1)
    every = backward.after(attack.backward)
    plain = _is_broken(left, attack)
    passing = _is_broken(left, attack.replace(backward=every))
    gained = int((passing & ~plain).sum())
    lost = int((plain & ~passing).sum())
    if chance_of(gained, gained + lost) > _CHANCE:
        return None
    names = [getattr(operation, "name", "") for operation, _ in backward.pairs]
    return Flag(
        "flat activations hide gradients",
        "more survivors fall when activations pass gradients where, and only "
        "where, they are flat: attack with `backward`, these layers mapped to "
        "'through_flat'",
        {
            "layers": ", ".join(names),
            "survivors": len(left.y),
            "broken": int(passing.sum()),
            "by the model's own gradients": int(plain.sum()),
            "of these not by the others": lost,
        },
    )


def chance_of(successes: int, trials: int) -> float:
    """The chance of so many successes or more, where each has 1/2.

    Args:
        successes: Int >= 0.
        trials: Int, at least `successes`.

    Returns:
        Float in (0, 1], the one-sided p-value of the sign test.
    """
    ways = sum(math.comb(trials, k) for k in range(successes, trials + 1))
    chance: float = ways / 2**trials
    return chance


def _is_broken(examples: Examples, attack: APGDAttack) -> np.ndarray:
    """Which examples the model itself classifies wrongly after an attack."""
    result = attack.run(examples.classifier, examples.x, examples.y, verbose=0)
    image = attacked_image(examples, result["x"])
    labels = examples.predict(image, slice(None), attack.batch_size)
    broken: np.ndarray = labels != examples.y
    return broken
