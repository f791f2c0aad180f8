"""TRADES: accuracy on clean images, stability around them."""

from typing import Any

import keras

from keras_robust.backend import Tensor
from keras_robust.objectives.divergences import kl_divergence
from keras_robust.objectives.training_objective import TrainingObjective
from keras_robust.utils import checks


@keras.saving.register_keras_serializable("keras_robust")
class TRADES(TrainingObjective):
    """Compiled loss on clean images, and divergence under attack.

    Zhang et al. 2019 (arXiv:1901.08573), eq. 5: with class probabilities p,

        L(x, y) + beta * KL(p(x) || p(x'))

    where L is the compiled loss, in the paper cross-entropy. The attack
    increases the same divergence, see `TrainingObjective.attack_loss`; an
    attack with `loss="compiled"` increases the compiled loss instead.

    Both terms carry gradients to both predictions. Clean and attacked images
    go through the model in two passes with `training=True`, each with batch
    statistics of its own.

    Args:
        beta: Float >= 0; higher values trade clean for robust accuracy. The
            paper uses 1 and 6.
    """

    clean_weight = 1.0

    def __init__(self, beta: float = 6.0) -> None:
        self.beta = checks.check_number(beta, "beta")

    def attack_loss(self, clean: Tensor, logits: Tensor) -> Tensor:
        """See `TrainingObjective`."""
        return kl_divergence(clean, logits)

    def loss(self, labels: Tensor, clean: Tensor, attacked: Tensor) -> Any:
        """See `TrainingObjective`."""
        del labels
        return self.beta * kl_divergence(clean, attacked)
