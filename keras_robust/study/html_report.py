"""Reports of a study as HTML files that need no network."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from keras_robust.study import outputs
from keras_robust.study.verdicts import NOT_RUN
from keras_robust.study.verdicts import NOT_SHOWN
from keras_robust.study.verdicts import SHOWN
from keras_robust.study.verdicts import SMALLER
from keras_robust.study.verdicts import TOO_SMALL
from keras_robust.study.verdicts import UNDECIDED
from keras_robust.study.verdicts import VERDICTS
from keras_robust.study.verdicts import tally

# Symbol and style of each verdict.
_MARKS = {
    SHOWN: ("✓", "shown"),
    SMALLER: ("~", "smaller"),
    NOT_SHOWN: ("✗", "not-shown"),
    UNDECIDED: ("?", "undecided"),
    NOT_RUN: ("–", "not-run"),
}
# What a reader who does not see the figure is told.
_FIGURES = {
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

# Measures that are tables of shares, with what a reader is told of them.
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


def write_report(
    results: dict,
    figures: Mapping[str, Figure],
    path: Path,
    search: dict | None = None,
) -> None:
    """Writes the report of one data set.

    Args:
        results: What `replicate` returns.
        figures: Dictionary of `matplotlib.figure.Figure` by name: `bars`,
            `curves`, `images`, where measured `transfer`, and `optimizer` of a
            search.
        path: File.
        search: What `sweep` returned for this data set, or `None`.
    """
    header, *rows = outputs.rows(results)
    am207_header, *am207_rows = outputs.am207_rows(results) or [[]]
    text = _render(
        "report.html",
        results=results,
        claims=_by_verdict(results["claims"]),
        tally=tally(results["claims"]),
        reading=outputs.reading_text(results),
        header=header,
        rows=rows,
        am207_header=am207_header,
        am207_rows=am207_rows,
        figures={
            name: {
                "source": _embedded(
                    figure, "png" if name == "images" else "svg"
                ),
                "caption": _FIGURES[name],
            }
            for name, figure in figures.items()
        },
        published=outputs.beside(results),
        measured=_measured(results),
        hours=_hours(results),
        slowest=_slowest(results),
        search=search,
    )
    path.write_text(text, encoding="utf-8")


def write_overview(
    all_results: Mapping[str, dict],
    figures: Mapping[str, Figure],
    path: Path,
) -> None:
    """Writes one report of several data sets, which links to that of each.

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
                "bars": _embedded(figures[name], "svg"),
                "claims": {c["name"]: c for c in results["claims"]},
            }
            for name, results in all_results.items()
        },
        claims=_all_claims(all_results),
        caption=_FIGURES["bars"],
    )
    path.write_text(text, encoding="utf-8")


def _render(template, **values):
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("keras_robust.study"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = outputs.number
    return environment.get_template(template).render(
        marks=_MARKS, too_small=TOO_SMALL, **values
    )


def _by_verdict(claims):
    """Claims that are shown first, else in their order."""
    return sorted(claims, key=lambda claim: VERDICTS.index(claim["verdict"]))


def _all_claims(all_results):
    """Every claim once, those first that are shown somewhere."""
    found = {}
    for results in all_results.values():
        for claim in _by_verdict(results["claims"]):
            best = found.setdefault(claim["name"], claim)
            found[claim["name"]] = _by_verdict([best, claim])[0]
    return _by_verdict(found.values())


def _embedded(figure, kind):
    file = io.BytesIO()
    figure.savefig(file, format=kind, dpi=110)
    mime = {"png": "image/png", "svg": "image/svg+xml"}[kind]
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return f"data:{mime};base64,{data}"


def _measured(results):
    """Title, caption and columns of the tables of measures, by name."""
    runs = results["runs"].values()
    found = {}
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
                "caption": caption,
                "columns": list(columns),
            }
    return found


def _hours(results):
    """Hours of all stages, by seed."""
    return {
        seed: sum(stages.values()) / 3600
        for seed, stages in results["seconds_by_seed_and_stage"].items()
    }


def _slowest(results):
    """Seconds of each stage of the first seed, the longest first."""
    stages = next(iter(results["seconds_by_seed_and_stage"].values()))
    return sorted(stages.items(), key=lambda item: -item[1])
