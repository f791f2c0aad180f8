"""Carlini & Wagner's L2 attack."""

from typing import Any

import keras

from keras_robust.attacks import checks
from keras_robust.attacks.attack import Problem
from keras_robust.attacks.carlini_wagner_loop import CarliniWagnerLoop
from keras_robust.attacks.survivor_attack import SurvivorAttack


@keras.saving.register_keras_serializable("keras_robust")
class CarliniWagnerL2(SurvivorAttack):
    """The smallest L2 perturbation, by Adam and a search for its weight.

    Carlini & Wagner 2017 (arXiv:1608.04644), section VI.A.

    Args:
        epsilon: Radius in units of `value_range` inside which a success
            counts, a number or one per example; an example without one is
            returned as it was. `None` for the nearest adversarial example at
            any distance.
        steps: Int >= 1, Adam steps for one weight.
        search_steps: Int >= 1, weights tried (binary search).
        learning_rate: Float > 0, of Adam, in tanh space.
        first_constant: Float > 0, the first weight.
        confidence: Float >= 0, by how much the wrong logit must win.
        targeted: Whether `y` holds the labels to reach.
        value_range: `(low, high)`, the box that holds all inputs.
        mask: As in `PGDAttack`.
        batch_size: Int >= 1, how many examples are attacked at once.
        from_logits: As in `PGDAttack`.
        jit_compile: As in `PGDAttack`.
        attacked: As in `PGDAttack`.
        output: As in `PGDAttack`.

    Example:

    ```python
    attack = keras_robust.CarliniWagnerL2(steps=1000)
    distance = numpy.linalg.norm((attack(model, x, y) - x).reshape(len(x), -1))
    ```
    """

    any_distance = True

    def __init__(
        self,
        epsilon: Any = None,
        steps: int = 1000,
        search_steps: int = 9,
        learning_rate: float = 0.01,
        first_constant: float = 1e-3,
        confidence: float = 0.0,
        targeted: bool = False,
        value_range: Any = (0.0, 1.0),
        mask: Any = None,
        batch_size: int = 128,
        from_logits: bool | None = None,
        jit_compile: bool | str = "auto",
        attacked: str | int | None = None,
        output: str | int | None = None,
    ) -> None:
        super().__init__(
            norm="l2",
            epsilon=epsilon,
            steps=steps,
            mask=mask,
            targeted=targeted,
            value_range=value_range,
            batch_size=batch_size,
            from_logits=from_logits,
            jit_compile=jit_compile,
            attacked=attacked,
            output=output,
        )
        self.search_steps = checks.check_positive_integer(
            search_steps, "search_steps"
        )
        self.learning_rate = checks.check_non_negative(
            learning_rate, "learning_rate"
        )
        self.first_constant = checks.check_non_negative(
            first_constant, "first_constant"
        )
        self.confidence = checks.check_non_negative(confidence, "confidence")

    @property
    def loop_steps(self) -> Any:
        """Steps of the loop in all."""
        return self.steps * self.search_steps

    def goes(self, classes: int | None) -> list[tuple]:
        """One go."""
        return [(0,)]

    def begin(
        self, problem: Problem, go: Any, draws: Any, rows: Any, inputs: Any
    ) -> dict:
        """The image itself."""
        return {}

    def loop(self, problem: Problem, go: Any) -> Any:
        """The only loop."""
        return CarliniWagnerLoop(
            logits=problem.classifier.logits,
            value_range=self.value_range,
            targeted=self.targeted,
            steps=self.steps,
            learning_rate=self.learning_rate,
            first_constant=self.first_constant,
            confidence=self.confidence,
        )
