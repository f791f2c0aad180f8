"""AutoAttack, the standard evaluation."""

import warnings
from dataclasses import KW_ONLY
from dataclasses import dataclass
from typing import Any
from typing import ClassVar

import keras
import numpy as np

from keras_robust.attacks.apgd import APGDAttack
from keras_robust.attacks.attack import Attack
from keras_robust.attacks.engine.search import clean_findings
from keras_robust.attacks.engine.search import search
from keras_robust.attacks.fab import FABAttack
from keras_robust.attacks.loop_attack import LoopAttack
from keras_robust.attacks.loop_attack import as_result
from keras_robust.attacks.norms import get_ball
from keras_robust.attacks.objectives import LEAST_CLASSES
from keras_robust.attacks.problem import Problem
from keras_robust.attacks.square import SquareAttack
from keras_robust.utils import checks
from keras_robust.utils.messages import shown

VERSIONS: dict[str, tuple[str, ...]] = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
    "rand": ("apgd-ce", "apgd-dlr"),
}
# Restarts of the version "plus", and gradients averaged in "rand".
_PLUS_RESTARTS, _RAND_EOT = 5, 20


@keras.saving.register_keras_serializable("keras_robust")
@dataclass(eq=False, repr=False)
class AutoAttack(Attack):
    """AutoAttack: an ensemble of attacks without parameters to tune.

    Croce & Hein 2020 (arXiv:2003.01690), section 6, in the order of the
    published code. Each attack runs only on the examples that the ones before
    have not broken. `"standard"`: APGD on cross-entropy, APGD on the targeted
    DLR loss (nine targets), targeted FAB (nine), Square (5000 queries).
    `"plus"`: APGD on cross-entropy and DLR and FAB, five restarts each, Square,
    targeted APGD, targeted FAB. `"rand"`, for randomized models: APGD on
    cross-entropy and DLR with 20 gradients averaged in each step.

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
        backward: As in `PGDAttack`; Square needs no gradients.
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

    default_share: ClassVar[float] = 8 / 255

    norm: Any = "linf"
    epsilon: Any = None
    version: str = "standard"
    _: KW_ONLY
    steps: int = 100
    queries: int = 5000
    targets: int = 9
    seed: int | None = None
    backward: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.version not in VERSIONS:
            raise ValueError(
                f"Argument `version` must be one of {tuple(VERSIONS)}. "
                f"Received: version={shown(self.version)}"
            )
        self.norm = get_ball(self.norm, ("l2", "linf")).name
        self.steps = checks.check_positive_integer(self.steps, "steps")
        self.queries = checks.check_positive_integer(self.queries, "queries")
        self.targets = checks.check_positive_integer(self.targets, "targets")

    @property
    def takes_rows(self) -> bool:
        """Whether there may be a radius per feature: in an L-infinity ball."""
        return self.norm == "linf"

    def left_out(self, shape: tuple[int, ...]) -> list[str]:
        """Return the names of the parts that cannot take inputs of a shape.

        Args:
            shape: `(N, ...)`.
        """
        missing = set()
        # Two of the three are its height and width, wherever channels are.
        if len(shape) != 4 or sorted(shape[1:])[1] < 3:
            missing.add("square")
        radius = np.shape(self.epsilon)
        if radius and radius not in (shape[:1], (shape[0], 1)):
            missing |= {"fab", "fab-t", "square"}
        return [name for name in VERSIONS[self.version] if name in missing]

    def parts(
        self,
        num_classes: int,
        randomized: bool = False,
        shape: tuple[int, ...] | None = None,
    ) -> dict[str, LoopAttack]:
        """Return the attacks, in their order.

        Args:
            num_classes: Number of classes.
            randomized: Whether outputs of the model change from call to call.
            shape: `(N, ...)` of the inputs, for `left_out`; or `None`.

        Returns:
            Dictionary of attacks by name.
        """
        left_out = () if shape is None else self.left_out(shape)
        return {
            name: self._part(name, num_classes, randomized)
            for name in VERSIONS[self.version]
            if name not in left_out
        }

    def _part(
        self, name: str, num_classes: int, randomized: bool
    ) -> LoopAttack:
        """Return the attack of a name in `VERSIONS`."""
        settings: dict[str, Any] = {
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
        if name == "square":
            return SquareAttack(queries=self.queries, edges=False, **settings)
        settings |= {"steps": self.steps, "backward": self.backward}
        if name in ("apgd-t", "fab-t"):
            settings["targets"] = self.targets
        elif self.version == "plus":
            settings["restarts"] = _PLUS_RESTARTS
        if name in ("fab", "fab-t"):
            return FABAttack(**settings)
        # The first draw of a randomized model that errs may be a lucky one.
        settings["early_stop"] = not randomized
        if self.version == "rand":
            settings["eot"] = _RAND_EOT
        loss = _apgd_loss(name, num_classes)
        return APGDAttack(loss=loss, **settings)

    @property
    def cost(self) -> int:
        """See `Attack`: of all parts, if nothing is broken."""
        # Of many classes, so that the targets are not cut.
        return sum(part.cost for part in self.parts(self.targets + 1).values())

    def attack(
        self, problem: Problem, verbose: int, scored: bool, checkpoint: Any
    ) -> dict[str, Any]:
        """See `Attack`; the result includes `broken_by`.

        `broken_by` holds 0 for an example that was wrong from the start, k
        for one that the k-th part broke, -1 for a survivor.
        """
        broken_by = np.full(problem.x.shape[0], -1, "int32")
        shape, num_classes = problem.shape, problem.classes or 0
        findings = problem.previous or clean_findings(
            problem.on_host(), self.batch_size
        )
        randomized = problem.classifier.is_randomized(problem.x, problem.held)
        parts = self.parts(num_classes, randomized, shape)
        if left_out := self.left_out(shape):
            warnings.warn(
                f"AutoAttack leaves out {left_out}, which cannot take inputs "
                f"of shape {shape[1:]} or this radius, and runs {list(parts)}.",
                UserWarning,
                stacklevel=4,
            )
        for number, (name, part) in enumerate(parts.items(), 1):
            section = checkpoint.section(name) if checkpoint else None
            findings = search(
                part, problem, verbose, checkpoint=section, previous=findings
            )
            new = findings.success & (broken_by < 0)
            broken_by[new] = np.where(findings.wrong, 0, number)[new]
        result = as_result(findings, problem, self.value_range)
        return {**result, "broken_by": broken_by}


def _apgd_loss(name: str, num_classes: int) -> str:
    """Return the loss of an APGD part; margins where DLR is not defined."""
    if name == "apgd-ce":
        return "cross_entropy"
    loss = "dlr" if name == "apgd-dlr" else "targeted_dlr"
    if num_classes >= LEAST_CLASSES[loss]:
        return loss
    return "margin" if name == "apgd-dlr" else "targeted_margin"
