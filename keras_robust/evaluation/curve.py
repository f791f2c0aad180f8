"""Accuracy over radii."""

import os
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from keras_robust.attacks.attack import Attack
from keras_robust.attacks.norms import get_ball
from keras_robust.attacks.registry import get_attack
from keras_robust.attacks.spatial import SpatialAttack
from keras_robust.datasets.arrays import check_form
from keras_robust.evaluation.checkpoint import Checkpoint
from keras_robust.evaluation.data import Examples
from keras_robust.evaluation.data import check_function
from keras_robust.evaluation.data import check_model
from keras_robust.evaluation.data import read_examples
from keras_robust.evaluation.diagnostics import Diagnostics
from keras_robust.evaluation.flags import Flag
from keras_robust.evaluation.flags import baseline_flags
from keras_robust.evaluation.flags import find_flags
from keras_robust.evaluation.flags import repeat_flags
from keras_robust.evaluation.gate import GatedResult
from keras_robust.evaluation.gate import RobustAccuracy
from keras_robust.evaluation.outcomes import Baseline
from keras_robust.evaluation.outcomes import Outcome
from keras_robust.evaluation.outcomes import run_attack
from keras_robust.evaluation.provenance import provenance
from keras_robust.evaluation.report import wilson_interval
from keras_robust.evaluation.shown import ShownExamples
from keras_robust.evaluation.survivors import Survivors
from keras_robust.evaluation.verdict import caution
from keras_robust.evaluation.verdict import publishing
from keras_robust.evaluation.verdict import share_text
from keras_robust.plot.units import Units
from keras_robust.utils.messages import describe
from keras_robust.utils.messages import shown

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from keras_robust.plot.style import Picture


class RobustnessCurve(GatedResult):
    """Accuracy at each radius, with intervals.

    Args:
        epsilons: Increasing radii, the first one 0 for clean accuracy.
        correct: Bool array `(radii, N)`: which examples are still right.
        norm: `"l1"`, `"l2"` or `"linf"`.
        attack: What was run, as text.
        flags: List of `Flag`: reasons to doubt the numbers.
        provenance: Dictionary of plain values: attacks with their
            configuration, fingerprints of model and data, versions, date.
        shown: Some examples that were broken, for `to_html`, or `None`.

    Attributes:
        epsilons: NumPy array.
        correct: As given.
        accuracy: NumPy array, one number per radius.
        intervals: NumPy array `(radii, 2)`, 95 % Wilson intervals.
        flags: As given.
        provenance: As given.
        shown: As given.
    """

    def __init__(
        self,
        epsilons: Iterable[float],
        correct: Any,
        norm: str,
        attack: str,
        flags: Iterable[Flag] = (),
        provenance: dict[str, Any] | None = None,
        shown: ShownExamples | None = None,
    ) -> None:
        super().__init__(flags, provenance)
        self.shown = shown
        self.epsilons = np.asarray(list(epsilons), float)
        self.correct = np.asarray(correct, bool)
        self.norm = norm
        self.attack = attack
        self.accuracy = self.correct.mean(-1)
        self.intervals = np.array([wilson_interval(r) for r in self.correct])

    def smallest_radius(self) -> np.ndarray:
        """The smallest radius of the curve that breaks each example.

        Returns:
            Float array `(N,)`; 0 for examples that are misclassified without
            an attack, infinity for those that survive the largest.
        """
        padded = np.append(self.epsilons, np.inf)
        smallest: np.ndarray = padded[self.correct.sum(0)]
        return smallest

    def table(self, console: "Console | None" = None) -> "Table":
        """Print the table.

        Args:
            console: A `rich.console.Console`, or `None` for the terminal.

        Returns:
            The `rich.table.Table`.
        """
        return self.print_tables(console)[0]

    def tables(self) -> "list[Table]":
        """See `Result`."""
        from rich.table import Table

        examples = self.correct.shape[1]
        table = Table(title=f"{self.attack} on {examples} examples, %")
        for heading in (f"{self.norm} radius", "accuracy", "95 % interval"):
            table.add_column(heading, justify="right")
        for row in self.records():
            table.add_row(
                f"{row['epsilon']:.4g}",
                f"{100 * row['accuracy']:.2f}",
                f"{100 * row['low']:.2f} - {100 * row['high']:.2f}",
            )
        return [table]

    def records(self) -> list[dict[str, Any]]:
        """See `Result`: a row for each radius."""
        rows = zip(self.epsilons, self.accuracy, self.intervals, strict=True)
        return [
            {
                "epsilon": float(epsilon),
                "accuracy": float(accuracy),
                "low": float(low),
                "high": float(high),
            }
            for epsilon, accuracy, (low, high) in rows
        ]

    def verdict(self) -> str:
        """See `EvaluationResult`."""
        units = Units.of(self.provenance, self.norm)
        clean, last = self.accuracy[0], self.accuracy[-1]
        parts = [f"The model is right on {share_text(clean)} without a change."]
        halved = np.flatnonzero(self.accuracy <= clean / 2)
        if len(halved):
            radius = self.epsilons[halved[0]]
            parts.append(
                f"Changes of at most {units.text(radius)} are enough to turn "
                "half of its right answers wrong."
            )
        parts.append(
            f"At the largest radius, {units.text(self.epsilons[-1])}, it is "
            f"still right on {share_text(last)}."
        )
        parts.append(caution(self.flags))
        return " ".join([*parts, *publishing(self.provenance)])

    def robust_accuracy(self) -> RobustAccuracy:
        """See `GatedResult`: accuracy at the largest radius."""
        low, high = self.intervals[-1].tolist()
        return RobustAccuracy(
            f"{self.attack} at the {self.norm} radius {self.epsilons[-1]:.4g} "
            f"on {self.correct.shape[1]} examples",
            float(self.accuracy[-1]),
            (low, high),
        )

    def numbers(self) -> dict[str, Any]:
        """See `Result`."""
        return {
            "attack": self.attack,
            "norm": self.norm,
            "examples": self.correct.shape[1],
            "epsilons": self.epsilons.tolist(),
            "accuracy": self.accuracy.tolist(),
            "intervals": self.intervals.tolist(),
            **self.background(),
        }

    def draw(self) -> "Picture":
        """Accuracy over radius, with the band of the intervals."""
        from keras_robust.plot.diagrams import curves

        return curves({self.attack: self})


def robustness_curve(
    model: Any,
    data: Any,
    norm: Any,
    epsilons: Any,
    attack: str | Callable[[float], Attack] = "autoattack",
    batch_size: int = 128,
    verbose: int = 1,
    seed: int | None = 0,
    probe: bool = True,
    state_path: str | os.PathLike[str] | None = None,
    scaling: str | tuple[Any, ...] | None = None,
    value_range: Any = None,
    from_logits: bool | None = None,
    attacked: str | int | None = None,
    output: str | int | None = None,
) -> RobustnessCurve:
    """Measure accuracy over radii, each on the survivors of smaller radii.

    A perturbation inside a small ball is inside every larger one, so an
    example that is broken at one radius is broken at all larger ones. The
    first 100 correctly classified examples are attacked at every radius, even
    if already broken, so that flags compare like with like.

    Args:
        model: As in `evaluate_robustness`.
        data: As in `evaluate_robustness`.
        norm: `"l0"`, `"l1"`, `"l2"` or `"linf"`; see `get_attack`.
        epsilons: Radii >= 0 in units of `value_range`, in any order.
        attack: Name of an attack (see `get_attack`), or a function
            `epsilon -> Attack`.
        batch_size: Int >= 1, for predictions and attacks by name.
        verbose: 0 for no progress bars.
        seed: Int or `None`, of attacks by name.
        probe: Whether to run the experiments of `Diagnostics` on up to 100
            examples, at the largest radius, for more flags.
        state_path: As in `evaluate_robustness`.
        scaling: As in `evaluate_robustness`.
        value_range: `(low, high)`, the box of attacks by name.
        from_logits: As in `evaluate_robustness`.
        attacked: As in `evaluate_robustness`.
        output: As in `evaluate_robustness`.

    Returns:
        `RobustnessCurve`, with the radius 0 in front, and the same flags as
        `evaluate_robustness` gives.

    Raises:
        ValueError: If a radius is negative, an attack has another radius than
            asked for, or data and model do not fit.

    Example:

    ```python
    curve = keras_robust.robustness_curve(
        model, (x, y), "l2", [0.25, 0.5, 1.0], attack="pgd"
    )
    curve.plot("curve.png")
    ```
    """
    check_model(model)
    check_form(data)
    epsilons = _radii(epsilons)
    options = {
        "from_logits": from_logits,
        "attacked": attacked,
        "output": output,
    }
    made = _make_attacks(
        attack,
        norm,
        epsilons,
        seed=seed,
        batch_size=batch_size,
        value_range=value_range,
        **options,
    )
    check_function(model, made.values(), state_path)
    examples = read_examples(model, data, made.values(), scaling, **options)
    check_function(examples.classifier, made.values())
    attacks = {
        name: each.resolve(examples.classifier) for name, each in made.items()
    }
    baseline = Baseline.of(examples, batch_size)
    facts = provenance(examples, attacks, scaling=scaling)
    checkpoint = Checkpoint.of(state_path, {"kind": "curve", **facts})
    survivors = None
    if not baseline.randomized:
        survivors = Survivors(baseline.right, nested=True)
    outcomes, correct = _run_attacks(
        examples,
        baseline,
        attacks,
        checkpoint=checkpoint,
        verbose=verbose,
        survivors=survivors,
    )
    compared = survivors.always_attacked if survivors else None
    flags = find_flags(examples, attacks, outcomes, compared=compared)
    if attacks and probe:
        last = list(attacks)[-1]
        diagnostics = Diagnostics(
            examples,
            baseline.right,
            {last: attacks[last]},
            verbose,
            {last: correct[-1]},
        )
        flags += diagnostics.run()
    flags += baseline_flags(baseline, flags) + repeat_flags(examples)
    name = attack if isinstance(attack, str) else _name_of(attacks)
    return RobustnessCurve(
        [0.0, *epsilons],
        correct,
        _name_of_norm(norm),
        name,
        flags,
        facts,
        ShownExamples.of(examples, attacks, outcomes),
    )


def _run_attacks(
    examples: Examples,
    baseline: Baseline,
    attacks: Mapping[str, Attack],
    checkpoint: Checkpoint | None,
    verbose: int,
    survivors: Survivors | None,
) -> tuple[dict[str, Outcome], list[np.ndarray]]:
    """Run the attacks in order of their radii, until nothing survives.

    Returns:
        The outcomes of the attacks that were run, and for the radius 0 and
        each attack which examples are still classified correctly.
    """
    outcomes: dict[str, Outcome] = {}
    correct = [baseline.right]
    for name, each in attacks.items():
        if not correct[-1].any():
            correct.append(correct[-1])
            continue
        section = checkpoint.section(name) if checkpoint else None
        outcome = run_attack(
            examples, baseline, each, section, verbose, survivors
        )
        outcomes[name] = outcome
        correct.append(correct[-1] & outcome.correct)
        if survivors:
            survivors.record(each, ~outcome.correct)
    return outcomes, correct


def _radii(epsilons: Any) -> np.ndarray:
    try:
        radii = np.asarray(epsilons, float)
        # `np.unique` would flatten an array of rows.
        radii = np.unique(radii) if radii.ndim < 2 else np.array([np.nan])
    except (TypeError, ValueError):
        radii = np.array([np.nan])
    if not (np.isfinite(radii) & (radii >= 0)).all():
        raise ValueError(
            "Argument `epsilons` must be numbers >= 0, in a list; a radius "
            "for each feature is for `evaluate_robustness`, one attack per "
            f"radius. Received: epsilons={shown(epsilons)}"
        )
    return radii[radii > 0]


def _name_of(attacks: Mapping[str, Attack]) -> str:
    return type(next(iter(attacks.values()))).__name__ if attacks else "none"


def _name_of_norm(norm: Any) -> str:
    return str(get_ball(norm).name)


def _make_attacks(
    attack: str | Callable[[float], Attack],
    norm: Any,
    epsilons: np.ndarray,
    **options: Any,
) -> dict[str, Attack]:
    """Create the attack of each radius, under a name with that radius."""
    if not isinstance(attack, str) and (
        isinstance(attack, (Attack, type)) or not callable(attack)
    ):
        raise ValueError(
            "Argument `attack` must be a name, or a function `epsilon -> "
            "Attack`, such as "
            "`lambda epsilon: attack.replace(epsilon=epsilon)`. "
            f"Received: attack={describe(attack)}"
        )
    if not isinstance(attack, str) and options["value_range"] is not None:
        raise ValueError(
            "Argument `value_range` must come with the name of an attack. "
            f"Received: value_range={shown(options['value_range'])}"
        )
    found: dict[str, Attack] = {}
    for epsilon in epsilons.tolist():
        if isinstance(attack, str):
            made = get_attack(attack, norm, epsilon, **options)
        else:
            made = attack(epsilon)
            _check_made(made, epsilon, norm)
        name = f"epsilon {epsilon:.6g}"
        # Radii that differ by less keep names of their own.
        found[f"epsilon {epsilon!r}" if name in found else name] = made
    return found


def _check_made(made: Attack, epsilon: float, norm: Any) -> None:
    """Raise unless an attack is untargeted and has norm and radius."""
    if not isinstance(made, Attack) or made.targeted:
        raise ValueError(
            "Argument `attack` must be a name, or a function that returns an "
            f"untargeted attack. Received: {shown(made)}"
        )
    if not hasattr(made, "norm") or isinstance(made, SpatialAttack):
        return
    is_number = np.ndim(made.epsilon) == 0 and made.epsilon is not None
    unlike = is_number and not np.isclose(made.epsilon, epsilon, rtol=1e-5)
    # Without a radius any distance would count.
    if unlike or made.epsilon is None or made.norm != _name_of_norm(norm):
        raise ValueError(
            "Argument `attack` must return attacks of the norm and radius of "
            f"the curve, {norm!r} and {epsilon}. Received: {shown(made)}"
        )
