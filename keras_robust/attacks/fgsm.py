"""The fast gradient sign method."""

from dataclasses import KW_ONLY
from dataclasses import dataclass
from typing import Any
from typing import ClassVar

import keras

from keras_robust.attacks.gradient_attack import GradientAttack
from keras_robust.attacks.pgd import PGDAttack


@keras.saving.register_keras_serializable("keras_robust")
@dataclass(eq=False, repr=False)
class FGSMAttack(GradientAttack):
    """One step of length `epsilon`: the fast gradient (sign) method.

    Goodfellow et al. 2015 (arXiv:1412.6572), section 4, for L-infinity; with
    `norm="l2"` the step is along the normalized gradient.

    Args:
        norm: `"linf"` (or `numpy.inf`) or `"l2"` (or 2).
        epsilon: As in `PGDAttack`; `None` for 8/255 of the width of
            `value_range`.
        targeted: Whether `y` holds the labels to reach.
        value_range: As in `PGDAttack`.
        loss: As in `PGDAttack`.
        mask: As in `PGDAttack`.
        backward: As in `PGDAttack`.
        batch_size: Int >= 1, how many examples are attacked at once.
        from_logits: As in `PGDAttack`.
        jit_compile: As in `PGDAttack`.
        attacked: As in `PGDAttack`.
        output: As in `PGDAttack`.

    Example:

    ```python
    fgsm = keras_robust.FGSMAttack(norm="linf", epsilon=8 / 255)
    x_adv = fgsm(model, x, y)
    ```
    """

    default_share: ClassVar[float] = 8 / 255

    norm: Any = "linf"
    epsilon: Any = None
    targeted: bool = False
    _: KW_ONLY
    loss: Any = "cross_entropy"
    mask: Any = None
    backward: Any = None

    def effective_step_size(self) -> Any:
        """Return the radius."""
        return self.epsilon

    def for_validation(self) -> GradientAttack:
        """See `GradientAttack`: PGD in the ball, from the image itself."""
        return PGDAttack(**self._other_arguments(), steps=self.validation_steps)

    def _other_arguments(self) -> dict[str, Any]:
        """All but those that only this class has."""
        return {**self.arguments(), "epsilon": self.epsilon}
