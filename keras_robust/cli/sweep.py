"""`keras-robust sweep`: a search over optimizers and networks."""

import argparse
import re
from typing import Any

from keras_robust.cli.arguments import DATASETS
from keras_robust.cli.arguments import PRESETS
from keras_robust.cli.arguments import add_verbose_argument
from keras_robust.cli.arguments import radius
from keras_robust.cli.data import DATA_HELP

# A range of learning rates after a name, which begins with a digit or a dot.
_WITH_RANGE = re.compile(
    r"(?P<name>.+?):(?P<low>[\d.][^:]*):(?P<high>[\d.][^:]*)"
)
HELP = "search for what decides whether a network learns a data set"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "source",
        nargs="?",
        help="what is learned: the directory of a generated set, or the images "
        f"of --data: {', '.join(DATASETS)} or one of the other forms",
    )
    parser.add_argument(
        "--data",
        metavar="DATA",
        help=f"the images of a search: {DATA_HELP}. Where SOURCE is a "
        "generated set, the images that it was made of, if they were your own",
    )
    parser.add_argument(
        "--set",
        dest="made",
        default="D_rand",
        help="which set, such as D_rand or D_R, to make of the data; D is the "
        "data itself",
    )
    parser.add_argument(
        "--preset", choices=PRESETS, help="scale at which it is made"
    )
    _add_tuner_arguments(parser)
    _add_space_arguments(parser)
    parser.add_argument("--output", default="sweep", help="folder")
    add_verbose_argument(parser, (0, 1, 2))


def _add_tuner_arguments(parser: argparse.ArgumentParser) -> None:
    """Add how settings are chosen, and how each is trained."""
    parser.add_argument(
        "--tuner",
        default="grid",
        choices=("grid", "random", "hyperband", "bayesian"),
        help="how settings are chosen (KerasTuner)",
    )
    parser.add_argument(
        "--trials",
        type=int,
        help="number of settings, by default 20; a grid tries all, and "
        "hyperband decides itself",
    )
    parser.add_argument(
        "--epochs", type=int, help="default: those of the recipe"
    )
    parser.add_argument(
        "--seeds",
        type=int,
        default=2,
        help="number of trainings of each setting",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of all random choices"
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
    parser.add_argument(
        "--stop-hopeless",
        action="store_true",
        help="stop trainings that have diverged (loss NaN, or risen over and "
        "over), never those on a plateau",
    )


def _add_space_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the values that are tried."""
    for name, kind, help_text in (
        (
            "optimizers",
            str,
            "sgd, sgdw, adam, adamw, or others of Keras such as lion; "
            "lion:1e-5:1e-3 for a range of learning rates; "
            "file.py:function:0.01:1 for a function of learning_rate; "
            "file.py:function for a function of (hp, steps)",
        ),
        (
            "schedules",
            str,
            "of one_cycle, triangle, drops, late_drops, constant",
        ),
        ("batch-sizes", int, None),
        (
            "weight-decays",
            float,
            "L2 in the loss; for sgdw and adamw decoupled",
        ),
        ("momenta", float, "of sgd and sgdw"),
        ("nesterov", int, "of sgd and sgdw: 0, 1"),
        ("augment", int, "0, 1"),
        (
            "networks",
            str,
            "of a named data set names in the recipe, or PRESET/NAME; "
            "functions of keras_robust.models; file.py:function or "
            "module:function of your own, which returns a built Keras "
            "classifier",
        ),
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
        help="between neighbouring rates, over two decades per optimizer",
    )


def run(
    source: str | None = None,
    data: str | None = None,
    optimizers: list[str] | None = None,
    networks: list[str] | None = None,
    **options: Any,
) -> Any:
    """Run the search, see `study.sweep`.

    Args:
        source: Directory of a generated set, or what `data` may be.
        data: What `DataSpecification` takes.
        optimizers: Texts as in the help.
        networks: Texts as in the help.
        **options: As in `study.sweep`.

    Raises:
        ValueError: If neither source nor data is given, or a text names
            nothing.
    """
    if source is None and data is None:
        raise ValueError(
            "Argument `--data` or SOURCE must be given, such as "
            "keras-robust sweep digits. Received: neither"
        )
    from keras_robust.study import sweep

    if source is None:
        source, data = data, None
    chosen: dict[str, Any] = {
        "optimizers": optimizers and dict(map(_optimizer, optimizers)),
        "networks": networks and dict(map(_network, networks)),
    }
    return sweep(source, data=data, **chosen, **options)


def _optimizer(text: str) -> tuple[str, Any]:
    """Name of an optimizer, and what `study.sweep` takes for it."""
    from keras_robust.utils.named_functions import load_function
    from keras_robust.utils.named_functions import names_function

    found = _WITH_RANGE.fullmatch(text)
    name, ends = text, None
    if found is not None:
        name = found["name"]
        ends = _rate(found["low"], text), _rate(found["high"], text)
    if not names_function(name):
        return name, ends
    function = load_function(name, "--optimizers")
    own = function if ends is None else (function, ends)
    return function.__name__, own


def _rate(number: str, text: str) -> float:
    try:
        return float(number)
    except ValueError:
        raise ValueError(
            "Argument `--optimizers` must be a name, NAME:SMALLEST:LARGEST or "
            f"file.py:function. Received: {text!r}"
        ) from None


def _network(text: str) -> tuple[str, Any]:
    """Name of a network, and what `study.sweep` takes for it."""
    from keras_robust.utils.named_functions import load_function
    from keras_robust.utils.named_functions import names_function

    if not names_function(text):
        return text, None
    function = load_function(text, "--networks")
    return function.__name__, function
