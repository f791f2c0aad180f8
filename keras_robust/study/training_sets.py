"""What the models of a replication are trained on."""

from typing import Any

from keras_robust.study.report_errors import NO_BOX
from keras_robust.study.report_errors import NineTargets
from keras_robust.study.report_errors import unpooled_layer
from keras_robust.transforms import NonRobustifier
from keras_robust.transforms import Robustifier
from keras_robust.transforms import Shortcut

# What each model is trained on, each set followed by its controls.
MODELS = {
    "standard": "the data set",
    "adversarial": "the data set, attacked at every step",
    "D_R": "inversions of a robust representation, labels kept",
    "D_NR": "inversions of a standard representation, labels kept",
    "D_rand": "adversarial examples, labelled with their random target",
    "D_rand_robust": "D_rand of the adversarial model: few non-robust features",
    "D_rand_shortcut": "a pattern per random target: no features at all",
    "D_det": "adversarial examples, labelled with their target y + 1",
    "D_det_robust": "D_det of the adversarial model",
    "D_det_shortcut": "a pattern per target y + 1: no features at all",
    "D_other": "adversarial examples, their random target never the true label",
    "D_other_shortcut": "a pattern per wrong random target: no features at all",
}
# Where the relabelled sets are made from another network than the standard one.
SOURCE = "the data set; the relabelled sets are made from it"
TARGETS = {"D_rand": "random", "D_det": "deterministic", "D_other": "other"}
_BASES = ("standard", "adversarial", "source", "D_R", "D_NR", *TARGETS)
# Streams of random numbers, which keep theirs when others are added.
STREAMS = (
    "standard",
    "adversarial",
    "D_R",
    "D_NR",
    "D_rand",
    "D_det",
    "D_rand_robust",
    "D_det_robust",
    "D_rand_shortcut",
    "D_det_shortcut",
    "D_other",
    "D_other_shortcut",
    "standard_frozen_flips",
    "D_R_unpooled",
    "D_rand_nine_targets",
    "D_rand_no_box",
    "leakage",
    "source",
)


def controlled(name: str) -> Any:
    """The set that a control or an error is one of; others unchanged.

    Args:
        name: Such as `"D_rand_shortcut"`, of `"D_rand"`.
    """
    for base in _BASES:
        if name == base or name.startswith(f"{base}_"):
            return base
    raise ValueError(
        f"A model must be one of {_BASES}, or a variant. Received: {name!r}"
    )


def is_generated(name: str) -> bool:
    """Whether a model is trained on images that are made."""
    return name.startswith("D_")


def is_inversion(name: str) -> bool:
    """Whether a generated set inverts representations, labels kept."""
    return controlled(name) in ("D_R", "D_NR")


def is_robust_source(name: str) -> bool:
    """Whether a generated set takes the features of the adversarial model."""
    return controlled(name) == "D_R" or name.endswith("_robust")


def source_of(name: str, recipe: Any) -> str | None:
    """The model whose features a generated set takes.

    Args:
        name: Name of a model that is trained on one.
        recipe: A `Recipe`.

    Returns:
        The name of that model; `None` for a shortcut, which takes none.
    """
    if name.endswith("_shortcut"):
        return None
    if is_robust_source(name):
        return "adversarial"
    return recipe.relabel_source if controlled(name) in TARGETS else "standard"


def transform_of(
    name: str, recipe: Any, source: Any, num_classes: int, seed: int | None
) -> Any:
    """What makes a generated set.

    Args:
        name: Name of a model that is trained on one.
        recipe: A `Recipe`.
        source: The model whose features it takes, `None` for a shortcut.
        num_classes: C.
        seed: Int.

    Returns:
        A `Robustifier`, `NonRobustifier` or `Shortcut`.
    """
    base = controlled(name)
    if is_inversion(name):
        return Robustifier(
            source,
            step_size=recipe.inversion_step_size,
            steps=recipe.inversion_steps,
            optimizer=recipe.inversion_optimizer,
            layer=unpooled_layer(source) if "unpooled" in name else None,
            seed=seed,
        )
    shared = {"epsilon": recipe.relabel_epsilon, "seed": seed}
    if source is None:
        return Shortcut(num_classes, TARGETS[base], **shared)
    if name.endswith("_no_box"):
        shared["value_range"] = NO_BOX
    make = NineTargets if name.endswith("_nine_targets") else NonRobustifier
    return make(
        source,
        target=TARGETS[base],
        step_size=recipe.relabel_step_size,
        steps=recipe.relabel_steps,
        **shared,
    )
