"""What each stage of a replication depends on; no other change undoes it.

Trainings take hours. A stage is found again as long as everything that it was
made of is the same: another radius of the evaluation trains nothing anew, and
another optimizer for D_rand leaves the models and sets before it alone.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from keras_robust.study.fitting import VALIDATED
from keras_robust.study.recipe import Recipe
from keras_robust.study.training_sets import is_generated
from keras_robust.study.training_sets import is_inversion
from keras_robust.study.training_sets import source_of


def images_description(recipe: Recipe) -> dict[str, Any]:
    """What decides which images are trained on and judged by.

    Args:
        recipe: A `Recipe`.
    """
    return {
        "dataset": recipe.dataset,
        "train_images": recipe.train_images,
        "validation_images": recipe.validation_images,
    }


def model_description(
    recipe: Recipe, name: str, kind: tuple[str, dict] | None = None
) -> dict[str, Any]:
    """What a trained model depends on.

    Args:
        recipe: A `Recipe`.
        name: One of `recipe.models`.
        kind: `(function, options)` of a network in the place of the model's
            own, or `None`.

    Returns:
        Dictionary of plain values.
    """
    described = {
        **images_description(recipe),
        "name": name,
        "network": list(kind or recipe.network_of(name)),
        "training": asdict(recipe.training_of(name)),
        "dtype_policy": recipe.dtype_policy,
    }
    if recipe.training_of(name).augment:
        described["augmentation"] = recipe.augmentation
    judged = recipe.test_images
    if judged is not None and judged < VALIDATED:
        # Fewer than the curve of a training is drawn on.
        described["curve_images"] = judged
    if name == "adversarial":
        described["attack"] = [
            recipe.epsilon,
            recipe.attack_steps,
            recipe.attack_step_size,
        ]
    if is_generated(name):
        described["set"] = set_description(recipe, name)
    return described


def architecture_description(
    recipe: Recipe, base: str, name: str
) -> dict[str, Any]:
    """What a trained model of another architecture depends on.

    Args:
        recipe: A `Recipe`.
        base: One of `recipe.models`, whose training and images it has.
        name: One of `recipe.architectures`.

    Returns:
        Dictionary of plain values.
    """
    described = model_description(
        recipe, base, tuple(recipe.architectures[name])
    )
    # Its random numbers follow from it.
    described["place"] = list(recipe.architectures).index(name)
    return described


def measure_description(recipe: Recipe, name: str) -> dict[str, Any]:
    """What a measure depends on.

    Args:
        recipe: A `Recipe`.
        name: What the measure is called.

    Returns:
        Dictionary of plain values.
    """
    described = recipe.description()
    if name == "transfer":
        # Dictionaries that differ in their order are described alike.
        described["order"] = list(recipe.architectures)
    return described


def set_description(recipe: Recipe, name: str) -> dict[str, Any]:
    """What a generated set depends on.

    Args:
        recipe: A `Recipe`.
        name: Name of a model that is trained on one.

    Returns:
        Dictionary of plain values.
    """
    source = source_of(name, recipe)
    described = {
        **images_description(recipe),
        "name": name,
        "source": source and model_description(recipe, source),
    }
    if is_inversion(name):
        described["inversion"] = [
            recipe.inversion_steps,
            recipe.inversion_step_size,
            recipe.inversion_optimizer,
        ]
    else:
        described["relabelling"] = [
            recipe.relabel_epsilon,
            recipe.relabel_steps,
            recipe.relabel_step_size,
        ]
    return described


def evaluation_description(recipe: Recipe, name: str) -> dict[str, Any]:
    """What the figures of a model depend on.

    Args:
        recipe: A `Recipe`.
        name: One of `recipe.models`.

    Returns:
        Dictionary of plain values.
    """
    return {
        "model": model_description(recipe, name),
        "test_images": recipe.test_images,
        "attacked_images": recipe.attacked_images,
        "radii": list(recipe.radii),
        "linf_radii": list(recipe.linf_radii),
        "steps": recipe.evaluation_steps,
        "errors": list(recipe.errors),
    }
