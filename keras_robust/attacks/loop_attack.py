"""Attacks that iterate a loop, in one run or several."""

from abc import abstractmethod
from typing import Any
from typing import ClassVar

import numpy as np

from keras_robust.attacks.attack import Attack
from keras_robust.attacks.balls import Ball
from keras_robust.attacks.engine.batches import like
from keras_robust.attacks.engine.loop import Inputs
from keras_robust.attacks.engine.loop import Loop
from keras_robust.attacks.engine.search import Batch
from keras_robust.attacks.engine.search import Findings
from keras_robust.attacks.engine.search import Run
from keras_robust.attacks.engine.search import search
from keras_robust.attacks.first_gradient import is_zero
from keras_robust.attacks.first_gradient import looks_stuck
from keras_robust.attacks.norms import get_ball
from keras_robust.attacks.problem import Problem
from keras_robust.utils import array_checks
from keras_robust.utils import checks


class LoopAttack(Attack):
    """Base class for attacks that make runs of a loop.

    Runs are restarts, target classes or both. An example that is wrong
    unperturbed is its own adversarial example, and one that is broken in one
    run is skipped in the next, so that the cost grows with the survivors.

    A subclass defines three methods: `runs`, where there is more than one for
    each restart; `loop`, what is iterated; and `inputs`, what it reads. It is
    decorated with `@dataclass(eq=False, repr=False)`, its settings are fields.
    """

    # Norms that the attack can do.
    norms: ClassVar[tuple[str, ...]] = ("l1", "l2", "linf")
    # Whether steps follow the gradient at the point itself.
    follows_gradients: ClassVar[bool] = False

    # Values for attacks that do not have the setting.
    norm: Any = "linf"
    steps: int = 1
    restarts: int = 1
    mask: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.norm = self.ball.name
        shape = np.shape(self.epsilon)
        if len(shape) > 1 and shape[1:] != (1,) and not self.takes_rows:
            raise ValueError(
                "Argument `epsilon` must be a number or one per example: a "
                "radius for each feature is for PGD, FGSM and APGD with "
                f"norm='linf'. Received: epsilon of shape {shape} for "
                f"{type(self).__name__} with norm={self.norm!r}"
            )
        self.restarts = checks.check_positive_integer(self.restarts, "restarts")
        if self.mask is not None:
            self.mask = np.asarray(self.mask, "float32")

    def runs(self, num_classes: int | None) -> list[Run]:
        """Return the runs, one after the other: by default the restarts.

        Args:
            num_classes: Number of classes; `None` where there are none.
        """
        del num_classes
        return [Run(restart) for restart in range(self.restarts)]

    @abstractmethod
    def loop(self, problem: Problem, run: Run) -> Loop:
        """Return the loop of a run.

        Args:
            problem: The problem.
            run: One of `runs`.
        """

    def inputs(self, problem: Problem, run: Run, batch: Batch) -> Inputs:
        """Return what the loop reads for a batch, as arrays or tensors.

        By default `center`, `y`, `epsilon`, `mask` and the inputs that are
        held fixed.

        Args:
            problem: The problem.
            run: One of `runs`.
            batch: The examples of the batch.
        """
        del run
        rows = problem.rows(batch.rows)
        epsilon = np.inf if self.epsilon is None else self.epsilon
        rows["epsilon"] = self.lengths(problem, batch, "epsilon", epsilon)
        if self.mask is not None:
            mask = array_checks.broadcast_mask(self.mask, problem.shape)
            rows["mask"] = mask[batch.rows]
        return Inputs(rows)

    @property
    def skips_broken(self) -> bool:
        """Whether runs skip the examples that are broken already."""
        return True

    @property
    def improves_broken(self) -> bool:
        """Whether runs look for better points of what runs before broke."""
        return False

    @property
    def ball(self) -> type[Ball]:
        """The ball of the attack's norm."""
        return get_ball(self.norm, self.norms)

    @property
    def name(self) -> str:
        """The name in progress bars."""
        return type(self).__name__.removesuffix("Attack")

    @property
    def loop_steps(self) -> int:
        """The number of steps of a run."""
        return self.steps

    @property
    def cost(self) -> int:
        """See `Attack`."""
        runs = self.restarts * (getattr(self, "targets", None) or 1)
        return self.loop_steps * runs * getattr(self, "eot", 1)

    def check(self, problem: Problem) -> None:
        """Raise a ValueError where the attack cannot take the inputs."""

    def lengths(
        self, problem: Problem, batch: Batch, name: str, value: Any
    ) -> np.ndarray:
        """Return a length per example, or per feature where it may be one.

        Args:
            problem: The problem.
            batch: The examples.
            name: The name of the setting, for errors.
            value: A number or an array.
        """
        lengths = checks.expand_radius(
            value, name, problem.shape, self.takes_rows
        )
        return lengths[batch.rows]

    def noise(self, problem: Problem, batch: Batch) -> dict[str, Any]:
        """Return random numbers for a point of the ball."""
        shape = (len(batch.rows), *problem.shape[1:])
        return self.ball.noise(batch.draws, shape)

    def attack(
        self, problem: Problem, verbose: int, scored: bool, checkpoint: Any
    ) -> dict[str, Any]:
        """See `Attack`."""
        findings = search(
            self, problem, verbose, checkpoint=checkpoint, scored=scored
        )
        if self.any_distance:
            # The loss is a distance, of examples that are wrong already 0.
            findings.loss[findings.wrong] = 0
        result = as_result(findings, problem, self.value_range)
        if scored or findings.is_scored:
            return result
        return {"x": result["x"]}

    def is_stuck(self, problem: Problem, result: dict[str, Any]) -> bool:
        """See `Attack`."""
        if not self.follows_gradients or not self.loop_steps:
            return False
        if self.epsilon is not None and not np.any(self.epsilon):
            return False
        return looks_stuck(self, problem, result) and is_zero(
            problem.classifier,
            problem.x,
            problem.y if problem.targets is None else problem.targets,
            problem.held,
            self.own_objective(problem),
        )

    def own_objective(self, problem: Problem) -> Any:
        """Return the objective where it is not a loss of labels, or `None`."""
        del problem
        return None


def as_result(
    findings: Findings, problem: Problem, value_range: Any
) -> dict[str, Any]:
    """Convert the findings of a search to the result of `Attack.run`."""
    x = like(problem.x, findings.x, value_range)
    return {"x": x, "loss": findings.loss, "success": findings.success}
