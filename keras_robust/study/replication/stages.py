"""What each stage of a replication depends on.

Trainings take hours, so a stage is found again as long as everything it was
made of is the same: another radius of the evaluation trains nothing again, and
another optimizer for D_rand changes no model or set that comes before it.

The descriptions decide the names of files (see `StageStore`). No name of a
class or module may enter them, and after a change of one every stage is
computed again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any

from keras_robust.study.replication import settings
from keras_robust.study.replication.fitting import CURVE_IMAGES
from keras_robust.study.replication.networks import NetworkSpec
from keras_robust.study.replication.training_sets import Kind
from keras_robust.study.replication.training_sets import OwnSet

if TYPE_CHECKING:
    from keras_robust.study.study import Study

# Plain values that JSON can hold.
Description = dict[str, Any]


def images_description(recipe: Study) -> Description:
    """What decides which images are used for training and evaluation.

    Args:
        recipe: A `Study`.
    """
    return {
        "dataset": settings.describe_data(recipe),
        "train_images": recipe.train_images,
        "validation_images": recipe.validation_images,
    }


def model_description(
    recipe: Study, name: str, network: NetworkSpec | None = None
) -> Description:
    """What a trained model depends on.

    Args:
        recipe: A `Study`.
        name: One of `recipe.models`.
        network: Function of `models` and its arguments, in place of the
            model's own network.

    Returns:
        Dictionary of plain values.
    """
    taken = recipe.stand_ins.get(name)
    if network is None and taken is not None and taken.model is not None:
        # Its accuracy depends on the images, though the model does not.
        return {
            **images_description(recipe),
            "name": name,
            "stand_in": taken.sha256,
        }
    described: Description = {
        **images_description(recipe),
        "name": name,
        "network": settings.describe_spec(
            recipe, network or recipe.network_of(name)
        ),
        "training": recipe.training_of(name).description(),
        "dtype_policy": recipe.dtype_policy,
    }
    if recipe.training_of(name).augment is True:
        described["augmentation"] = recipe.augmentation
    count = recipe.test_images
    if count is not None and count < CURVE_IMAGES:
        described["curve_images"] = count
    if name == "adversarial":
        described["attack"] = [
            recipe.epsilon,
            recipe.attack_steps,
            recipe.attack_step_size,
        ]
    if recipe.training_set(name).is_generated:
        described["set"] = set_description(recipe, name)
    return described


def architecture_description(
    recipe: Study, base: str, name: str
) -> Description:
    """What a trained model of another architecture depends on.

    Args:
        recipe: A `Study`.
        base: One of `recipe.models`, whose training and images it has.
        name: One of `recipe.architectures`.

    Returns:
        Dictionary of plain values.
    """
    network = recipe.network_spec(recipe.architectures[name])
    described = model_description(recipe, base, network)
    # Decides its random numbers, see `Replication.seed_of`.
    described["place"] = list(recipe.architectures).index(name)
    return described


def measure_description(recipe: Study, name: str) -> Description:
    """What a measure depends on.

    Args:
        recipe: A `Study`.
        name: What the measure is called.

    Returns:
        Dictionary of plain values.
    """
    described = recipe.description()
    if name == "transfer":
        # Hashes ignore the order of a dictionary, which matters here.
        described["order"] = list(recipe.architectures)
    return described


def set_description(recipe: Study, name: str) -> Description:
    """What a generated set depends on.

    Args:
        recipe: A `Study`.
        name: Name of a model that is trained on one.

    Returns:
        Dictionary of plain values.
    """
    taken = recipe.stand_ins.get(name)
    if taken is not None and taken.arrays is not None:
        return {"name": name, "stand_in": taken.sha256}
    made = recipe.training_set(name)
    source = recipe.source_of(name)
    described: Description = {
        **images_description(recipe),
        "name": name,
        "source": source and model_description(recipe, source),
    }
    if isinstance(made, OwnSet):
        described["own"] = made.description_of()
        if made.is_shortcut:
            described["relabel_epsilon"] = recipe.relabel_epsilon
    elif made.kind is Kind.INVERSION:
        described["inversion"] = [
            recipe.inversion_steps,
            recipe.inversion_step_size,
            recipe.inversion_optimizer,
        ]
        if recipe.layer is not None:
            described["layer"] = recipe.layer
    else:
        described["relabelling"] = [
            recipe.relabel_epsilon,
            recipe.relabel_steps,
            recipe.relabel_step_size,
        ]
    return described


def evaluation_description(recipe: Study, name: str) -> Description:
    """What the evaluation of a model depends on.

    Args:
        recipe: A `Study`.
        name: One of `recipe.models`.

    Returns:
        Dictionary of plain values.
    """
    return {
        "model": model_description(recipe, name),
        "test_images": recipe.test_images,
        "attacked_images": recipe.attacked_images,
        "radii": list(settings.known_radii(recipe)),
        "linf_radii": list(recipe.linf_radii),
        "steps": recipe.evaluation_steps,
        "errors": list(recipe.errors),
    }
