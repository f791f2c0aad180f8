"""How much is imported with the package.

A program gets all of it: Keras finds the classes of a saved model only where
they are imported. The command line imports Keras and TensorFlow, which takes
seconds, once it knows that there is a command to run.
"""

import importlib
import sys
from pathlib import Path
from typing import Any

_PACKAGE = "keras_robust"
_SCRIPTS = ("keras-robust", "keras-robust.exe", "keras-robust-script.py")
# Names of this package that can follow `python -m`.
_MODULES = (_PACKAGE, f"{_PACKAGE}.cli")


def runs_command() -> bool:
    """Whether this process is the command line, and has not begun to work."""
    module = sys.modules[_PACKAGE]
    if getattr(module, "_is_whole", False):
        return False
    started = sys.argv[0] if getattr(sys, "argv", None) else ""
    if started != "-m":
        return Path(started).name in _SCRIPTS
    given = sys.orig_argv
    if "-m" not in given:
        return False
    after = given.index("-m") + 1
    return given[after : after + 1] in [[name] for name in _MODULES]


def load_package() -> None:
    """Import what the command line has left out."""
    module = sys.modules[_PACKAGE]
    content = vars(module)
    if "__getattr__" not in content:
        return
    del content["__getattr__"]
    content["_is_whole"] = True
    importlib.reload(module)


def load_name(name: str) -> Any:
    """Import what the command line has left out, for the sake of a name.

    Args:
        name: Of an attribute of the package.

    Raises:
        AttributeError: If the package has no such name.
    """
    if not name.startswith("_"):
        load_package()
        content = vars(sys.modules[_PACKAGE])
        if name in content:
            return content[name]
    raise AttributeError(f"module {_PACKAGE!r} has no attribute {name!r}")
