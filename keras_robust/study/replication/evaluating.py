"""Evaluation of the models of a replication."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

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
from keras_robust.study.replication.am207_errors import AM207_RADII
from keras_robust.study.replication.am207_errors import broken_linf
from keras_robust.study.replication.results import Evaluation
from keras_robust.study.replication.results import broken_linf_column
from keras_robust.study.replication.results import l2_column
from keras_robust.study.replication.results import linf_column
from keras_robust.study.replication.settings import images_at_once
from keras_robust.study.replication.settings import known_radii

if TYPE_CHECKING:
    from keras_robust.study.study import Study


def attacks_of(recipe: Study, dimension: int) -> dict[str, Attack]:
    """The attacks on every model, by the name of their column.

    Args:
        recipe: A `Study`.
        dimension: How many numbers an image has.

    Returns:
        PGD at the recipe's L2 radii, at the L-infinity radii of equal volume
        (in the same order, which `verdicts.find_reading` relies on) and at the
        recipe's L-infinity radii; FGSM at the largest radius of equal volume.
    """
    radii = known_radii(recipe)
    size = images_at_once(dimension)
    attacks: dict[str, Attack] = {
        l2_column(radius): PGDAttack(
            epsilon=radius, steps=recipe.evaluation_steps, batch_size=size
        )
        for radius in radii
    }
    matched = [
        matched_epsilon(radius, "l2", "linf", dimension) for radius in radii
    ]
    for radius in (*matched, *recipe.linf_radii):
        attacks[linf_column(radius)] = PGDAttack(
            norm="linf",
            epsilon=radius,
            steps=recipe.evaluation_steps,
            batch_size=size,
        )
    largest = max(matched)
    attacks[f"fgsm-linf-{largest:.3g}"] = FGSMAttack(
        epsilon=largest, batch_size=size
    )
    return attacks


def evaluation(
    network: keras.Model,
    data: ImageDataset,
    recipe: Study,
    state_path: str | os.PathLike[str] | None = None,
    verbose: int = 1,
) -> Evaluation:
    """Measure the clean and the robust accuracy of a network.

    Clean accuracy is measured on all test images, robust accuracy on the first
    `recipe.attacked_images`.

    Args:
        network: A built Keras classifier.
        data: An `ImageDataset`.
        recipe: A `Study`.
        state_path: See `evaluate_robustness`.
        verbose: 0 for no progress bars.
    """
    x, y = data.test
    attacked = (x[: recipe.attacked_images], y[: recipe.attacked_images])
    dimension = int(np.prod(x.shape[1:]))
    size = images_at_once(dimension)
    report = evaluate_robustness(
        network,
        attacked,
        attacks=attacks_of(recipe, dimension),
        batch_size=size,
        state_path=state_path,
        verbose=verbose,
        probe=False,
    )
    accuracy, intervals = dict(report.accuracy), dict(report.intervals)
    labels = predict_labels(network, x, batch_size=size)
    right = labels == y
    accuracy["clean"] = float(right.mean())
    intervals["clean"] = wilson_interval(right)
    shifted = (y + 1) % len(data.class_names)
    accuracy["y + 1"] = float((labels == shifted).mean())
    if "broken_linf" in recipe.errors:
        for radius in AM207_RADII:
            moved = broken_linf(network, x, y, radius, verbose=verbose)
            found = predict_labels(network, moved) == y
            accuracy[broken_linf_column(radius)] = float(found.mean())
    return {"accuracy": accuracy, "intervals": intervals}
