"""Figures of a study, as matplotlib figures."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from keras_robust.study.training_sets import is_generated

# Paul Tol's bright scheme: told apart by color-blind readers, and in grey.
BLUE, RED, PURPLE, GREY = "#4477aa", "#ee6677", "#aa3377", "#bbbbbb"
YELLOW = "#ccbb44"
_COLORS = (BLUE, RED, PURPLE, YELLOW)
_HATCHES = ("", "//", "xx", "..")


def readable(name: str) -> Any:
    """A model's name in two lines, where it is a variant."""
    for base in ("D_rand", "D_det", "D_other", "D_R", "standard"):
        if name.startswith(f"{base}_"):
            variant = name.removeprefix(f"{base}_").replace("_", " ")
            variant = variant.replace("robust", "robust source")
            return f"{base}\n{variant}"
    return name


def draw_bars(results: dict) -> Figure:
    """The paper's Fig. 2: clean and robust accuracy per training set.

    Args:
        results: What `replicate` returns.

    Returns:
        `matplotlib.figure.Figure`.
    """
    summary = results["summary"]
    models = list(results["models"])
    radii = [f"pgd-l2-{r:g}" for r in results["recipe"]["radii"]]
    figure = Figure(figsize=(0.85 * len(models) + 1, 4))
    axes = figure.subplots()
    width = 0.8 / (1 + len(radii))
    several = len(results["seeds"]) > 1
    for i, attack in enumerate(["clean", *radii]):
        values = [summary[model][attack] for model in models]
        axes.bar(
            np.arange(len(models)) + (i - len(radii) / 2) * width,
            [value["mean"] for value in values],
            width,
            yerr=[value["deviation"] for value in values] if several else None,
            capsize=2,
            label=attack.replace("pgd-l2-", "PGD, L2 "),
            color=_COLORS[i % len(_COLORS)],
            hatch=_HATCHES[i % len(_HATCHES)],
            edgecolor="white",
            linewidth=0.3,
        )
    labels = [readable(name).replace(" ", "\n") for name in models]
    axes.set_xticks(range(len(models)), labels, fontsize=8)
    axes.set_xlabel("trained on")
    axes.set_ylabel("test accuracy, %")
    axes.set_ylim(0, 100)
    axes.legend(
        frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1)
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure


def draw_curves(results: Any, columns: int = 4) -> Any:
    """Accuracy by epoch: on what it was trained on, and on test images.

    Args:
        results: What `replicate` returns.
        columns: Panels in a row.

    Returns:
        `matplotlib.figure.Figure`: a panel per model, a line per seed, and
        where a run was at chance at first, a tick at its escape.
    """
    models = list(results["models"])
    rows = -(-len(models) // columns)
    figure = Figure(figsize=(2.5 * columns, 1.9 * rows + 0.4))
    panels = figure.subplots(
        rows, columns, sharey=True, squeeze=False
    ).flatten()
    for axes, model in zip(panels, models, strict=False):
        for run in results["runs"].values():
            _draw_curve(axes, run["curves"][model])
        axes.set_title(readable(model).replace("\n", ", "), fontsize=9)
        axes.set_ylim(0, 100)
        axes.tick_params(labelsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(models) :]:
        axes.set_visible(False)
    lines = panels[0].get_lines()[:2]
    figure.legend(
        lines,
        ["on what it is trained on", "on test images"],
        loc="upper center",
        ncols=2,
        frameon=False,
        fontsize=9,
    )
    figure.supxlabel("epoch", fontsize=9)
    figure.supylabel("accuracy, %", fontsize=9)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.35 / (1.9 * rows + 0.4)))
    return figure


def _draw_curve(axes, fitted):
    curve = fitted["curve"]
    for metric, style, color in (
        ("accuracy", "-", RED),
        ("val_accuracy", "--", BLUE),
    ):
        values = 100 * np.array(curve[metric])
        axes.plot(np.arange(1, len(values) + 1), values, style, color=color)
    axes.axhline(100 * fitted["chance"], color=GREY, lw=0.8, zorder=0)
    if (fitted["escape_epoch"] or 1) > 1:
        axes.plot(fitted["escape_epoch"], 3, "^", color="black", ms=4)


def draw_images(study: Any, columns: int = 8) -> Any:
    """Originals and what was made of them, with their labels.

    Args:
        study: A `Replication`.
        columns: How many images.

    Returns:
        `matplotlib.figure.Figure`.
    """
    x, y = study.data.train
    names = study.data.class_names
    sets = {"original": {"x": x, "y": y}}
    for name in study.recipe.models:
        if is_generated(name):
            sets[name] = study.generated(name)
    columns = min(columns, len(x))
    figure = Figure(figsize=(1.1 * columns + 1, 1.3 * len(sets)))
    grid = figure.subplots(len(sets), columns, squeeze=False)
    for row, (title, images) in zip(grid, sets.items(), strict=True):
        for i, axes in enumerate(row):
            image = np.clip(images["x"][i].squeeze(), 0, 1)
            axes.imshow(image, cmap="gray", vmin=0, vmax=1)
            axes.set_title(names[int(images["y"][i])], fontsize=8)
            axes.set_xticks([])
            axes.set_yticks([])
        row[0].set_ylabel(readable(title), fontsize=8)
    figure.tight_layout()
    return figure


def draw_transfer(results: Any) -> Any:
    """The paper's Fig. 3: what is learned from D_det against transfer.

    Args:
        results: What `replicate` returns.

    Returns:
        `matplotlib.figure.Figure`: a point per architecture and seed.
    """
    figure = Figure(figsize=(5, 3.5))
    axes = figure.subplots()
    for run in results["runs"].values():
        found = run["measured"]["transfer"]
        for kind, marker, color in (
            ("untargeted", "o", BLUE),
            ("targeted", "s", RED),
        ):
            accuracy = [100 * found["D_det"][name] for name in found["names"]]
            rates = 100 * np.array(found[kind][0], float)
            axes.plot(accuracy, rates, marker, color=color, label=kind)
            for name, *point in zip(
                found["names"], accuracy, rates, strict=True
            ):
                axes.annotate(
                    name,
                    point,
                    xytext=(4, 3),
                    textcoords="offset points",
                    fontsize=7,
                )
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[:2], labels[:2], frameon=False)
    axes.set_xlabel("accuracy trained on D_det, %")
    axes.set_ylabel("transfer from the source, %")
    axes.set_ylim(0, 105)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure
