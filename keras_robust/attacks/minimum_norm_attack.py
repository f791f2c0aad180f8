"""What attacks that look for the nearest adversarial example share."""

from typing import Any
from typing import ClassVar

import numpy as np
from keras import ops

from keras_robust.attacks.engine.nearest_loop import NOT_FOUND
from keras_robust.attacks.loop_attack import LoopAttack
from keras_robust.attacks.norms import distances
from keras_robust.attacks.norms import relative_distance
from keras_robust.attacks.objectives import LabelObjective
from keras_robust.attacks.objectives import get_loss
from keras_robust.attacks.problem import Problem
from keras_robust.utils import checks
from keras_robust.utils.messages import shown

# Shares of its perturbation by which a point on the boundary is moved on.
_BEYOND = (1e-5, 1e-4, 1e-3, 1e-2)
# Share of the radius that is rounding.
_ROUNDING = 1e-6
# Share of the largest logit by which batches of other sizes differ: 16 units in
# the last place of float32.
_LOGIT_ROUNDING = 2e-6
# Of points that the model misclassifies beyond rounding.
_CERTAIN = 2


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

    def attack(
        self, problem: Problem, verbose: int, scored: bool, checkpoint: Any
    ) -> dict[str, Any]:
        """See `Attack`; what is found fools the model as Keras calls it.

        The nearest points lie on the boundary to rounding, and the frozen model
        of the search rounds differently, as does the model itself in a batch of
        another size. Where its own logits are that close, the perturbation is
        stretched a little.
        """
        result = super().attack(problem, verbose, True, checkpoint)
        if problem.classifier.is_randomized(problem.x, problem.held):
            return result
        return self.confirm(problem, result)

    def confirm(
        self, problem: Problem, result: dict[str, Any]
    ) -> dict[str, Any]:
        """Stretch perturbations until the model itself is fooled.

        Args:
            problem: The problem.
            result: `x`, `loss` and `success` of the search.

        Returns:
            The same; where no stretch of at most a hundredth fools the model,
            or it would leave the radius, the image as it was.
        """
        host = problem.on_host()
        success = np.array(result["success"], bool)
        found = np.array(ops.convert_to_numpy(result["x"]))
        # Also those that have not moved: only the frozen model may be wrong.
        rows = np.flatnonzero(success)
        level = np.full(len(found), _CERTAIN)
        level[rows] = self._confirmed(host, found, rows)
        changed = np.zeros(len(found), bool)
        step = found - host.x
        # Between two points of a grid there is nothing to move on to.
        for share in _BEYOND if host.grid is None else ():
            left = np.flatnonzero(level < _CERTAIN)
            if not len(left):
                break
            further = found.copy()
            stretched = host.x[left] + (1 + share) * step[left]
            further[left] = np.clip(stretched, *self.value_range)
            reached = self._confirmed(host, further, left)
            better = left[reached > level[left]]
            found[better], changed[better] = further[better], True
            level[left] = np.maximum(level[left], reached)
        failed = level == 0
        found[failed], success[failed] = host.x[failed], False
        changed &= ~failed
        loss = np.array(result["loss"])
        loss[changed] = -distances(found[changed], host.x[changed], self.norm)
        loss[failed] = -NOT_FOUND
        is_array = isinstance(result["x"], np.ndarray)
        x = found if is_array else ops.convert_to_tensor(found)
        return {**result, "x": x, "loss": loss, "success": success}

    def _confirmed(
        self, problem: Problem, x: np.ndarray, rows: np.ndarray
    ) -> np.ndarray:
        """Whether the model's own logits reach the goal at points in the ball.

        Args:
            problem: The problem, its images as NumPy arrays.
            x: Points for all of its images.
            rows: Which of them to look at.

        Returns:
            Int array, an entry for each of `rows`: 0 for no, 1 for yes, and
            `_CERTAIN` for yes by more than logits of other batches may differ.
        """
        if not len(rows):
            return np.zeros(0, int)
        held = {name: part[rows] for name, part in problem.held.items()}
        logits = problem.classifier.predict_logits(
            x[rows], self.batch_size, held
        )
        y = np.asarray(problem.y)[rows].astype(int)
        count = np.arange(len(rows))
        others = np.array(logits, "float64")
        others[count, y] = -np.inf
        ahead = others.max(-1) - logits[count, y]
        reached = logits.argmax(-1) != y
        if self.targeted:
            ahead, reached = -ahead, ~reached
        rounding = _LOGIT_ROUNDING * np.abs(logits).max(-1)
        level = np.where(reached & (ahead > rounding), _CERTAIN, reached)
        outside = relative_distance(self, problem.x, x)[rows] > 1 + _ROUNDING
        return np.where(outside, 0, level)
