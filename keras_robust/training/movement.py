"""Whether the attack of a step had a gradient to follow."""

from typing import Any

import numpy as np
from keras import ops

from keras_robust.training.augmentation import Front
from keras_robust.training.batch_attack import Batch
from keras_robust.training.batch_attack import BatchAttack
from keras_robust.training.points import any_difference


def movement(
    attack: BatchAttack,
    batch: Batch,
    perturbed: Any,
    moves: Any,
    is_first: Any,
    epsilon: Any = None,
    front: Front | None = None,
) -> dict[str, Any]:
    """Whether an attack had a gradient to follow, as findings.

    Args:
        attack: The attack.
        batch: The attacked batch.
        perturbed: Its perturbed images.
        moves: For which examples a gradient was not zero, bool `(N,)`; `None`
            if not known.
        is_first: Bool tensor, whether this is the first batch.
        epsilon: Radius of this step; `None` for the attack's.
        front: See `BatchAttack.run`.
    """
    own = attack.attack
    if not own.steps or not np.max(own.epsilon) > 0:
        return {}
    # A schedule may begin at a radius of 0.
    measured = 1.0 if epsilon is None else ops.cast(epsilon > 0, "float32")
    if not attack.hides_zero_gradient:
        return {
            "measured": measured,
            "moved": any_difference(batch.image, perturbed),
        }
    if moves is not None:
        moved = ops.cast(ops.any(moves), "float32")
        return {"measured": measured, "moved": moved}
    # What the attack does changes images even without a gradient, so one plain
    # step on the first batch is looked at instead.
    one_step = own.plain_step()

    def moves_plainly() -> Any:
        found, _ = attack.run(batch, None, None, front, one_step)
        return any_difference(batch.image, found)

    moved = ops.cond(is_first, moves_plainly, lambda: ops.ones((), "float32"))
    return {"measured": ops.cast(is_first, "float32"), "moved": moved}
