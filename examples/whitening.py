"""What whitened inputs have to do with what is learned from perturbations.

    python examples/whitening.py --seeds 2 --output whitening

Networks trained on D_rand (images with a perturbation towards a random class,
which is their label) are said to sit at chance for long with SGD. Here the
first convolution of the network that makes the perturbations (source) and of
the one that learns from them (student) whitens patches of the image, or is an
ordinary one of the same shape (`models.airbench(whitening=False)`); students
are trained by SGD and by Adam. Beside each set stands its control, where every
class has a fixed pattern (`Shortcut`) in the place of a perturbation: only what
a student learns beyond it is learned from features. In D_other no label is
right. D_R holds what an adversarially trained source sees of the images.

All else is as in the recipe `cpu`. Nothing is judged by test images: 5,000 of
the training images are held out. Stages are kept in `--output`: it goes on
after a stop, and several such commands at once share the work. Writes
`table.md`, `results.json` and `curves.png`.
"""

import argparse
import itertools
from collections.abc import Iterator
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
from small_studies import held_out_parser
from small_studies import in_turn
from small_studies import percent
from small_studies import write_results

import keras_robust as kr
from keras_robust.models.parts import CIFAR_MEAN
from keras_robust.models.parts import CIFAR_STD

RELABELLED = ("D_rand", "D_other")
SETS = (*RELABELLED, "D_R")
FIRST_LAYERS = {"whitened": True, "plain": False}
# By optimizer: what differs from the training of the sources.
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SGD": {},
    "Adam": {"optimizer": "adam", "learning_rate": 1e-3},
}
# Held-out images that are attacked, for 1 point of uncertainty.
ATTACKED = 2000
DATA = "the data set"
NONE = "none"


@dataclass(frozen=True)
class Job:
    """A network that is trained and measured.

    Attributes:
        set: Name of what it is trained on.
        source: First layer of the network that made the set.
        student: First layer of the network that is trained.
        optimizer: One of `OPTIMIZERS`.
        seed: Of the study.
    """

    set: str
    source: str
    student: str
    optimizer: str
    seed: int


def main() -> None:
    """All sources, students and optimizers, seed by seed."""
    options = arguments()
    jobs = list(jobs_of(options))
    rows: dict[Job, dict[str, Any]] = {}
    for job, row in in_turn(jobs, partial(measure, options)):
        rows[job] = row
        found = [rows[job] for job in jobs if job in rows]
        write_results(options, {"rows": found}, table(found))
    if set(RELABELLED) & set(options.sets):
        draw(found).savefig(Path(options.output) / "curves.png", dpi=150)


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = held_out_parser(__doc__, "whitening", seeds=2)
    parser.add_argument(
        "--dataset", default="cifar10", choices=("cifar10", "fashion_mnist")
    )
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS)
    parser.add_argument(
        "--dtype-policy", help="of all networks, the recipe's by default"
    )
    return parser.parse_args()


def jobs_of(options: argparse.Namespace) -> Iterator[Job]:
    """The trainings of a command line, in their order."""
    for seed in range(options.seeds):
        for student in FIRST_LAYERS:
            yield Job(DATA, NONE, student, "SGD", seed)
        for name, student, optimizer in itertools.product(
            options.sets, FIRST_LAYERS, OPTIMIZERS
        ):
            if name in RELABELLED or optimizer == "SGD":
                for source in FIRST_LAYERS:
                    yield Job(name, source, student, optimizer, seed)
            if name in RELABELLED:
                yield Job(f"{name}_shortcut", NONE, student, optimizer, seed)


def measure(options: argparse.Namespace, job: Job) -> dict[str, Any]:
    """The row of a job.

    Args:
        options: The command line.
        job: A `Job`.

    Raises:
        StageBusyError: If another process makes what is needed.
    """
    study = kr.study.Replication(
        recipe_of(options, job),
        Path(options.output) / "stages",
        job.seed,
        options.verbose,
    )
    name = "standard" if job.set == DATA else job.set
    with study.store.without_waiting():
        row = study.store.numbers(
            f"row-{name}", study.description(), lambda: row_of(study, name)
        )
    return {**asdict(job), **row}


def recipe_of(options: argparse.Namespace, job: Job) -> kr.Study:
    """The study of one kind of source, student and optimizer.

    Args:
        options: The command line.
        job: A `Job`.
    """
    color = options.dataset == "cifar10"

    def network(first_layer: str, **more: Any) -> tuple[str, dict[str, Any]]:
        return (
            "airbench",
            {
                "widths": list(options.widths),
                "whitening": FIRST_LAYERS[first_layer],
                "input_shape": (32, 32, 3) if color else (28, 28, 1),
                "mean": CIFAR_MEAN if color else None,
                "std": CIFAR_STD if color else None,
                **more,
            },
        )

    base = kr.study.get_recipe("cifar10", "cpu")
    # The data set and the controls have no source.
    source = job.student if job.source == NONE else job.source
    longer = base.training_of("adversarial").epochs / base.training.epochs
    return replace(
        base,
        data=options.dataset,
        networks={
            "standard": network(source),
            "adversarial": network(source, pooling="average"),
            **{name: network(job.student) for name in SETS},
        },
        training=replace(base.training, epochs=options.epochs),
        overrides={
            "adversarial": {
                "label_smoothing": 0.0,
                "epochs": round(longer * options.epochs),
            },
            **{name: OPTIMIZERS[job.optimizer] for name in RELABELLED},
        },
        train_images=options.images,
        validation_images=options.held_out,
        attacked_images=min(ATTACKED, options.held_out),
        linf_radii=(),
        architectures={},
        dtype_policy=options.dtype_policy or base.dtype_policy,
    )


def row_of(study: kr.study.Replication, name: str) -> dict[str, Any]:
    """What a network has learned from a set.

    Args:
        study: A `Replication`.
        name: Of a model.
    """
    accuracy = study.evaluate(name)["accuracy"]
    found = study.curves()[name]
    return {
        "accuracy": accuracy,
        "made": None if name == "standard" else study.describe_generated(name),
        "escape epoch": found["escape_epoch"],
        "on its own images": found["curve"]["accuracy"],
        "on held-out images": found["curve"]["val_accuracy"],
    }


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The rows as Markdown: mean and spread over seeds, in per cent."""
    columns = ("set", "source", "student", "optimizer")
    heads = (*columns, "held-out images", "L2 0.25", "own images")
    heads += ("first epoch off chance",)
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    by_kind: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        kind = tuple(row[name] for name in columns)
        by_kind.setdefault(kind, []).append(row)
    for kind, same in by_kind.items():
        shares = (
            [row["accuracy"]["clean"] for row in same],
            [row["accuracy"]["pgd-l2-0.25"] for row in same],
            [row["on its own images"][-1] for row in same],
        )
        epochs = (str(row["escape epoch"] or "never") for row in same)
        cells = [*kind, *map(percent, shares), ", ".join(epochs)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def draw(rows: list[dict[str, Any]]) -> matplotlib.figure.Figure:
    """Accuracy by epoch on held-out images, of students of D_rand and D_other.

    Args:
        rows: Those of all trainings.
    """
    figure = matplotlib.figure.Figure(figsize=(8, 6), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True, sharey=True)
    for (number, name), (column, optimizer) in itertools.product(
        enumerate(RELABELLED), enumerate(OPTIMIZERS)
    ):
        panel = axes[number][column]
        panel.set_title(f"{name}, {optimizer}")
        for row in rows:
            own = row["set"].removesuffix("_shortcut") == name
            if own and row["optimizer"] == optimizer:
                draw_curve(panel, row)
    handles, labels = panel.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(
        unique.values(),
        unique.keys(),
        loc="outside upper center",
        ncols=2,
        fontsize="small",
        frameon=False,
    )
    figure.supxlabel("epoch")
    figure.supylabel("held-out images, %")
    return figure


def draw_curve(panel: Any, row: dict[str, Any]) -> None:
    """Draw one training: color by source, dashes where nothing whitens.

    Args:
        panel: Axes.
        row: That of the training.
    """
    values = 100 * np.array(row["on held-out images"])
    colors = {"whitened": "C0", "plain": "C1", NONE: "grey"}
    control = row["source"] == NONE
    maker = "control" if control else f"{row['source']} source"
    panel.plot(
        range(1, len(values) + 1),
        values,
        color=colors[row["source"]],
        linestyle="--" if row["student"] == "plain" else "-",
        label=f"{maker}, {row['student']} student",
    )


if __name__ == "__main__":
    main()
