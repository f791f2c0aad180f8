"""`keras-robust report`: reports and figures of finished runs."""

import argparse

HELP = "make the reports and figures of finished runs from their numbers"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "folder",
        help="output of `replicate` or `sweep`, or a folder above several",
    )


def run(folder: str) -> None:
    """Make the reports, see `study.report`."""
    from keras_robust import study

    for place in study.report(folder):
        print(place)
