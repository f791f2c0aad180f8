"""A mix of clean and attacked batches."""

import keras

from keras_robust.objectives.training_objective import TrainingObjective
from keras_robust.utils import checks


@keras.saving.register_keras_serializable("keras_robust")
class Mixed(TrainingObjective):
    """The compiled loss on clean and on attacked images, with two weights.

    Goodfellow et al. 2015 (arXiv:1412.6572), section 6, with equal weights:

        clean_weight * L(x, y) + (1 - clean_weight) * L(x', y)

    Takes labels of any kind.

    Args:
        clean_weight: Float from 0 to 1.
    """

    needs_classes = False

    def __init__(self, clean_weight: float = 0.5) -> None:
        self.clean_weight = checks.check_number(
            clean_weight, "clean_weight", most=1
        )
        self.attacked_weight = 1 - self.clean_weight
