"""Attacks by normalized gradient steps: PGD and FGSM."""

from dataclasses import replace
from typing import Any
from typing import ClassVar

import numpy as np
from keras import ops

from keras_robust.attacks.engine.gradient_loop import GradientLoop
from keras_robust.attacks.engine.gradient_loop import Objective
from keras_robust.attacks.engine.loop import Candidate
from keras_robust.attacks.engine.loop import Inputs
from keras_robust.attacks.engine.loop import Tensor
from keras_robust.attacks.engine.loop import keep_better
from keras_robust.attacks.engine.randomness import in_graph_draws
from keras_robust.attacks.engine.search import Batch
from keras_robust.attacks.engine.search import Run
from keras_robust.attacks.loop_attack import LoopAttack
from keras_robust.attacks.objectives import LabelObjective
from keras_robust.attacks.objectives import get_loss
from keras_robust.attacks.own_loss import ReadsTargets
from keras_robust.attacks.own_loss import is_own_loss
from keras_robust.attacks.own_loss import own_objective
from keras_robust.attacks.own_loss import with_targets
from keras_robust.attacks.problem import Problem
from keras_robust.classifier import Classifier
from keras_robust.utils import array_checks
from keras_robust.utils.messages import shown


class GradientAttack(LoopAttack):
    """Base class of PGD and FGSM; see `PGDAttack` for the arguments.

    Every restart attacks all examples, also those that are wrong unperturbed;
    with `early_stop` only those that are not broken yet.
    """

    follows_gradients: ClassVar[bool] = True
    # Whether perturbations may be longer than the radius.
    leaves_ball: ClassVar[bool] = False
    # Steps of PGD that evaluate what an attack of one step trains.
    validation_steps: ClassVar[int] = 10

    # Values for attacks that do not have the setting.
    step_size: Any = None
    random_start: bool = False
    loss: Any = "cross_entropy"
    keep_best: bool = False
    early_stop: bool = False
    momentum: float = 0.0
    eot: int = 1
    layer: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.early_stop = bool(self.early_stop)
        if not self.has_own_loss:
            get_loss(self.loss)
        elif self.backward is not None:
            raise ValueError(
                "Argument `backward` must come with a loss of labels and "
                f"logits. Received: loss={shown(self.loss)}"
            )

    def loop(self, problem: Problem, run: Run) -> GradientLoop:
        """See `LoopAttack`: the same loop in every run."""
        del run
        if self.has_own_loss:
            return self._loop(ReadsTargets(self.own_objective(problem)))
        return self._loop(self._objective(problem.classifier))

    def inputs(self, problem: Problem, run: Run, batch: Batch) -> Inputs:
        """See `LoopAttack`: the length of steps, and where to start."""
        inputs = super().inputs(problem, run, batch)
        inputs.rows["step_size"] = self.lengths(
            problem, batch, "step_size", self.effective_step_size()
        )
        if self.random_start:
            inputs.rows["noise"] = self.noise(problem, batch)
        return inputs

    @property
    def skips_broken(self) -> bool:
        """See `LoopAttack`."""
        return self.early_stop

    def attack(
        self, problem: Problem, verbose: int, scored: bool, checkpoint: Any
    ) -> dict[str, Any]:
        """See `Attack`."""
        result = super().attack(problem, verbose, scored, checkpoint)
        if scored and not self.early_stop and problem.targets is not None:
            result["success"] = self._reached(problem, result["x"])
        return result

    def _reached(self, problem: Problem, x: Any) -> np.ndarray:
        """Return where the model's own prediction is wrong, or the target."""
        if problem.classes is None:
            return np.zeros(problem.x.shape[0], bool)
        labels = problem.classifier.predict_labels(
            ops.convert_to_numpy(x), self.batch_size, problem.held
        )
        hit = labels == problem.y
        return hit if self.targeted else ~hit

    @property
    def has_own_loss(self) -> bool:
        """Whether the loss takes labels as `fit` does, of any kind."""
        return is_own_loss(self.loss)

    def with_labels(self, problem: Problem) -> Problem:
        """See `Attack`."""
        if not self.has_own_loss:
            return super().with_labels(problem)
        return with_targets(problem, self.loss, self.early_stop)

    def own_objective(self, problem: Problem) -> Any:
        """See `LoopAttack`."""
        if not self.has_own_loss:
            return None
        return own_objective(problem, self.loss, self.targeted)

    def effective_step_size(self) -> Any:
        """Return `step_size`; where it is `None`, `2.5 * epsilon / steps`.

        Where a schedule gives the length of each step, this is 1.
        """
        if self.step_size is None:
            return 2.5 * self.epsilon / max(self.steps, 1)
        return 1.0 if callable(self.step_size) else self.step_size

    @property
    def takes_rows(self) -> bool:
        """Whether there may be a radius per feature: in an L-infinity ball."""
        return self.norm == "linf"

    def perturb(
        self,
        model: Any,
        x: Tensor,
        y: Any,
        seed: Any = None,
        held: dict[str, Any] | None = None,
        objective: Objective | None = None,
        epsilon: Tensor | None = None,
        start: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Run the attack without checks, batches or compilation.

        For use inside a train step, which compiles it with the rest.

        Args:
            model: A built Keras classifier, or a `Classifier`.
            x: Float32 tensor of shape `(N, ...)` inside `value_range`.
            y: Tensor of labels, or of what `objective` takes.
            seed: A `keras.random.SeedGenerator` that the caller tracks;
                needed where `random_start`.
            held: Dictionary of tensors, the inputs that are held fixed.
            objective: `(inputs, x) -> (values, success)` to raise, in place
                of the loss of the labels.
            epsilon: Scalar tensor, a radius in place of the attack's; its
                steps are as much longer or shorter.
            start: Tensor like `x`, where to begin in place of a random point
                or `x` itself; or `None`.

        Returns:
            Tensor like `x`, and whether any gradient of an example was not
            zero in the first run, bool `(N,)`; `None` if that is not known.
        """
        x = ops.stop_gradient(ops.cast(x, "float32"))
        radius, step_size = self._lengths_in_graph(x, epsilon)
        rows = {"center": x, "y": y, "epsilon": radius, "step_size": step_size}
        if objective is None:
            rows["y"] = array_checks.labels_in_graph(y)
            objective = self._objective(self._classifier(model))
        if held:
            rows["held"] = held
        if self.mask is not None:
            mask = ops.convert_to_tensor(self.mask)
            rows["mask"] = mask * ops.ones_like(x)
        if start is not None:
            rows["start"] = start
        loop = replace(self._loop(objective), watches=True)

        def one_run(loop: GradientLoop) -> dict[str, Tensor]:
            more = {}
            if self.random_start and start is None:
                draws, shape = in_graph_draws(seed), ops.shape(x)
                more["noise"] = self.ball.noise(draws, shape)
            return loop.run(Inputs({**rows, **more}), self.steps)

        if self.restarts == 1:
            found = one_run(loop)
            return ops.stop_gradient(found["x"]), found["moves"]
        found = one_run(loop.with_scores())
        moves, best = found.pop("moves"), Candidate(**found)
        for _ in range(self.restarts - 1):
            found = one_run(replace(loop, watches=False).with_scores())
            best = keep_better(best, Candidate(**found))
        return ops.stop_gradient(best.x), moves

    def plain_step(self) -> "GradientAttack":
        """Return one step from the image itself, in place of all runs."""
        plain = {
            "random_start": False,
            "restarts": 1,
            "keep_best": False,
            "early_stop": False,
            "steps": 1,
        }
        known = self.arguments()
        return self.replace(**{k: v for k, v in plain.items() if k in known})

    def for_validation(self) -> "GradientAttack":
        """Return the attack that evaluates what this one trains.

        A network may learn to answer an attack of one step and nothing else:
        under that attack it looks best when it is worth least (Wong et al.
        2020, arXiv:2001.03994, section 5).
        """
        return self

    def _lengths_in_graph(
        self, x: Tensor, epsilon: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return radius and step, one per example or like `x`."""
        ones = ops.ones_like(x[(slice(None),) + (0,) * (len(x.shape) - 1)])
        step_size, share = self.effective_step_size(), 1.0
        if epsilon is not None:
            share = epsilon / max(float(np.max(self.epsilon)), 1e-30)

        def for_each(value: Any) -> Tensor:
            if np.ndim(value) == 0:
                return value * share * ones
            row = np.reshape(value, (1, *x.shape[1:]))
            return ops.convert_to_tensor(row) * share * ops.ones_like(x)

        is_one = epsilon is not None and np.ndim(self.epsilon) == 0
        radius = epsilon * ones if is_one else for_each(self.epsilon)
        return radius, for_each(step_size)

    def _objective(self, classifier: Classifier) -> LabelObjective:
        outputs = classifier.layer_outputs(self.layer) if self.layer else None
        return LabelObjective(
            classifier.logits, get_loss(self.loss), self.targeted, outputs
        )

    def _loop(self, objective: Objective) -> GradientLoop:
        return GradientLoop(
            objective=objective,
            ball=self.ball,
            value_range=self.value_range,
            keep_best=self.keep_best,
            early_stop=self.early_stop,
            momentum=self.momentum,
            schedule=self.step_size if callable(self.step_size) else None,
            eot=self.eot,
        )
