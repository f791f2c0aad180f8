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
right.

Nothing is judged by test images: 5,000 of the training images are held out.
Stages are kept in `--output`, so that it goes on after a stop. Writes
`table.md`, `results.json` and `curves.png`.
"""

import itertools
from pathlib import Path

import matplotlib.figure
import numpy as np
from small_studies import held_out_parser
from small_studies import percent
from small_studies import write_results

import keras_robust as kr
from keras_robust.models.parts import CIFAR_MEAN
from keras_robust.models.parts import CIFAR_STD

SETS = ("D_rand", "D_other")
CONTROLS = tuple(f"{name}_shortcut" for name in SETS)
FIRST_LAYERS = {"whitened": True, "plain": False}
# By optimizer: what differs from the training of the sources.
OPTIMIZERS = {
    "SGD": {},
    "Adam": {"optimizer": "adam", "learning_rate": 1e-3},
}


def main():
    """All sources, students and optimizers, seed by seed."""
    parser = held_out_parser(__doc__, "whitening", seeds=2)
    parser.add_argument(
        "--dataset", default="cifar10", choices=("cifar10", "fashion_mnist")
    )
    options = parser.parse_args()
    runs = {}
    for seed in range(options.seeds):
        runs[seed] = one_seed(options, seed)
        write_results(options, {"runs": runs}, table(runs))
        draw(runs).savefig(Path(options.output) / "curves.png", dpi=150)


def recipe_of(options, source, student, optimizer):
    """The recipe of one kind of source, student and optimizer.

    Args:
        options: The command line.
        source: Whether the network that makes the perturbations is whitened.
        student: Whether the one that learns from them is.
        optimizer: One of `OPTIMIZERS`, of the student.
    """
    shape = (32, 32, 3)
    if options.dataset == "fashion_mnist":
        shape = (28, 28, 1)

    def network(whitening):
        return {
            "widths": list(options.widths),
            "whitening": whitening,
            "input_shape": shape,
            "mean": CIFAR_MEAN if shape[-1] == 3 else None,
            "std": CIFAR_STD if shape[-1] == 3 else None,
        }

    return kr.Study(
        data=options.dataset,
        network="airbench",
        network_options=network(source),
        networks={name: ("airbench", network(student)) for name in SETS},
        training=kr.Training(
            epochs=options.epochs,
            learning_rate=0.75,
            optimizer="nesterov",
            momentum=0.85,
            schedule="triangle",
            batch_size=512,
            augment=True,
            label_smoothing=0.2,
        ),
        epsilon=0.5,
        radii=(0.25, 0.5),
        inversion_steps=1000,
        inversion_step_size=0.1,
        inversion_optimizer="gradient_descent",
        relabel_step_size=0.1,
        leakage_epsilon=0.25,
        overrides={name: OPTIMIZERS[optimizer] for name in SETS},
        train_images=options.images,
        validation_images=options.held_out,
        padding=2,
        fill_mode="reflect",
        flip="alternating",
        relabel_epsilon=0.5,
        relabel_steps=10,
        evaluation_steps=10,
        linf_radii=(),
    )


def one_seed(options, seed):
    """Rows of one seed, each a dictionary."""
    rows = []
    for source, student, optimizer in itertools.product(
        FIRST_LAYERS, FIRST_LAYERS, OPTIMIZERS
    ):
        study = kr.study.Replication(
            recipe_of(
                options,
                source=FIRST_LAYERS[source],
                student=FIRST_LAYERS[student],
                optimizer=optimizer,
            ),
            Path(options.output) / "stages",
            seed,
            options.verbose,
        )
        names = list(SETS)
        if source == "plain":
            # They have no source: once is enough.
            names += CONTROLS
        for name in names:
            found = row(study, name)
            control = name in CONTROLS
            rows.append(
                {
                    "set": name,
                    "source": "none" if control else source,
                    "student": student,
                    "optimizer": optimizer,
                    **found,
                }
            )
        if optimizer == "SGD" and source == student:
            found = study.evaluate("standard")["accuracy"]
            rows.append(
                {
                    "set": "the data set",
                    "source": "none",
                    "student": student,
                    "optimizer": optimizer,
                    "accuracy": found["clean"],
                    "attacked": found["pgd-l2-0.25"],
                    **curve(study, "standard"),
                }
            )
    return rows


def row(study, name):
    """What a student has learned from a set."""
    model = study.model(name)
    x, y = study.data.test
    right = kr.evaluation.predict_labels(model, x) == y
    made = study.describe_generated(name)
    return {
        "accuracy": float(right.mean()),
        "targets reached": made["success"],
        **curve(study, name),
    }


def curve(study, name):
    """How a training went."""
    found = study.curves()[name]
    return {
        "escape epoch": found["escape_epoch"],
        "on its own images": found["curve"]["accuracy"],
        "on held-out images": found["curve"]["val_accuracy"],
    }


def table(runs):
    """The rows as Markdown: mean and spread over seeds, in per cent."""
    columns = ("set", "source", "student", "optimizer")
    heads = (*columns, "held-out images", "own images", "escape epoch")
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for same in zip(*runs.values(), strict=True):
        cells = [same[0][name] for name in columns]
        for values in (
            [found["accuracy"] for found in same],
            [found["on its own images"][-1] for found in same],
        ):
            cells.append(percent(values))
        epochs = [found["escape epoch"] for found in same]
        cells.append(", ".join(str(e or "never") for e in epochs))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def draw(runs):
    """Accuracy by epoch on the students' own images, of D_rand and D_other."""
    figure = matplotlib.figure.Figure(figsize=(8, 6), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True, sharey=True)
    for (number, name), (column, optimizer) in itertools.product(
        enumerate(SETS), enumerate(OPTIMIZERS)
    ):
        panel = axes[number][column]
        panel.set_title(f"{name}, {optimizer}")
        for found in itertools.chain(*runs.values()):
            own = found["set"].removesuffix("_shortcut") == name
            if own and found["optimizer"] == optimizer:
                values = 100 * np.array(found["on held-out images"])
                plain = found["student"] == "plain"
                panel.plot(
                    range(1, len(values) + 1),
                    values,
                    color={"whitened": "C0", "plain": "C1", "none": "grey"}[
                        found["source"]
                    ],
                    linestyle="--" if plain else "-",
                    label=f"{found['source']} source, {found['student']}",
                )
    handles, labels = axes[0][0].get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    axes[0][0].legend(unique.values(), unique.keys(), fontsize="small")
    figure.supxlabel("epoch")
    figure.supylabel("held-out images, %")
    return figure


if __name__ == "__main__":
    main()
