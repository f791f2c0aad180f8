"""A single step from strong noise, for adversarial training."""

from dataclasses import KW_ONLY
from dataclasses import dataclass
from typing import Any
from typing import ClassVar
from typing import NoReturn

import keras

from keras_robust.attacks.engine.gradient_loop import GradientLoop
from keras_robust.attacks.engine.gradient_loop import Objective
from keras_robust.attacks.engine.loop import Inputs
from keras_robust.attacks.engine.loop import Tensor
from keras_robust.attacks.fgsm import FGSMAttack
from keras_robust.attacks.problem import Problem
from keras_robust.utils import checks


@dataclass(frozen=True, kw_only=True)
class NoisyStartLoop(GradientLoop):
    """Steps from noise that may lie outside of the ball, and do not return.

    Attributes:
        noise: Radius of the noise, in units of `epsilon`.
    """

    inside_ball: bool = False
    noise: float

    def random_point(self, inputs: Inputs) -> Tensor:
        """Return a uniform draw from the ball of the noise, in the box."""
        return self.ball.random_point(
            inputs.rows["center"],
            self.noise * inputs.rows["epsilon"],
            noise=inputs.rows["noise"],
            value_range=self.value_range,
            mask=inputs.rows.get("mask"),
        )


@keras.saving.register_keras_serializable("keras_robust")
@dataclass(eq=False, repr=False)
class NFGSMAttack(FGSMAttack):
    """N-FGSM: one step of length `epsilon` from noise, for training.

    De Jorge et al. 2022 (arXiv:2202.01181), algorithm 1: noise uniform in the
    ball of radius `noise_radius * epsilon`, clipped to `value_range`, and from
    there one FGSM step, clipped to `value_range` but not projected to a ball.
    So the result may be `(noise_radius + 1) * epsilon` away. At the cost of
    FGSM it trains about as robust networks as GradAlign does, where FGSM ends
    in catastrophic overfitting.

    It cannot evaluate, since it leaves the ball. An `AdversarialModel` without
    a `validation_attack` validates with ten steps of PGD in the ball.

    Args:
        norm: As in `FGSMAttack`.
        epsilon: As in `FGSMAttack`.
        targeted: As in `FGSMAttack`.
        noise_radius: Float >= 0, radius of the noise in units of `epsilon`; k
            of the paper.
        seed: As in `PGDAttack`.
        value_range: As in `PGDAttack`.
        loss: As in `PGDAttack`.
        mask: As in `PGDAttack`.
        batch_size: As in `FGSMAttack`.
        from_logits: As in `PGDAttack`.
        jit_compile: As in `PGDAttack`.
        attacked: As in `PGDAttack`.
        output: As in `PGDAttack`.

    Example:

    ```python
    attack = keras_robust.NFGSMAttack("linf", 8 / 255)
    robust = keras_robust.AdversarialModel(model, attack)
    ```
    """

    leaves_ball: ClassVar[bool] = True

    _: KW_ONLY
    noise_radius: float = 2.0
    seed: int | None = None

    # Not a setting: whether the loop gets random numbers.
    random_start = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.noise_radius = checks.check_number(
            self.noise_radius, "noise_radius"
        )

    def plain_step(self) -> FGSMAttack:
        """See `GradientAttack`."""
        kept = self._other_arguments()
        del kept["seed"]
        return FGSMAttack(**kept)

    def _other_arguments(self) -> dict[str, Any]:
        found = super()._other_arguments()
        del found["noise_radius"]
        return found

    def attack(
        self, problem: Problem, verbose: int, scored: bool, checkpoint: Any
    ) -> dict[str, Any]:
        """See `Attack`."""
        if scored:
            self._refuse_evaluation()
        return super().attack(problem, verbose, scored, checkpoint)

    def _refuse_evaluation(self) -> NoReturn:
        raise ValueError(
            "An attack in an evaluation must stay within its radius. "
            f"NFGSMAttack, which is for training, moves images by up to "
            f"{self.noise_radius + 1:g} radii. Received: {self!r}"
        )

    def _loop(self, objective: Objective) -> GradientLoop:
        fields = vars(super()._loop(objective))
        changed = {"inside_ball": False, "noise": self.noise_radius}
        return NoisyStartLoop(**{**fields, **changed})
