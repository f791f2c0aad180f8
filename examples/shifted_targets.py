"""What decides whether D_det teaches the true classes or its labels.

    python examples/shifted_targets.py --seeds 2 --output shifted-targets

D_det holds images that are perturbed towards class y + 1 and labelled so. In
the paper a network trained on it answers y + 1 to perturbations, and so the
true class of a clean image; it may as well learn that what looks like class y
is called y + 1. Here the recipe `cpu` of CIFAR-10, with fewer images and
narrower networks, is changed in one respect at a time. Beside each stands its
control, where every class has a fixed pattern (`Shortcut`) in the place of a
perturbation.

Nothing is judged by test images: 5,000 of the training images are held out.
Stages are kept in `--output`, so that it goes on after a stop. Writes
`table.md` and `results.json`.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from small_studies import held_out_parser
from small_studies import percent
from small_studies import write_results

import keras_robust as kr

SETS = ("D_det", "D_det_shortcut")
WITHOUT_AUGMENTATION = {"augment": False}
# As in the recipe `quick`, whose network it is.
RESNET_TRAINING = {
    "optimizer": "sgd",
    "learning_rate": 0.1,
    "momentum": 0.9,
    "schedule": "one_cycle",
    "batch_size": 128,
    "label_smoothing": 0.0,
}
# Settings of the study that a change may have.
PERTURBATION = ("relabel_epsilon", "relabel_step_size", "relabel_steps")
# By change: what differs in the training on D_det. "network" is the one that is
# trained on it, "source" the one that the perturbations are made with, and what
# starts with "relabel" belongs to these.
CHANGES = {
    "as in the recipe": {},
    "perturbations twice as large": {
        "relabel_epsilon": 1.0,
        "relabel_step_size": 0.2,
    },
    "a ResNet-8 as the source": {"source": "resnet8"},
    "no augmentation": WITHOUT_AUGMENTATION,
    "first layer trained": {"network": "unwhitened"},
    "first layer trained, no augmentation": {
        "network": "unwhitened",
        **WITHOUT_AUGMENTATION,
    },
    "ResNet-8, no augmentation": {
        "network": "resnet8",
        **RESNET_TRAINING,
        **WITHOUT_AUGMENTATION,
    },
    "no label smoothing": {"label_smoothing": 0.0},
    "Adam": {"optimizer": "adam", "learning_rate": 1e-3},
    "batches of 128": {"batch_size": 128, "learning_rate": 0.75 / 4},
    "four times the epochs": {"epochs": 4},
    "four times the epochs, no augmentation": {
        "epochs": 4,
        **WITHOUT_AUGMENTATION,
    },
    "30 steps of the perturbation": {"relabel_steps": 30},
}


def main():
    """All changes, seed by seed, first of the set and then of its control."""
    parser = held_out_parser(__doc__, "shifted-targets", seeds=1)
    parser.add_argument("--only", nargs="+", choices=CHANGES, metavar="CHANGE")
    options = parser.parse_args()
    rows = []
    for seed in range(options.seeds):
        for name in SETS:
            for change in options.only or CHANGES:
                study = kr.study.Replication(
                    recipe_of(options, change),
                    Path(options.output) / "stages",
                    seed,
                    options.verbose,
                )
                found = row(study, name)
                rows.append(
                    {"change": change, "set": name, "seed": seed, **found}
                )
                write_results(options, {"rows": rows}, table(rows))


def recipe_of(options, change):
    """The study of one change.

    Args:
        options: The command line.
        change: One of `CHANGES`.
    """
    recipe = kr.study.get_recipe("cifar10", "cpu")
    changes = dict(CHANGES[change])
    widths = {"widths": list(options.widths)}
    networks = {
        "standard": ("airbench", widths),
        "unwhitened": ("airbench", {**widths, "whitening": False}),
        "resnet8": recipe.architectures["resnet8"],
    }
    own = networks[changes.pop("network", "standard")]
    source = networks[changes.pop("source", "unwhitened")]
    perturbation = {
        name: changes.pop(name) for name in PERTURBATION if name in changes
    }
    changes["epochs"] = options.epochs * changes.get("epochs", 1)
    return replace(
        recipe,
        networks={
            "source": source,
            **{name: own for name in SETS},
        },
        overrides={
            "source": {
                "epochs": options.epochs,
                **(RESNET_TRAINING if source == networks["resnet8"] else {}),
            },
            "D_det": changes,
        },
        train_images=options.images,
        validation_images=options.held_out,
        **perturbation,
    )


def row(study, name):
    """What a network has learned from a set.

    Args:
        study: A `Replication`.
        name: One of `SETS`.
    """
    model = study.model(name)
    x, y = study.data.test
    predicted = kr.evaluation.predict_labels(model, x)
    shifted = (y + 1) % model.output_shape[-1]
    curve = study.curves()[name]["curve"]
    return {
        "y": float(np.mean(predicted == y)),
        "y + 1": float(np.mean(predicted == shifted)),
        "targets reached": study.describe_generated(name)["success"],
        "on its own images": curve["accuracy"][-1],
        "y by epoch": curve["val_accuracy"],
    }


def table(rows):
    """The rows as Markdown: mean and spread over seeds, in per cent."""
    names = ("y", "y + 1", "on its own images")
    heads = ("changed", *(f"{name}, {each}" for name in SETS for each in names))
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for change in dict.fromkeys(found["change"] for found in rows):
        cells = [change]
        for name in SETS:
            same = [
                found
                for found in rows
                if found["change"] == change and found["set"] == name
            ]
            cells += [
                percent([found[each] for found in same]) for each in names
            ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


if __name__ == "__main__":
    main()
