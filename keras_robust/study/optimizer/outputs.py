"""Table and figure of an optimizer search."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_robust.plot.style import BLUE
from keras_robust.plot.style import RED
from keras_robust.plot.style import Picture
from keras_robust.study.optimizer.summary import by_setting
from keras_robust.study.optimizer.summary import factors_of
from keras_robust.study.optimizer.summary import values_of
from keras_robust.study.optimizer.trials import SearchResults
from keras_robust.study.optimizer.trials import Trial
from keras_robust.study.plateau_monitor import OUTCOMES
from keras_robust.utils.files import write_json

# The column that settings are ranked by.
ACCURACY = "clean test, %"
# Told apart by color-blind readers, and by their markers.
_COLORS = {"stuck": "#777777", "memorized": RED, "generalized": BLUE}
_MARKERS = {"stuck": "x", "memorized": "s", "generalized": "o"}


def write(results: SearchResults, folder: Path, verbose: int = 1) -> None:
    """Write `results.json`, `table.md` and the figure.

    Args:
        results: What `sweep` returns.
        folder: Where to.
        verbose: 0 for silence, else the verdict is printed.
    """
    write_json(folder / "results.json", results)
    write_drawn(results, folder)
    if verbose:
        print(results["verdict"])
        print(f"Table, figure, numbers: {folder}/")


def write_drawn(results: SearchResults, folder: Path) -> None:
    """Write the table and the figure.

    Args:
        results: What `sweep` returns.
        folder: Where to.
    """
    (folder / "table.md").write_text(table(results), encoding="utf-8")
    figure = draw(results["runs"])
    for kind in ("png", "svg"):
        figure.savefig(folder / f"accuracy.{kind}", dpi=150)


def table(results: SearchResults) -> str:
    """The verdict and a table of all settings, the best first, as Markdown."""
    header, *body = rows(results["runs"])
    lines = [results["verdict"], ""]
    lines.append("| " + " | ".join(header) + " |")
    lines.append("|" + "---|" * len(header))
    lines += ["| " + " | ".join(cells) + " |" for cells in body]
    return "\n".join(lines) + "\n"


def rows(runs: Sequence[Trial]) -> list[list[str]]:
    """The table as text: a header, a row for each setting, the best first.

    Args:
        runs: All trainings of a search.
    """
    varied = [
        name for name in factors_of(runs) if len(values_of(runs, name)) > 1
    ]
    header = [*varied, ACCURACY, "train, %", "outcomes", "escape epochs"]
    found = []
    for seeds in by_setting(runs).values():
        accuracy = 100 * np.array([run["test_accuracy"] for run in seeds])
        cells = [_cell(seeds[0].get(name)) for name in varied]
        spread = f" ± {accuracy.std(ddof=1):.1f}" if len(seeds) > 1 else ""
        train = 100 * np.mean([run["train_accuracy"] for run in seeds])
        escapes = [str(run["escape_epoch"] or "never") for run in seeds]
        cells += [
            f"{accuracy.mean():.1f}{spread}",
            f"{train:.1f}",
            ", ".join(str(run["outcome"]) for run in seeds),
            ", ".join(escapes),
        ]
        found.append((accuracy.mean(), cells))
    found.sort(key=lambda row: -row[0])
    return [header] + [cells for _, cells in found]


def draw(runs: Sequence[Trial]) -> Picture:
    """Accuracy against learning rate, a panel per optimizer, a dot per seed.

    Color and marker are the outcome. Optimizers of one's own that choose no
    `learning_rate` have no dots.
    """
    names = values_of(runs, "optimizer")
    figure = Picture(figsize=(2.6 * len(names) + 0.8, 3.2))
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        for outcome in OUTCOMES:
            points = [
                (run["learning_rate"], 100 * run["test_accuracy"])
                for run in runs
                if run["optimizer"] == name
                and run["outcome"] == outcome
                and "learning_rate" in run
            ]
            axes.plot(
                *(zip(*points, strict=True) if points else ((), ())),
                _MARKERS[outcome],
                color=_COLORS[outcome],
                label=outcome,
                ms=5,
                alpha=0.8,
            )
        axes.set_xscale("log")
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("peak learning rate")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("clean test accuracy, %")
    panels[0].set_ylim(0, None)
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc="upper center",
        ncols=3,
        frameon=False,
    )
    figure.tight_layout(rect=(0, 0, 1, 0.9))
    return figure


def _cell(value: Any) -> str:
    return (
        ""
        if value is None
        else f"{value:.3g}"
        if isinstance(value, float)
        else str(value)
    )
