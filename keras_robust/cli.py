"""The command `keras-robust`."""

import argparse
import sys

DATASETS = ("digits", "fashion_mnist", "cifar10")


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
    evaluate = commands.add_parser(
        "evaluate",
        help="robust accuracy of a saved Keras classifier",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    _add_evaluate_arguments(evaluate)
    return parser


def _add_evaluate_arguments(parser):
    parser.add_argument("model", help="a saved Keras model, MODEL.keras")
    parser.add_argument("--dataset", default="cifar10", choices=DATASETS)
    parser.add_argument("--norm", default="linf", choices=("l1", "l2", "linf"))
    parser.add_argument(
        "--epsilon",
        type=radius,
        nargs="+",
        default=[8 / 255],
        help="radii for pixels in [0, 1], such as 0.5 or 8/255; several make "
        "a curve",
    )
    parser.add_argument("--attack", default="autoattack", help="its name")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument(
        "--examples", type=int, help="how many test images; all by default"
    )
    parser.add_argument(
        "--scaling",
        choices=("unit", "byte", "symmetric", "standardized"),
        help="what pixels the model wants; found by default",
    )
    parser.add_argument(
        "--from-logits",
        type=lambda text: {"true": True, "false": False}[text.lower()],
        metavar="{true,false}",
        help="whether the model gives logits; found by default",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="evaluation", help="folder")
    parser.add_argument("--verbose", type=int, default=1, choices=(0, 1))


def radius(text):
    """A radius as people write it.

    Args:
        text: Such as "0.5" or "8/255".

    Returns:
        Float >= 0.

    Raises:
        argparse.ArgumentTypeError: If it is none.
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


def add_replicate_arguments(parser, dataset):
    """Adds the arguments of a replication.

    Args:
        parser: An `argparse.ArgumentParser`.
        dataset: Default data set.
    """
    parser.add_argument(
        "--dataset",
        default=dataset,
        choices=DATASETS,
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
    command = options.pop("command")
    # After parsing, so that --help and mistakes answer at once.
    if command == "replicate":
        from keras_robust.study import replicate as run
    else:
        from keras_robust.evaluation.command import evaluate_saved as run

    try:
        run(**options)
    except (ValueError, FileNotFoundError) as error:
        print(f"keras-robust: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
