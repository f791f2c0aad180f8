"""What the models of a replication are trained on."""

from keras_robust.features import NonRobustifier
from keras_robust.features import Robustifier
from keras_robust.features import Shortcut

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
}
GENERATED = tuple(MODELS)[2:]
# Streams of random numbers, which keep theirs when others are added.
STREAMS = (
    *("standard", "adversarial", "D_R", "D_NR", "D_rand", "D_det"),
    *("D_rand_robust", "D_det_robust", "D_rand_shortcut", "D_det_shortcut"),
)


def controlled(name):
    """The set that a control is one of; others unchanged."""
    return name.removesuffix("_robust").removesuffix("_shortcut")


def transform_of(name, recipe, source, num_classes, seed):
    """What makes a generated set.

    Args:
        name: One of `GENERATED`.
        recipe: A `Recipe`.
        source: The model whose features it takes, `None` for a shortcut.
        num_classes: C.
        seed: Int.

    Returns:
        A `Robustifier`, `NonRobustifier` or `Shortcut`.
    """
    base = controlled(name)
    if base in ("D_R", "D_NR"):
        return Robustifier(
            source,
            step_size=recipe.inversion_step_size,
            steps=recipe.inversion_steps,
            seed=seed,
        )
    target = "random" if base == "D_rand" else "deterministic"
    epsilon = recipe.relabel_epsilon
    if source is None:
        return Shortcut(num_classes, target, epsilon=epsilon, seed=seed)
    return NonRobustifier(
        source,
        target=target,
        epsilon=epsilon,
        step_size=recipe.relabel_step_size,
        steps=recipe.relabel_steps,
        seed=seed,
    )
