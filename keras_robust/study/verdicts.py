"""Which claims the numbers of a study show."""

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_robust.study.reference import reference

SHOWN = "shown"
SMALLER = "same direction, smaller"
NOT_SHOWN = "not shown"
UNDECIDED = "cannot be decided"
NOT_RUN = "not run"
# In the order in which they are told.
VERDICTS = (SHOWN, SMALLER, NOT_SHOWN, UNDECIDED, NOT_RUN)
TOO_SMALL = (
    "This preset is too small to show anything: it tells that the pipeline "
    "runs, and no claim is judged."
)


class UndecidedError(Exception):
    """These numbers cannot decide a claim; the message says why."""


@dataclass(frozen=True)
class Reading:
    """Where all claims of a study read attacked figures.

    Attributes:
        radius: L2 radius.
        l2: Name of the PGD-L2 figures at that radius.
        linf: Name of the PGD-L-infinity figures at the radius of equal
            volume, `None` if there are none.
    """

    radius: float
    l2: str
    linf: str | None


def find_reading(
    runs: Mapping[Any, dict], radii: Sequence[float]
) -> Reading | None:
    """The smallest radius that takes half of a standard model's accuracy.

    One rule for all data sets: the smallest L2 radius at which the standard
    model keeps less than half of its clean accuracy, both as means over seeds.
    So all seeds and all models are read at one radius.

    Args:
        runs: Dictionary of runs by seed: `results["runs"]`.
        radii: The recipe's L2 radii, in the order of its attacks.

    Returns:
        `Reading`, or `None` if the model keeps more at every radius.
    """
    kept = _kept(runs, radii)
    first = next(iter(runs.values()))["evaluation"]["standard"]["accuracy"]
    # In the order of the L2 radii, before any others: see `attacks_of`.
    linf = [name for name in first if name.startswith("pgd-linf-")]
    for i in np.argsort(radii):
        if radii[i] in kept and kept[radii[i]] < kept["clean"] / 2:
            return Reading(
                radius=float(radii[i]),
                l2=_column(radii[i]),
                linf=linf[i] if i < len(linf) else None,
            )
    return None


def _kept(runs, radii):
    """The standard model's mean accuracy over seeds, in %, by radius."""
    rows = [run["evaluation"]["standard"]["accuracy"] for run in runs.values()]
    columns = {
        "clean": "clean",
        **{radius: _column(radius) for radius in radii},
    }
    return {
        key: 100 * float(np.mean([row[column] for row in rows]))
        for key, column in columns.items()
        if all(column in row for row in rows)
    }


def _column(radius):
    return f"pgd-l2-{radius:g}"


class Run:
    """The numbers of one seed, as claims ask for them.

    Args:
        run: One of `results["runs"]`.
        reading: Where attacked figures are read; `None` if nowhere.
    """

    def __init__(self, run: dict, reading: Reading | None) -> None:
        self.run = run
        self.reading = reading

    def clean(self, model: str) -> float:
        """Accuracy on test images, in per cent, as all that follow."""
        return self._accuracy(model)["clean"]

    def shifted(self, model: str) -> float:
        """Share of test images that are taken for the class y + 1."""
        return self._accuracy(model)["y + 1"]

    def robust(self, model: str) -> float:
        """Accuracy under PGD-L2 at the radius of the reading."""
        return self._accuracy(model)[self._read().l2]

    def robust_linf(self, model: str) -> float:
        """The same in the L-infinity ball of equal volume."""
        return self._accuracy(model)[self._read().linf]

    def decomposition(self) -> dict[str, float]:
        """The measure of that name, at the radius of the reading."""
        by_radius = self.run["measured"]["decomposition"]
        return _per_cent(by_radius[f"{self._read().radius:g}"])

    def measured(self, name: str) -> dict[str, float]:
        """Accuracies that a function of `measures` found."""
        return _per_cent(self.run["measured"][name])

    def _accuracy(self, model):
        return _per_cent(self.run["evaluation"][model]["accuracy"])

    def _read(self):
        if self.reading is None:
            raise UndecidedError(
                "the standard model keeps more than half of its clean "
                "accuracy at every radius of the evaluation"
            )
        return self.reading


def _per_cent(fractions):
    return {name: 100 * value for name, value in fractions.items()}


def verdicts(
    claims: Sequence,
    runs: Mapping[Any, dict],
    radii: Sequence[float],
    dataset: str,
    undecidable: Mapping[str, str] | None = None,
) -> list[dict]:
    """What becomes of each claim.

    Args:
        claims: Sequence of `Claim`.
        runs: Dictionary of runs by seed: `results["runs"]`.
        radii: The recipe's L2 radii.
        dataset: Name; claims about other data sets are left out.
        undecidable: Reasons by name of a claim that is not judged, however
            its numbers come out.

    Returns:
        List of dictionaries, one per claim: `name`, `statement`, `rule`,
        `direction`, `published`, `verdict`, `reason` (of what cannot be
        decided, else empty), `seeds` in which the rule holds, and `numbers`:
        `mean` and `deviation` (sample standard deviation, or `None`) by name.
    """
    reading = find_reading(runs, radii)
    seeds = [Run(run, reading) for run in runs.values()]
    return [
        {
            "name": claim.name,
            "statement": claim.statement,
            "rule": claim.rule,
            "direction": claim.direction_rule,
            # The paper's claims are on CIFAR-10, whatever was run here.
            "published": claim.published.format(**reference("cifar10")),
            **_judged(claim, seeds, (undecidable or {}).get(claim.name)),
        }
        for claim in claims
        if claim.datasets is None or dataset in claim.datasets
    ]


def _judged(claim, seeds, reason):
    """Verdict, reason, seeds and numbers of a claim."""
    verdict, held, rows = NOT_RUN, 0, []
    try:
        rows = [claim.measure(run) for run in seeds]
    except KeyError:
        reason = None
    except UndecidedError as error:
        verdict, reason = UNDECIDED, str(error)
    else:
        held = sum(bool(claim.holds(row)) for row in rows)
        verdict = UNDECIDED if reason else _verdict(claim, held, rows)
    return {
        "verdict": verdict,
        "reason": reason or "",
        "seeds": held,
        "numbers": {
            name: mean_and_deviation([row[name] for row in rows])
            for name in (rows[0] if rows else ())
        },
    }


def _verdict(claim, held, rows):
    if held == len(rows):
        return SHOWN
    if claim.direction and all(claim.direction(row) for row in rows):
        return SMALLER
    return NOT_SHOWN


def tally(claims: Sequence[dict]) -> str:
    """How many claims came out how, in words.

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


def mean_and_deviation(values: Sequence[float]) -> dict[str, float | None]:
    """Over seeds; `None` for what is not a number.

    Args:
        values: Sequence of numbers, NaN for what did not happen.

    Returns:
        Dictionary of `mean` and `deviation`, sample standard deviation.
    """
    values = np.array(values, float)
    mean = float(values.mean())
    if not np.isfinite(mean):
        return {"mean": None, "deviation": None}
    spread = float(values.std(ddof=1)) if len(values) > 1 else None
    return {"mean": mean, "deviation": spread}
