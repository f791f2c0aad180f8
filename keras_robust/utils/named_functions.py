"""Functions of the user's own, named on a command line."""

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from keras_robust.utils.messages import did_you_mean

# The part in front may hold colons itself, as in C:\folder\build.py:make_model.
_FORM = re.compile(r"(?P<place>.+):(?P<name>[A-Za-z_]\w*)", re.DOTALL)


def names_function(text: str) -> bool:
    """Whether a text has the form `module:function` or `file.py:function`.

    Args:
        text: Any text; nothing is imported.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        return False
    place = found["place"]
    parts = place.split(".")
    return place.endswith(".py") or all(part.isidentifier() for part in parts)


def load_function(text: str, argument: str) -> Callable[..., Any]:
    """Import a function; the file or the module it is in runs.

    Args:
        text: `"module:function"`, where modules in the current folder are found
            as well, or `"path/file.py:function"`.
        argument: Name of the argument, for error messages.

    Returns:
        The function, or any other callable of that name.

    Raises:
        ValueError: If there is no such file, module or function.
    """
    found = _FORM.fullmatch(text)
    if found is None or not names_function(text):
        raise ValueError(
            f"Argument `{argument}` must be module:function or "
            f"file.py:function. Received: {text!r}"
        )
    place, name = found["place"], found["name"]
    module = (
        _module_of_file(Path(place), argument)
        if place.endswith(".py")
        else _module(place, argument)
    )
    value = getattr(module, name, None)
    if not callable(value):
        functions = [
            key for key, each in vars(module).items() if callable(each)
        ]
        problem = "no such name" if value is None else "not a function"
        raise ValueError(
            f"Argument `{argument}` must name a function of {place}."
            f"{did_you_mean(name, functions)} Received: {text!r}, {problem}"
        )
    function: Callable[..., Any] = value
    return function


def _module(name: str, argument: str) -> ModuleType:
    with _folder_on_path(Path.cwd()):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(
                f"{error.name}."
            ):
                # A module that the user's module imports.
                raise
            raise ValueError(
                f"Argument `{argument}` must name a module that can be "
                "imported, such as one in the current folder or one that is "
                f"installed. Received: {name!r}"
            ) from None


def _module_of_file(path: Path, argument: str) -> ModuleType:
    if not path.is_file():
        raise ValueError(
            f"Argument `{argument}` must name a file that is there. "
            f"Received: {str(path)!r}"
        )
    path = path.resolve()
    known = sys.modules.get(path.stem)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(
            f"Argument `{argument}` must name a Python file. "
            f"Received: {str(path)!r}"
        )
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickles look their module up by its name.
    if known is None:
        sys.modules[path.stem] = module
    try:
        with _folder_on_path(path.parent):
            spec.loader.exec_module(module)
    except BaseException:
        if known is None:
            del sys.modules[path.stem]
        raise
    return module


@contextmanager
def _folder_on_path(folder: Path) -> Iterator[None]:
    """Let modules of a folder be imported."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
