"""The state of an evaluation on disk, so that it can go on after a stop."""

import hashlib
import json
import os
import pathlib
import time
import urllib.parse
import zipfile
import zlib
from typing import Any

import numpy as np

from keras_robust.evaluation.provenance import fingerprint

# Digits of the name of an evaluation's folder.
_DIGITS = 16
# Seconds between two writes of one attack's state.
SECONDS_BETWEEN_SAVES = 20.0


class Checkpoint:
    """A folder with one file of arrays for each attack or part of one.

    Each evaluation has a folder of its own inside the given one, named by
    what the evaluation depends on. So the same evaluation goes on where it
    was stopped, and another one into the same folder starts anew.

    Args:
        folder: Where the states of evaluations are kept.
        fingerprint: Text that says what is evaluated.

    Raises:
        ValueError: If `folder` is a file.
    """

    def __init__(self, folder: str | os.PathLike, fingerprint: str) -> None:
        folder = pathlib.Path(folder)
        if folder.exists() and not folder.is_dir():
            raise ValueError(
                "Argument `state_path` must be a folder. "
                f"Received: state_path={str(folder)!r}, a file"
            )
        name = hashlib.sha256(fingerprint.encode()).hexdigest()[:_DIGITS]
        self.folder = folder / name
        self.folder.mkdir(parents=True, exist_ok=True)

    @classmethod
    def of(
        cls, folder: str | os.PathLike | None, facts: object
    ) -> "Checkpoint | None":
        """The state of an evaluation, or `None` without a folder.

        Args:
            folder: `state_path` of an evaluation.
            facts: All that its result depends on, plain values.
        """
        if folder is None:
            return None
        made = cls(folder, fingerprint(facts))
        described = made.folder / "evaluation.json"
        if not described.exists():
            described.write_text(json.dumps(facts, indent=2))
        return made

    def section(self, name: str) -> "Section":
        """The state of one attack."""
        return Section(self.folder, (name,))


class Section:
    """One file of a `Checkpoint`; made by `Checkpoint.section`."""

    def __init__(self, folder: str | os.PathLike, names: Any) -> None:
        self._folder = folder
        self._names = names
        quoted = [urllib.parse.quote(name, safe=" ") for name in names]
        # A plus sign in a name is quoted.
        self.path = folder / ("+".join(quoted) + ".npz")
        self._saved_at = time.monotonic()

    def section(self, name: str) -> "Section":
        """The state of a part."""
        return Section(self._folder, (*self._names, name))

    def restore(self) -> dict | None:
        """The arrays that were saved, or `None`.

        Raises:
            ValueError: If the file is damaged.
        """
        if not self.path.exists():
            return None
        try:
            with np.load(self.path) as saved:
                return {
                    key: saved[key][()] if saved[key].ndim == 0 else saved[key]
                    for key in saved.files
                }
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
            raise ValueError(
                "The state of an evaluation must be a whole file; remove it "
                f"to begin anew. Received: {self.path}, {error}"
            ) from None

    def save(self, force: bool = False, **arrays: object) -> None:
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
