"""Results of finished stages on disk, by the hash of what made them."""

import hashlib
import json
import os
from pathlib import Path

import keras
import numpy as np


class StageStore:
    """A folder of stage results: models, arrays, numbers.

    A result is found again only if everything that it depends on is the
    same; a file appears under its name only when it is whole.

    Args:
        folder: Where the files are, made if missing.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    @staticmethod
    def key(description):
        """A short hash of nested dictionaries of plain values.

        Args:
            description: What `json` can write.

        Returns:
            String of 12 characters.
        """
        text = json.dumps(description, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def model(self, name, make):
        """The Keras model of that name, or the one that `make()` returns."""
        return self._stored(
            f"{name}.keras",
            keras.saving.load_model,
            lambda path, model: model.save(path),
            make,
        )

    def arrays(self, name, make):
        """The arrays of that name, or the dictionary `make()` returns."""
        return self._stored(f"{name}.npz", _read_arrays, _write_arrays, make)

    def numbers(self, name, make):
        """The JSON value of that name, or the one that `make()` returns."""
        return self._stored(f"{name}.json", _read_json, _write_json, make)

    def all_numbers(self, prefix):
        """The JSON values whose names begin so, by the rest of the name."""
        paths = sorted(self.folder.glob(f"{prefix}*.json"))
        return {
            path.stem.removeprefix(prefix): _read_json(path) for path in paths
        }

    def _stored(self, name, read, write, make):
        path = self.folder / name
        if not path.exists():
            value = make()
            # Several processes may make the same.
            part = self.folder / f"part-{os.getpid()}-{name}"
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
    np.savez_compressed(path, **arrays)
