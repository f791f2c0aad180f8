"""Attacks by normalized gradient steps."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust.attacks import checks
from keras_robust.attacks.attack import Problem
from keras_robust.attacks.batches import map_batches
from keras_robust.attacks.loop import GradientLoop
from keras_robust.attacks.loop import keep_better
from keras_robust.attacks.objectives import LabelObjective
from keras_robust.attacks.objectives import get_loss
from keras_robust.attacks.own_loss import ReadsTargets
from keras_robust.attacks.own_loss import is_own_loss
from keras_robust.attacks.own_loss import own_objective
from keras_robust.attacks.own_loss import with_targets
from keras_robust.attacks.randomness import in_graph_draws
from keras_robust.attacks.randomness import stream_draws
from keras_robust.attacks.survivor_attack import SurvivorAttack
from keras_robust.classifier import Classifier
from keras_robust.messages import shown


class GradientAttack(SurvivorAttack):
    """Base of PGD and FGSM; see `PGDAttack` for the arguments.

    All restarts go over all examples, also those that are wrong from the
    start; with `early_stop` only over what still stands.
    """

    least_steps = 0
    follows_gradients = True

    def __init__(
        self,
        norm: Any = "l2",
        epsilon: Any = None,
        step_size: Any = None,
        steps: int = 7,
        random_start: bool = False,
        restarts: int = 1,
        targeted: bool = False,
        value_range: Any = (0.0, 1.0),
        loss: Any = "cross_entropy",
        seed: int | None = None,
        keep_best: bool = False,
        early_stop: bool = False,
        mask: Any = None,
        batch_size: int = 128,
        from_logits: bool | None = None,
        jit_compile: bool | str = "auto",
        momentum: Any = 0.0,
        eot: int = 1,
        layer: str | None = None,
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
            batch_size=batch_size,
            seed=seed,
            from_logits=from_logits,
            jit_compile=jit_compile,
            attacked=attacked,
            output=output,
        )
        scheduled = isinstance(
            step_size, keras.optimizers.schedules.LearningRateSchedule
        )
        if step_size is not None and not scheduled:
            step_size = checks.check_radius(step_size, "step_size")
        self.step_size = step_size
        self.random_start = bool(random_start)
        self.loss = loss
        if not self.has_own_loss:
            get_loss(loss)
        self.layer = layer
        self.keep_best = bool(keep_best)
        self.momentum = checks.check_non_negative(momentum, "momentum")
        self.eot = checks.check_positive_integer(eot, "eot")
        if self.restarts > 1 and not self.random_start:
            raise ValueError(
                "Argument `restarts` above 1 must come with random_start=True: "
                "without it every restart is the same run. "
                f"Received: restarts={restarts}, random_start={random_start}"
            )
        if layer is not None and not callable(loss):
            raise ValueError(
                "Argument `layer` must come with a callable `loss` of that "
                f"layer's outputs. Received: layer={shown(layer)}, "
                f"loss={shown(loss)}"
            )

    def attack(
        self, problem: Problem, verbose: int, scored: bool, checkpoint: Any
    ) -> Any:
        """See `Attack`."""
        if self.early_stop:
            return super().attack(problem, verbose, scored, checkpoint)
        x = problem.x
        inputs = {"y": problem.y, **self._constants(x.shape)}
        if problem.held:
            inputs["held"] = problem.held
        if problem.targets is not None:
            inputs["targets"] = problem.targets
        draws = [stream_draws(self.seed, r) for r in range(self.restarts)]
        objective = self._objective_of(problem)
        loop = self.compiled(
            problem, self._loop(objective, scored or self.restarts > 1)
        )

        def attack_batch(batch, report):
            return self._best_of(
                lambda inputs: loop(inputs, self.steps, report), batch, draws
            )

        result = map_batches(
            attack_batch,
            x,
            inputs,
            value_range=self.value_range,
            batch_size=problem.batch_size or self.batch_size,
            pads=loop.pads,
            fixed=problem.batch_size is not None,
            steps=self.steps * self.restarts,
            verbose=verbose,
        )
        if scored and problem.targets is not None:
            result["success"] = self._reached(problem, result["x"])
        return result

    @property
    def has_own_loss(self) -> bool:
        """Whether the loss takes labels as `fit` does, of any kind."""
        return is_own_loss(self.loss)

    def with_labels(self, problem: Problem) -> Any:
        """The problem with checked labels; see `Attack`."""
        if not self.has_own_loss:
            return super().with_labels(problem)
        return with_targets(problem, self.early_stop)

    def _reached(self, problem, x):
        """Where the model's own answer is wrong, or the target."""
        if problem.classes is None:
            return np.zeros(problem.x.shape[0], bool)
        labels = problem.classifier.predict_labels(
            ops.convert_to_numpy(x), self.batch_size, problem.held
        )
        hit = labels == problem.y
        return hit if self.targeted else ~hit

    def own_objective(self, problem: Problem) -> Any:
        """See `SurvivorAttack`."""
        if not self.has_own_loss:
            return None
        return own_objective(problem, self.loss, self.targeted)

    def goes(self, classes: int | None) -> list[tuple]:
        """One go per restart."""
        return [(restart,) for restart in range(self.restarts)]

    def extra(self, problem: Problem, go: Any, rows: Any, clean: Any) -> dict:
        """The length of the steps."""
        step_size = self.effective_step_size()
        step_size = self.lengths("step_size", step_size, problem.x.shape)
        return {"step_size": step_size[rows]}

    def begin(
        self, problem: Problem, go: Any, draws: Any, rows: Any, inputs: Any
    ) -> Any:
        """A random point, or the image."""
        if not self.random_start:
            return {}
        return super().begin(problem, go, draws, rows, inputs)

    def effective_step_size(self) -> Any:
        """`step_size`, or where it is `None`, `2.5 * epsilon / steps`.

        Where a schedule gives the length of each step, this is 1.
        """
        if self.step_size is None:
            return 2.5 * self.epsilon / max(self.steps, 1)
        return 1.0 if callable(self.step_size) else self.step_size

    @property
    def takes_rows(self) -> bool:
        """An L-infinity ball may have a radius for each feature."""
        return self.norm == "linf"

    def perturb(
        self,
        model: Any,
        x: Any,
        y: Any,
        seed: Any = None,
        held: Any = None,
        objective: Any = None,
        epsilon: Any = None,
    ) -> Any:
        """The attack without checks, batches or compilation.

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

        Returns:
            Tensor like `x`.
        """
        classifier = Classifier.of(
            model,
            from_logits=self.from_logits,
            attacked=self.attacked,
            output=self.output,
        )
        x = ops.stop_gradient(ops.cast(x, "float32"))
        radius, step_size = self._lengths_in_graph(x, epsilon)
        batch = {"center": x, "y": y, "epsilon": radius, "step_size": step_size}
        if objective is None:
            batch["y"] = checks.labels_in_graph(y)
            objective = self._objective(classifier)
        if held:
            batch["held"] = held
        if self.mask is not None:
            mask = ops.convert_to_tensor(self.mask)
            batch["mask"] = mask * ops.ones_like(x)
        loop = self._loop(objective, scored=self.restarts > 1)
        draws = [in_graph_draws(seed)] * self.restarts
        result = self._best_of(
            lambda inputs: loop.run(inputs, self.steps), batch, draws
        )
        return ops.stop_gradient(result["x"])

    def _lengths_in_graph(self, x, epsilon):
        """Radius and step, one per example or like `x`."""
        ones = ops.ones_like(x[(slice(None),) + (0,) * (len(x.shape) - 1)])
        step_size = self.effective_step_size()
        if epsilon is not None:
            share = epsilon / max(float(np.max(self.epsilon)), 1e-30)
            if not callable(self.step_size):
                step_size = step_size * share
            return epsilon * ones, step_size * ones

        def spread(value):
            if np.ndim(value) == 0:
                return value * ones
            row = np.reshape(value, (1, *x.shape[1:]))
            return ops.convert_to_tensor(row) * ops.ones_like(x)

        return spread(self.epsilon), spread(step_size)

    def _best_of(self, run, batch, draws):
        """Runs once per restart and keeps the better result per example."""
        best = None
        for draw in draws:
            inputs = dict(batch)
            if self.random_start:
                shape = ops.shape(batch["center"])
                inputs["noise"] = self.ball.noise(draw, shape)
            result = run(inputs)
            best = result if best is None else keep_better(best, result)
        return best

    def loop(self, problem: Problem, go: Any) -> Any:
        """One loop for all goes."""
        return self._loop(self._objective_of(problem), scored=True)

    def _objective_of(self, problem):
        if self.has_own_loss:
            return ReadsTargets(self.own_objective(problem))
        return self._objective(problem.classifier)

    def _objective(self, classifier):
        outputs = classifier.layer_outputs(self.layer) if self.layer else None
        return LabelObjective(
            classifier.logits, get_loss(self.loss), self.targeted, outputs
        )

    def _loop(self, objective, scored):
        return GradientLoop(
            objective=objective,
            ball=self.ball,
            value_range=self.value_range,
            keep_best=self.keep_best,
            early_stop=self.early_stop,
            scored=scored,
            momentum=self.momentum,
            schedule=self.step_size if callable(self.step_size) else None,
            eot=self.eot,
        )

    def _constants(self, shape):
        """`epsilon`, `step_size` and `mask`, one row per example."""
        values = {
            "epsilon": self.epsilon,
            "step_size": self.effective_step_size(),
        }
        inputs = {
            name: self.lengths(name, value, shape)
            for name, value in values.items()
        }
        if self.mask is not None:
            inputs["mask"] = checks.broadcast_mask(self.mask, shape)
        return inputs
