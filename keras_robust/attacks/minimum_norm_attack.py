"""What attacks that look for the nearest adversarial example share."""

from typing import ClassVar

import numpy as np

from keras_robust.attacks.loop_attack import LoopAttack
from keras_robust.attacks.objectives import LabelObjective
from keras_robust.attacks.objectives import get_loss
from keras_robust.attacks.problem import Problem
from keras_robust.utils import checks
from keras_robust.utils.messages import shown


class MinimumNormAttack(LoopAttack):
    """Base class of attacks that need no radius.

    They return the nearest adversarial example that they find, and an image
    for which they find none as it was.
    """

    any_distance: ClassVar[bool] = True
    follows_gradients: ClassVar[bool] = True

    # Values for attacks that do not have the setting.
    early_stop: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.steps = checks.check_positive_integer(self.steps, "steps")
        self.early_stop = bool(self.early_stop)

    def check(self, problem: Problem) -> None:
        """See `LoopAttack`: the box has an end on every side."""
        low, high = self.value_range
        if not np.isfinite(np.asarray(high, "float64") - low).all():
            raise ValueError(
                f"Argument `value_range` of {type(self).__name__} must be "
                f"finite. Received: value_range={shown(self.value_range)}"
            )

    def unit_length(self) -> float:
        """Return the mean width of the box, in which lengths are given."""
        low, high = self.value_range
        return float(np.mean(np.asarray(high, "float64") - low))

    def label_objective(self, problem: Problem, loss: str) -> LabelObjective:
        """Return the objective of a named loss."""
        return LabelObjective(
            problem.classifier.logits, get_loss(loss), self.targeted
        )
