"""Adversarial logit pairing."""

from typing import Any

import keras
from keras import ops

from keras_robust.backend import Tensor
from keras_robust.objectives.training_objective import TrainingObjective
from keras_robust.utils import checks


@keras.saving.register_keras_serializable("keras_robust")
class LogitPairing(TrainingObjective):
    """Clean and attacked images of a pair are to have equal logits.

    Kannan et al. 2018 (arXiv:1803.06373), section 4.1: with logits z,

        clean_weight * L(x, y) + (1 - clean_weight) * L(x', y)
            + weight * mean_k (z_k(x) - z_k(x'))**2

    For a model that gives probabilities, logits are their logarithms. Takes
    labels of any kind; where they are not classes, the model's own output
    stands for the logits. Networks trained like this can hide from
    attacks of few steps (Engstrom et al. 2018, arXiv:1807.10272): evaluate
    them with many.

    Args:
        weight: Float >= 0, weight of the squared differences.
        clean_weight: Float from 0 to 1.
    """

    needs_classes = False

    def __init__(self, weight: float = 0.5, clean_weight: float = 0.5) -> None:
        self.weight = checks.check_number(weight, "weight")
        self.clean_weight = checks.check_number(
            clean_weight, "clean_weight", most=1
        )
        self.attacked_weight = 1 - self.clean_weight

    def loss(self, labels: Tensor, clean: Tensor, attacked: Tensor) -> Any:
        """See `TrainingObjective`."""
        del labels
        squares = ops.square(clean - attacked)
        axes = tuple(range(1, len(squares.shape)))
        return self.weight * (ops.mean(squares, axis=axes) if axes else squares)
