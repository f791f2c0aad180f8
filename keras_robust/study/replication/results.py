"""What `results.json` of a replication holds, and the names of its columns.

Fractions are between 0 and 1 except in `Summary` and `ClaimResult.numbers`,
which are in per cent.
"""

from collections.abc import Mapping
from typing import Any
from typing import NotRequired
from typing import TypedDict


class Evaluation(TypedDict):
    """Accuracy of one model on test images, or on those that are held out.

    Attributes:
        accuracy: Fraction by column: `clean`, attacks, and `y + 1`, the share
            of images that are classified as the class after their own.
        intervals: 95 % Wilson intervals by column.
    """

    accuracy: dict[str, float]
    intervals: dict[str, tuple[float, float]]


class FittedCurve(TypedDict):
    """How a training went, see `PlateauMonitor`.

    Attributes:
        curve: One number per epoch, by metric.
        chance: Accuracy of guessing.
        escape_epoch: First epoch, from 1, after which training accuracy stays
            above chance; `None` if it ends at chance.
        outcome: `"stuck"`, `"memorized"` or `"generalized"`.
    """

    curve: dict[str, list[float]]
    chance: float
    escape_epoch: int | None
    outcome: str | None


class Transfer(TypedDict):
    """Transfer between architectures, see `measures.transfer`.

    Results of earlier runs have no `sources`, which are `names` there.
    """

    sources: NotRequired[list[str]]
    names: list[str]
    untargeted: list[list[float | None]]
    targeted: list[list[float | None]]
    D_det: dict[str, float]
    correlation: dict[str, float | None]


# Fractions by row and column.
Table = dict[str, dict[str, float]]


class Measured(TypedDict):
    """What functions of `measures` found, by their names."""

    decomposition: NotRequired[Table]
    leakage: NotRequired[dict[str, float]]
    nearest: NotRequired[Table]
    transfer: NotRequired[Transfer]
    autoattack: NotRequired[Table]


class SeedResults(TypedDict):
    """The numbers of one seed, by model.

    Attributes:
        evaluation: By model.
        generated: Means over each generated set, see `describe_generated`.
        curves: By trained network.
        measured: By measure.
    """

    evaluation: dict[str, Evaluation]
    generated: dict[str, dict[str, float | None]]
    curves: dict[str, FittedCurve]
    measured: Measured


class OverSeeds(TypedDict):
    """Mean and sample standard deviation over seeds.

    Attributes:
        mean: Over the seeds that have the number; `None` where none has.
        deviation: `None` for one seed.
        known: How many seeds have the number; only where others lack it.
        seeds: How many there are, beside `known`.
    """

    mean: float | None
    deviation: float | None
    known: NotRequired[int]
    seeds: NotRequired[int]


# By model and column, in per cent.
Summary = dict[str, dict[str, OverSeeds]]


class ReadAt(TypedDict):
    """A `verdicts.Reading` as a dictionary."""

    radius: float
    l2: str
    linf: str | None


class ClaimResult(TypedDict):
    """The verdict on a claim, with its numbers.

    Attributes:
        name: As of `claims.Claim`, like the next four.
        statement: A sentence.
        rule: In words.
        direction: In words.
        published: Figures of others, in words.
        verdict: One of `verdicts.VERDICTS`.
        reason: Why it cannot be decided; empty for other verdicts.
        seeds: In how many seeds the rule holds.
        numbers: By name, in per cent; empty for what was not run.
    """

    name: str
    statement: str
    rule: str
    direction: str
    published: str
    verdict: str
    reason: str
    seeds: int
    numbers: dict[str, OverSeeds]


class MeasuredRadius(TypedDict):
    """The radius at which a standard network keeps half of its accuracy.

    Attributes:
        radius: L2, in units of images in [0, 1].
        images: On how many training images; those that it has not seen,
            unless it was given.
        clean: Its accuracy on them.
        is_given: True for a network of the user, which may have seen them.
    """

    radius: float
    images: int
    clean: float
    is_given: NotRequired[bool]


class Judgement(TypedDict):
    """The radius at which claims are decided, and the verdicts."""

    read_at: ReadAt | None
    claims: list[ClaimResult]


class MadeBy(TypedDict):
    """What a study was run on.

    Attributes:
        machine: Number and name of the processors.
        backend: Of Keras.
        versions: By package.
    """

    machine: str
    backend: str
    versions: dict[str, str]


class Results(Judgement, MadeBy):
    """The content of `results.json`.

    Attributes:
        preset: Name of the recipe's preset; `"own"` for other settings.
        recipe: The settings of the `Study` as a dictionary.
        models: What each model is trained on, in words.
        seeds: In the order in which they were run.
        seconds_by_seed_and_stage: How long each stage took.
        summary: Mean accuracies over seeds.
        measured_radius: What open radii were chosen by; `None` where they
            were given.
        predicted: See `predictions`.
        runs: By seed: an integer, in a file text.
    """

    preset: str
    recipe: dict[str, Any]
    models: dict[str, str]
    seeds: list[int]
    seconds_by_seed_and_stage: dict[int, dict[str, float]]
    summary: Summary
    measured_radius: MeasuredRadius | None
    predicted: dict[str, Any]
    runs: dict[int, SeedResults]


def about_images(text: str, recipe: Mapping[str, Any]) -> str:
    """Say of test images what they are: held out, where a study does that.

    Args:
        text: About test images.
        recipe: The settings as a dictionary: `results["recipe"]`.
    """
    if not recipe.get("validation_images"):
        return text
    return text.replace("test image", "held-out training image")


_L2, _LINF = "pgd-l2-", "pgd-linf-"


def l2_column(radius: float) -> str:
    """Name of the column of PGD in an L2 ball."""
    return f"{_L2}{radius:g}"


def linf_column(radius: float) -> str:
    """Name of the column of PGD in an L-infinity ball."""
    return f"{_LINF}{radius:.3g}"


def broken_linf_column(radius: float) -> str:
    """Name of the column of `am207_errors.broken_linf`."""
    return f"broken-linf-{radius:g}"


def is_linf_column(name: str) -> bool:
    """Whether a column is of PGD in an L-infinity ball."""
    return name.startswith(_LINF)


def column_heading(name: str) -> tuple[str, str]:
    """Norm and radius of a column, or its name and nothing."""
    for prefix, norm in ((_L2, "L2"), (_LINF, "L-inf")):
        if name.startswith(prefix):
            return norm, name.removeprefix(prefix)
    return name, ""
