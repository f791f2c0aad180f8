"""Arguments of the command `keras-robust`."""

import argparse

DATASETS = ("planted", "digits", "fashion_mnist", "cifar10")
PRESETS = ("smoke", "quick", "cpu", "gpu", "paper", "report")
# As in `evaluation.named_attacks`, without importing Keras.
ATTACKS = (
    *("autoattack", "autoattack-plus", "autoattack-rand"),
    *("apgd", "apgd-dlr", "apgd-t", "fab", "fab-t"),
    *("square", "pgd", "fgsm", "carlini-wagner"),
)
KINDS = (
    *("robust", "non_robust", "rand", "det", "other", "mix"),
    *("shortcut_rand", "shortcut_det", "shortcut_other"),
)


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Tells defaults where there are any and the help does not."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False) or "default" in (action.help or ""):
            return action.help
        return super()._get_help_string(action)


def add_verbose_argument(
    parser: argparse.ArgumentParser, choices: tuple[int, ...] = (0, 1)
) -> None:
    """Add the argument of progress bars."""
    parser.add_argument(
        "--verbose",
        type=int,
        default=1,
        choices=choices,
        help="0 shows no progress bars",
    )


def add_generate_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds those of `generate`."""
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
        help="what pixels the model takes: [0, 1], [0, 255], [-1, 1]",
    )
    parser.add_argument("--split", default="train", help="split of the source")
    parser.add_argument(
        "--examples", type=positive, help="only the first so many"
    )
    parser.add_argument(
        "--norm",
        default="l2",
        choices=("l2", "linf"),
        help="norm of perturbations",
    )
    parser.add_argument(
        "--epsilon",
        type=radius,
        default=0.5,
        help="radius for pixels in [0, 1], such as 0.5 or 8/255",
    )
    parser.add_argument(
        "--step-size",
        type=radius,
        default=0.1,
        help="length of a step for pixels in [0, 1]",
    )
    parser.add_argument(
        "--steps", type=int, help="1000 for robust, non_robust and mix, or 100"
    )
    parser.add_argument(
        "--start",
        default="image",
        choices=("image", "noise"),
        help="robust, non_robust and mix: where the inversion starts",
    )
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
    parser.add_argument(
        "--batch-size",
        type=positive,
        default=128,
        help="images that are made at once",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of all that is random"
    )
    parser.add_argument("--name", help="constructed_SOURCE by default")
    parser.add_argument("--config", help="the kind by default")
    add_storage_arguments(parser)
    parser.add_argument(
        "--num-workers",
        type=int,
        default=1,
        help="processes that share the work, each with this command",
    )
    parser.add_argument(
        "--worker",
        type=int,
        default=0,
        help="which of them this one is, from 0",
    )
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
    add_verbose_argument(parser)


def add_storage_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds those of `storage`."""
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


def add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds those of `evaluate`."""
    parser.add_argument("model", help="a saved Keras model, MODEL.keras")
    images = parser.add_mutually_exclusive_group()
    images.add_argument(
        "--dataset",
        default="cifar10",
        choices=DATASETS,
        help="data set whose test images are attacked",
    )
    images.add_argument(
        "--data",
        metavar="FILE.npz",
        help="images and labels of your own instead: a NumPy .npz file with "
        "the arrays x and y, images and labels, or x_test and y_test; pixels "
        "in [0, 1] or 0 to 255, labels 0, 1, 2, ... or one-hot",
    )
    parser.add_argument(
        "--norm",
        default="linf",
        choices=("l1", "l2", "linf"),
        help="norm in which perturbations are measured; not every attack can "
        "do l1",
    )
    parser.add_argument(
        "--epsilon",
        type=radius,
        nargs="+",
        default=[8 / 255],
        metavar="RADIUS",
        help="radii for pixels in [0, 1], such as 0.5 or 8/255, also where "
        "the model takes other pixels; several make a curve (default: 8/255)",
    )
    parser.add_argument(
        "--attack",
        default="autoattack",
        metavar="NAME",
        help=f"one of {', '.join(ATTACKS)}",
    )
    parser.add_argument(
        "--batch-size",
        type=positive,
        default=128,
        metavar="N",
        help="images that are attacked at once; less takes less memory",
    )
    parser.add_argument(
        "--examples",
        type=positive,
        metavar="N",
        help="only the first N test images (default: all)",
    )
    parser.add_argument(
        "--scaling",
        choices=("unit", "byte", "symmetric", "standardized"),
        help="what pixels the model takes: [0, 1], [0, 255], [-1, 1], or "
        "mean 0 and variance 1 in each channel (default: found by accuracy)",
    )
    parser.add_argument(
        "--from-logits",
        type=truth,
        metavar="{true,false}",
        help="whether the model gives logits (default: found)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="seed of random starts and proposals",
    )
    parser.add_argument(
        "--output",
        default="evaluation",
        metavar="FOLDER",
        help="folder for report.json, report.png and the state, from which "
        "the same command goes on after a stop; a report of other settings "
        "that is there is kept as report-....json",
    )
    add_verbose_argument(parser)


def add_sweep_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds those of `sweep`."""
    parser.add_argument(
        "source",
        help=f"{', '.join(DATASETS)}, or the directory of a generated set",
    )
    parser.add_argument(
        "--set",
        dest="made",
        default="D_rand",
        choices=("D", "D_R", "D_NR", "D_rand", "D_det", "D_other"),
        help="of a name, what is made of it; D is the data set itself",
    )
    parser.add_argument("--preset", choices=PRESETS, help="how it is made")
    parser.add_argument(
        "--tuner",
        default="grid",
        choices=("grid", "random", "hyperband", "bayesian"),
        help="how settings are chosen (KerasTuner)",
    )
    parser.add_argument(
        "--trials", type=int, help="how many settings; a grid's are all"
    )
    parser.add_argument("--epochs", type=int, help="of the recipe by default")
    parser.add_argument(
        "--seeds", type=int, default=2, help="trainings of each setting"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of all that is random"
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
        ("weight-decays", float, "in the loss; sgdw and adamw: decoupled"),
        ("momenta", float, "of sgd and sgdw"),
        ("nesterov", int, "of sgd and sgdw: 0, 1"),
        ("augment", int, "0, 1"),
        ("networks", str, "of the recipe, or PRESET/NAME of another one"),
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
        help="between two neighbours, over two decades per optimizer",
    )
    parser.add_argument("--output", default="sweep", help="folder")
    add_verbose_argument(parser, (0, 1, 2))


def positive(text: str) -> int:
    """A count as people write it.

    Args:
        text: Such as "100".

    Returns:
        Int >= 1.

    Raises:
        argparse.ArgumentTypeError: If it is no such number.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"must be a whole number >= 1. Received: {text!r}"
        )
    return int(text)


def truth(text: str) -> bool:
    """Yes or no as people write it.

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


def add_replicate_arguments(
    parser: argparse.ArgumentParser, dataset: str | None
) -> None:
    """Adds the arguments of a replication.

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
        help="scale; cpu by default",
    )
    parser.add_argument("--seed", type=int, default=0, help="first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--output", default="replication", help="folder")
    add_verbose_argument(parser)
