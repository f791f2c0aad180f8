"""Attacks that run in several goes, each on what the goes before left."""

import numpy as np
from keras import ops

from keras_robust.attacks import checks
from keras_robust.attacks.attack import Attack
from keras_robust.attacks.batches import as_tensors
from keras_robust.attacks.batches import fill
from keras_robust.attacks.batches import like
from keras_robust.attacks.batches import padding
from keras_robust.attacks.compiled import HANDFUL
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
    `loop(problem, go)`, a loop like `GradientLoop`; `loop_key(go)`, what it
    depends on; `extra(problem, go, rows, clean)`, more inputs of it.
    """

    norms = ("l1", "l2", "linf")
    least_steps = 1

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
        self.steps = checks.check_positive_integer(
            steps, "steps", least=self.least_steps
        )
        self.restarts = checks.check_positive_integer(restarts, "restarts")
        self.early_stop = bool(early_stop)
        self.mask = None if mask is None else np.asarray(mask, "float32")

    def attack(self, problem, verbose, scored, checkpoint):
        """See `Attack`."""
        result = self.search(problem, verbose, checkpoint)
        return finished(result, problem.x, self.value_range)

    def search(self, problem, verbose, checkpoint=None, begun=None):
        """All goes.

        Args:
            problem: A checked `Problem`.
            verbose: 0 for no progress bars.
            checkpoint: A `Checkpoint` or `None`.
            begun: What the `search` of another attack returned, to go on with
                its survivors; or `None`, then `problem.begun` counts.

        Returns:
            Dictionary of NumPy arrays of length N: `x`, `loss`, `success`;
            `wrong` from the start; `clean`, the logits at the start.
        """
        self.check(problem)
        problem = problem._replace(
            x=np.asarray(ops.convert_to_numpy(problem.x))
        )
        begun = problem.begun if begun is None else begun
        result = self._begin(problem) if begun is None else begun
        result = {key: np.array(value) for key, value in result.items()}
        result["loss"][~result["success"]] = -1e30
        goes = self.goes(problem.classes)
        saved = checkpoint.restore() if checkpoint else None
        first, at, rows = 0, 0, None
        if saved is not None:
            first, at, rows = saved["go"], saved["at"], saved["rows"]
            result.update({key: saved[key] for key in result})
        for number in range(first, len(goes)):
            if rows is None:
                rows = np.flatnonzero(~result["success"])
            progress = Progress(
                (len(rows) * (len(goes) - number) - at) * self.loop_steps,
                verbose,
                f"image-step, {self.name} {number + 1}/{len(goes)}",
            )
            # One stream for the go; after a stop it skips to where it was.
            draws = RowDraws(self.seed, *goes[number])
            for start in range(at, len(rows), self.batch_size):
                if checkpoint:
                    checkpoint.save(go=number, at=start, rows=rows, **result)
                chosen = rows[start : start + self.batch_size]
                go = goes[number]
                self._batch(problem, go, draws, chosen, result, progress)
            at, rows = 0, None
        if checkpoint:
            checkpoint.save(
                force=True, go=len(goes), at=0, rows=np.zeros(0, int), **result
            )
        return result

    @property
    def name(self):
        """What to call it in progress bars."""
        return type(self).__name__.removesuffix("Attack")

    @property
    def loop_steps(self):
        """Steps of one go."""
        return self.steps

    @property
    def passes(self):
        """As of any attack, if nothing falls."""
        goes = self.restarts * (getattr(self, "targets", None) or 1)
        return self.loop_steps * goes * getattr(self, "eot", 1)

    def check(self, problem):
        """Raises where the problem is none for this attack."""

    def _begin(self, problem):
        x, y = problem.x, problem.y
        clean = predict_logits(
            *(problem.model, x, self.batch_size, self.from_logits)
        )
        right = clean.argmax(-1) == y
        return begin(x, clean, right if self.targeted else ~right)

    def _batch(self, problem, go, draws, rows, result, progress):
        loop = self._compiled(problem, go)
        size = len(rows)
        inputs = self._inputs(problem, go, rows, result["clean"])
        inputs.update(self.begin(problem, go, draws, rows, inputs))
        if loop.pads:
            inputs = fill(inputs, padding(size, self.batch_size, HANDFUL))
        reported = []

        def report(steps):
            reported.append(steps)
            left = int((~result["success"]).sum())
            progress.add(steps * size, [("survivors", left)])

        found = {
            key: ops.convert_to_numpy(value)[:size]
            for key, value in loop(inputs, self.loop_steps, report).items()
        }
        progress.add((self.loop_steps - sum(reported)) * size)
        keep(result, rows, found)

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

    def key(self, shape, more):
        """What compiled loops of this kind depend on.

        Args:
            shape: Shape of the images, `(N, ...)`.
            more: Tuple of what else they depend on.
        """
        return (
            *(type(self).__name__, self.norm, self.value_range),
            *(self.targeted, self.early_stop, self.mask is None),
            *(self.epsilon is None, self.from_logits, self.jit_compile),
            *(more, tuple(shape[1:])),
        )

    def _compiled(self, problem, go):
        return once_per_model(
            problem.model,
            self.key(problem.x.shape, self.loop_key(go)),
            lambda: CompiledLoop(
                *(self.loop(problem, go), problem.model.variables),
                self.jit_compile,
            ),
        )


def begin(x, clean, reached):
    """What a `search` goes on from.

    Args:
        x: NumPy array `(N, ...)`.
        clean: Logits at `x`, `(N, C)`.
        reached: Bool array `(N,)`, which examples are not attacked: they are
            wrong as they are, or what broke them is known.

    Returns:
        Dictionary of NumPy arrays, as `search` returns it.
    """
    return {
        "x": np.array(x, "float32"),
        "loss": np.full(len(x), -1e30, "float32"),
        "success": reached,
        "wrong": reached,
        "clean": clean,
    }


def keep(best, rows, found):
    """Writes the better result of each row into `best`, by (success, loss)."""
    same = best["success"][rows] == found["success"]
    better = np.where(
        same, found["loss"] > best["loss"][rows], found["success"]
    )
    for key, value in found.items():
        best[key][rows[better]] = value[better]


def finished(result, x, value_range):
    """What an attack's `run` returns, of what `search` returned."""
    kept = {key: result[key] for key in ("loss", "success")}
    return {"x": like(x, result["x"], value_range), **kept}
