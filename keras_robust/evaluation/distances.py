"""Distances to the nearest adversarial examples."""

import os
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from keras_robust.attacks.attack import Attack
from keras_robust.attacks.norms import distances as distances_between
from keras_robust.attacks.registry import as_attacks
from keras_robust.attacks.registry import get_minimum_norm_attack
from keras_robust.datasets.arrays import check_form
from keras_robust.evaluation.checkpoint import Checkpoint
from keras_robust.evaluation.checkpoint import Section
from keras_robust.evaluation.curve import RobustnessCurve
from keras_robust.evaluation.data import Examples
from keras_robust.evaluation.data import check_model
from keras_robust.evaluation.data import read_examples
from keras_robust.evaluation.diagnostics import Diagnostics
from keras_robust.evaluation.flags import Flag
from keras_robust.evaluation.flags import baseline_flags
from keras_robust.evaluation.flags import outcome_flags
from keras_robust.evaluation.flags import repeat_flags
from keras_robust.evaluation.flags import setting_flags
from keras_robust.evaluation.flags import unit_flags
from keras_robust.evaluation.outcomes import Baseline
from keras_robust.evaluation.outcomes import Outcome
from keras_robust.evaluation.outcomes import attacked_image
from keras_robust.evaluation.outcomes import finished_or_run
from keras_robust.evaluation.outcomes import outcome_of
from keras_robust.evaluation.outcomes import run_on_rest
from keras_robust.evaluation.provenance import provenance
from keras_robust.evaluation.result import EvaluationResult
from keras_robust.evaluation.shown import ShownExamples
from keras_robust.evaluation.verdict import caution
from keras_robust.plot.units import Units
from keras_robust.utils.messages import shown as as_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from keras_robust.plot.style import Picture

# Name of the row of the table that combines all attacks.
_NEAREST = "nearest"
# Radii of a curve that are chosen by themselves: one for each percent.
_PERCENTILES = np.arange(101)


class MinimumDistance(EvaluationResult):
    """Distance of each example to its nearest adversarial example found.

    Every number is an upper bound: a better attack may find a nearer one.

    Args:
        by_attack: Dictionary of float arrays `(N,)` by attack: distances, 0
            for examples that the model gets wrong without an attack, infinity
            where no adversarial example was found.
        norm: `"l0"`, `"l1"`, `"l2"` or `"linf"`.
        flags: List of `Flag`: reasons to doubt the numbers.
        provenance: Dictionary of plain values: attacks with their
            configuration, fingerprints of model and data, versions, date.
        shown: Some examples that were broken, for `to_html`, or `None`.
        searched: Radius up to which the attacks looked; infinity for all.

    Attributes:
        by_attack: As given, float64.
        distances: Float64 array `(N,)`, the smallest of all attacks.
        norm: As given.
        examples: N.
        flags: As given.
        provenance: As given.
        shown: As given.
        searched: As given.
    """

    def __init__(
        self,
        by_attack: Mapping[str, Any],
        norm: str,
        flags: "list[Flag] | tuple[Flag, ...]" = (),
        provenance: dict[str, Any] | None = None,
        shown: ShownExamples | None = None,
        searched: float = np.inf,
    ) -> None:
        super().__init__(flags, provenance)
        self.shown = shown
        self.searched = float(searched)
        self.by_attack = {
            name: np.asarray(found, "float64")
            for name, found in by_attack.items()
        }
        self.norm = norm
        self.distances = np.min(list(self.by_attack.values()), axis=0)
        self.examples = len(self.distances)

    @property
    def median(self) -> float:
        """The median distance; infinity where half of them were not found."""
        return float(np.median(self.distances))

    def curve(self, radii: Any = None) -> RobustnessCurve:
        """Accuracy over radii: the share of examples further than each.

        Args:
            radii: Numbers >= 0 in any order, or `None` for 0 and the
                percentiles of the distances found.

        Returns:
            `RobustnessCurve`, with the radius 0 in front.

        Raises:
            ValueError: If a radius is negative or beyond `searched`.
        """
        if radii is None:
            found = self.distances[np.isfinite(self.distances)]
            radii = (
                np.percentile(found, _PERCENTILES, method="inverted_cdf")
                if len(found)
                else []
            )
        radii = _check_radii(radii, self.searched)
        return RobustnessCurve(
            radii,
            self.distances > radii[:, None],
            norm=self.norm,
            attack=", ".join(self.by_attack),
            flags=self.flags,
            provenance=self.provenance,
            shown=self.shown,
        )

    def table(self, console: "Console | None" = None) -> "Table":
        """Print the table: quartiles of the distances by attack.

        Args:
            console: A `rich.console.Console`, or `None` for the terminal.

        Returns:
            The `rich.table.Table`.
        """
        return self.print_tables(console)[0]

    def tables(self) -> "list[Table]":
        """See `Result`: quartiles by attack."""
        from rich.table import Table

        table = Table(
            title=f"{self.norm} distance to adversarial examples, "
            f"{self.examples} examples"
        )
        for heading in ("attack", "25 %", "median", "75 %", "not found, %"):
            table.add_column(heading, justify="right")
        for name, row in self._summaries().items():
            table.add_row(
                name,
                f"{row['25 %']:.4g}",
                f"{row['median']:.4g}",
                f"{row['75 %']:.4g}",
                f"{100 * row['not found']:.2f}",
            )
        return [table]

    def records(self) -> list[dict[str, Any]]:
        """See `Result`: a row for each example, a column for each attack."""
        columns = {**self.by_attack, _NEAREST: self.distances}
        return [
            {name: float(found[row]) for name, found in columns.items()}
            for row in range(self.examples)
        ]

    def verdict(self) -> str:
        """See `EvaluationResult`."""
        units = Units.of(self.provenance, self.norm)
        if np.isfinite(self.median):
            text = (
                f"Changes of at most {units.text(self.median)} are enough to "
                "make the model wrong on half of the images, those included "
                "that it gets wrong as they are."
            )
        else:
            text = (
                "For more than half of the images no change was found that "
                "makes the model wrong."
            )
        return f"{text} {caution(self.flags)}"

    def _summaries(self) -> dict[str, dict[str, float]]:
        """Quartiles of each attack, and of all if there are several."""
        rows = dict(self.by_attack)
        if len(rows) > 1:
            rows[_NEAREST] = self.distances
        return {name: _summary(found) for name, found in rows.items()}

    def numbers(self) -> dict[str, Any]:
        """See `Result`; a distance that was not found becomes `null`."""
        return {
            "norm": self.norm,
            "examples": self.examples,
            "summary": self._summaries(),
            "distances": self.distances.tolist(),
            "by_attack": {
                name: found.tolist() for name, found in self.by_attack.items()
            },
            **self.background(),
        }

    def draw(self) -> "Picture":
        """Accuracy over radius, for each attack and all of them."""
        from keras_robust.plot.diagrams import label_radii
        from keras_robust.plot.diagrams import steps
        from keras_robust.plot.style import new_picture
        from keras_robust.plot.style import percent_axis

        rows = dict(self.by_attack)
        if len(rows) > 1:
            rows[_NEAREST] = self.distances
        finite = np.concatenate([d[np.isfinite(d)] for d in rows.values()])
        right = 1.05 * finite.max(initial=0.0) or 1.0
        picture = new_picture(5, 3.6)
        axes = picture.subplots()
        steps(axes, rows, right)
        label_radii(axes, Units.of(self.provenance, self.norm))
        axes.set_xlim(0, right)
        percent_axis(axes)
        return picture


def _summary(found: np.ndarray) -> dict[str, float]:
    # A quantile between a number and infinity is one of the two.
    low, middle, high = np.quantile(
        found, (0.25, 0.5, 0.75), method="inverted_cdf"
    )
    return {
        "25 %": float(low),
        "median": float(middle),
        "75 %": float(high),
        "not found": float(np.isinf(found).mean()),
    }


def _check_radii(radii: Any, searched: float) -> np.ndarray:
    """The radii in order, 0 in front; none beyond what was searched."""
    try:
        values = np.asarray(radii, "float64")
    except (TypeError, ValueError):
        values = np.array([np.nan])
    if values.ndim > 1 or not (np.isfinite(values) & (values >= 0)).all():
        raise ValueError(
            "Argument `radii` must be numbers >= 0, in a list. "
            f"Received: radii={as_text(radii)}"
        )
    if values.size and values.max() > searched * (1 + 1e-5):
        raise ValueError(
            "Argument `radii` must not exceed the `epsilon` of the attacks, "
            f"{searched:.6g}: nothing was searched further away. "
            f"Received: radii={as_text(radii)}"
        )
    return np.unique(np.append(values, 0.0))


@dataclass(kw_only=True)
class _Distances(Outcome):
    """What a minimum-norm attack found.

    Attributes, besides those of `Outcome`:
        distance: Float64 array `(N,)`, as in `MinimumDistance`.
    """

    distance: np.ndarray


def minimum_distance(
    model: Any,
    data: Any,
    attacks: Any,
    batch_size: int = 128,
    verbose: int = 1,
    norm: Any = None,
    probe: bool = True,
    state_path: str | os.PathLike[str] | None = None,
    scaling: str | tuple[Any, ...] | None = None,
    value_range: Any = None,
    from_logits: bool | None = None,
    attacked: str | int | None = None,
    output: str | int | None = None,
) -> MinimumDistance:
    """Measure how far each example is from its nearest adversarial example.

    One run of a minimum-norm attack gives the accuracy at every radius, where
    `robustness_curve` attacks radius by radius. A distance counts if the model
    itself, called as Keras calls it, misclassifies the attack's output; it is
    computed from that output in float64.

    Flags are those of `evaluate_robustness` that concern one attack, and `not
    found`: an attack without a radius found no adversarial example at all.

    Args:
        model: A built Keras classifier.
        data: As in `evaluate_robustness`.
        attacks: A minimum-norm attack such as `FMNAttack`, the name of one
            (`"ddn"`, `"fmn"`, `"pdpgd"`, `"sigma-zero"`, `"fab"`, `"fab-t"`,
            `"carlini-wagner"`, `"hopskipjump"`), a list of attacks or names, or
            a dictionary of attacks by name; all of one norm. An attack with
            `epsilon` finds distances up to that radius only.
        batch_size: Int >= 1, for predictions and attacks by name; other
            attacks have their own.
        verbose: 0 for no progress bars.
        norm: `"l0"`, `"l1"`, `"l2"` or `"linf"`, for attacks by name that have
            more than one norm.
        probe: Whether to run the experiments of `Diagnostics` on up to 100
            examples, for more flags.
        state_path: As in `evaluate_robustness`.
        scaling: As in `evaluate_robustness`; distances are then in units of
            the whole range.
        value_range: `(low, high)`, the box of attacks by name.
        from_logits: As in `evaluate_robustness`.
        attacked: As in `evaluate_robustness`.
        output: As in `evaluate_robustness`.

    Returns:
        `MinimumDistance`.

    Raises:
        ValueError: If an attack is not a minimum-norm attack, attacks differ
            in their norm, or data and model do not fit.

    Example:

    ```python
    found = keras_robust.minimum_distance(
        model, (x, y), ["ddn", "fmn"], norm="l2"
    )
    found.median
    found.curve([0.25, 0.5, 1.0]).accuracy
    ```
    """
    check_model(model)
    check_form(data)
    options: dict[str, Any] = {
        "from_logits": from_logits,
        "attacked": attacked,
        "output": output,
    }
    made = as_attacks(
        attacks,
        make=get_minimum_norm_attack,
        norm=norm,
        batch_size=batch_size,
        value_range=value_range,
        **{key: value for key, value in options.items() if value is not None},
    )
    shared_norm = _check_attacks(made)
    examples = read_examples(model, data, made.values(), scaling, **options)
    resolved = {
        name: attack.resolve(examples.classifier)
        for name, attack in made.items()
    }
    baseline = Baseline.of(examples, batch_size)
    facts = provenance(examples, resolved, scaling=scaling)
    checkpoint = Checkpoint.of(state_path, {"kind": "distance", **facts})
    outcomes = {}
    for name, attack in resolved.items():
        section = checkpoint.section(name) if checkpoint else None
        outcomes[name] = _run_attack(
            examples, baseline, attack, section, verbose
        )
    flags = [
        *outcome_flags(outcomes),
        *_not_found_flags(resolved, outcomes),
        *unit_flags(examples, resolved),
        *setting_flags(
            resolved, examples.image.shape, examples.classifier.num_classes
        ),
    ]
    if probe:
        flags += Diagnostics(examples, baseline.right, resolved, verbose).run()
    flags += baseline_flags(baseline, flags) + repeat_flags(examples)
    by_attack = {name: outcome.distance for name, outcome in outcomes.items()}
    return MinimumDistance(
        by_attack,
        shared_norm,
        flags,
        facts,
        ShownExamples.of(examples, resolved, outcomes),
        _searched(resolved.values()),
    )


def _searched(attacks: Iterable[Attack]) -> float:
    """The radius up to which at least one attack looked, for all examples."""
    radii = [attack.epsilon for attack in attacks]
    return max(np.inf if r is None else float(np.min(r)) for r in radii)


def _check_attacks(attacks: Mapping[str, Attack]) -> str:
    """Check that attacks look for the nearest example; return their norm."""
    if not attacks:
        raise ValueError(
            "Argument `attacks` must hold at least one attack. Received: none"
        )
    for name, attack in attacks.items():
        if not attack.is_minimum_norm or not hasattr(attack, "norm"):
            raise ValueError(
                "Argument `attacks` must be minimum-norm attacks, such as "
                "DDNAttack, FMNAttack, PDPGDAttack, SigmaZeroAttack or "
                "FABAttack; for "
                "attacks inside a given radius use `robustness_curve`. "
                f"Received: {as_text(name)}: {as_text(attack)}"
            )
        if getattr(attack, "early_stop", False):
            raise ValueError(
                "A minimum-norm attack must have early_stop=False, or it keeps "
                "the first adversarial example instead of the nearest. "
                f"Received: {as_text(name)}: {as_text(attack)}"
            )
    norms = {
        name: str(getattr(attack, "norm", None))
        for name, attack in attacks.items()
    }
    if len(set(norms.values())) > 1:
        raise ValueError(
            "Argument `attacks` must be attacks of one norm: distances in "
            f"different norms cannot be compared. Received: {norms}"
        )
    return next(iter(norms.values()))


def _run_attack(
    examples: Examples,
    baseline: Baseline,
    attack: Attack,
    section: Section | None,
    verbose: int,
) -> _Distances:
    """Run an attack on what is classified correctly, or load its outcome."""

    def run() -> _Distances:
        right = baseline.right
        result = run_on_rest(
            examples, baseline, attack, section, verbose, ~right
        )
        outcome = outcome_of(examples, baseline, attack, result, right)
        distance = _distances_of(
            examples, baseline, attack, result["x"], outcome
        )
        return _Distances(**outcome.arrays(), distance=distance)

    return finished_or_run(section, _Distances, run)


def _distances_of(
    examples: Examples,
    baseline: Baseline,
    attack: Any,
    x: Any,
    outcome: Outcome,
) -> np.ndarray:
    """Distances of the images that fool the model, see `MinimumDistance`."""
    distance = np.full(len(examples.y), np.inf)
    rows = np.flatnonzero(~outcome.correct & baseline.right)
    moved = attacked_image(examples, x)[rows].astype("float64")
    found = distances_between(
        moved, examples.image[rows].astype("float64"), attack.norm
    )
    distance[rows] = np.where(np.isnan(found), np.inf, found)
    distance[~baseline.right] = 0
    return distance


def _not_found_flags(
    attacks: Mapping[str, Attack], outcomes: Mapping[str, _Distances]
) -> list[Flag]:
    """Flag attacks without a radius that found nothing for some examples.

    Name: `not found`.
    """
    flags = []
    for name, outcome in outcomes.items():
        count = int(np.isinf(outcome.distance).sum())
        if count and attacks[name].epsilon is None:
            flags.append(
                Flag(
                    "not found",
                    "an attack without a radius found no adversarial example, "
                    "though there is one somewhere in the box: are its steps "
                    "too few, or do gradients mislead?",
                    {
                        "attack": name,
                        "examples": count,
                        "of": len(outcome.distance),
                    },
                )
            )
    return flags
