"""HopSkipJump, which needs only the labels that a classifier predicts."""

from dataclasses import KW_ONLY
from dataclasses import dataclass
from typing import Any
from typing import ClassVar

import keras
import numpy as np
from keras import ops

from keras_robust.attacks.engine.decisions import Decisions
from keras_robust.attacks.engine.loop import Inputs
from keras_robust.attacks.engine.nearest_loop import NOT_FOUND
from keras_robust.attacks.engine.randomness import generator
from keras_robust.attacks.engine.search import Batch
from keras_robust.attacks.engine.search import Run
from keras_robust.attacks.engine.search import clean_findings
from keras_robust.attacks.engine.search import search
from keras_robust.attacks.hop_skip_jump_loop import HopSkipJumpLoop
from keras_robust.attacks.hop_skip_jump_loop import probes_of_step
from keras_robust.attacks.minimum_norm_attack import MinimumNormAttack
from keras_robust.attacks.norms import distances
from keras_robust.attacks.problem import Problem
from keras_robust.utils import checks

# Random stream of an example for its first image; steps count from 1.
_IMAGE = 1_000_000


@keras.saving.register_keras_serializable("keras_robust")
@dataclass(eq=False, repr=False)
class HopSkipJumpAttack(MinimumNormAttack):
    """The nearest adversarial example, by predicted labels alone.

    Chen, Jordan & Wainwright 2019 (arXiv:1904.02144), algorithm 2. From an
    adversarial image it bisects towards the image until it is at the boundary,
    finds out by random probes in which direction the boundary recedes, takes a
    step there that is still adversarial, and bisects again.

    The first adversarial image is uniform noise; if 50 draws are all classified
    as the image is, another image of the same call that is not; if there is
    none, noise of black and white, for up to half of the queries. With
    `targeted=True` an image of the same call that is classified as the target
    comes before noise.

    Args:
        norm: `"l2"` (or 2) or `"linf"` (or `numpy.inf`).
        epsilon: Radius in units of `value_range` inside which a success
            counts, a number or one per example. `None` for the nearest
            adversarial example at any distance.
        queries: Int >= 1, how many images the classifier is asked about for
            one example, at most; its prediction of the image itself, which
            every attack asks for, is not counted.
        probes: Int >= 1, random probes in the first step; in the t-th the
            square root of t times as many (100 in the paper).
        targeted: Whether `y` holds the labels to reach.
        seed: As in `APGDAttack`.
        value_range: `(low, high)`, the box that holds all inputs.
        early_stop: Whether an example stops at its first success inside
            `epsilon`, instead of looking for a nearer one.
        mask: As in `PGDAttack`.
        batch_size: Int >= 1, how many examples are attacked at once.
        from_logits: As in `PGDAttack`.
        jit_compile: Not used: steps are NumPy code, and predictions those of
            the model.
        attacked: As in `PGDAttack`.
        output: As in `PGDAttack`.

    Example:

    ```python
    attack = keras_robust.HopSkipJumpAttack(norm="l2", queries=1000, seed=0)
    x_adv = attack(model, x, y)  # an image without success stays as it was
    ```
    """

    norms: ClassVar[tuple[str, ...]] = ("l2", "linf")
    needs: ClassVar[str] = "labels"
    follows_gradients: ClassVar[bool] = False

    norm: Any = "l2"
    epsilon: Any = None
    queries: int = 5000
    _: KW_ONLY
    probes: int = 100
    targeted: bool = False
    seed: int | None = None
    early_stop: bool = False
    mask: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.queries = checks.check_positive_integer(self.queries, "queries")
        self.probes = checks.check_positive_integer(self.probes, "probes")

    @property
    def loop_steps(self) -> int:
        """See `LoopAttack`: more than the queries are enough for."""
        steps, used = 0, 0
        while used < self.queries:
            steps += 1
            used += probes_of_step(self.probes, steps) + 1
        return steps

    @property
    def cost(self) -> int:
        """See `Attack`."""
        return self.queries

    def loop(self, problem: Problem, run: Run) -> "HopSkipJumpLoop":
        """See `LoopAttack`."""
        del run
        low, high = self.value_range
        return HopSkipJumpLoop(
            decide=Decisions(problem.classifier, self.targeted),
            ball=self.ball,
            value_range=(low, high),
            unit=self.unit_length(),
            grid=problem.grid,
            targeted=self.targeted,
            queries=self.queries,
            probes=self.probes,
            stops_inside=self.early_stop,
            seed=self.seed,
        )

    def inputs(self, problem: Problem, run: Run, batch: Batch) -> Inputs:
        """See `LoopAttack`: also row numbers, and an image to start from."""
        inputs = super().inputs(problem, run, batch)
        rows = inputs.rows
        rows["row"] = np.asarray(batch.rows, "int32")
        start = np.array(rows["center"])
        previous = problem.previous
        labels = np.zeros(0) if previous is None else previous.clean.argmax(-1)
        for i, (row, y) in enumerate(zip(batch.rows, rows["y"], strict=True)):
            reached = labels == y if self.targeted else labels != y
            known = np.flatnonzero(reached)
            if len(known):
                random = generator(self.seed, int(row), _IMAGE)
                start[i] = problem.x[random.choice(known)]
        rows["start"] = start
        return inputs

    def attack(
        self, problem: Problem, verbose: int, scored: bool, checkpoint: Any
    ) -> dict[str, Any]:
        """See `Attack`; points in float64 are those that were asked about."""
        host = problem.on_host()
        if host.previous is None:
            clean = clean_findings(host, self.batch_size, self.targeted)
            host = host._replace(previous=clean)
        findings = search(self, host, verbose, checkpoint=checkpoint)
        found = findings.success & ~findings.wrong
        x = np.array(host.x)
        x[found] = findings.x[found]
        if self.epsilon is not None:
            # Rounding to float32 may have moved the image itself.
            epsilon = checks.expand_radius(
                self.epsilon, "epsilon", host.shape, False
            )
            far = distances(x, host.x, self.norm) > epsilon * (1 + 1e-6)
            x[far], findings.success[far] = host.x[far], False
            findings.loss[far] = -NOT_FOUND
        findings.loss[findings.wrong] = 0
        is_array = isinstance(problem.x, np.ndarray)
        return {
            "x": x if is_array else ops.convert_to_tensor(x),
            "loss": findings.loss,
            "success": findings.success,
        }
