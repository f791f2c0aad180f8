"""The state of an evaluation on disk, so that it can go on after a stop."""

import hashlib
import json
import os
import pathlib
import time
import urllib.parse

import numpy as np

# Seconds between two writes of one attack's state.
SECONDS_BETWEEN_SAVES = 20.0


class Checkpoint:
    """A folder with one file of arrays for each attack or part of one.

    Args:
        folder: Where the files are.
        fingerprint: String that says what is evaluated; a folder with another
            one is refused.

    Raises:
        ValueError: If the folder belongs to another evaluation.
    """

    def __init__(self, folder, fingerprint):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "evaluation.json"
        if not path.exists():
            path.write_text(json.dumps({"fingerprint": fingerprint}))
        elif json.loads(path.read_text())["fingerprint"] != fingerprint:
            raise ValueError(
                "Argument `state_path` must be a new folder, or that of the "
                "same evaluation: same weights, data and attacks. "
                f"Received: state_path={str(folder)!r} of another one"
            )

    def section(self, name):
        """The state of one attack.

        Args:
            name: String.

        Returns:
            `Section`.
        """
        return Section(self.folder, (name,))


class Section:
    """One file of a `Checkpoint`; made by `Checkpoint.section`."""

    def __init__(self, folder, names):
        self._folder = folder
        self._names = names
        quoted = [urllib.parse.quote(name, safe=" ") for name in names]
        self.path = folder / ("--".join(quoted) + ".npz")
        self._saved_at = time.monotonic()

    def section(self, name):
        """The state of a part."""
        return Section(self._folder, (*self._names, name))

    def restore(self):
        """The arrays that were saved, or `None`."""
        if not self.path.exists():
            return None
        with np.load(self.path) as saved:
            return {
                key: saved[key][()] if saved[key].ndim == 0 else saved[key]
                for key in saved.files
            }

    def save(self, force=False, **arrays):
        """Writes arrays, in one piece; seldom, but for `force`.

        Args:
            force: Whether to write although the last time is not long ago.
            **arrays: Arrays and numbers by name.
        """
        now = time.monotonic()
        if not force and now - self._saved_at < SECONDS_BETWEEN_SAVES:
            return
        unfinished = self.path.with_suffix(".unfinished")
        with open(unfinished, "wb") as file:
            np.savez(file, **arrays)
        os.replace(unfinished, self.path)
        self._saved_at = now


def fingerprint(model, x, y, attacks, survivors_only=True):
    """A hash of all that an evaluation's result depends on.

    Args:
        model: A built Keras model.
        x: NumPy array.
        y: NumPy array.
        attacks: Dictionary of attacks by name.
        survivors_only: As in `evaluate_robustness`.

    Returns:
        String.
    """
    digest = hashlib.sha256(f"survivors only {survivors_only}".encode())
    for array in (x, y, *model.get_weights()):
        array = np.ascontiguousarray(array)
        digest.update(str((array.shape, array.dtype)).encode())
        digest.update(array.tobytes())
    for name, attack in attacks.items():
        digest.update(f"{name} {attack!r}".encode())
    return digest.hexdigest()
