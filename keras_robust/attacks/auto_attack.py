"""AutoAttack, the standard evaluation."""

import warnings
from typing import Any

import keras
import numpy as np

from keras_robust.attacks import checks
from keras_robust.attacks.apgd import APGDAttack
from keras_robust.attacks.attack import Attack
from keras_robust.attacks.attack import Problem
from keras_robust.attacks.fab import FABAttack
from keras_robust.attacks.norms import get_ball
from keras_robust.attacks.objectives import LEAST_CLASSES
from keras_robust.attacks.square import SquareAttack
from keras_robust.attacks.survivor_attack import finished
from keras_robust.messages import shown

VERSIONS = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
    "rand": ("apgd-ce", "apgd-dlr"),
}
# Restarts of the version "plus", and gradients averaged in "rand".
_PLUS_RESTARTS, _RAND_EOT = 5, 20


@keras.saving.register_keras_serializable("keras_robust")
class AutoAttack(Attack):
    """AutoAttack: an ensemble of attacks without parameters to tune.

    Croce & Hein 2020 (arXiv:2003.01690), section 6, in the order of the
    published code. Each attack sees only the examples that the ones before
    have left. `"standard"`: APGD on cross-entropy, APGD on the targeted DLR
    loss (nine targets), targeted FAB (nine), Square (5000 queries). `"plus"`:
    APGD on cross-entropy and DLR and FAB, five restarts each, Square, targeted
    APGD, targeted FAB. `"rand"`, for randomized models: APGD on cross-entropy
    and DLR with 20 gradients averaged in each step.

    What cannot take the inputs is left out, with a warning: Square where they
    are no images, FAB and Square where the radius is one per feature.

    With fewer than four classes the DLR losses are not defined, and margins
    of logits take their place.

    Args:
        norm: `"l2"` (or 2) or `"linf"` (or `numpy.inf`).
        epsilon: As in `PGDAttack`; `None` for 8/255 of the width of
            `value_range`.
        version: `"standard"`, `"plus"` or `"rand"`.
        value_range: `(low, high)`, the box that holds all inputs.
        steps: Int >= 1, steps of APGD and FAB (100 in the paper).
        queries: Int >= 1, of Square (5000 in the paper).
        targets: Int >= 1, classes that the targeted attacks try.
        seed: As in `APGDAttack`.
        batch_size: Int >= 1, how many examples are attacked at once.
        from_logits: As in `PGDAttack`.
        jit_compile: As in `PGDAttack`.
        attacked: As in `PGDAttack`.
        output: As in `PGDAttack`.

    Example:

    ```python
    x_adv = keras_robust.AutoAttack(norm="l2", epsilon=0.5)(model, x, y)
    ```
    """

    default_share = 8 / 255

    def __init__(
        self,
        norm: Any = "linf",
        epsilon: Any = None,
        version: str = "standard",
        value_range: Any = (0.0, 1.0),
        steps: int = 100,
        queries: int = 5000,
        targets: int = 9,
        seed: int | None = None,
        batch_size: int = 128,
        from_logits: bool | None = None,
        jit_compile: bool | str = "auto",
        attacked: str | int | None = None,
        output: str | int | None = None,
    ) -> None:
        super().__init__(
            epsilon,
            value_range=value_range,
            batch_size=batch_size,
            seed=seed,
            from_logits=from_logits,
            jit_compile=jit_compile,
            attacked=attacked,
            output=output,
        )
        if version not in VERSIONS:
            raise ValueError(
                f"Argument `version` must be one of {tuple(VERSIONS)}. "
                f"Received: version={shown(version)}"
            )
        self.norm = get_ball(norm, ("l2", "linf")).name
        self.version = version
        self.steps = checks.check_positive_integer(steps, "steps")
        self.queries = checks.check_positive_integer(queries, "queries")
        self.targets = checks.check_positive_integer(targets, "targets")

    @property
    def takes_rows(self) -> bool:
        """An L-infinity ball may have a radius for each feature."""
        return self.norm == "linf"

    def left_out(self, shape: tuple) -> list[str]:
        """Names of the parts that cannot take inputs of a shape.

        Args:
            shape: `(N, ...)`.

        Returns:
            List of strings.
        """
        shape, missing = tuple(shape), set()
        # Two of the three are its height and width, wherever channels are.
        if len(shape) != 4 or sorted(shape[1:])[1] < 3:
            missing.add("square")
        radius = np.shape(self.epsilon)
        if radius and radius not in (shape[:1], (shape[0], 1)):
            missing |= {"fab", "fab-t", "square"}
        return [name for name in VERSIONS[self.version] if name in missing]

    def parts(
        self,
        classes: int | None,
        randomized: bool = False,
        shape: tuple | None = None,
    ) -> dict:
        """The attacks, in their order.

        Args:
            classes: C.
            randomized: Whether outputs of the model change from call to call.
            shape: `(N, ...)` of the inputs, for `left_out`; or `None`.

        Returns:
            Dictionary of attacks by name.
        """
        shared = {
            "norm": self.norm,
            "epsilon": self.epsilon,
            "value_range": self.value_range,
            "seed": self.seed,
            "batch_size": self.batch_size,
            "from_logits": self.from_logits,
            "jit_compile": self.jit_compile,
            "attacked": self.attacked,
            "output": self.output,
            "early_stop": True,
        }
        steps = {**shared, "steps": self.steps}
        restarts = _PLUS_RESTARTS if self.version == "plus" else 1
        # The first draw of a randomized model that errs may be a lucky one.
        apgd = {**steps, "early_stop": not randomized}
        if self.version == "rand":
            apgd["eot"] = _RAND_EOT
        to_targets = {"targets": self.targets}
        few = classes < LEAST_CLASSES["dlr"]
        few_targets = classes < LEAST_CLASSES["targeted_dlr"]
        dlr = "margin" if few else "dlr"
        targeted = "targeted_margin" if few_targets else "targeted_dlr"
        made = {
            "apgd-ce": lambda: APGDAttack(restarts=restarts, **apgd),
            "apgd-dlr": lambda: APGDAttack(loss=dlr, restarts=restarts, **apgd),
            "apgd-t": lambda: APGDAttack(loss=targeted, **to_targets, **apgd),
            "fab": lambda: FABAttack(restarts=restarts, **steps),
            "fab-t": lambda: FABAttack(**to_targets, **steps),
            "square": lambda: SquareAttack(
                queries=self.queries, edges=False, **shared
            ),
        }
        missing = () if shape is None else self.left_out(shape)
        return {
            name: made[name]()
            for name in VERSIONS[self.version]
            if name not in missing
        }

    @property
    def passes(self) -> int:
        """As of any attack: all parts, if nothing falls."""
        # Of many classes, so that the targets are not cut.
        return sum(
            part.passes for part in self.parts(self.targets + 1).values()
        )

    def attack(
        self, problem: Problem, verbose: int, scored: bool, checkpoint: Any
    ) -> dict:
        """See `Attack`; tells `broken_by` as well.

        `broken_by` holds 0 for an example that was wrong from the start, k
        for one that the k-th part broke, -1 for a survivor.
        """
        broken_by = np.full(problem.x.shape[0], -1, "int32")
        result, shape = problem.begun, tuple(problem.x.shape)
        randomized = problem.classifier.is_randomized(problem.x, problem.held)
        parts = self.parts(problem.classes, randomized, shape)
        if missing := self.left_out(shape):
            warnings.warn(
                f"AutoAttack leaves out {missing}, which cannot take inputs "
                f"of shape {shape[1:]} or this radius, and runs {list(parts)}.",
                UserWarning,
                stacklevel=4,
            )
        for number, (name, part) in enumerate(parts.items(), 1):
            section = checkpoint.section(name) if checkpoint else None
            result = part.search(problem, verbose, section, begun=result)
            new = result["success"] & (broken_by < 0)
            broken_by[new] = np.where(result["wrong"], 0, number)[new]
        return {
            **finished(result, problem.x, self.value_range),
            "broken_by": broken_by,
        }
