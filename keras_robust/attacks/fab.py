"""Fast adaptive boundary, the minimum-norm attack."""

from typing import Any

import keras

from keras_robust.attacks import checks
from keras_robust.attacks.attack import Problem
from keras_robust.attacks.fab_loop import FABLoop
from keras_robust.attacks.survivor_attack import SurvivorAttack
from keras_robust.attacks.targets import ranked_targets
from keras_robust.messages import shown


@keras.saving.register_keras_serializable("keras_robust")
class FABAttack(SurvivorAttack):
    """Fast adaptive boundary: the smallest perturbation that it finds.

    Croce & Hein 2020 (arXiv:1907.02044), algorithm 1; with `targets`, the
    targeted version of AutoAttack: one run towards the boundary of each of
    the likeliest wrong classes, for one gradient a step instead of C.

    Args:
        norm: `"l2"` (or 2), `"linf"` (or `numpy.inf`) or `"l1"` (or 1).
        epsilon: Radius in units of `value_range` inside which a success
            counts, a number or one per example; an example without one is
            returned as it was. `None` for the nearest adversarial example at
            any distance.
        steps: Int >= 1, steps of a run.
        targets: `None`, or Int >= 1: how many classes to try.
        restarts: Int >= 1; the first run starts from the image, the others
            from random points nearby.
        targeted: Whether `y` holds the labels to reach; then without
            `targets`.
        value_range: `(low, high)`, the box that holds all inputs.
        mix: Float in [0, 1], largest weight of the step from the image
            (alpha_max in the paper).
        overshoot: Float >= 1, factor of the steps (eta).
        shrink_back: Float in (0, 1), share of a success's distance from which
            the search goes on (beta).
        seed: As in `APGDAttack`.
        early_stop: Whether an example stops at its first success inside
            `epsilon`, instead of looking for a nearer one.
        mask: As in `PGDAttack`.
        batch_size: Int >= 1, how many examples are attacked at once.
        from_logits: As in `PGDAttack`.
        jit_compile: As in `PGDAttack`.
        attacked: As in `PGDAttack`.
        output: As in `PGDAttack`.

    Example:

    ```python
    attack = keras_robust.FABAttack(norm="l2", epsilon=None)
    distance = numpy.linalg.norm((attack(model, x, y) - x).reshape(len(x), -1))
    ```
    """

    any_distance = True

    def __init__(
        self,
        norm: Any = "l2",
        epsilon: Any = None,
        steps: int = 100,
        targets: int | None = None,
        restarts: int = 1,
        targeted: bool = False,
        value_range: Any = (0.0, 1.0),
        mix: float = 0.1,
        overshoot: float = 1.05,
        shrink_back: float = 0.9,
        seed: int | None = None,
        early_stop: bool = False,
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
        if targets is not None:
            targets = checks.check_positive_integer(targets, "targets")
        if targeted and targets is not None:
            raise ValueError(
                "Argument `targets` must be None with targeted=True, where `y` "
                f"holds the targets. Received: targets={shown(targets)}"
            )
        self.targets = targets
        self.mix = mix
        self.overshoot = overshoot
        self.shrink_back = shrink_back

    def goes(self, classes: int | None) -> list[tuple]:
        """Restarts, each towards every target."""
        ranks = [0]
        if self.targets is not None:
            ranks = range(1, min(self.targets, classes - 1) + 1)
        return [(r, rank) for rank in ranks for r in range(self.restarts)]

    def extra(self, problem: Problem, go: Any, rows: Any, clean: Any) -> dict:
        """The target of the go, and the label to leave."""
        if self.targeted:
            target = problem.y[rows]
            return {
                "target": target,
                "y": clean.argmax(-1)[rows].astype("int32"),
            }
        if not go[1]:
            return {}
        return {"target": ranked_targets(clean, problem.y, go[1])[rows]}

    def begin(
        self, problem: Problem, go: Any, draws: Any, rows: Any, inputs: Any
    ) -> Any:
        """The image in the first run, then a random point."""
        if not go[0]:
            return {}
        return super().begin(problem, go, draws, rows, inputs)

    def loop(self, problem: Problem, go: Any) -> Any:
        """One loop for all goes that start alike."""
        return FABLoop(
            logits=problem.classifier.logits,
            ball=self.ball,
            value_range=self.value_range,
            to_target=self.targeted or self.targets is not None,
            targeted=self.targeted,
            mix=self.mix,
            overshoot=self.overshoot,
            shrink_back=self.shrink_back,
            early_stop=self.early_stop,
        )
