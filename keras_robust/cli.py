"""The command `keras-robust`."""

import argparse
import sys


def build_parser():
    """The arguments of the command.

    Returns:
        `argparse.ArgumentParser`.
    """
    parser = argparse.ArgumentParser(
        prog="keras-robust",
        description="Attack, harden and dissect Keras models.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    replicate = commands.add_parser(
        "replicate",
        help="replicate 'Adversarial Examples Are Not Bugs, They Are Features'",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_replicate_arguments(replicate, dataset="digits")
    return parser


def add_replicate_arguments(parser, dataset):
    """Adds the arguments of a replication.

    Args:
        parser: An `argparse.ArgumentParser`.
        dataset: Default data set.
    """
    parser.add_argument(
        "--dataset",
        default=dataset,
        choices=("digits", "fashion_mnist", "cifar10"),
    )
    parser.add_argument(
        "--preset",
        choices=("smoke", "cpu", "paper"),
        help="scale; cpu where there is one, else smoke",
    )
    parser.add_argument("--seed", type=int, default=0, help="first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--output", default="replication", help="folder")
    parser.add_argument("--verbose", type=int, default=1, choices=(0, 1))


def main(arguments=None):
    """Runs the command.

    Args:
        arguments: List of strings; `None` for those of the process.

    Returns:
        Exit status.
    """
    options = vars(build_parser().parse_args(arguments))
    options.pop("command")
    # After parsing, so that --help and mistakes answer at once.
    from keras_robust.study import replicate

    try:
        replicate(**options)
    except (ValueError, FileNotFoundError) as error:
        print(f"keras-robust: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
