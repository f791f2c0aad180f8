"""`keras-robust sweep`: a search over optimizers and networks."""

import argparse
from typing import Any

from keras_robust.cli.arguments import DATASETS
from keras_robust.cli.arguments import PRESETS
from keras_robust.cli.arguments import add_verbose_argument
from keras_robust.cli.arguments import radius

HELP = "search for what decides whether a network learns a data set"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "source",
        help=f"{', '.join(DATASETS)}, or the directory of a generated set",
    )
    parser.add_argument(
        "--set",
        dest="made",
        default="D_rand",
        choices=("D", "D_R", "D_NR", "D_rand", "D_det", "D_other"),
        help="which set to make of a named source; D is the source itself",
    )
    parser.add_argument(
        "--preset", choices=PRESETS, help="scale at which it is made"
    )
    parser.add_argument(
        "--tuner",
        default="grid",
        choices=("grid", "random", "hyperband", "bayesian"),
        help="how settings are chosen (KerasTuner)",
    )
    parser.add_argument(
        "--trials", type=int, help="number of settings; a grid tries all"
    )
    parser.add_argument(
        "--epochs", type=int, help="default: those of the recipe"
    )
    parser.add_argument(
        "--seeds",
        type=int,
        default=2,
        help="number of trainings of each setting",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of all random choices"
    )
    parser.add_argument(
        "--objective",
        default="val_accuracy",
        choices=("val_accuracy", "val_robust_accuracy"),
        help="what decides which setting is best",
    )
    parser.add_argument(
        "--epsilon", type=radius, help="L2 radius of val_robust_accuracy"
    )
    for name, kind, help_text in (
        ("optimizers", str, "of sgd, sgdw, adam, adamw"),
        ("schedules", str, "of one_cycle, drops, late_drops, constant"),
        ("batch-sizes", int, None),
        (
            "weight-decays",
            float,
            "L2 in the loss; for sgdw and adamw decoupled",
        ),
        ("momenta", float, "of sgd and sgdw"),
        ("nesterov", int, "of sgd and sgdw: 0, 1"),
        ("augment", int, "0, 1"),
        ("networks", str, "names in the recipe, or PRESET/NAME"),
    ):
        parser.add_argument(
            f"--{name}",
            type=kind,
            nargs="+",
            help=help_text or "one or more",
        )
    parser.add_argument(
        "--learning-rate-factor",
        type=float,
        default=10**0.5,
        help="between neighbouring rates, over two decades per optimizer",
    )
    parser.add_argument("--output", default="sweep", help="folder")
    add_verbose_argument(parser, (0, 1, 2))


def run(**options: Any) -> Any:
    """Run the search, see `study.sweep`."""
    from keras_robust.study import sweep

    return sweep(**options)
