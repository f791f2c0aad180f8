"""`keras-robust evaluate`: robust accuracy of a saved classifier."""

import argparse
import pathlib
from typing import TYPE_CHECKING
from typing import Any

from keras_robust.cli.arguments import DATASETS
from keras_robust.cli.arguments import add_verbose_argument
from keras_robust.cli.arguments import positive
from keras_robust.cli.arguments import radius
from keras_robust.cli.arguments import truth

if TYPE_CHECKING:
    import numpy as np

    from keras_robust.evaluation.curve import RobustnessCurve
    from keras_robust.evaluation.report import RobustnessReport

HELP = "robust accuracy of a saved Keras classifier"
# The names of `attacks.registry`, without importing Keras.
ATTACKS = (
    "autoattack",
    "autoattack-plus",
    "autoattack-rand",
    "apgd",
    "apgd-dlr",
    "apgd-t",
    "fab",
    "fab-t",
    "square",
    "hopskipjump",
    "pgd",
    "fgsm",
    "carlini-wagner",
    "ddn",
    "fmn",
    "sigma-zero",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
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
        help="your own images and labels instead: a NumPy .npz file with the "
        "arrays x and y, or x_test and y_test; pixels in [0, 1] or 0 to 255, "
        "labels 0, 1, 2, ... or one-hot",
    )
    parser.add_argument(
        "--norm",
        default="linf",
        choices=("l0", "l1", "l2", "linf"),
        help="norm of perturbations; not every attack supports l1",
    )
    parser.add_argument(
        "--epsilon",
        type=radius,
        nargs="+",
        default=[8 / 255],
        metavar="RADIUS",
        help="radii for pixels in [0, 1], such as 0.5 or 8/255, whatever "
        "pixels the model takes; several give a curve (default: 8/255)",
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
        help="images attacked at once; fewer take less memory",
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
        help="pixels that the model takes: [0, 1], [0, 255], [-1, 1], or mean "
        "0 and variance 1 in each channel (default: detected by accuracy)",
    )
    parser.add_argument(
        "--from-logits",
        type=truth,
        metavar="{true,false}",
        help="whether the model returns logits (default: detected)",
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
        help="folder for report.html, report.json, report.png and the state "
        "from which the same command continues; an earlier report with other "
        "settings is kept as report-....json",
    )
    add_verbose_argument(parser)


def run(
    model: str,
    dataset: str,
    norm: str,
    epsilon: list[float],
    attack: str,
    batch_size: int = 128,
    examples: int | None = None,
    scaling: str | None = None,
    from_logits: bool | None = None,
    seed: int = 0,
    output: str = "evaluation",
    verbose: int = 1,
    data: str | None = None,
) -> "RobustnessReport | RobustnessCurve":
    """Evaluate a saved classifier; write a table, reports and a figure.

    Args:
        model: Path of a saved Keras model.
        dataset: Name of a data set; ignored if `data` is given.
        norm: `"l0"`, `"l1"`, `"l2"` or `"linf"`; not every attack supports
            `"l0"` and `"l1"`.
        epsilon: List of radii for pixels in [0, 1]; more than one give a
            curve.
        attack: Name of an attack, see `get_attack`.
        batch_size: Int >= 1.
        examples: Number of test images to take; `None` for all.
        scaling: Pixels that the model takes, see `evaluate_robustness`; `None`
            to detect them.
        from_logits: As in `PGDAttack`.
        seed: Int.
        output: Folder to write to. It also keeps the state, so that the same
            command continues where it was stopped. An earlier report with
            other settings is kept, see `write_report`.
        verbose: 0 for no progress bars.
        data: Path of your own .npz file, see `OwnData`.

    Returns:
        `RobustnessReport` or `RobustnessCurve`.

    Raises:
        ValueError: If an argument is not as above.
    """
    import keras

    from keras_robust.attacks.registry import get_attack
    from keras_robust.datasets import load
    from keras_robust.evaluation.curve import robustness_curve
    from keras_robust.evaluation.earlier_report import check_folder
    from keras_robust.evaluation.earlier_report import write_report
    from keras_robust.evaluation.evaluate import evaluate_robustness
    from keras_robust.evaluation.own_data import OwnData

    if examples is not None and examples < 1:
        raise ValueError(
            "Argument `--examples` must be a whole number >= 1. "
            f"Received: {examples}"
        )
    folder = pathlib.Path(output)
    check_folder(folder)
    # Before anything is loaded.
    own = None if data is None else OwnData(data)
    shared: dict[str, Any] = {"seed": seed, "from_logits": from_logits}
    attacks = {
        one: get_attack(attack, norm, one, batch_size=batch_size, **shared)
        for one in epsilon
    }
    network = keras.saving.load_model(model, compile=False)
    class_names = None
    if own is None:
        images = load(dataset)
        (x, y), class_names = images.test, images.class_names
    else:
        x, y = own.read()
    x, y = x[:examples], y[:examples]
    _check_shape(network, x, data or dataset)
    _check_classes(network, y, None if own is None else own.width)
    if scaling is None:
        scaling = _detect_scaling(network, x, y, from_logits)
    folder.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {
        "batch_size": batch_size,
        "verbose": verbose,
        "state_path": folder / "state",
        "scaling": scaling,
    }
    if len(attacks) == 1:
        ((one, only),) = attacks.items()
        name = f"{attack} {norm} {one:.4g}"
        report: RobustnessReport | RobustnessCurve = evaluate_robustness(
            network, (x, y), {name: only}, **options
        )
    else:
        report = robustness_curve(
            network,
            (x, y),
            norm,
            list(attacks),
            attack,
            **shared,
            **options,
        )
    report.table()
    kept = write_report(folder, report, class_names)
    print(f"Written to {folder}.")
    if kept:
        print(f"The earlier report with other settings is kept as {kept}.")
    return report


def _detect_scaling(
    network: Any, x: "np.ndarray", y: "np.ndarray", from_logits: bool | None
) -> str:
    """Detect the pixels that a model takes, and print them."""
    from keras_robust.evaluation.scaling import MEANINGS
    from keras_robust.evaluation.scaling import find_scaling

    scaling = find_scaling(network, x, y, from_logits)
    print(
        f"Detected input scaling: {scaling} ({MEANINGS[scaling]}); "
        "change with --scaling."
    )
    return scaling


def _check_shape(network: Any, x: "np.ndarray", dataset: str) -> None:
    """Raise if the model is known to take images of another shape."""
    try:
        shape = tuple(network.input_shape[1:])
    except (AttributeError, TypeError, KeyError):
        # A subclassed model or several inputs: checked in the evaluation.
        return
    found = x.shape[1:]
    fits = len(shape) == len(found) and all(
        one in (None, other) for one, other in zip(shape, found, strict=True)
    )
    if not fits:
        hint = ""
        if shape == (*found, 1):
            hint = ", or the images an axis for the one channel, x[..., None]"
        raise ValueError(
            f"The model must take images of shape {found} for {dataset}{hint}. "
            f"Received: a model of input shape {shape}"
        )


def _check_classes(
    network: Any, labels: "np.ndarray", width: int | None
) -> None:
    """Raise if labels do not match the number of classes of the model."""
    shape = getattr(network, "output_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 2 or shape[1] is None:
        # Several outputs, or an unknown shape.
        return
    classes = max(shape[1], 2)
    if width not in (None, classes):
        raise ValueError(
            f"One-hot labels must have a column for each of the {classes} "
            f"classes of the model. Received: {width} columns"
        )
    if labels.max() >= classes:
        raise ValueError(
            f"Labels must lie in 0 ... {classes - 1}, the classes of the "
            f"model. Received: labels from {labels.min()} to {labels.max()}"
        )
