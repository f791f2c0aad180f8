"""Table and figures of a replication."""

import json
from importlib import resources

import numpy as np

from keras_robust.study.training_sets import GENERATED
from keras_robust.study.training_sets import MODELS


def reference(dataset):
    """Published figures for a data set, in per cent.

    Args:
        dataset: Name.

    Returns:
        Dictionary by publication, empty where there is none.
    """
    path = resources.files("keras_robust.study") / "reference.json"
    return json.loads(path.read_text(encoding="utf-8")).get(dataset, {})


def rows(results):
    """The table as strings: header, then one row per model and source.

    Args:
        results: What `replicate` returns.

    Returns:
        List of lists of strings.
    """
    summary = results["summary"]
    columns = [name for name in summary["standard"] if name != "worst case"]
    table = [["trained on", "figures of", *columns]]
    published = reference(results["recipe"]["dataset"])
    for model in MODELS:
        ours = [_cell(summary[model][column]) for column in columns]
        table.append([model, "this run", *ours])
        for source, figures in published.items():
            if model in figures:
                values = (figures[model].get(column) for column in columns)
                cells = ("" if v is None else f"{v:g}" for v in values)
                table.append([model, source, *cells])
    return table


def _cell(value):
    if value["deviation"] is None:
        return f"{value['mean']:.1f}"
    return f"{value['mean']:.1f} ± {value['deviation']:.1f}"


def _title(results):
    seeds = results["seeds"]
    return (
        f"{results['recipe']['dataset']}: accuracy in % on test images, "
        f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}, "
        f"{results['backend']}"
    )


def print_table(results):
    """Prints the table to the terminal.

    Args:
        results: What `replicate` returns.
    """
    from rich.console import Console
    from rich.table import Table

    header, *body = rows(results)
    table = Table(title=_title(results))
    for i, heading in enumerate(header):
        table.add_column(heading, justify="right" if i > 1 else "left")
    for row in body:
        table.add_row(*row)
    # A log has no width of its own; the table must not be cut there.
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    console.print(table)


def write_table(results, path):
    """Writes the table as Markdown.

    Args:
        results: What `replicate` returns.
        path: File.
    """
    header, *body = rows(results)
    lines = [_title(results), ""]
    lines.append("| " + " | ".join(header) + " |")
    lines.append("|" + "---|" * len(header))
    lines += ["| " + " | ".join(row) + " |" for row in body]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def draw_bars(results, path):
    """The paper's Fig. 2: clean and robust accuracy per training set.

    Args:
        results: What `replicate` returns.
        path: File; the suffix says the format.
    """
    from matplotlib.figure import Figure

    summary = results["summary"]
    radii = [f"pgd-l2-{r:g}" for r in results["recipe"]["radii"]]
    figure = Figure(figsize=(10, 4))
    axes = figure.subplots()
    width = 0.8 / (1 + len(radii))
    for i, attack in enumerate(["clean", *radii]):
        values = [summary[model][attack] for model in MODELS]
        axes.bar(
            np.arange(len(MODELS)) + (i - len(radii) / 2) * width,
            [value["mean"] for value in values],
            width,
            yerr=[value["deviation"] or 0 for value in values],
            capsize=2,
            label=attack.replace("pgd-l2-", "PGD, L2 "),
            color=("#4477aa", "#ee6677", "#aa3377")[i % 3],
        )
    labels = [name.replace("_robust", "\nrobust source") for name in MODELS]
    labels = [label.replace("_shortcut", "\nshortcut") for label in labels]
    axes.set_xticks(range(len(MODELS)), labels, fontsize=8)
    axes.set_xlabel("trained on")
    axes.set_ylabel("test accuracy, %")
    axes.set_ylim(0, 100)
    axes.legend(
        frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1)
    )
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def draw_images(study, path, columns=8):
    """Originals and what was made of them, with their labels.

    Args:
        study: A `Replication`.
        path: File; the suffix says the format.
        columns: How many images.
    """
    from matplotlib.figure import Figure

    x, y = study.data.train
    names = study.data.class_names
    sets = {"original": {"x": x, "y": y}}
    sets.update({name: study.generated(name) for name in GENERATED})
    columns = min(columns, len(x))
    figure = Figure(figsize=(1.1 * columns + 0.8, 1.3 * len(sets)))
    grid = figure.subplots(len(sets), columns, squeeze=False)
    for row, (title, images) in zip(grid, sets.items(), strict=True):
        for i, axes in enumerate(row):
            axes.imshow(images["x"][i].squeeze(), cmap="gray", vmin=0, vmax=1)
            axes.set_title(names[int(images["y"][i])], fontsize=8)
            axes.set_xticks([])
            axes.set_yticks([])
        row[0].set_ylabel(title)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
