"""Accuracies that planted features let one predict."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any

from keras_robust.datasets.image_dataset import ImageDataset
from keras_robust.datasets.planted import KINDS
from keras_robust.datasets.planted import PlantedFeatures
from keras_robust.study.replication.results import l2_column
from keras_robust.study.replication.settings import known
from keras_robust.study.replication.settings import known_radii
from keras_robust.study.replication.training_sets import RELABELLED

if TYPE_CHECKING:
    from keras_robust.study.study import Study

_SOURCE = (
    "the best rule that reads one kind of template only, in closed form "
    "(PlantedFeatures.accuracy): the kind that is most useful under attack for "
    "adversarial training and D_R, the most useful one for the others"
)


def predictions(data: ImageDataset, recipe: Study) -> dict[str, Any]:
    """The accuracy that each network should reach if the paper is right.

    Args:
        data: An `ImageDataset`.
        recipe: A `Study`.

    Returns:
        Dictionary like one of `reference`: accuracies in per cent by model
        and column, and `publication`; empty where no features were planted.
    """
    if not isinstance(data, PlantedFeatures):
        return {}
    useful, epsilon = data.most_useful, known(recipe.epsilon)
    robust = max(KINDS, key=lambda kind: data.accuracy(kind, epsilon))
    # Not for controls and robust sources: they have few features or none.
    kinds = {
        **dict.fromkeys(("adversarial", "D_R"), robust),
        **dict.fromkeys(("standard", "D_NR"), useful),
        **dict.fromkeys(RELABELLED, useful),
    }
    found: dict[str, Any] = {"publication": _SOURCE}
    for model, kind in kinds.items():
        figures = {"clean": 100 * data.accuracy(kind)}
        for radius in known_radii(recipe):
            attacked = 100 * data.accuracy(kind, radius)
            figures[l2_column(radius)] = attacked
        found[model] = {k: round(value, 1) for k, value in figures.items()}
    return found
