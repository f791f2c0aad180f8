"""The command `keras-robust`."""

import argparse
import sys

from keras_robust.cli_arguments import HelpFormatter
from keras_robust.cli_arguments import add_evaluate_arguments
from keras_robust.cli_arguments import add_generate_arguments
from keras_robust.cli_arguments import add_replicate_arguments
from keras_robust.cli_arguments import add_storage_arguments
from keras_robust.cli_arguments import add_sweep_arguments
from keras_robust.cli_arguments import add_verbose_argument
from keras_robust.version import __version__


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    parser = argparse.ArgumentParser(
        prog="keras-robust",
        description="Attack, harden and dissect Keras models.",
    )
    parser.add_argument(
        "--version", action="version", version=f"keras-robust {__version__}"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    replicate = commands.add_parser(
        "replicate",
        help="replicate 'Adversarial Examples Are Not Bugs, They Are Features'",
        formatter_class=HelpFormatter,
    )
    add_replicate_arguments(replicate, dataset=None)
    evaluate = commands.add_parser(
        "evaluate",
        help="robust accuracy of a saved Keras classifier",
        formatter_class=HelpFormatter,
    )
    add_evaluate_arguments(evaluate)
    generate = commands.add_parser(
        "generate",
        help="make D_R, D_NR, D_rand, D_det, D_other or a control of them",
        formatter_class=HelpFormatter,
    )
    add_generate_arguments(generate)
    sweep = commands.add_parser(
        "sweep",
        help="search for what decides whether a network learns a data set",
        formatter_class=HelpFormatter,
    )
    add_sweep_arguments(sweep)
    inspect = commands.add_parser(
        "inspect",
        help="describe and check generated data sets",
        formatter_class=HelpFormatter,
    )
    inspect.add_argument(
        "directory", help="folder of a data set, or one above several"
    )
    released = commands.add_parser(
        "import-released",
        help="the tensors that Ilyas et al. released, as TFDS data sets",
        formatter_class=HelpFormatter,
    )
    released.add_argument(
        "released",
        help="folder of the download, with d_robust_CIFAR/ and the others",
    )
    add_storage_arguments(released)
    for one in (inspect, released):
        add_verbose_argument(one)
    return parser


def main(arguments: list[str] | None = None) -> int:
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


def _replicate(preset, dataset=None, **options):
    from keras_robust import study

    if dataset is None and preset is None:
        return study.overview(**options)
    return study.replicate(dataset or "digits", preset=preset, **options)


def _function(command):
    # Imported after parsing, so that --help and mistakes answer at once.
    if command == "replicate":
        return _replicate
    if command == "sweep":
        from keras_robust.study import sweep

        return sweep
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
