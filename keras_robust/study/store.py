"""Results of finished stages on disk, by the hash of what made them."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np


class StageStore:
    """A folder of stage results: models, arrays, numbers.

    A result is found again only if everything that it depends on is the
    same; a file appears under its name only when it is whole.

    Args:
        folder: Where the files are, made if missing.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, name: str, inputs: Any) -> Path:
        """Where a result is, or will be, without an ending.

        Args:
            name: Name of the stage.
            inputs: What it depends on, as `json` can write it.
        """
        text = json.dumps(inputs, sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:12]
        return self.folder / f"{name}-{key}"

    def model(
        self, name: str, inputs: Any, make: Callable[[], keras.Model]
    ) -> keras.Model:
        """The Keras model of that name, or the one that `make()` returns."""
        return _stored(
            self.path(name, inputs),
            ".keras",
            keras.saving.load_model,
            lambda path, model: model.save(path),
            make,
        )

    def arrays(
        self, name: str, inputs: Any, make: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """The arrays of that name, or the dictionary `make()` returns."""
        path = self.path(name, inputs)
        return _stored(path, ".npz", _read_arrays, _write_arrays, make)

    def numbers(self, name: str, inputs: Any, make: Callable[[], Any]) -> Any:
        """The JSON value of that name, or the one that `make()` returns."""
        path = self.path(name, inputs)
        return _stored(path, ".json", _read_json, _write_json, make)

    def find_numbers(self, name: str, inputs: Any) -> Any:
        """The JSON value of that name; `None` where there is none yet."""
        path = self.path(name, inputs)
        path = path.with_name(f"{path.name}.json")
        return _read_json(path) if path.exists() else None


def _stored(path, ending, read, write, make):
    path = path.with_name(path.name + ending)
    if not path.exists():
        value = make()
        # Several processes may make the same.
        part = path.with_name(f"part-{os.getpid()}-{path.name}")
        write(part, value)
        os.replace(part, path)
        return value
    return read(path)


def _read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def _write_json(path, value):
    text = json.dumps(value, indent=2) + "\n"
    path.write_text(text, encoding="utf-8")


def _read_arrays(path):
    with np.load(path) as arrays:
        return dict(arrays)


def _write_arrays(path, arrays):
    # Not compressed: that takes longer than it saves, moved pixels are noise.
    np.savez(path, **arrays)
