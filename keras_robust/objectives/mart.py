"""MART: more weight on examples that are misclassified unperturbed."""

from typing import Any

import keras
from keras import ops

from keras_robust.backend import Tensor
from keras_robust.objectives.divergences import kl_divergence
from keras_robust.objectives.training_objective import TrainingObjective
from keras_robust.utils import checks


@keras.saving.register_keras_serializable("keras_robust")
class MART(TrainingObjective):
    """Misclassification-aware adversarial training.

    Wang et al. 2020 (openreview.net/forum?id=rklOg6EFwS), eq. 11: with class
    probabilities p,

        L(x', y) - log(1 - max_{k != y} p_k(x'))
            + beta * KL(p(x) || p(x')) * (1 - p_y(x))

    where L is the compiled loss, in the paper cross-entropy. The attack
    increases its own loss.

    Args:
        beta: Float >= 0, lambda of the paper.
    """

    attacked_weight = 1.0

    def __init__(self, beta: float = 5.0) -> None:
        self.beta = checks.check_number(beta, "beta")

    def loss(self, labels: Tensor, clean: Tensor, attacked: Tensor) -> Any:
        """See `TrainingObjective`."""
        classes = clean.shape[-1]
        own = ops.one_hot(labels, classes, dtype=clean.dtype)
        rival = ops.argmax(ops.where(own > 0, -1e30, attacked), axis=-1)
        rival = ops.one_hot(rival, classes, dtype=clean.dtype)
        # log(1 - p_k) from logits: 1 - p_k would round to zero.
        others = ops.where(rival > 0, -1e30, attacked)
        without_rival = ops.logsumexp(others, axis=-1)
        boost = ops.logsumexp(attacked, axis=-1) - without_rival
        missing = 1 - ops.sum(own * ops.softmax(clean), axis=-1)
        return boost + self.beta * kl_divergence(clean, attacked) * missing
