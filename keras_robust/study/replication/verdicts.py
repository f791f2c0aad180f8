"""Which claims the numbers of a replication show."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from typing import Any

import numpy as np

from keras_robust.study.replication.reference import reference
from keras_robust.study.replication.results import ClaimResult
from keras_robust.study.replication.results import OverSeeds
from keras_robust.study.replication.results import SeedResults
from keras_robust.study.replication.results import is_linf_column
from keras_robust.study.replication.results import l2_column

SHOWN = "shown"
SMALLER = "same direction, smaller"
NOT_SHOWN = "not shown"
UNDECIDED = "cannot be decided"
NOT_RUN = "not run"
# In the order of reports.
VERDICTS = (SHOWN, SMALLER, NOT_SHOWN, UNDECIDED, NOT_RUN)
TOO_SMALL = (
    "This preset is too small to show anything: it only shows that "
    "the pipeline runs, and no claim is judged."
)


class UndecidedError(Exception):
    """Raised where the numbers cannot decide a claim; the message says why."""


@dataclass(frozen=True)
class Reading:
    """The attacks whose robust accuracies decide the claims.

    Attributes:
        radius: L2 radius.
        l2: Column of PGD-L2 at that radius.
        linf: Column of PGD-L-infinity at the radius of equal volume; `None` if
            it was not run.
    """

    radius: float
    l2: str
    linf: str | None


def find_reading(
    runs: Mapping[Any, SeedResults], radii: Sequence[float]
) -> Reading | None:
    """The smallest radius at which the standard model loses half its accuracy.

    One rule for all data sets: the smallest L2 radius at which the standard
    model keeps less than half of its clean accuracy, both as means over seeds.
    All seeds and all models are read at this radius.

    Args:
        runs: Dictionary of runs by seed: `results["runs"]`.
        radii: The recipe's L2 radii, in the order of its attacks.

    Returns:
        `Reading`, or `None` if the model keeps more at every radius.
    """
    kept = _standard_accuracy(runs, radii)
    first = next(iter(runs.values()))["evaluation"]["standard"]["accuracy"]
    # In the order of the L2 radii, before any others: see `attacks_of`.
    linf = [name for name in first if is_linf_column(name)]
    for i in np.argsort(radii):
        column = l2_column(radii[i])
        if column in kept and kept[column] < kept["clean"] / 2:
            return Reading(
                radius=float(radii[i]),
                l2=column,
                linf=linf[i] if i < len(linf) else None,
            )
    return None


def unread_because(runs: Mapping[Any, SeedResults]) -> str:
    """Why `find_reading` found no radius, in words.

    Args:
        runs: Dictionary of runs by seed: `results["runs"]`.
    """
    if _standard_accuracy(runs, ())["clean"] == 0:
        return "the standard model gets no test image right, attacked or not"
    return (
        "the standard model keeps half of its clean accuracy, or more, at "
        "every radius of the evaluation"
    )


def _standard_accuracy(
    runs: Mapping[Any, SeedResults], radii: Sequence[float]
) -> dict[str, float]:
    """The standard model's mean accuracy over seeds, in %, by column."""
    rows = [run["evaluation"]["standard"]["accuracy"] for run in runs.values()]
    return {
        column: 100 * float(np.mean([row[column] for row in rows]))
        for column in ("clean", *map(l2_column, radii))
        if all(column in row for row in rows)
    }


class Run:
    """The numbers of one seed, as claims ask for them, in per cent.

    Args:
        results: One of `results["runs"]`.
        reading: Where attacked figures are read; or, if nowhere, why.
    """

    def __init__(self, results: SeedResults, reading: Reading | str) -> None:
        self.results = results
        self.reading = reading

    def clean(self, model: str) -> float:
        """Accuracy on test images."""
        return self._accuracy(model)["clean"]

    def shifted(self, model: str) -> float:
        """Share of test images that are classified as the class y + 1."""
        return self._accuracy(model)["y + 1"]

    def robust(self, model: str) -> float:
        """Accuracy under PGD-L2 at the radius of the reading."""
        return self._accuracy(model)[self._read().l2]

    def robust_linf(self, model: str) -> float:
        """Accuracy under PGD in the L-infinity ball of equal volume.

        Raises:
            KeyError: If that was not run.
        """
        column = self._read().linf
        if column is None:
            raise KeyError("pgd-linf")
        return self._accuracy(model)[column]

    def decomposition(self) -> dict[str, float]:
        """The measure of that name, at the radius of the reading."""
        by_radius = self.results["measured"]["decomposition"]
        return _per_cent(by_radius[f"{self._read().radius:g}"])

    def leakage(self) -> dict[str, float]:
        """The measure of that name."""
        return _per_cent(self.results["measured"]["leakage"])

    def _accuracy(self, model: str) -> dict[str, float]:
        return _per_cent(self.results["evaluation"][model]["accuracy"])

    def _read(self) -> Reading:
        if isinstance(self.reading, str):
            raise UndecidedError(self.reading)
        return self.reading


def _per_cent(fractions: Mapping[str, float]) -> dict[str, float]:
    return {name: 100 * value for name, value in fractions.items()}


# Numbers of one seed by name; a rule on them.
Numbers = dict[str, float]
Rule = Callable[[Numbers], bool]


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, and the rule by which it counts as shown.

    Attributes:
        name: Short.
        statement: A sentence.
        rule: What must hold in every seed, in words.
        published: What others found on CIFAR-10, in words, with fields for
            the figures of `reference.json`.
        measure: Numbers of a seed by name; raises `KeyError` where something
            was not run.
        holds: The rule.
        direction: The rule without the size that it requires; `None` if it
            requires none.
        direction_rule: The same in words.
        datasets: Names of the data sets that the claim is about; `None` for
            all.
    """

    name: str
    statement: str
    rule: str
    published: str
    measure: Callable[[Run], Numbers]
    holds: Rule
    direction: Rule | None = None
    direction_rule: str = ""
    datasets: tuple[str, ...] | None = None


def verdicts(
    claims: Sequence[Claim],
    runs: Mapping[Any, SeedResults],
    radii: Sequence[float],
    dataset: str,
    undecidable: Mapping[str, str] | None = None,
    left_out: Mapping[str, str] | None = None,
    is_own: bool = False,
) -> list[ClaimResult]:
    """Judge each claim by the numbers of all seeds.

    Args:
        claims: Claims to judge.
        runs: Dictionary of runs by seed: `results["runs"]`.
        radii: The recipe's L2 radii.
        dataset: Name; claims about other data sets are left out.
        undecidable: Reasons by name of a claim that is not judged, whatever
            its numbers are.
        left_out: Reasons by name of a model or measure why it was left out:
            claims that need one cannot be decided.
        is_own: Whether the images are the user's, which nobody has published
            figures of.
    """
    reading = find_reading(runs, radii) or unread_because(runs)
    seeds = [Run(run, reading) for run in runs.values()]
    return [
        _judged(
            replace(claim, published="") if is_own else claim,
            seeds,
            (undecidable or {}).get(claim.name),
            left_out or {},
        )
        for claim in claims
        if claim.datasets is None or dataset in claim.datasets
    ]


def _judged(
    claim: Claim,
    seeds: Sequence[Run],
    reason: str | None,
    left_out: Mapping[str, str],
) -> ClaimResult:
    """Judge a claim, unless there is a reason not to."""
    verdict, held = NOT_RUN, 0
    rows: list[Numbers] = []
    try:
        rows = [claim.measure(run) for run in seeds]
    except KeyError as error:
        reason = left_out.get(str(error.args[0]))
        verdict = UNDECIDED if reason else NOT_RUN
    except UndecidedError as error:
        verdict, reason = UNDECIDED, str(error)
    else:
        held = sum(bool(claim.holds(row)) for row in rows)
        verdict = UNDECIDED if reason else _verdict(claim, held, rows)
    return {
        "name": claim.name,
        "statement": claim.statement,
        "rule": claim.rule,
        "direction": claim.direction_rule,
        # The paper's claims are on CIFAR-10, whatever was run here.
        "published": claim.published.format(**reference("cifar10")),
        "verdict": verdict,
        "reason": reason or "",
        "seeds": held,
        "numbers": {
            name: mean_and_deviation([row[name] for row in rows])
            for name in (rows[0] if rows else ())
        },
    }


def _verdict(claim: Claim, held: int, rows: Sequence[Numbers]) -> str:
    if held == len(rows):
        return SHOWN
    if claim.direction and all(claim.direction(row) for row in rows):
        return SMALLER
    return NOT_SHOWN


def tally(claims: Sequence[ClaimResult]) -> str:
    """Count the claims by verdict, in words.

    Args:
        claims: What `verdicts` returns.

    Returns:
        Such as "9 of 12 claims shown; 1 not shown; 2 cannot be decided; 2 not
        run": claims that were not run are not counted among the 12.
    """
    counts = {
        verdict: sum(claim["verdict"] == verdict for claim in claims)
        for verdict in VERDICTS
    }
    run = len(claims) - counts[NOT_RUN]
    others = [
        f"{count} {verdict}"
        for verdict, count in counts.items()
        if count and verdict != SHOWN
    ]
    # The verdict "same direction, smaller" has a comma of its own.
    return "; ".join([f"{counts[SHOWN]} of {run} claims shown", *others])


def mean_and_deviation(values: Sequence[float]) -> OverSeeds:
    """Mean and sample standard deviation over seeds.

    Args:
        values: One number per seed; NaN for what did not happen or is not
            known there, which is left out.
    """
    array = np.array(values, float)
    known = array[np.isfinite(array)]
    if len(known) == 0:
        return {"mean": None, "deviation": None}
    found: OverSeeds = {
        "mean": float(known.mean()),
        "deviation": float(known.std(ddof=1)) if len(known) > 1 else None,
    }
    if len(known) < len(array):
        found["known"] = len(known)
        found["seeds"] = len(array)
    return found
