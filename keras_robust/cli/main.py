"""The command `keras-robust`."""

import argparse
import sys

from keras_robust.cli import evaluate
from keras_robust.cli import generate
from keras_robust.cli import import_released
from keras_robust.cli import inspect
from keras_robust.cli import replicate
from keras_robust.cli import report
from keras_robust.cli import sweep
from keras_robust.cli.arguments import HelpFormatter
from keras_robust.startup import load_package
from keras_robust.version import __version__

# A command is a module with `HELP`, `add_arguments(parser)` and
# `run(**options)`, which imports what it needs, so that mistakes in arguments
# show at once.
COMMANDS = {
    "replicate": replicate,
    "evaluate": evaluate,
    "generate": generate,
    "sweep": sweep,
    "report": report,
    "inspect": inspect,
    "import-released": import_released,
}


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="keras-robust",
        description="Attack, harden and dissect Keras models.",
    )
    parser.add_argument(
        "--version", action="version", version=f"keras-robust {__version__}"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module in COMMANDS.items():
        module.add_arguments(
            commands.add_parser(
                name, help=module.HELP, formatter_class=HelpFormatter
            )
        )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: The command line as strings; `None` for `sys.argv`.

    Returns:
        Exit status: 0; 2 after an error in the arguments or the data; 130 after
        Ctrl+C; of `evaluate` also 1 and 3, see its help.
    """
    options = vars(build_parser().parse_args(arguments))
    module = COMMANDS[options.pop("command")]
    load_package()
    try:
        status = module.run(**options)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"keras-robust: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "keras-robust: stopped; run the same command to continue",
            file=sys.stderr,
        )
        return 130
    return status if isinstance(status, int) else 0
