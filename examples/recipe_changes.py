"""What each choice of a recipe is worth, one changed at a time.

    python examples/recipe_changes.py --preset gpu --output changes
    python examples/recipe_changes.py --preset cpu --images 15000 \
        --widths 32 64 128 --dtype-policy float32 --output changes-cpu

Trains what the recipe of CIFAR-10 trains on D_R, D_NR, D_rand, D_det, D_other
and their controls, and again with each of `CHANGES`: sources that end in an
average or in a maximum, residual networks, other trainings, larger
perturbations. D_det holds images that are perturbed towards class y + 1 and
labelled so: whether a network learns from it the true class y of a clean image,
or that what looks like y is called y + 1, is told by both shares.

Nothing is judged by test images: 5,000 of the training images are held out.
Stages are kept in `--output`: it goes on after a stop, and several such
commands at once share the work. Writes `table.md` and `results.json`.
"""

import argparse
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from small_studies import in_turn
from small_studies import percent
from small_studies import write_results

import keras_robust as kr
from keras_robust.study.replication.settings import images_at_once
from keras_robust.study.replication.stages import model_description

RELABELLED = ("D_rand", "D_det", "D_other")
INVERTED = ("D_R", "D_NR")
CONTROLS = tuple(f"{name}_shortcut" for name in RELABELLED)
# Held-out images that are attacked, for 2 points of uncertainty.
ATTACKED = 1000
RADII = (0.25, 0.5)
Network = tuple[str, dict[str, Any]]
# A change, a set and a seed.
Job = tuple[str, str, int]
RESNET9: Network = ("resnet9", {"width": 64})
# A peak as in Page 2018 ("How to train your ResNet").
RESNET9_TRAINING = {
    "learning_rate": 0.4,
    "momentum": 0.9,
    "label_smoothing": 0.0,
}
RESNET8: Network = ("cifar_resnet", {"depth": 8})
# As in the recipe `quick`, whose network it is.
RESNET8_TRAINING = {
    "optimizer": "sgd",
    "learning_rate": 0.1,
    "momentum": 0.9,
    "schedule": "one_cycle",
    "batch_size": 128,
    "label_smoothing": 0.0,
}


def with_options(**changed: Any) -> Callable[[Network], Network]:
    """A function that changes the arguments of a network by name."""
    return lambda network: (network[0], {**network[1], **changed})


def without_option(name: str) -> Callable[[Network], Network]:
    """A function that leaves an argument of a network at its default."""
    return lambda network: (
        network[0],
        {key: value for key, value in network[1].items() if key != name},
    )


def same(network: Network) -> Callable[[Network], Network]:
    """A function that puts a network in the place of any."""
    return lambda _: network


@dataclass(frozen=True)
class Change:
    """A difference to a recipe.

    Attributes:
        sets: The sets that it is about.
        networks: By model, what becomes of its network; `"set"` stands for
            those that are trained on the sets.
        training: By model, what differs in its training. Its `"epochs"` are
            factors.
        settings: Arguments of the study.
    """

    sets: tuple[str, ...] = (*RELABELLED, *CONTROLS)
    networks: dict[str, Callable[[Network], Network]] = field(
        default_factory=dict
    )
    training: dict[str, dict[str, Any]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


AVERAGE = with_options(pooling="average")
MAXIMUM = without_option("pooling")
# By name: what the first layer of the networks that are trained on relabelled
# sets does.
STUDENTS = {
    "plain": with_options(whitening=False),
    "whitened": without_option("whitening"),
}
CHANGES = {
    "as in the recipe": Change((*INVERTED, *RELABELLED, *CONTROLS)),
    "sources that end in a maximum": Change(
        INVERTED, {"standard": MAXIMUM, "adversarial": MAXIMUM}
    ),
    "sources that end in an average": Change(
        INVERTED, {"standard": AVERAGE, "adversarial": AVERAGE}
    ),
    "sources that end in an average, twice the epochs": Change(
        INVERTED,
        {"standard": AVERAGE, "adversarial": AVERAGE},
        {"set": {"epochs": 2}},
    ),
    "perturbations twice as large": Change(
        settings={"relabel_epsilon": 1.0, "relabel_step_size": 0.2}
    ),
    "perturbations four times as large": Change(
        settings={"relabel_epsilon": 2.0, "relabel_step_size": 0.4}
    ),
    "a source without label smoothing": Change(
        training={"source": {"label_smoothing": 0.0}}
    ),
    "a ResNet-9 as the source": Change(
        networks={"source": same(RESNET9)},
        training={"source": RESNET9_TRAINING},
    ),
    "ResNet-9 on both sides": Change(
        networks={"source": same(RESNET9), "set": same(RESNET9)},
        training={"source": RESNET9_TRAINING, "set": RESNET9_TRAINING},
    ),
    "a ResNet-9 on the set": Change(
        networks={"set": same(RESNET9)}, training={"set": RESNET9_TRAINING}
    ),
    "a ResNet-8 as the source": Change(
        networks={"source": same(RESNET8)},
        training={"source": RESNET8_TRAINING},
    ),
    "ResNet-8 on both sides": Change(
        networks={"source": same(RESNET8), "set": same(RESNET8)},
        training={"source": RESNET8_TRAINING, "set": RESNET8_TRAINING},
    ),
    "no augmentation": Change(training={"set": {"augment": False}}),
    "no label smoothing": Change(training={"set": {"label_smoothing": 0.0}}),
    "Adam": Change(
        training={"set": {"optimizer": "adam", "learning_rate": 1e-3}}
    ),
    "twice the epochs": Change(training={"set": {"epochs": 2}}),
}


def main() -> None:
    """All changes, seed by seed."""
    options = arguments()
    attacks = Attacks()
    jobs = [
        (change, name, seed)
        for seed in range(options.seeds)
        for change in options.only or CHANGES
        for name in CHANGES[change].sets
        if not options.sets or name in options.sets
    ]
    found: dict[Job, dict[str, Any]] = {}
    for job, row in in_turn(jobs, partial(measure, options, attacks)):
        found[job] = row
        rows = [found[job] for job in jobs if job in found]
        write_results(options, {"rows": rows}, table(rows))


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--preset", default="gpu", choices=("cpu", "gpu"))
    parser.add_argument(
        "--images", type=int, help="to train on, all that are left by default"
    )
    parser.add_argument(
        "--held-out", type=int, default=5_000, help="images that judge"
    )
    parser.add_argument("--epochs", type=int, help="of all trainings")
    parser.add_argument(
        "--widths", type=int, nargs=3, help="channels of all airbench networks"
    )
    parser.add_argument(
        "--dtype-policy", help="of all networks, the recipe's by default"
    )
    parser.add_argument(
        "--students",
        choices=STUDENTS,
        help="first layer of the networks that are trained on relabelled "
        "sets, the recipe's by default",
    )
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=CHANGES, metavar="CHANGE")
    parser.add_argument(
        "--sets", nargs="+", choices=(*INVERTED, *RELABELLED, *CONTROLS)
    )
    parser.add_argument("--verbose", type=int, default=1, choices=(0, 1))
    parser.add_argument("--output", default="changes", help="folder")
    return parser.parse_args()


def measure(
    options: argparse.Namespace, attacks: "Attacks", job: Job
) -> dict[str, Any]:
    """The row of a job.

    Args:
        options: The command line.
        attacks: An `Attacks`.
        job: A change, a set and a seed.

    Raises:
        StageBusyError: If another process makes what is needed.
    """
    change, name, seed = job
    study = kr.study.Replication(
        recipe_of(options, CHANGES[change]),
        Path(options.output) / "stages",
        seed,
        options.verbose,
    )
    with study.store.without_waiting():
        row = study.store.numbers(
            f"row-{name}",
            measured_by(study),
            lambda: row_of(study, name, attacks),
        )
    return {"change": change, "set": name, "seed": seed, **row}


def measured_by(study: kr.study.Replication) -> dict[str, Any]:
    """What rows depend on: what the stages do, and the attacks of this script.

    Args:
        study: A `Replication`.
    """
    return {
        **study.description(),
        "attacked": ATTACKED,
        "attack_radii": list(RADII),
    }


def source_measured_by(
    study: kr.study.Replication, source: str
) -> dict[str, Any]:
    """What the accuracy of a source depends on, whatever is made with it.

    Args:
        study: A `Replication`.
        source: Name of a model.
    """
    return {
        **measured_by(study),
        "recipe": {
            "model": model_description(study.recipe, source),
            "test_images": study.recipe.test_images,
            "steps": study.recipe.evaluation_steps,
        },
    }


def recipe_of(options: argparse.Namespace, change: Change) -> kr.Study:
    """The study of one change.

    Args:
        options: The command line.
        change: One of `CHANGES`.
    """
    recipe = kr.study.get_recipe("cifar10", options.preset)
    named = ["standard", "adversarial", "source", *INVERTED, *RELABELLED]
    networks = {name: recipe.network_of(name) for name in named}
    usual_epochs = {
        name: options.epochs or recipe.training_of(name).epochs
        for name in named
    }
    overrides = {
        name: {**recipe.overrides.get(name, {}), "epochs": usual_epochs[name]}
        for name in named
    }
    if options.widths:
        narrow = with_options(widths=list(options.widths))
        networks = {name: narrow(each) for name, each in networks.items()}
    if options.students:
        students = STUDENTS[options.students]
        networks |= {name: students(networks[name]) for name in RELABELLED}
    for model, changed in change.networks.items():
        for name in change.sets if model == "set" else [model]:
            if name in networks:
                networks[name] = changed(networks[name])
    for model, settings in change.training.items():
        for name in change.sets if model == "set" else [model]:
            if name in overrides:
                overrides[name] |= settings
                if "epochs" in settings:
                    usual = usual_epochs[name]
                    overrides[name]["epochs"] = usual * settings["epochs"]
    return replace(
        recipe,
        networks=networks,
        overrides=overrides,
        train_images=options.images,
        validation_images=options.held_out,
        architectures={},
        dtype_policy=options.dtype_policy or recipe.dtype_policy,
        **change.settings,
    )


class Attacks:
    """PGD at two radii, compiled once for all networks of a kind."""

    def __init__(self) -> None:
        self._networks: dict[str, keras.Model] = {}

    def accuracy(
        self, study: kr.study.Replication, name: str
    ) -> dict[str, float]:
        """Accuracy of a model on held-out images, clean and by L2 radius."""
        kind = repr(study.recipe.network_of(name))
        if kind not in self._networks:
            self._networks[kind] = study.network(name)
        network = self._networks[kind]
        network.set_weights(study.model(name).get_weights())
        x, y = study.data.test
        size = images_at_once(x[0].size)
        attacks = {
            f"L2 {radius:g}": kr.PGDAttack(
                epsilon=radius,
                steps=study.recipe.evaluation_steps,
                batch_size=size,
            )
            for radius in RADII
        }
        report = kr.evaluate_robustness(
            network,
            (x[:ATTACKED], y[:ATTACKED]),
            attacks=attacks,
            batch_size=size,
            verbose=0,
            probe=False,
        )
        labels = kr.evaluation.predict_labels(network, x, batch_size=size)
        shifted = (y + 1) % len(study.data.class_names)
        return {
            "y": float(np.mean(labels == y)),
            "y + 1": float(np.mean(labels == shifted)),
            **{name: report.accuracy[name] for name in attacks},
        }


def row_of(
    study: kr.study.Replication, name: str, attacks: Attacks
) -> dict[str, Any]:
    """What a network has learned from a set, and what its source is like.

    Args:
        study: A `Replication`.
        name: Of a set.
        attacks: An `Attacks`.
    """
    source = study.recipe.source_of(name)
    found: dict[str, Any] = attacks.accuracy(study, name)
    curve = study.curves()[name]["curve"]
    found |= {
        "own": curve["accuracy"][-1],
        "y by epoch": curve["val_accuracy"],
        "made": study.describe_generated(name),
        "seconds": study.seconds().get(f"training-{name}"),
    }
    if source is not None:
        found["source"] = study.store.numbers(
            f"held-out-{source}",
            source_measured_by(study, source),
            lambda: attacks.accuracy(study, source),
        )
    return found


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The rows as Markdown: mean and spread over seeds, in per cent.

    Columns of what none of the sets has are left out.
    """
    radii = [f"L2 {radius:g}" for radius in RADII]
    heads = ["set", "changed", "y", "y + 1", *radii, "own images"]
    heads += ["distance left", "source", f"source, {radii[0]}"]
    lines = []
    for name in dict.fromkeys(row["set"] for row in rows):
        of_set = [row for row in rows if row["set"] == name]
        for change in dict.fromkeys(row["change"] for row in of_set):
            same_rows = [row for row in of_set if row["change"] == change]
            sources = [row["source"] for row in same_rows if "source" in row]
            columns = [
                [row[each] for row in same_rows]
                for each in ("y", "y + 1", *radii, "own")
            ]
            columns.append(shares_left(same_rows))
            columns += [
                [source[each] for source in sources] for each in ("y", radii[0])
            ]
            lines.append([name, change, *map(percent, columns)])
    kept = [any(column) for column in zip(*lines, strict=True)]
    lines = [heads, ["---"] * len(heads), *lines]
    return [
        "| " + " | ".join(itertools.compress(line, kept)) + " |"
        for line in lines
    ]


def shares_left(rows: list[dict[str, Any]]) -> list[float]:
    """The share of the distance that inversions leave, mean over images."""
    return [
        row["made"]["distance_after"] / row["made"]["distance_before"]
        for row in rows
        if "distance_after" in row["made"]
    ]


if __name__ == "__main__":
    main()
