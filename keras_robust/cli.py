"""The command `keras-robust`."""

import argparse
import sys

DATASETS = ("digits", "fashion_mnist", "cifar10")
PRESETS = ("smoke", "cpu", "gpu", "paper", "report")
KINDS = (
    *("robust", "non_robust", "rand", "det", "other", "mix"),
    *("shortcut_rand", "shortcut_det", "shortcut_other"),
)


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
    generate = commands.add_parser(
        "generate",
        help="make D_R, D_NR, D_rand, D_det, D_other or a control of them",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    _add_generate_arguments(generate)
    inspect = commands.add_parser(
        "inspect", help="describe and check generated data sets"
    )
    inspect.add_argument("directory", help="of a data set, or one above")
    released = commands.add_parser(
        "import-released",
        help="the tensors that Ilyas et al. released, as TFDS data sets",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    released.add_argument("released", help="folder with d_robust_CIFAR/ ...")
    _add_storage_arguments(released)
    for one in (inspect, released):
        one.add_argument("--verbose", type=int, default=1, choices=(0, 1))
    return parser


def _add_generate_arguments(parser):
    parser.add_argument(
        "kind",
        choices=KINDS,
        help="robust: D_R, of a robust model; non_robust: D_NR, of a standard "
        "one; rand, det, other: D_rand, D_det, D_other; mix: between D_R and "
        "the source; shortcut_...: their controls, of no model",
    )
    parser.add_argument(
        "--source", default="cifar10", help="TFDS data set, or digits"
    )
    parser.add_argument("--model", help="a saved Keras model, MODEL.keras")
    parser.add_argument(
        "--scaling",
        choices=("unit", "byte", "symmetric"),
        default="unit",
        help="what pixels the model wants: [0, 1], [0, 255], [-1, 1]",
    )
    parser.add_argument("--split", default="train")
    parser.add_argument("--examples", type=int, help="only the first so many")
    parser.add_argument("--norm", default="l2", choices=("l2", "linf"))
    parser.add_argument("--epsilon", type=radius, default=0.5)
    parser.add_argument("--step-size", type=radius, default=0.1)
    parser.add_argument(
        "--steps", type=int, help="1000 for robust, non_robust and mix, or 100"
    )
    parser.add_argument("--start", default="image", choices=("image", "noise"))
    parser.add_argument("--layer", help="layer of the representation")
    parser.add_argument(
        "--optimizer",
        default="gradient_descent",
        choices=("gradient_descent", "polyak"),
        help="of robust, non_robust and mix; the first is the paper's",
    )
    parser.add_argument(
        "--early-stop",
        action="store_true",
        help="rand, det, other: an image is done once the model says t",
    )
    parser.add_argument(
        "--alpha", type=float, default=0.9, help="share of D_R in mix"
    )
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", help="constructed_SOURCE by default")
    parser.add_argument("--config", help="the kind by default")
    _add_storage_arguments(parser)
    parser.add_argument("--num-workers", type=int, default=1)
    parser.add_argument("--worker", type=int, default=0)
    parser.add_argument(
        "--finalize",
        action="store_true",
        help="finish what several workers have made",
    )
    parser.add_argument(
        "--beam",
        metavar="FLAGS",
        help="run on Apache Beam with these flags, such as "
        "'--runner=FlinkRunner'; needs the extra `beam`",
    )
    parser.add_argument("--verbose", type=int, default=1, choices=(0, 1))


def _add_storage_arguments(parser):
    parser.add_argument("--output", default="data", help="TFDS data folder")
    parser.add_argument(
        "--dtype", default="float32", choices=("float32", "uint8")
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
        choices=PRESETS,
        help="scale; cpu by default",
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
    run = _function(command)
    try:
        run(**options)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"keras-robust: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "keras-robust: stopped; the same command goes on", file=sys.stderr
        )
        return 130
    return 0


def _function(command):
    # Imported after parsing, so that --help and mistakes answer at once.
    if command == "replicate":
        from keras_robust.study import replicate

        return replicate
    if command == "evaluate":
        from keras_robust.evaluation.command import evaluate_saved

        return evaluate_saved
    from keras_robust.study import generate_command

    return {
        "generate": generate_command.generate_saved,
        "inspect": generate_command.inspect_generated,
        "import-released": generate_command.import_saved,
    }[command]


if __name__ == "__main__":
    sys.exit(main())
