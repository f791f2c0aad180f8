"""The loss of a training objective for a batch."""

from typing import Any

import keras
from keras import ops

from keras_robust.attacks.engine.hook_checks import check_values
from keras_robust.objectives import TrainingObjective
from keras_robust.training.batch_attack import BatchAttack
from keras_robust.training.pairs import Pair
from keras_robust.training.tasks import OTHER


class PerExample(keras.losses.Loss):
    """Given values, which Keras weights and reduces as any loss."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The values, which stand in place of outputs."""
        del y_true
        return y_pred


def check_task(
    objective: TrainingObjective, attack: BatchAttack, task: str
) -> None:
    """Check that an objective is defined for a task.

    Args:
        objective: The objective.
        attack: The attack of training.
        task: Result of `task_of` for labels.

    Raises:
        ValueError: If it needs classes and there are none, or needs one
            output and there are several.
    """
    name = type(objective).__name__
    if task != OTHER:
        return
    if objective.needs_classes or objective.attack_loss is not None:
        raise ValueError(
            f"Objective {name} compares probabilities of classes, so labels "
            "must be numbers of classes, one-hot or soft rows, with a loss for "
            "such labels; for a model with several outputs `output=` chooses "
            "the one that classifies. Mixed and LogitPairing take labels of "
            "any kind. Received: labels of another kind"
        )
    loss = attack.compiled_loss()
    has_own = type(objective).loss is not TrainingObjective.loss
    if has_own and loss is not None and len(loss.parts) > 1:
        raise ValueError(
            f"Objective {name} compares one output, so `output=` must choose "
            f"one of {[part.key for part in loss.parts]}. Received: none"
        )


def own_loss(
    objective: TrainingObjective,
    attack: BatchAttack,
    labels: Any,
    outputs: Pair,
    sample_weight: Any,
) -> Any:
    """An objective's loss besides the compiled loss, reduced like that one.

    Args:
        objective: The objective.
        attack: The attack of training.
        labels: Numbers of classes, int32 `(N,)`, or `None`.
        outputs: All outputs of the model, for clean and attacked inputs.
        sample_weight: As in `fit`.

    Returns:
        Scalar tensor, or `None` for an objective without.
    """
    is_class = labels is not None
    clean = attack.logits_of(outputs.clean, is_class)
    attacked = attack.logits_of(outputs.attacked, is_class)
    values = objective.loss(labels, clean, attacked)
    if values is None:
        return None
    values = check_values(f"{type(objective).__name__}.loss", values, clean)
    part, loss, weight = attack.part(), attack.compiled_loss(), 1.0
    reduction = "sum_over_batch_size"
    if part is not None and loss is not None:
        weight = part.weight
        reduction = getattr(part.loss, "reduction", reduction)
        if sample_weight is not None:
            sample_weight = loss.labels(sample_weight, part)
    if reduction in ("none", None):
        # Keras adds up what a loss without reduction gives.
        reduction = "sum"
    if sample_weight is not None:
        sample_weight = by_example(sample_weight)
    reduce = PerExample(reduction=reduction)
    return weight * reduce(values, values, sample_weight)


def by_example(sample_weight: Any) -> Any:
    """Weights of examples: the mean where each place has its own.

    Args:
        sample_weight: Tensor `(N,)` or `(N, ...)`, a weight for each place of
            the labels, such as pixels or time steps.

    Returns:
        Tensor `(N,)`.
    """
    axes = tuple(range(1, len(sample_weight.shape)))
    return ops.mean(sample_weight, axis=axes) if axes else sample_weight
