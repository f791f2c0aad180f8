"""`keras-robust import-released`: the published tensors as data sets."""

import argparse
from typing import Any

from keras_robust.cli.arguments import add_storage_arguments
from keras_robust.cli.arguments import add_verbose_argument

HELP = "the tensors that Ilyas et al. released, as TFDS data sets"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "released",
        help="folder of the download, with d_robust_CIFAR/ and the others",
    )
    add_storage_arguments(parser)
    add_verbose_argument(parser)


def run(
    released: Any, output: str | int | None, verbose: int = 1, **options: Any
) -> None:
    """Turns the released tensors into TFDS data sets.

    Args:
        released: See `import_released`.
        output: TFDS data folder.
        verbose: 0 for silence.
        **options: See `import_released`.
    """
    from keras_robust.datasets.generation.released import import_released

    made = import_released(released, output, verbose, **options)
    for config, folder in made.items():
        if verbose:
            print(f"{config}: {folder}")
