"""HTML reports of a replication, complete without a network."""

from collections.abc import Iterable
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from typing import TypedDict

from matplotlib.figure import Figure

from keras_robust.study.replication import tables
from keras_robust.study.replication.results import ClaimResult
from keras_robust.study.replication.results import Results
from keras_robust.study.replication.results import about_images
from keras_robust.study.replication.verdicts import NOT_RUN
from keras_robust.study.replication.verdicts import NOT_SHOWN
from keras_robust.study.replication.verdicts import SHOWN
from keras_robust.study.replication.verdicts import SMALLER
from keras_robust.study.replication.verdicts import TOO_SMALL
from keras_robust.study.replication.verdicts import UNDECIDED
from keras_robust.study.replication.verdicts import VERDICTS
from keras_robust.study.replication.verdicts import tally
from keras_robust.utils.pages import embedded
from keras_robust.utils.pages import render

# Symbol and style of each verdict.
_MARKS = {
    SHOWN: ("✓", "shown"),
    SMALLER: ("~", "smaller"),
    NOT_SHOWN: ("✗", "not-shown"),
    UNDECIDED: ("?", "undecided"),
    NOT_RUN: ("–", "not-run"),
}
# Captions, which also describe the figures to who cannot see them.
_CAPTIONS = {
    "bars": "Clean and robust accuracy by training set: the paper's Fig. 2, "
    "with controls. The table below has the numbers.",
    "curves": "Accuracy by epoch on what each network is trained on and on "
    "test images; a line per seed, grey is chance, a triangle is the epoch "
    "that left it.",
    "transfer": "Transfer from the source network against accuracy trained on "
    "D_det: the paper's Fig. 3. The section on transfer has the numbers.",
    "optimizer": "Clean test accuracy after training on the searched set, "
    "against the peak learning rate; a panel per optimizer, a mark per "
    "training, whose shape and color are its outcome.",
    "images": "The first training images, what each set made of them, and the "
    "label it gave them.",
}

# Title and caption of the measures that are tables of fractions.
_MEASURES = {
    "autoattack": (
        "AutoAttack",
        "Accuracy of the robust models on the first test images, clean and at "
        "L2 radii, under the standard suite of attacks (Croce & Hein 2020).",
    ),
    "decomposition": (
        "Robust accuracy of the network of D_R",
        "At an L2 radius, on images of D_R, on D_R of test images and on test "
        "images (the paper's Table 8).",
    ),
    "nearest": (
        "What generated images are nearest to",
        "The nearest training image in L2: whether it is the one that an image "
        "was made of (original) and has its label (label); and of images whose "
        "label is not the true one, whether the nearest other one has it.",
    ),
}


class _MeasureTable(TypedDict):
    title: str
    caption: str
    columns: list[str]


def write_report(
    results: Results,
    figures: Mapping[str, Figure | Path],
    path: Path,
    search: Mapping[str, Any] | None = None,
) -> None:
    """Write the report of one data set.

    Args:
        results: What `replicate` returns.
        figures: Figures, or SVG files, by name: `bars`, `curves`, `images`,
            where measured `transfer`, and `optimizer` of a search.
        path: File.
        search: Content of the `results.json` of an optimizer search on this
            data set, or `None`.
    """
    header, *rows = tables.rows(results)
    am207_header, *am207_rows = tables.am207_rows(results) or [[]]
    text = _render(
        "report.html",
        results=results,
        claims=_by_verdict(results["claims"]),
        tally=tally(results["claims"]),
        reading=tables.reading_text(results),
        images=tables.images_text(results),
        header=header,
        rows=rows,
        am207_header=am207_header,
        am207_rows=am207_rows,
        figures={
            name: {
                "source": embedded(
                    figure, "png" if name == "images" else "svg"
                ),
                "caption": about_images(_CAPTIONS[name], results["recipe"]),
            }
            for name, figure in figures.items()
        },
        published=tables.beside(results),
        measured=_measured(results),
        radius=tables.radius_text(results),
        hours=_hours(results),
        slowest=_slowest(results),
        search=search,
    )
    path.write_text(text, encoding="utf-8")


def write_overview(
    all_results: Mapping[str, Results],
    figures: Mapping[str, Figure],
    path: Path,
) -> None:
    """Write one report of several data sets that links to the report of each.

    Args:
        all_results: Dictionary of what `replicate` returned, by data set; the
            report of each is `report.html` in the folder of that name.
        figures: Dictionary of `draw_bars` by data set.
        path: File.
    """
    text = _render(
        "overview.html",
        parts={
            name: {
                "results": results,
                "tally": tally(results["claims"]),
                "bars": embedded(figures[name], "svg"),
                "claims": {c["name"]: c for c in results["claims"]},
            }
            for name, results in all_results.items()
        },
        claims=_all_claims(all_results),
        caption=_CAPTIONS["bars"],
    )
    path.write_text(text, encoding="utf-8")


def _render(template: str, **values: Any) -> str:
    return render(
        "keras_robust.study.replication",
        template,
        filters={"number": tables.number},
        marks=_MARKS,
        too_small=TOO_SMALL,
        **values,
    )


def _by_verdict(claims: Iterable[ClaimResult]) -> list[ClaimResult]:
    """Sort claims by verdict, shown ones first, else in their order."""
    return sorted(claims, key=lambda claim: VERDICTS.index(claim["verdict"]))


def _all_claims(all_results: Mapping[str, Results]) -> list[ClaimResult]:
    """Every claim once with its best verdict, sorted by verdict."""
    found: dict[str, ClaimResult] = {}
    for results in all_results.values():
        for claim in _by_verdict(results["claims"]):
            best = found.setdefault(claim["name"], claim)
            found[claim["name"]] = _by_verdict([best, claim])[0]
    return _by_verdict(found.values())


def _measured(results: Results) -> dict[str, _MeasureTable]:
    """The tables of measures by name."""
    # Plain dictionaries: which measures there are is known at run time.
    runs: list[Mapping[str, Any]] = [*results["runs"].values()]
    found: dict[str, _MeasureTable] = {}
    for name, (title, caption) in _MEASURES.items():
        if all(name in run["measured"] for run in runs):
            columns = dict.fromkeys(
                column
                for run in runs
                for figures in run["measured"][name].values()
                for column in figures
            )
            found[name] = {
                "title": title,
                "caption": about_images(caption, results["recipe"]),
                "columns": list(columns),
            }
    return found


def _hours(results: Results) -> dict[int, float]:
    """Hours of all stages, by seed."""
    return {
        seed: sum(stages.values()) / 3600
        for seed, stages in results["seconds_by_seed_and_stage"].items()
    }


def _slowest(results: Results) -> list[tuple[str, float]]:
    """Seconds of each stage of the first seed, the longest first."""
    stages = next(iter(results["seconds_by_seed_and_stage"].values()))
    return sorted(stages.items(), key=lambda item: -item[1])
