"""`keras-robust import-released`: converts the published tensors."""

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


def run(released: Any, output: str, verbose: int = 1, **options: Any) -> None:
    """Convert the released tensors to TFDS data sets.

    Args:
        released: See `import_released`.
        output: TFDS data folder.
        verbose: 0 for silence.
        **options: See `import_released`.
    """
    from keras_robust.datasets.generation.released import import_released

    folders = import_released(released, output, verbose, **options)
    for config, folder in folders.items():
        if verbose:
            print(f"{config}: {folder}")
