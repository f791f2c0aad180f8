"""Figures of a replication."""

from typing import TYPE_CHECKING
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from keras_robust.plot.images import show_image
from keras_robust.plot.style import BLUE
from keras_robust.plot.style import GREY
from keras_robust.plot.style import PURPLE
from keras_robust.plot.style import RED
from keras_robust.plot.style import YELLOW
from keras_robust.plot.style import Picture
from keras_robust.plot.style import open_sides
from keras_robust.study.replication.replication import Replication
from keras_robust.study.replication.results import FittedCurve
from keras_robust.study.replication.results import Results
from keras_robust.study.replication.results import about_images
from keras_robust.study.replication.results import column_heading
from keras_robust.study.replication.results import l2_column
from keras_robust.study.replication.store import Arrays
from keras_robust.study.replication.training_sets import TRAINING_SETS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLORS = (BLUE, RED, PURPLE, YELLOW)
_HATCHES = ("", "//", "xx", "..")


def readable(name: str) -> str:
    """A model's name, in two lines for a variant.

    Args:
        name: Name of a training set; others are returned as they are.
    """
    made = TRAINING_SETS.get(name)
    if made is None or not made.variant:
        return name
    return f"{made.base}\n{made.variant}"


def draw_bars(results: Results) -> Picture:
    """The paper's Fig. 2: clean and robust accuracy per training set.

    Args:
        results: What `replicate` returns.
    """
    summary, recipe = results["summary"], results["recipe"]
    models = list(results["models"])
    radii = [l2_column(radius) for radius in recipe["radii"]]
    figure = Picture(figsize=(0.85 * len(models) + 1, 4))
    axes = figure.subplots()
    width = 0.8 / (1 + len(radii))
    several = len(results["seeds"]) > 1
    for i, attack in enumerate(["clean", *radii]):
        values = [summary[model][attack] for model in models]
        axes.bar(
            np.arange(len(models)) + (i - len(radii) / 2) * width,
            np.array([value["mean"] for value in values], float),
            width,
            yerr=np.array([value["deviation"] for value in values], float)
            if several
            else None,
            capsize=2,
            label=_attack_label(attack),
            color=_COLORS[i % len(_COLORS)],
            hatch=_HATCHES[i % len(_HATCHES)],
            edgecolor="white",
            linewidth=0.3,
        )
    labels = [readable(name).replace(" ", "\n") for name in models]
    axes.set_xticks(range(len(models)), labels, fontsize=8)
    axes.set_xlabel("trained on")
    axes.set_ylabel(about_images("accuracy on test images, %", recipe))
    axes.set_ylim(0, 100)
    axes.legend(
        frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1)
    )
    open_sides(axes)
    figure.tight_layout()
    return figure


def _attack_label(column: str) -> str:
    norm, radius = column_heading(column)
    return f"PGD, {norm} {radius}" if radius else column


def draw_curves(results: Results, columns: int = 4) -> Picture:
    """Accuracy by epoch on the training set and on test images.

    Args:
        results: What `replicate` returns.
        columns: Panels in a row.

    Returns:
        A panel per model, a line per seed, and a mark at the epoch at which a
        training left chance.
    """
    models = list(results["models"])
    rows = -(-len(models) // columns)
    figure = Picture(figsize=(2.5 * columns, 1.9 * rows + 0.4))
    panels = figure.subplots(
        rows, columns, sharey=True, squeeze=False
    ).flatten()
    for axes, model in zip(panels, models, strict=False):
        for run in results["runs"].values():
            # A model of the user has none.
            if model in run["curves"]:
                _draw_curve(axes, run["curves"][model])
        axes.set_title(readable(model).replace("\n", ", "), fontsize=9)
        axes.set_ylim(0, 100)
        axes.tick_params(labelsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        open_sides(axes)
    for axes in panels[len(models) :]:
        axes.set_visible(False)
    lines: list[Any] = next(
        (axes.get_lines()[:2] for axes in panels if axes.get_lines()), []
    )
    figure.legend(
        lines,
        [
            "on what it is trained on",
            about_images("on test images", results["recipe"]),
        ],
        loc="upper center",
        ncols=2,
        frameon=False,
        fontsize=9,
    )
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel("accuracy, %", fontsize=9)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.35 / (1.9 * rows + 0.4)))
    return figure


def _draw_curve(axes: "Axes", fitted: FittedCurve) -> None:
    curve = fitted["curve"]
    for metric, style, color in (
        ("accuracy", "-", RED),
        ("val_accuracy", "--", BLUE),
    ):
        values = 100 * np.array(curve[metric])
        axes.plot(np.arange(1, len(values) + 1), values, style, color=color)
    axes.axhline(100 * fitted["chance"], color=GREY, lw=0.8, zorder=0)
    escape = fitted["escape_epoch"]
    if escape is not None and escape > 1:
        axes.plot(escape, 3, "^", color="black", ms=4)


def draw_images(study: Replication, columns: int = 8) -> Picture:
    """Images of the data set and of the generated sets, with their labels.

    Args:
        study: A `Replication`.
        columns: How many images.
    """
    x, y = study.data.train
    names = study.data.class_names
    sets = {"original": (x[:columns], y[:columns])}
    for name in study.recipe.models:
        if study.recipe.training_set(name).is_generated:
            sets[name] = _first(study.generated(name), columns)
    columns = min(columns, *(len(labels) for _, labels in sets.values()))
    figure = Picture(figsize=(1.1 * columns + 1, 1.3 * len(sets)))
    grid = figure.subplots(len(sets), columns, squeeze=False)
    for row, (title, drawn) in zip(grid, sets.items(), strict=True):
        images, labels = drawn
        for i, axes in enumerate(row):
            show_image(axes, images[i], title=names[int(labels[i])])
        row[0].set_ylabel(readable(title), fontsize=8)
    figure.tight_layout()
    return figure


def _first(made: Arrays, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Copies of the first images and labels: views would keep all of a set."""
    return made["x"][:count].copy(), made["y"][:count].copy()


def draw_transfer(results: Results) -> Picture:
    """The paper's Fig. 3: accuracy trained on D_det against transfer.

    Args:
        results: What `replicate` returns.

    Returns:
        A point per architecture and seed.
    """
    figure = Picture(figsize=(5, 3.5))
    axes = figure.subplots()
    for run in results["runs"].values():
        found = run["measured"]["transfer"]
        accuracy = [100 * found["D_det"][name] for name in found["names"]]
        for kind, from_source, marker, color in (
            ("untargeted", found["untargeted"][0], "o", BLUE),
            ("targeted", found["targeted"][0], "s", RED),
        ):
            rates = 100 * np.array(from_source, "float64")
            axes.plot(accuracy, rates, marker, color=color, label=kind)
            for name, across, up in zip(
                found["names"], accuracy, rates, strict=True
            ):
                axes.annotate(
                    name,
                    (across, up),
                    xytext=(4, 3),
                    textcoords="offset points",
                    fontsize=7,
                )
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[:2], labels[:2], frameon=False)
    axes.set_xlabel("accuracy trained on D_det, %")
    axes.set_ylabel("transfer from the source, %")
    axes.set_ylim(0, 105)
    open_sides(axes)
    figure.tight_layout()
    return figure
