"""The search: runs of a loop, each on the examples that are not broken yet."""

from dataclasses import dataclass
from dataclasses import fields
from typing import TYPE_CHECKING
from typing import Any
from typing import NamedTuple

import numpy as np
from keras import ops

from keras_robust.attacks.engine.batches import call_on_batch
from keras_robust.attacks.engine.batches import padded_size
from keras_robust.attacks.engine.batches import split_rows
from keras_robust.attacks.engine.compiled import MIN_SHRUNK_BATCH
from keras_robust.attacks.engine.compiled import CompiledLoop
from keras_robust.attacks.engine.hook_checks import check_inputs
from keras_robust.attacks.engine.hook_checks import check_loop
from keras_robust.attacks.engine.hook_checks import check_result
from keras_robust.attacks.engine.hook_checks import rows_in
from keras_robust.attacks.engine.loop import Inputs
from keras_robust.attacks.engine.loop import Loop
from keras_robust.attacks.engine.randomness import Draws
from keras_robust.attacks.engine.randomness import RowDraws
from keras_robust.attacks.grid import found_on_grid
from keras_robust.attacks.own_code import compiled_in
from keras_robust.utils.checks import check_positive_integer
from keras_robust.utils.messages import shown
from keras_robust.utils.progress import Progress

if TYPE_CHECKING:
    from keras_robust.attacks.loop_attack import LoopAttack
    from keras_robust.attacks.problem import Problem

# Below every loss.
_LOWEST = -1e30
# Compiled versions of a loop that are kept for what functions read.
_MOST_VERSIONS = 8


class Run(NamedTuple):
    """One run of an attack over the examples that are left.

    Attributes:
        restart: Index of the random start.
        target_rank: The wrong class to aim at, by its rank: 1 for the
            likeliest; 0 for none; `None` for attacks that have no targets.
    """

    restart: int = 0
    target_rank: int | None = None

    @property
    def stream(self) -> tuple[int, ...]:
        """Ints that give each run its own random stream."""
        if self.target_rank is None:
            return (self.restart,)
        return (self.restart, self.target_rank)


class Batch(NamedTuple):
    """The examples that a run attacks at once.

    Attributes:
        rows: Their row numbers, increasing.
        draws: Random numbers that belong to these examples.
        clean_logits: Logits at the unperturbed inputs, `(n, C)`; `(n, 0)` for
            attacks that do not skip what is broken.
    """

    rows: np.ndarray
    draws: Draws
    clean_logits: np.ndarray


@dataclass
class Findings:
    """What is known of each example, NumPy arrays of length N.

    Attributes:
        x: The best point by (success, loss), `(N, ...)`.
        loss: Its loss.
        success: Whether it reaches the goal.
        wrong: Whether the example was not attacked: wrong unperturbed, or
            known to be broken.
        clean: Logits at the unperturbed input, `(N, C)`.
    """

    x: np.ndarray
    loss: np.ndarray
    success: np.ndarray
    wrong: np.ndarray
    clean: np.ndarray

    @classmethod
    def before_attack(
        cls, x: Any, clean: np.ndarray, skipped: np.ndarray
    ) -> "Findings":
        """Return what is known before the first attack.

        Args:
            x: Inputs, `(N, ...)`.
            clean: Logits at `x`, `(N, C)`.
            skipped: Bool array `(N,)`: examples that are not attacked,
                because they are wrong unperturbed or known to be broken.
        """
        return cls(
            x=np.array(x, "float32"),
            loss=np.full(len(x), _LOWEST, "float32"),
            success=np.array(skipped, bool),
            wrong=np.array(skipped, bool),
            clean=clean,
        )

    @classmethod
    def of_nothing(cls, x: np.ndarray) -> "Findings":
        """Return findings for an attack that runs on all examples.

        Losses are NaN until a run tells them.
        """
        made = cls.before_attack(
            x, np.zeros((len(x), 0), "float32"), np.zeros(len(x), bool)
        )
        made.loss[:] = np.nan
        return made

    @property
    def is_scored(self) -> bool:
        """Whether any loss is known."""
        return not bool(np.isnan(self.loss).all())

    def copy(self) -> "Findings":
        """Return a copy whose unbroken examples can be improved."""
        made = Findings(**{k: np.array(v) for k, v in self.arrays().items()})
        made.loss[~made.success] = _LOWEST
        return made

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all arrays by name."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def left(self, attack: "LoopAttack") -> np.ndarray:
        """Return the row numbers of the examples that a run attacks."""
        if not attack.skips_broken:
            return np.arange(len(self.success))
        skipped = self.wrong if attack.improves_broken else self.success
        return np.flatnonzero(~skipped)

    def replace(self, index: np.ndarray, found: dict[str, np.ndarray]) -> None:
        """Write the results of some examples."""
        for key, value in found.items():
            getattr(self, key)[index] = value

    def keep_better(
        self, index: np.ndarray, found: dict[str, np.ndarray]
    ) -> None:
        """Write results where they are better by (success, loss)."""
        same = self.success[index] == found["success"]
        better = np.where(
            same, found["loss"] > self.loss[index], found["success"]
        )
        self.replace(
            index[better], {key: v[better] for key, v in found.items()}
        )


def search(
    attack: "LoopAttack",
    problem: "Problem",
    verbose: int,
    checkpoint: Any = None,
    previous: Findings | None = None,
    scored: bool = True,
) -> Findings:
    """Make all runs of an attack, each on what the runs before have left.

    An attack that does not skip what is broken makes every run on all
    examples and keeps the best.

    Args:
        attack: The attack.
        problem: A checked `Problem`.
        verbose: 0 for no progress bars.
        checkpoint: A `Checkpoint` or `None`.
        previous: What another attack found, to continue with its survivors;
            `None` for `problem.previous`.
        scored: Whether losses and successes are needed.
    """
    attack.check(problem)
    runs = _checked_runs(attack, problem.classes)
    problem = problem.on_host()
    previous = previous or problem.previous
    if not attack.skips_broken:
        findings = Findings.of_nothing(problem.x)
    elif previous is not None:
        findings = previous.copy()
    else:
        findings = clean_findings(
            problem, attack.batch_size, targeted=attack.targeted
        )
    first, at, index = _restored(checkpoint, findings)
    for number in range(first, len(runs)):
        if index is None:
            index = findings.left(attack)
        run = OneRun(
            attack=attack,
            problem=problem,
            run=runs[number],
            scored=scored or attack.skips_broken or len(runs) > 1,
            keeps_all=number == 0 and not attack.skips_broken,
        )
        progress = Progress(
            (len(index) * (len(runs) - number) - at) * attack.loop_steps,
            verbose,
            f"image-step, {attack.name} {number + 1}/{len(runs)}",
        )
        for rows in split_rows(index[at:], run.batch_size):
            if checkpoint:
                checkpoint.save(
                    go=number, at=at, rows=index, **findings.arrays()
                )
            run.attack_batch(rows, findings, progress)
            at += len(rows)
        run.finish()
        at, index = 0, None
    if checkpoint:
        checkpoint.save(
            force=True,
            go=len(runs),
            at=0,
            rows=np.zeros(0, int),
            **findings.arrays(),
        )
    return findings


def _checked_runs(attack: "LoopAttack", num_classes: int | None) -> list[Run]:
    """Return the runs of an attack, which may be one of the user's own."""
    check_positive_integer(attack.loop_steps, "steps", least=0)
    runs = attack.runs(num_classes)
    listed = isinstance(runs, (list, tuple)) and len(runs) > 0
    if not listed or not all(isinstance(run, Run) for run in runs):
        raise ValueError(
            f"{type(attack).__name__}.runs must return a list of at least one "
            f"Run. Received: {shown(runs)}"
        )
    return list(runs)


def clean_findings(
    problem: "Problem", batch_size: int, targeted: bool = False
) -> Findings:
    """Find the examples that reach the goal without an attack.

    Args:
        problem: The problem, its inputs NumPy arrays.
        batch_size: Int >= 1.
        targeted: Whether labels are to be reached.
    """
    clean = problem.classifier.predict_logits(
        problem.x, batch_size, problem.held
    )
    right = clean.argmax(-1) == problem.y
    return Findings.before_attack(
        problem.x, clean, skipped=right if targeted else ~right
    )


def _restored(
    checkpoint: Any, findings: Findings
) -> tuple[int, int, np.ndarray | None]:
    """Read run, position and row numbers where a stopped search was."""
    saved = checkpoint.restore() if checkpoint else None
    if saved is None:
        return 0, 0, None
    for key in findings.arrays():
        setattr(findings, key, saved[key])
    return int(saved["go"]), int(saved["at"]), saved["rows"]


class OneRun:
    """One run of an attack over batches of examples."""

    def __init__(
        self,
        attack: "LoopAttack",
        problem: "Problem",
        run: Run,
        scored: bool,
        keeps_all: bool,
    ) -> None:
        self.attack = attack
        self.problem = problem
        self.run = run
        self.keeps_all = keeps_all
        self.compares = scored
        self.batch_size = problem.batch_size or attack.batch_size
        # One stream for the run; after a stop it skips to where it was.
        self.draws = RowDraws(attack.seed, *run.stream)
        loop = attack.loop(problem, run)
        check_loop(type(attack).__name__, loop)
        loop = loop.with_scores() if scored else loop
        self.loop, self.by_code = compiled_loop(problem, loop, attack)
        # The same run without early stopping, once it is needed.
        self._longer: OneRun | None = None

    def attack_batch(
        self, rows: np.ndarray, findings: Findings, progress: Progress
    ) -> None:
        """Attack some examples and keep what is better."""
        steps, size, reported = self.attack.loop_steps, len(rows), []
        survivors = int((~findings.success).sum())

        def report(steps: int) -> None:
            reported.append(steps)
            progress.add(steps * size, [("survivors", survivors)])

        skips = self.attack.skips_broken
        batch = Batch(
            rows=rows,
            draws=self.draws.for_rows(rows),
            clean_logits=findings.clean[rows],
        )
        inputs = self.attack.inputs(self.problem, self.run, batch)
        check_inputs(type(self.attack).__name__, inputs, size)

        def run_loop(tensors: Inputs) -> dict[str, Any]:
            result = self.loop(tensors, steps, report)
            check_result(
                self.loop.loop,
                result,
                shape=(rows_in(tensors), *self.problem.shape[1:]),
                compares=self.compares,
            )
            return result

        result = call_on_batch(
            run_loop,
            inputs,
            size=size,
            padded_size=padded_size(
                size,
                self.batch_size,
                pads=self.loop.pads,
                fixed=self.loop.fixed,
                least=MIN_SHRUNK_BATCH if skips else 1,
            ),
        )
        progress.add((steps - sum(reported)) * size)
        found = {k: ops.convert_to_numpy(v) for k, v in result.items()}
        undone = rows[:0]
        if self.problem.grid is not None:
            before = found
            found = found_on_grid(self.attack, self.problem, found, rows)
            if self.compares:
                undone = rows[before["success"] & ~found["success"]]
        if self.keeps_all:
            findings.replace(rows, found)
        else:
            findings.keep_better(rows, found)
        if len(undone):
            self._go_on(undone, findings)

    def _go_on(self, rows: np.ndarray, findings: Findings) -> None:
        """Attack again, to the end, what stopped at a success of no worth.

        A first success is close to the boundary, where rounding to whole
        numbers undoes it; the steps after it lead further beyond.
        """
        attack = without_early_stop(self.attack)
        if attack is None:
            return
        if self._longer is None:
            self._longer = OneRun(
                attack=attack,
                problem=self.problem,
                run=self.run,
                scored=True,
                keeps_all=False,
            )
        self._longer.attack_batch(rows, findings, Progress(None, verbose=0))

    def finish(self) -> None:
        """Keep the loop for functions that compilation itself has changed.

        A loss may count its calls in a list.
        """
        if self._longer is not None:
            self._longer.finish()
        if self.by_code is not None:
            code = compiled_in(self.attack, self.problem)
            self.by_code[code] = self.loop
            while len(self.by_code) > _MOST_VERSIONS:
                del self.by_code[next(iter(self.by_code))]


def without_early_stop(attack: "LoopAttack") -> "LoopAttack | None":
    """Return the attack that goes on after a success.

    Args:
        attack: The attack.

    Returns:
        `None` where it does so already, or cannot; or looks for a success that
        is even nearer to the boundary, which rounding undoes all the more.
    """
    if attack.is_minimum_norm or not getattr(attack, "early_stop", False):
        return None
    try:
        return attack.replace(early_stop=False)
    except (TypeError, ValueError):
        return None


def compiled_loop(
    problem: "Problem", loop: Loop, attack: "LoopAttack"
) -> tuple[CompiledLoop, dict[Any, CompiledLoop] | None]:
    """Return a loop, compiled once for a model and a shape of inputs.

    What functions of the user read, such as a global variable, is compiled
    in: once it has changed the loop is compiled again.

    Returns:
        The loop and, if it is compiled, the versions of it by what they read.
    """
    classifier = problem.classifier
    on_host = loop.on_host or classifier.access != "gradients"
    fixed = problem.batch_size is not None and not on_host

    def make() -> CompiledLoop:
        return CompiledLoop(
            loop,
            classifier.variables,
            classifier.jit(attack.jit_compile),
            fixed=fixed,
            on_host=on_host,
        )

    if on_host:
        # Nothing is compiled, and the loop may hold the classifier.
        return make(), None
    by_code: dict[Any, CompiledLoop] = classifier.cached(
        (loop, problem.shape[1:], attack.jit_compile, fixed), dict
    )
    code = compiled_in(attack, problem)
    if code not in by_code:
        by_code[code] = make()
    return by_code[code], by_code
