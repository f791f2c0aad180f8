"""How each model of a study is evaluated."""

import os

import keras
import numpy as np

from keras_robust.attacks.attack import Attack
from keras_robust.attacks.fgsm import FGSMAttack
from keras_robust.attacks.pgd import PGDAttack
from keras_robust.attacks.radii import matched_epsilon
from keras_robust.datasets.image_dataset import ImageDataset
from keras_robust.evaluation import evaluate_robustness
from keras_robust.evaluation.evaluate import predict_labels
from keras_robust.evaluation.report import wilson_interval
from keras_robust.study.recipe import Recipe
from keras_robust.study.report_errors import AM207_RADII
from keras_robust.study.report_errors import broken_linf


def attacks_of(recipe: Recipe, dimension: int) -> dict[str, Attack]:
    """The attacks on every model, by name.

    Args:
        recipe: A `Recipe`.
        dimension: Int, numbers in an image.

    Returns:
        Dictionary: PGD at the recipe's L2 radii, at the L-infinity radii of
        equal volume (in the same order) and at its own; FGSM at the largest of
        equal volume.
    """
    attacks = {
        f"pgd-l2-{radius:g}": PGDAttack(
            epsilon=radius, steps=recipe.evaluation_steps
        )
        for radius in recipe.radii
    }
    matched = [
        matched_epsilon(radius, "l2", "linf", dimension)
        for radius in recipe.radii
    ]
    for radius in (*matched, *recipe.linf_radii):
        attacks[f"pgd-linf-{radius:.3g}"] = PGDAttack(
            norm="linf", epsilon=radius, steps=recipe.evaluation_steps
        )
    attacks[f"fgsm-linf-{matched[-1]:.3g}"] = FGSMAttack(epsilon=matched[-1])
    return attacks


def evaluation(
    network: keras.Model,
    data: ImageDataset,
    recipe: Recipe,
    state_path: str | os.PathLike | None = None,
    verbose: int = 1,
) -> dict[str, dict]:
    """Accuracy of a network, clean and attacked, on y and on y + 1.

    Clean figures are of all test images, attacked ones of the first
    `recipe.attacked_images`.

    Args:
        network: A built Keras classifier.
        data: An `ImageDataset`.
        recipe: A `Recipe`.
        state_path: Folder in which the state is kept, or `None`; see
            `evaluate_robustness`.
        verbose: 0 for no progress bars.

    Returns:
        Dictionary of `accuracy`, fractions by attack, and `intervals`, 95 %
        Wilson intervals.
    """
    x, y = data.test
    attacked = (x[: recipe.attacked_images], y[: recipe.attacked_images])
    report = evaluate_robustness(
        network,
        attacked,
        attacks=attacks_of(recipe, int(np.prod(x.shape[1:]))),
        state_path=state_path,
        verbose=verbose,
        probe=False,
    )
    accuracy, intervals = dict(report.accuracy), dict(report.intervals)
    labels = predict_labels(network, x)
    right = labels == y
    accuracy["clean"] = float(right.mean())
    intervals["clean"] = wilson_interval(right)
    shifted = (y + 1) % len(data.class_names)
    accuracy["y + 1"] = float((labels == shifted).mean())
    if "broken_linf" in recipe.errors:
        for radius in AM207_RADII:
            moved = broken_linf(network, x, y, radius, verbose=verbose)
            found = predict_labels(network, moved) == y
            accuracy[f"broken-linf-{radius:g}"] = float(found.mean())
    return {"accuracy": accuracy, "intervals": intervals}
