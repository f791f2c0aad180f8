"""Attacks that run in several goes, each on what the goes before left."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust.attacks import checks
from keras_robust.attacks.attack import Attack
from keras_robust.attacks.attack import Problem
from keras_robust.attacks.batches import as_tensors
from keras_robust.attacks.batches import fill
from keras_robust.attacks.batches import like
from keras_robust.attacks.batches import padding
from keras_robust.attacks.compiled import HANDFUL
from keras_robust.attacks.compiled import CompiledLoop
from keras_robust.attacks.first_gradient import is_zero
from keras_robust.attacks.first_gradient import looks_stuck
from keras_robust.attacks.norms import get_ball
from keras_robust.attacks.randomness import RowDraws
from keras_robust.progress import Progress


class SurvivorAttack(Attack):
    """Base class for attacks of several runs: restarts, target classes, or one.

    An example that is wrong from the start is its own adversarial example.
    Examples broken in one run are skipped in the next, so the cost grows with
    the survivors, not with the images.

    A subclass has `goes(classes)`, the runs as a list of tuples of numbers;
    `loop(problem, go)`, a loop like `GradientLoop`; and
    `extra(problem, go, rows, clean)`, more inputs of the loop.
    """

    norms = ("l1", "l2", "linf")
    least_steps = 1
    # Whether steps follow the gradient at the point itself.
    follows_gradients = False

    def __init__(
        self,
        norm: Any,
        epsilon: Any,
        steps: int,
        restarts: int = 1,
        early_stop: bool = False,
        mask: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(epsilon, **options)
        self.ball = get_ball(norm, self.norms)
        self.norm = self.ball.name
        shape = np.shape(self.epsilon)
        if len(shape) > 1 and shape[1:] != (1,) and not self.takes_rows:
            raise ValueError(
                "Argument `epsilon` must be a number or one per example: a "
                "radius for each feature is for PGD, FGSM and APGD with "
                f"norm='linf'. Received: epsilon of shape {shape} for "
                f"{type(self).__name__} with norm={self.norm!r}"
            )
        self.steps = checks.check_positive_integer(
            steps, "steps", least=self.least_steps
        )
        self.restarts = checks.check_positive_integer(restarts, "restarts")
        self.early_stop = bool(early_stop)
        self.mask = None if mask is None else np.asarray(mask, "float32")

    def attack(
        self, problem: Problem, verbose: int, scored: bool, checkpoint: Any
    ) -> Any:
        """See `Attack`."""
        result = self.search(problem, verbose, checkpoint)
        return finished(result, problem.x, self.value_range)

    def search(
        self,
        problem: Problem,
        verbose: int,
        checkpoint: Any = None,
        begun: Any = None,
    ) -> dict:
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
            x=np.asarray(ops.convert_to_numpy(problem.x)),
            held={
                key: np.asarray(ops.convert_to_numpy(value))
                for key, value in problem.held.items()
            },
        )
        batch_size = problem.batch_size or self.batch_size
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
            for start in range(at, len(rows), batch_size):
                if checkpoint:
                    checkpoint.save(go=number, at=start, rows=rows, **result)
                chosen = rows[start : start + batch_size]
                go = goes[number]
                self._batch(problem, go, draws, chosen, result, progress)
            at, rows = 0, None
        if checkpoint:
            checkpoint.save(
                force=True, go=len(goes), at=0, rows=np.zeros(0, int), **result
            )
        return result

    @property
    def name(self) -> Any:
        """What to call it in progress bars."""
        return type(self).__name__.removesuffix("Attack")

    @property
    def loop_steps(self) -> Any:
        """Steps of one go."""
        return self.steps

    @property
    def passes(self) -> int:
        """As of any attack, if nothing falls."""
        goes = self.restarts * (getattr(self, "targets", None) or 1)
        return self.loop_steps * goes * getattr(self, "eot", 1)

    def check(self, problem: Problem) -> None:
        """Raises where the problem is none for this attack."""

    def _begin(self, problem):
        x, y = problem.x, problem.y
        clean = problem.classifier.predict_logits(
            x, self.batch_size, problem.held
        )
        right = clean.argmax(-1) == y
        return begin(x, clean, right if self.targeted else ~right)

    def _batch(self, problem, go, draws, rows, result, progress):
        loop = self.compiled(problem, self.loop(problem, go))
        size = len(rows)
        inputs = self._inputs(problem, go, rows, result["clean"])
        inputs.update(self.begin(problem, go, draws, rows, inputs))
        if problem.batch_size:
            inputs = fill(inputs, problem.batch_size - size)
        elif loop.pads:
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
        found["x"] = self.from_loop(problem, found["x"])
        progress.add((self.loop_steps - sum(reported)) * size)
        keep(result, rows, found)

    def _inputs(self, problem, go, rows, clean):
        epsilon = np.inf if self.epsilon is None else self.epsilon
        inputs = {
            "center": self.to_loop(problem, problem.x[rows]),
            "y": problem.y[rows],
            "epsilon": self.lengths("epsilon", epsilon, problem.x.shape)[rows],
        }
        if self.mask is not None:
            mask = checks.broadcast_mask(self.mask, problem.x.shape)
            inputs["mask"] = self.to_loop(problem, mask[rows])
        if problem.held:
            inputs["held"] = {k: v[rows] for k, v in problem.held.items()}
        if problem.targets is not None:
            inputs["targets"] = keras.tree.map_structure(
                lambda value: value[rows], problem.targets
            )
        inputs.update(self.extra(problem, go, rows, clean))
        return as_tensors(inputs)

    def lengths(self, name: str, value: Any, shape: tuple) -> Any:
        """A length for each example, or for each feature where it may be.

        Args:
            name: What to call it in errors.
            value: A number or an array.
            shape: `(N, ...)`.
        """
        return checks.expand_radius(value, name, shape, self.takes_rows)

    def to_loop(self, problem: Problem, x: Any) -> Any:
        """Inputs as the loop takes them: as they are by default."""
        del problem
        return x

    def from_loop(self, problem: Problem, x: Any) -> Any:
        """The inverse of `to_loop`."""
        del problem
        return x

    def extra(self, problem: Problem, go: Any, rows: Any, clean: Any) -> dict:
        """More inputs of the loop, for the given rows: nothing by default."""
        del problem, go, rows, clean
        return {}

    def begin(
        self, problem: Problem, go: Any, draws: Any, rows: Any, inputs: Any
    ) -> dict:
        """Where to start, as more inputs: by default a random point."""
        del problem, go
        shape = inputs["center"].shape
        return {"noise": self.ball.noise(draws.for_rows(rows), shape)}

    def compiled(self, problem: Problem, loop: Any) -> CompiledLoop:
        """A loop, compiled once for a model and a shape of images.

        Args:
            problem: A `Problem`.
            loop: A loop like `GradientLoop`, which is its own key.
        """
        classifier = problem.classifier
        fixed = problem.batch_size is not None
        return classifier.once(
            (loop, tuple(problem.x.shape[1:]), self.jit_compile, fixed),
            lambda: CompiledLoop(
                loop,
                classifier.variables,
                classifier.jit(self.jit_compile),
                fixed=fixed,
            ),
        )

    def is_stuck(self, problem: Problem, result: Any) -> Any:
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
        """What the attack climbs, where that is not a loss of labels."""
        del problem


def begin(x: Any, clean: Any, reached: Any) -> dict:
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


def keep(best: Any, rows: Any, found: Any) -> None:
    """Writes the better result of each row into `best`, by (success, loss)."""
    same = best["success"][rows] == found["success"]
    better = np.where(
        same, found["loss"] > best["loss"][rows], found["success"]
    )
    for key, value in found.items():
        best[key][rows[better]] = value[better]


def finished(result: Any, x: Any, value_range: Any) -> dict:
    """What an attack's `run` returns, of what `search` returned."""
    kept = {key: result[key] for key in ("loss", "success")}
    return {"x": like(x, result["x"], value_range), **kept}
