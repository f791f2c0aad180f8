"""`keras-robust replicate`: the study on one data set, or on two."""

import argparse
from typing import Any

from keras_robust.cli.arguments import DATASETS
from keras_robust.cli.arguments import PRESETS
from keras_robust.cli.arguments import add_verbose_argument

HELP = "replicate 'Adversarial Examples Are Not Bugs, They Are Features'"


def add_arguments(
    parser: argparse.ArgumentParser, dataset: str | None = None
) -> None:
    """Add the arguments of the command.

    Args:
        parser: An `argparse.ArgumentParser`.
        dataset: Default data set; `None` for several.
    """
    parser.add_argument(
        "--dataset",
        default=dataset or argparse.SUPPRESS,
        choices=DATASETS,
        help="data set"
        if dataset
        else "default: planted, then digits, with one report of both; digits "
        "where a preset is given",
    )
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        help="scale of the study; cifar10: quick by default, others: cpu",
    )
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds")
    parser.add_argument("--output", default="replication", help="folder")
    add_verbose_argument(parser)


def run(
    preset: str | None = None, dataset: str | None = None, **options: Any
) -> Any:
    """Run the study, see `study.overview` and `study.replicate`."""
    from keras_robust import study

    if dataset is None and preset is None:
        return study.overview(**options)
    return study.replicate(dataset or "digits", preset=preset, **options)
