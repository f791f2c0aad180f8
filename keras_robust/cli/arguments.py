"""Arguments that several commands share, and parsing of their values."""

import argparse

DATASETS = ("planted", "digits", "fashion_mnist", "cifar10")
PRESETS = ("smoke", "quick", "cpu", "gpu", "paper", "am207")


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Adds defaults to the help of arguments that do not mention them."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False) or "default" in (action.help or ""):
            return action.help
        return super()._get_help_string(action)


def add_verbose_argument(
    parser: argparse.ArgumentParser, choices: tuple[int, ...] = (0, 1)
) -> None:
    """Add the argument for progress bars."""
    parser.add_argument(
        "--verbose",
        type=int,
        default=1,
        choices=choices,
        help="0 shows no progress bars",
    )


def add_storage_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for how generated data sets are stored."""
    parser.add_argument("--output", default="data", help="TFDS data folder")
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=("float32", "uint8"),
        help="of the images; uint8 rounds to 256 values",
    )
    parser.add_argument(
        "--file-format",
        default="tfrecord",
        choices=("tfrecord", "array_record"),
        help="array_record: random access with tfds.data_source",
    )
    parser.add_argument(
        "--shard-size", type=int, default=512, help="images in a file"
    )


def positive(text: str) -> int:
    """Parse a count.

    Args:
        text: Text such as "100".

    Returns:
        Int >= 1.

    Raises:
        argparse.ArgumentTypeError: If it is not such a number.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"must be a whole number >= 1. Received: {text!r}"
        )
    return int(text)


def truth(text: str) -> bool:
    """Parse true or false.

    Args:
        text: "true" or "false".

    Raises:
        argparse.ArgumentTypeError: If it is neither.
    """
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(
            f"must be true or false. Received: {text!r}"
        )
    return text.lower() == "true"


def radius(text: str) -> float:
    """Parse a radius.

    Args:
        text: Text such as "0.5" or "8/255".

    Returns:
        Float >= 0.

    Raises:
        argparse.ArgumentTypeError: If it is not such a number.
    """
    try:
        above, _, below = text.partition("/")
        value = float(above) / float(below or 1)
    except (ValueError, ZeroDivisionError):
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(
            f"must be a number >= 0 such as 0.5 or 8/255. Received: {text!r}"
        )
    return value


def percent(text: str) -> float:
    """Parse a threshold in percent.

    Args:
        text: Text such as "40".

    Returns:
        Float, 0 or from 1 to 100.

    Raises:
        argparse.ArgumentTypeError: If it is not such a number.
    """
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    # 0.4 is probably meant as 40 %.
    if value != 0 and not 1 <= value <= 100:
        raise argparse.ArgumentTypeError(
            f"must be percent, 0 or from 1 to 100. Received: {text!r}"
        )
    return value
