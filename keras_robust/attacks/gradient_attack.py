"""Attacks by normalized gradient steps."""

import keras
from keras import ops

from keras_robust.attacks import checks
from keras_robust.attacks.batches import map_batches
from keras_robust.attacks.compiled import CompiledLoop
from keras_robust.attacks.loop import GradientLoop
from keras_robust.attacks.loop import keep_better
from keras_robust.attacks.objectives import LabelObjective
from keras_robust.attacks.objectives import get_loss
from keras_robust.attacks.per_model import frozen_layer
from keras_robust.attacks.per_model import frozen_logits
from keras_robust.attacks.per_model import once_per_model
from keras_robust.attacks.randomness import in_graph_draws
from keras_robust.attacks.randomness import stream_draws
from keras_robust.attacks.survivor_attack import SurvivorAttack


class GradientAttack(SurvivorAttack):
    """Base of PGD and FGSM; see `PGDAttack` for the arguments.

    All restarts go over all examples, also those that are wrong from the
    start; with `early_stop` only over what still stands.
    """

    least_steps = 0

    def __init__(
        self,
        norm="l2",
        epsilon=0.5,
        step_size=None,
        steps=7,
        random_start=False,
        restarts=1,
        targeted=False,
        value_range=(0.0, 1.0),
        loss="cross_entropy",
        seed=None,
        keep_best=False,
        early_stop=False,
        mask=None,
        batch_size=128,
        from_logits=None,
        jit_compile="auto",
        momentum=0.0,
        eot=1,
        layer=None,
    ):
        super().__init__(
            *(norm, epsilon, steps, restarts, early_stop, mask),
            targeted=targeted,
            value_range=value_range,
            batch_size=batch_size,
            seed=seed,
            from_logits=from_logits,
            jit_compile=jit_compile,
        )
        scheduled = isinstance(
            step_size, keras.optimizers.schedules.LearningRateSchedule
        )
        if step_size is not None and not scheduled:
            step_size = checks.check_non_negative(step_size, "step_size")
        self.step_size = step_size
        self.random_start = bool(random_start)
        self.loss = loss
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
                f"layer's outputs. Received: layer={layer!r}, loss={loss!r}"
            )

    def attack(self, problem, verbose, scored, checkpoint):
        """See `Attack`."""
        if self.early_stop:
            return super().attack(problem, verbose, scored, checkpoint)
        model, x, y = problem[:3]
        inputs = {"y": y, **self._constants(x.shape)}
        draws = [stream_draws(self.seed, r) for r in range(self.restarts)]
        loop = self._compiled_loop(model, x, scored or self.restarts > 1)

        def attack_batch(batch, report):
            return self._best_of(
                lambda inputs: loop(inputs, self.steps, report), batch, draws
            )

        return map_batches(
            attack_batch,
            x,
            inputs,
            value_range=self.value_range,
            batch_size=self.batch_size,
            pads=loop.pads,
            steps=self.steps * self.restarts,
            verbose=verbose,
        )

    def goes(self, classes):
        """One go per restart."""
        return [(restart,) for restart in range(self.restarts)]

    def extra(self, problem, go, rows, clean):
        """The length of the steps."""
        examples = len(problem.x)
        step_size = self.effective_step_size()
        step_size = self.per_example("step_size", step_size, examples)
        return {"step_size": step_size[rows]}

    def begin(self, problem, go, draws, rows, inputs):
        """A random point, or the image."""
        if not self.random_start:
            return {}
        return super().begin(problem, go, draws, rows, inputs)

    def effective_step_size(self):
        """`step_size`, or where it is `None`, `2.5 * epsilon / steps`.

        Where a schedule gives the length of each step, this is 1.
        """
        if self.step_size is None:
            return 2.5 * self.epsilon / max(self.steps, 1)
        return 1.0 if callable(self.step_size) else self.step_size

    def perturb(self, model, x, y, seed=None):
        """The attack without checks, batches or compilation.

        For use inside a train step, which compiles it with the rest.

        Args:
            model: A built Keras classifier.
            x: Float32 tensor of shape `(N, ...)` inside `value_range`.
            y: Tensor of labels.
            seed: A `keras.random.SeedGenerator` that the caller tracks;
                needed where `random_start`.

        Returns:
            Tensor like `x`.
        """
        x = ops.stop_gradient(ops.cast(x, "float32"))
        ones = ops.ones_like(x[(slice(None),) + (0,) * (len(x.shape) - 1)])
        batch = {
            "center": x,
            "y": checks.labels_in_graph(y),
            "epsilon": self.epsilon * ones,
            "step_size": self.effective_step_size() * ones,
        }
        if self.mask is not None:
            mask = ops.convert_to_tensor(self.mask)
            batch["mask"] = mask * ops.ones_like(x)
        loop = self._loop(model, scored=self.restarts > 1)
        draws = [in_graph_draws(seed)] * self.restarts
        result = self._best_of(
            lambda inputs: loop.run(inputs, self.steps), batch, draws
        )
        return ops.stop_gradient(result["x"])

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

    def loop_key(self, go):
        """What the compiled loop depends on."""
        return (
            *(self.loss, self.keep_best, self.random_start, self.momentum),
            *(self.eot, self.layer),
            self.step_size if callable(self.step_size) else None,
        )

    def loop(self, problem, go):
        """One loop for all goes."""
        return self._loop(problem.model, scored=True)

    def _loop(self, model, scored):
        outputs = frozen_layer(model, self.layer) if self.layer else None
        objective = LabelObjective(
            frozen_logits(model, self.from_logits),
            get_loss(self.loss),
            self.targeted,
            outputs,
        )
        return GradientLoop(
            objective,
            self.ball,
            self.value_range,
            keep_best=self.keep_best,
            early_stop=self.early_stop,
            scored=scored,
            momentum=self.momentum,
            schedule=self.step_size if callable(self.step_size) else None,
            eot=self.eot,
        )

    def _compiled_loop(self, model, x, scored):
        def make():
            loop = self._loop(model, scored)
            return CompiledLoop(loop, model.variables, self.jit_compile)

        key = (self.key(x.shape, self.loop_key(None)), scored)
        return once_per_model(model, key, make)

    def _constants(self, shape):
        """`epsilon`, `step_size` and `mask`, one row per example."""
        values = {
            "epsilon": self.epsilon,
            "step_size": self.effective_step_size(),
        }
        inputs = {
            name: self.per_example(name, value, shape[0])
            for name, value in values.items()
        }
        if self.mask is not None:
            inputs["mask"] = checks.broadcast_mask(self.mask, shape)
        return inputs
