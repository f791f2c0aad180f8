"""`keras-robust evaluate`: robust accuracy of a saved classifier."""

import argparse
import pathlib
import sys
from typing import TYPE_CHECKING
from typing import Any

from keras_robust.cli.arguments import add_verbose_argument
from keras_robust.cli.arguments import percent
from keras_robust.cli.arguments import positive
from keras_robust.cli.arguments import radius
from keras_robust.cli.arguments import truth
from keras_robust.cli.data import add_data_arguments
from keras_robust.cli.data import load_network
from keras_robust.cli.data import read_for

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
    "malt",
    "fab",
    "fab-t",
    "square",
    "hopskipjump",
    "pgd",
    "fgsm",
    "carlini-wagner",
    "ddn",
    "fmn",
    "pdpgd",
    "sigma-zero",
)
# No attack: common corruptions, see `kr.corruptions`.
CORRUPTIONS = "corruptions"
# Exit statuses.
BELOW, FLAGGED = 1, 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", help="a saved Keras model, MODEL.keras")
    add_data_arguments(parser, "--dataset", what="the images that are attacked")
    parser.add_argument(
        "--norm",
        choices=("l0", "l1", "l2", "linf"),
        help="norm of perturbations; not every attack supports l0 and l1 "
        "(default: linf)",
    )
    parser.add_argument(
        "--epsilon",
        type=radius,
        nargs="+",
        metavar="RADIUS",
        help="radii for pixels in [0, 1], such as 0.5 or 8/255, whatever "
        "pixels the model takes; several give a curve (default for linf: "
        "8/255; must be given for other norms)",
    )
    parser.add_argument(
        "--attack",
        default="autoattack",
        metavar="NAME",
        action=_ListAttacks,
        help=f"one of {', '.join(ATTACKS)}; {CORRUPTIONS} for common "
        "corruptions in place of an attack; or list, to list these names",
    )
    _add_evaluation_arguments(parser)
    _add_gate_arguments(parser)
    parser.add_argument(
        "--output",
        default="evaluation",
        metavar="FOLDER",
        help="folder for report.html, report.json, report.png and the state "
        "from which the same command continues; an earlier report with other "
        "settings is kept as report-....json",
    )
    add_verbose_argument(parser)


def _add_evaluation_arguments(parser: argparse.ArgumentParser) -> None:
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
        help="only the first N images; of a folder N of all classes (default: "
        "all)",
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
        help="seed of random starts and proposals (default: 0)",
    )


def _add_gate_arguments(parser: argparse.ArgumentParser) -> None:
    gate = parser.add_argument_group(
        "exit status",
        "0 if the evaluation passes, 1 if robust accuracy is below a "
        "threshold, 3 if only flags fail it, 2 after an error. Robust accuracy "
        "is the worst case over attacks, with several radii that at the "
        "largest, with corruptions their mean.",
    )
    gate.add_argument(
        "--fail-under",
        type=percent,
        metavar="PERCENT",
        help="fail if robust accuracy is lower, such as 40",
    )
    gate.add_argument(
        "--fail-under-interval",
        type=percent,
        metavar="PERCENT",
        help="fail if the lower end of its 95 %% interval is lower",
    )
    gate.add_argument(
        "--fail-on-flags",
        action="store_true",
        help="fail if there is a flag, a reason to doubt the numbers",
    )


class _ListAttacks(argparse.Action):
    """Lists the names of attacks where that is asked for."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Keep a name; print all names and exit for `list`."""
        del option_string
        if values == "list":
            print("\n".join((*ATTACKS, CORRUPTIONS)))
            parser.exit()
        setattr(namespace, self.dest, values)


def run(
    model: str,
    data: str,
    norm: str | None = None,
    epsilon: list[float] | None = None,
    attack: str = "autoattack",
    batch_size: int = 128,
    examples: int | None = None,
    scaling: str | None = None,
    from_logits: bool | None = None,
    seed: int | None = None,
    output: str = "evaluation",
    verbose: int = 1,
    resize: bool = False,
    fail_under: float | None = None,
    fail_under_interval: float | None = None,
    fail_on_flags: bool = False,
) -> int:
    """Evaluate a saved classifier; write a table, reports and a figure.

    Args:
        model: Path of a saved Keras model.
        data: What `DataSpecification` takes.
        norm: `"l0"`, `"l1"`, `"l2"` or `"linf"`, `None` for `"linf"`; not
            every attack supports `"l0"` and `"l1"`.
        epsilon: List of radii for pixels in [0, 1]; more than one give a
            curve. `None` for 8/255 in L-infinity.
        attack: Name of an attack, see `get_attack`, or `"corruptions"`.
        batch_size: Int >= 1.
        examples: Number of test images to take; `None` for all.
        scaling: Pixels that the model takes, see `evaluate_robustness`; `None`
            to detect them.
        from_logits: As in `PGDAttack`.
        seed: Int; `None` for 0.
        output: Folder to write to. It also keeps the state, so that the same
            command continues where it was stopped. An earlier report with
            other settings is kept, see `write_report`.
        verbose: 0 for no progress bars.
        resize: Whether to resize images to the input of the model.
        fail_under: Least robust accuracy in percent, or `None`.
        fail_under_interval: The same of the lower end of its interval.
        fail_on_flags: Whether flags fail the evaluation.

    Returns:
        Exit status: 0; 1 below a threshold; 3 if only flags fail.

    Raises:
        ValueError: If an argument is not as above.
    """
    from keras_robust.datasets import DataSpecification
    from keras_robust.evaluation.earlier_report import check_folder
    from keras_robust.evaluation.earlier_report import write_report

    folder = pathlib.Path(output)
    check_folder(folder)
    # Before anything is loaded.
    source = DataSpecification(data)
    plan = _Plan(attack, norm, epsilon, seed, from_logits, batch_size)
    plan.check(fail_under_interval)
    network = load_network(model)
    images = read_for(network, source, "test", resize, examples)
    x, y = images.floats(), images.y
    if scaling is None:
        scaling = _detect_scaling(network, x, y, from_logits)
    folder.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {
        "batch_size": batch_size,
        "verbose": verbose,
        "state_path": folder / "state",
        "scaling": scaling,
    }
    report = plan.run(network, (x, y), options)
    report.table()
    kept = write_report(folder, report, images.class_names)
    print(f"Written to {folder}.")
    if kept:
        print(f"The earlier report with other settings is kept as {kept}.")
    return _status(report, fail_under, fail_under_interval, fail_on_flags)


class _Plan:
    """What is measured: a report, a curve or corruptions."""

    def __init__(
        self,
        attack: str,
        norm: str | None,
        epsilon: list[float] | None,
        seed: int | None,
        from_logits: bool | None,
        batch_size: int,
    ) -> None:
        from keras_robust.attacks.registry import get_attack

        self.name = attack
        self.norm = norm or "linf"
        self.is_corrupted = attack == CORRUPTIONS
        self.shared: dict[str, Any] = {
            "seed": seed or 0,
            "from_logits": from_logits,
        }
        if self.is_corrupted:
            given = {"--norm": norm, "--epsilon": epsilon, "--seed": seed}
            for option, value in given.items():
                if value is not None:
                    raise ValueError(
                        f"Argument `{option}` must be left out with --attack "
                        f"{CORRUPTIONS}, which are the same in every run and "
                        f"have severities. Received: {option} {value}"
                    )
        elif epsilon is None and self.norm != "linf":
            raise ValueError(
                f"Argument `--epsilon` must be given with --norm {norm}, such "
                "as --epsilon 0.5: 8/255 is a radius of L-infinity. "
                "Received: no --epsilon"
            )
        self.attacks: dict[float, Any] = {}
        if not self.is_corrupted:
            self.attacks = {
                one: get_attack(
                    attack,
                    self.norm,
                    one,
                    batch_size=batch_size,
                    **self.shared,
                )
                for one in epsilon or [8 / 255]
            }

    def check(self, fail_under_interval: float | None) -> None:
        """Raise where a threshold will have nothing to be compared with."""
        if self.is_corrupted and fail_under_interval is not None:
            raise ValueError(
                "Argument `--fail-under-interval` must come with an attack: "
                "there is no interval for the mean over corruptions. "
                f"Received: --attack {CORRUPTIONS}"
            )

    def run(
        self, network: Any, data: Any, options: dict[str, Any]
    ) -> "RobustnessReport | RobustnessCurve":
        """Evaluate a model."""
        from keras_robust.evaluation.curve import robustness_curve
        from keras_robust.evaluation.evaluate import evaluate_robustness

        if len(self.attacks) > 1:
            return robustness_curve(
                network,
                data,
                self.norm,
                list(self.attacks),
                self.name,
                **self.shared,
                **options,
            )
        attacks: Any = {
            f"{self.name} {self.norm} {one:.4g}": attack
            for one, attack in self.attacks.items()
        }
        if self.is_corrupted:
            attacks = CORRUPTIONS
            options = {**options, "from_logits": self.shared["from_logits"]}
        return evaluate_robustness(network, data, attacks, **options)


def _status(
    report: "RobustnessReport | RobustnessCurve",
    fail_under: float | None,
    fail_under_interval: float | None,
    fail_on_flags: bool,
) -> int:
    """The exit status; what fails is printed."""
    thresholds = [
        None if value is None else value / 100
        for value in (fail_under, fail_under_interval)
    ]
    failures = report.failures(thresholds[0], thresholds[1])
    for text in failures:
        print(f"keras-robust: {text}", file=sys.stderr)
    if failures:
        return BELOW
    if fail_on_flags and report.flags:
        names = ", ".join(flag.name for flag in report.flags)
        print(
            "keras-robust: an evaluation must have no flags (--fail-on-flags). "
            f"Received: {names}",
            file=sys.stderr,
        )
        return FLAGGED
    return 0


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
