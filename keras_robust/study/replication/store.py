"""Results of finished stages on disk, named by a hash of their inputs."""

import os
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import ExitStack
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from typing import TypeVar

import keras
import numpy as np

from keras_robust.utils.files import json_hash
from keras_robust.utils.files import locked
from keras_robust.utils.files import read_json
from keras_robust.utils.files import write_atomically
from keras_robust.utils.files import write_json

Arrays = dict[str, np.ndarray]
T = TypeVar("T")


class StageBusyError(Exception):
    """Another process is making a stage that is needed."""


class StageStore:
    """A folder of stage results: models, arrays, numbers.

    A result is found again only if everything it depends on is the same.
    Several processes may use one folder: each result is made by one of them,
    and the others wait for it.

    Args:
        folder: Where the files are; created if missing.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._waits = True

    @contextmanager
    def without_waiting(self) -> Iterator[None]:
        """Raise `StageBusyError` where another process makes what is needed."""
        self._waits = False
        try:
            yield
        finally:
            self._waits = True

    def path(self, name: str, inputs: Any) -> Path:
        """Path of a result without its suffix, whether it exists or not.

        Args:
            name: Name of the stage.
            inputs: What the result depends on: what JSON can hold.
        """
        return self.folder / f"{name}-{json_hash(inputs)}"

    def model(
        self, name: str, inputs: Any, make: Callable[[], keras.Model]
    ) -> keras.Model:
        """Load the Keras model of that name, or make and keep it."""
        return self._load_or_make(
            self._file(name, inputs, ".keras"),
            read=_read_model,
            write=_write_model,
            make=make,
        )

    def arrays(
        self, name: str, inputs: Any, make: Callable[[], Arrays]
    ) -> Arrays:
        """Load the arrays of that name, or make and keep them."""
        return self._load_or_make(
            self._file(name, inputs, ".npz"),
            read=_read_arrays,
            write=_write_arrays,
            make=make,
        )

    def numbers(self, name: str, inputs: Any, make: Callable[[], T]) -> T:
        """Load the JSON value of that name, or make and keep it."""
        found: T = self._load_or_make(
            self._file(name, inputs, ".json"),
            read=read_json,
            write=write_json,
            make=make,
        )
        return found

    def find_numbers(self, name: str, inputs: Any) -> Any:
        """Load the JSON value of that name; `None` where there is none."""
        path = self._file(name, inputs, ".json")
        return read_json(path) if path.exists() else None

    def _file(self, name: str, inputs: Any, suffix: str) -> Path:
        path = self.path(name, inputs)
        return path.with_name(path.name + suffix)

    def _load_or_make(
        self,
        path: Path,
        read: Callable[[Path], T],
        write: Callable[[Path, T], None],
        make: Callable[[], T],
    ) -> T:
        if path.exists():
            return read(path)
        with self._claimed(path):
            # While this process waited, another one may have made it.
            if not path.exists():
                value = make()
                write(path, value)
                return value
        return read(path)

    @contextmanager
    def _claimed(self, path: Path) -> Iterator[None]:
        locks = self.folder / "locks"
        locks.mkdir(exist_ok=True)
        lock = locks / path.name
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(lock, wait=self._waits))
            except BlockingIOError as error:
                raise StageBusyError(path.name) from error
            # Such an error of the stage itself is not one of the lock.
            yield
            # Nobody needs the lock of what exists.
            lock.unlink(missing_ok=True)


def _read_model(path: Path) -> keras.Model:
    return keras.saving.load_model(path)


def _write_model(path: Path, model: keras.Model) -> None:
    write_atomically(path, model.save, suffix=".keras")


def _read_arrays(path: Path) -> Arrays:
    with np.load(path) as arrays:
        return dict(arrays)


def _write_arrays(path: Path, arrays: Arrays) -> None:
    # Not compressed: that takes longer than it saves, moved pixels are noise.
    # A dictionary for mypy: `savez` has named arguments beside the arrays.
    named: dict[str, Any] = dict(arrays)
    write_atomically(path, lambda part: np.savez(part, **named), suffix=".npz")
