"""Attacks that run in several goes, each on what the goes before left."""

import numpy as np
from keras import ops

from keras_robust.attacks import checks
from keras_robust.attacks.attack import Attack
from keras_robust.attacks.batches import as_tensors
from keras_robust.attacks.batches import fill
from keras_robust.attacks.batches import like
from keras_robust.attacks.compiled import CompiledLoop
from keras_robust.attacks.norms import get_ball
from keras_robust.attacks.per_model import once_per_model
from keras_robust.attacks.per_model import predict_logits
from keras_robust.attacks.randomness import RowDraws
from keras_robust.progress import Progress


class SurvivorAttack(Attack):
    """Base of attacks in goes: restarts, targets, or one.

    An example that is wrong from the start is its own adversarial example;
    one that falls in a go does not enter the next. So the cost grows with the
    survivors, not with the images.

    A subclass says `goes(classes)`, the goes as a list of tuples of numbers;
    `loop(model, x, go)`, a loop like `GradientLoop`; `loop_key()`, what it
    depends on; `steps`; `extra(problem, go, rows, clean)`, more inputs.
    """

    norms = ("l1", "l2", "linf")

    def __init__(
        self,
        norm,
        epsilon,
        steps,
        restarts=1,
        early_stop=False,
        mask=None,
        **options,
    ):
        super().__init__(epsilon, **options)
        self.ball = get_ball(norm, self.norms)
        self.norm = self.ball.name
        self.steps = checks.check_positive_integer(steps, "steps")
        self.restarts = checks.check_positive_integer(restarts, "restarts")
        self.early_stop = bool(early_stop)
        self.mask = None if mask is None else np.asarray(mask, "float32")

    def attack(self, problem, verbose, scored, checkpoint):
        """See `Attack`."""
        x = problem.x
        images = np.asarray(ops.convert_to_numpy(x))
        problem = problem._replace(x=images)
        clean = predict_logits(
            *(problem.model, images, self.batch_size, self.from_logits)
        )
        best = self._begin(images, problem.y, clean)
        done = 0 if checkpoint is None else checkpoint.restore(best)
        goes = self.goes(problem.classes)
        for number, go in enumerate(goes):
            if number < done:
                continue
            rows = np.flatnonzero(~best["success"])
            if not len(rows):
                break
            progress = Progress(
                len(rows) * self.steps * (len(goes) - number),
                verbose,
                f"{self.name} {number + 1}/{len(goes)}, image-step",
            )
            self._go(problem, go, rows, clean, best, progress)
            if checkpoint is not None:
                checkpoint.save(best, number + 1)
        best["x"] = like(x, best["x"], self.value_range)
        return best

    @property
    def name(self):
        """What to call it in progress bars and reports."""
        return type(self).__name__.removesuffix("Attack")

    def _begin(self, images, y, clean):
        right = clean.argmax(-1) == y
        return {
            "x": np.array(images, "float32"),
            "loss": np.full(len(images), -1e30, "float32"),
            "success": right if self.targeted else ~right,
        }

    def _go(self, problem, go, rows, clean, best, progress):
        loop = self._compiled(problem, go)
        draws = RowDraws(self.seed, *go)
        for start in range(0, len(rows), self.batch_size):
            chosen = rows[start : start + self.batch_size]
            size = len(chosen)
            inputs = self._inputs(problem, go, chosen, clean)
            inputs.update(self.begin(problem, go, draws, chosen, inputs))
            if loop.pads:
                least = self.batch_size if start else 8
                inputs = fill(inputs, padding(size, self.batch_size, least))
            reported = []

            def report(steps, size=size, reported=reported):
                reported.append(steps)
                left = int((~best["success"]).sum())
                progress.add(steps * size, [("survivors", left)])

            result = {
                key: ops.convert_to_numpy(value)[:size]
                for key, value in loop(inputs, self.steps, report).items()
            }
            progress.add((self.steps - sum(reported)) * size)
            keep(best, chosen, result)

    def _inputs(self, problem, go, rows, clean):
        examples = len(problem.x)
        epsilon = np.inf if self.epsilon is None else self.epsilon
        inputs = {
            "center": problem.x[rows],
            "y": problem.y[rows],
            "epsilon": self.per_example("epsilon", epsilon, examples)[rows],
        }
        if self.mask is not None:
            mask = checks.broadcast_mask(self.mask, problem.x.shape)
            inputs["mask"] = mask[rows]
        inputs.update(self.extra(problem, go, rows, clean))
        return as_tensors(inputs)

    def extra(self, problem, go, rows, clean):
        """More inputs of the loop, for the given rows: nothing by default."""
        del problem, go, rows, clean
        return {}

    def begin(self, problem, go, draws, rows, inputs):
        """Where to start, as more inputs: by default a random point."""
        del problem, go
        shape = inputs["center"].shape
        return {"noise": self.ball.noise(draws.for_rows(rows), shape)}

    def _compiled(self, problem, go):
        model, x = problem.model, problem.x
        key = (
            *(type(self).__name__, self.norm, self.value_range, self.steps),
            *(self.targeted, self.early_stop, self.mask is None),
            *(self.epsilon is None, self.from_logits, self.jit_compile),
            *self.loop_key(go),
            tuple(x.shape[1:]),
        )
        return once_per_model(
            model,
            key,
            lambda: CompiledLoop(
                self.loop(problem, go), model.variables, self.jit_compile
            ),
        )


def padding(size, batch_size, least):
    """Rows to add, to the batch size or a half, quarter, ... of it."""
    padded = batch_size
    while padded >= 2 * max(size, least):
        padded = (padded + 1) // 2
    return padded - size


def keep(best, rows, result):
    """Writes the better result of each row into `best`, by (success, loss)."""
    same = best["success"][rows] == result["success"]
    better = np.where(
        same, result["loss"] > best["loss"][rows], result["success"]
    )
    for key in best:
        best[key][rows[better]] = result[key][better]
