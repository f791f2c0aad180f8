"""What every attack shares: configuration, checks, the compiled call."""

import numpy as np
from keras import ops

from keras_robust.attacks import checks
from keras_robust.attacks.balls import get_ball
from keras_robust.attacks.batches import map_batches
from keras_robust.attacks.config import ConfigMixin
from keras_robust.attacks.frozen import check_built
from keras_robust.attacks.frozen import inner_model
from keras_robust.attacks.loop import CompiledLoop
from keras_robust.attacks.loop import GradientLoop
from keras_robust.attacks.loop import keep_better
from keras_robust.attacks.objectives import LabelObjective
from keras_robust.attacks.objectives import get_loss
from keras_robust.attacks.per_model import count_classes
from keras_robust.attacks.per_model import frozen_logits
from keras_robust.attacks.per_model import once_per_model
from keras_robust.attacks.randomness import in_graph_draws
from keras_robust.attacks.randomness import stream_draws


class Attack(ConfigMixin):
    """Base of the gradient attacks; see `PGDAttack` for the arguments."""

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
    ):
        self.ball = get_ball(norm)
        self.norm = self.ball.name
        self.epsilon = checks.check_non_negative(epsilon, "epsilon")
        self.steps = checks.check_positive_integer(steps, "steps", least=0)
        if step_size is not None:
            step_size = checks.check_non_negative(step_size, "step_size")
        self.step_size = step_size
        self.random_start = bool(random_start)
        self.restarts = checks.check_positive_integer(restarts, "restarts")
        self.targeted = bool(targeted)
        self.value_range = checks.check_value_range(value_range)
        get_loss(loss)
        self.loss = loss
        self.seed = seed
        self.keep_best = bool(keep_best)
        self.early_stop = bool(early_stop)
        self.mask = None if mask is None else np.asarray(mask, "float32")
        self.batch_size = checks.check_positive_integer(
            batch_size, "batch_size"
        )
        self.from_logits = from_logits
        self.jit_compile = jit_compile
        if self.restarts > 1 and not self.random_start:
            raise ValueError(
                "Argument `restarts` above 1 must come with random_start=True: "
                "without it every restart is the same run. "
                f"Received: restarts={restarts}, random_start={random_start}"
            )

    def __call__(self, model, x, y, verbose=1):
        """Adversarial examples of `x`.

        Args:
            model: A built Keras classifier with output `(N, C)`.
            x: Float array or tensor of shape `(N, ...)`, rank >= 2, values in
                `value_range`.
            y: True labels, or with `targeted=True` the labels to reach:
                integers of shape `(N,)`, or one-hot `(N, C)`. Predictions are
                never taken in their place.
            verbose: 0 for no progress bar.

        Returns:
            Like `x` in shape, dtype and kind: `||x_adv - x|| <= epsilon` (to
            one part in a million) and inside `value_range`.

        Raises:
            ValueError: If the model is not built or an input is not as above.
        """
        return self.run(model, x, y, verbose=verbose)["x"]

    def run(self, model, x, y, verbose=1, scored=False):
        """As the call, with more to tell.

        Args:
            model: As in the call.
            x: As in the call.
            y: As in the call.
            verbose: As in the call.
            scored: Whether to tell `loss` and `success` as well.

        Returns:
            Dictionary: `x` as the call returns it; where `scored`, NumPy
            arrays `(N,)`: `loss`, the final objective, and `success`.
        """
        model = inner_model(model)
        check_built(model)
        x = x if ops.is_tensor(x) else np.asarray(x)
        checks.check_images(x, self.value_range)
        if x.shape[0] == 0:
            return {"x": x, "loss": np.zeros(0), "success": np.zeros(0, bool)}
        classes = count_classes(model, x, self.from_logits)
        inputs = {"y": checks.check_labels(y, x.shape[0], classes)}
        inputs.update(self._per_example(x.shape))
        draws = [stream_draws(self.seed, r) for r in range(self.restarts)]
        scored = scored or self.restarts > 1
        loop = self._compiled(model, x, scored)

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

    def effective_step_size(self):
        """`step_size`, or where it is `None`, `2.5 * epsilon / steps`."""
        if self.step_size is not None:
            return self.step_size
        return 2.5 * self.epsilon / max(self.steps, 1)

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
        model = inner_model(model)
        logits = frozen_logits(model, self.from_logits)
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
        loop = self._loop(logits, scored=self.restarts > 1)
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

    def _loop(self, logits, scored):
        objective = LabelObjective(logits, get_loss(self.loss), self.targeted)
        return GradientLoop(
            objective,
            self.ball,
            self.value_range,
            keep_best=self.keep_best,
            early_stop=self.early_stop,
            scored=scored,
        )

    def _compiled(self, model, x, scored):
        key = (
            *("attack", self.norm, self.targeted, self.value_range),
            *(self.loss, self.keep_best, self.early_stop, scored),
            *(self.mask is None, self.random_start),
            *(self.from_logits, self.jit_compile),
            tuple(x.shape[1:]),
        )

        def make():
            logits = frozen_logits(model, self.from_logits)
            loop = self._loop(logits, scored)
            return CompiledLoop(loop, model.variables, self.jit_compile)

        return once_per_model(model, key, make)

    def _per_example(self, shape):
        """`epsilon`, `step_size` and `mask`, one row per example."""
        examples = shape[0]
        inputs = {}
        values = (self.epsilon, self.effective_step_size())
        for name, value in zip(("epsilon", "step_size"), values, strict=True):
            value = np.asarray(value, "float32")
            if value.ndim and value.shape != (examples,):
                raise ValueError(
                    f"Argument `{name}` must be a number or of shape "
                    f"({examples},). Received: {name}.shape={value.shape}"
                )
            inputs[name] = np.broadcast_to(value, (examples,))
        if self.mask is not None:
            try:
                inputs["mask"] = np.broadcast_to(self.mask, shape)
            except ValueError:
                raise ValueError(
                    f"Argument `mask` must broadcast to x.shape={tuple(shape)}."
                    f" Received: mask.shape={self.mask.shape}"
                ) from None
        return inputs
