"""`keras-robust inspect`: describes and checks generated data sets."""

import argparse
import os
from pathlib import Path

from keras_robust.cli.arguments import add_verbose_argument

HELP = "describe and check generated data sets"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "directory", help="folder of a data set, or one above several"
    )
    add_verbose_argument(parser)


def run(directory: str | os.PathLike[str], verbose: int = 1) -> None:
    """Describe and check the data sets in a folder.

    Args:
        directory: Folder of a data set, or one above several.
        verbose: 0 for no tables.

    Raises:
        ValueError: If a check fails.
    """
    from keras_robust.datasets.generation import inspection

    wrong = []
    for folder in inspection.find(directory):
        grid = Path(folder) / "images.png"
        try:
            _, checks = inspection.inspect(folder, grid, verbose)
        except Exception as error:
            # The others are checked all the same.
            kind = type(error).__name__
            wrong.append(f"{folder}: cannot be read: {kind}: {error}")
            continue
        wrong += [
            f"{folder}: {key}: {found}"
            for key, (passed, found) in checks.items()
            if not passed
        ]
    if wrong:
        raise ValueError("Checks failed: " + "; ".join(wrong))
