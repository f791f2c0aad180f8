"""Auto-PGD, the parameter-free attack."""

from typing import Any

import keras

from keras_robust.attacks import checks
from keras_robust.attacks.apgd_loop import AutoPGDL1Loop
from keras_robust.attacks.apgd_loop import AutoPGDLoop
from keras_robust.attacks.attack import Problem
from keras_robust.attacks.objectives import LEAST_CLASSES
from keras_robust.attacks.objectives import AwayToTarget
from keras_robust.attacks.objectives import LabelObjective
from keras_robust.attacks.objectives import difference
from keras_robust.attacks.objectives import get_loss
from keras_robust.attacks.objectives import targeted_dlr
from keras_robust.attacks.survivor_attack import SurvivorAttack
from keras_robust.attacks.targets import ranked_targets
from keras_robust.messages import shown

_TO_TARGETS = {"targeted_dlr": targeted_dlr, "targeted_margin": difference}


@keras.saving.register_keras_serializable("keras_robust")
class APGDAttack(SurvivorAttack):
    """Auto-PGD: no step size to choose.

    Croce & Hein 2020 (arXiv:2003.01690), section 3, in the L2 and L-infinity
    ball; Croce & Hein 2021 (arXiv:2103.01208), section 4, in the L1 ball.
    Examples that are wrong from the start stay as they are; those that fall
    in one restart or to one target do not enter the next.

    Args:
        norm: `"l2"` (or 2), `"linf"` (or `numpy.inf`) or `"l1"` (or 1).
        epsilon: As in `PGDAttack`.
        steps: Int >= 1, gradient steps of a run.
        loss: `"cross_entropy"`; `"dlr"` (difference of logits ratio, three
            classes or more); `"targeted_dlr"` (four or more): one run towards
            each of the `targets` likeliest wrong classes, where any wrong
            class is a success; `"targeted_margin"`: the same by difference of
            logits, for any number of classes; `"margin"`; or a callable
            `(y, logits) -> (N,)`, larger where the label fits worse.
        targets: Int >= 1, how many classes the targeted losses try.
        restarts: Int >= 1, runs from new random points.
        random_start: Whether to start from a random point on the ball's
            surface (cut off by the box); otherwise from the image.
        targeted: Whether `y` holds the labels to reach.
        value_range: As in `PGDAttack`.
        seed: Int for the same random starts in every call, on every backend
            and for every batch size; `None` for fresh ones.
        early_stop: Whether an example stops at its first success, instead of
            going on to a higher loss.
        eot: Int >= 1, gradients averaged in each step, as in `PGDAttack`.
        mask: As in `PGDAttack`.
        batch_size: Int >= 1, how many examples are attacked at once.
        from_logits: As in `PGDAttack`.
        jit_compile: As in `PGDAttack`.
        attacked: As in `PGDAttack`.
        output: As in `PGDAttack`.

    Example:

    ```python
    attack = keras_robust.APGDAttack(norm="linf", epsilon=8 / 255, loss="dlr")
    x_adv = attack(model, x, y)
    ```
    """

    def __init__(
        self,
        norm: Any = "l2",
        epsilon: Any = None,
        steps: int = 100,
        loss: Any = "cross_entropy",
        targets: int = 9,
        restarts: int = 1,
        random_start: bool = True,
        targeted: bool = False,
        value_range: Any = (0.0, 1.0),
        seed: int | None = None,
        early_stop: bool = False,
        eot: int = 1,
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
            steps=steps,
            restarts=restarts,
            early_stop=early_stop,
            mask=mask,
            targeted=targeted,
            value_range=value_range,
            seed=seed,
            batch_size=batch_size,
            from_logits=from_logits,
            jit_compile=jit_compile,
            attacked=attacked,
            output=output,
        )
        self.loss = loss
        if loss not in _TO_TARGETS:
            get_loss(loss)
        elif targeted:
            raise ValueError(
                f"With loss={shown(loss)} the targets are found, so `targeted` "
                "must be False; to reach labels of your own, take another "
                "loss. "
                f"Received: targeted={targeted}"
            )
        self.targets = checks.check_positive_integer(targets, "targets")
        self.random_start = bool(random_start)
        self.eot = checks.check_positive_integer(eot, "eot")
        if self.restarts > 1 and not self.random_start:
            raise ValueError(
                "Argument `restarts` above 1 must come with random_start=True: "
                "without it every restart is the same run. "
                f"Received: restarts={restarts}, random_start={random_start}"
            )

    follows_gradients = True

    @property
    def takes_rows(self) -> bool:
        """An L-infinity ball may have a radius for each feature."""
        return self.norm == "linf"

    @property
    def name(self) -> Any:
        """What to call it in progress bars and reports."""
        return f"APGD {self.loss}" if isinstance(self.loss, str) else "APGD"

    def goes(self, classes: int | None) -> list[tuple]:
        """Restarts, each towards every target."""
        least = LEAST_CLASSES.get(self.loss, 2)
        if classes < least:
            raise ValueError(
                f"loss={self.loss!r} needs at least {least} classes; take "
                f"'margin' or 'targeted_margin'. Received: {classes} classes"
            )
        ranks = [0]
        if self.loss in _TO_TARGETS:
            ranks = range(1, min(self.targets, classes - 1) + 1)
        return [(r, rank) for r in range(self.restarts) for rank in ranks]

    def extra(self, problem: Problem, go: Any, rows: Any, clean: Any) -> dict:
        """The target of the go."""
        if not go[1]:
            return {}
        return {"target": ranked_targets(clean, problem.y, go[1])[rows]}

    def begin(
        self, problem: Problem, go: Any, draws: Any, rows: Any, inputs: Any
    ) -> Any:
        """A random point, or the image."""
        if not self.random_start:
            return {}
        return super().begin(problem, go, draws, rows, inputs)

    def loop(self, problem: Problem, go: Any) -> Any:
        """One loop for all goes."""
        logits = problem.classifier.logits
        first_loss = 0.0
        if self.loss in _TO_TARGETS:
            objective = AwayToTarget(logits, _TO_TARGETS[self.loss])
        else:
            loss = get_loss(self.loss)
            objective = LabelObjective(logits, loss, self.targeted)
            if self.loss == "cross_entropy":
                # Cross-entropy, always positive, is climbed as log-odds.
                first_loss = -1e30
        kind = AutoPGDL1Loop if self.norm == "l1" else AutoPGDLoop
        return kind(
            objective=objective,
            ball=self.ball,
            value_range=self.value_range,
            steps=self.steps,
            first_loss=first_loss,
            early_stop=self.early_stop,
            eot=self.eot,
        )
