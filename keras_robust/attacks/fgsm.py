"""The fast gradient sign method."""

from typing import Any

import keras

from keras_robust.attacks.gradient_attack import GradientAttack


@keras.saving.register_keras_serializable("keras_robust")
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

    default_share = 8 / 255

    def __init__(
        self,
        norm: Any = "linf",
        epsilon: Any = None,
        targeted: bool = False,
        value_range: Any = (0.0, 1.0),
        loss: Any = "cross_entropy",
        mask: Any = None,
        batch_size: int = 128,
        from_logits: bool | None = None,
        jit_compile: bool | str = "auto",
        attacked: str | int | None = None,
        output: str | int | None = None,
    ) -> None:
        super().__init__(
            norm=norm,
            epsilon=epsilon,
            steps=1,
            targeted=targeted,
            value_range=value_range,
            loss=loss,
            mask=mask,
            batch_size=batch_size,
            from_logits=from_logits,
            jit_compile=jit_compile,
            attacked=attacked,
            output=output,
        )

    def effective_step_size(self) -> Any:
        """The radius."""
        return self.epsilon
