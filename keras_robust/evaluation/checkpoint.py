"""The state of an evaluation on disk, so that it can be resumed."""

import hashlib
import os
import pathlib
import time
import urllib.parse
import zipfile
import zlib
from typing import Any

import numpy as np

from keras_robust.evaluation.provenance import fingerprint
from keras_robust.utils.files import write_atomically
from keras_robust.utils.files import write_json

# Digits of the name of an evaluation's folder.
_DIGITS = 16
# Seconds between two writes of one attack's state.
SECONDS_BETWEEN_SAVES = 20.0


class Checkpoint:
    """A folder with one file of arrays for each attack or part of one.

    Each evaluation has a folder of its own inside the given one, named by a
    hash of what the evaluation depends on. So the same evaluation resumes where
    it was stopped, and another one in the same folder starts from the
    beginning.

    Args:
        folder: Where the states of evaluations are kept.
        fingerprint: Text that identifies the evaluation.

    Raises:
        ValueError: If `folder` is a file.
    """

    def __init__(
        self, folder: str | os.PathLike[str], fingerprint: str
    ) -> None:
        parent = pathlib.Path(folder)
        if parent.exists() and not parent.is_dir():
            raise ValueError(
                "Argument `state_path` must be a folder. "
                f"Received: state_path={str(folder)!r}, a file"
            )
        name = hashlib.sha256(fingerprint.encode()).hexdigest()[:_DIGITS]
        self.folder = parent / name
        self.folder.mkdir(parents=True, exist_ok=True)

    @classmethod
    def of(
        cls, folder: str | os.PathLike[str] | None, facts: object
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
            write_json(described, facts)
        return made

    def section(self, name: str) -> "Section":
        """The state of one attack."""
        return Section(self.folder, (name,))


class Section:
    """One file of a `Checkpoint`; made by `Checkpoint.section`."""

    def __init__(self, folder: pathlib.Path, names: tuple[str, ...]) -> None:
        self._folder = folder
        self._names = names
        quoted = [urllib.parse.quote(name, safe=" ") for name in names]
        # A plus sign inside a name is quoted.
        self.path = folder / ("+".join(quoted) + ".npz")
        self._saved_at = time.monotonic()

    def section(self, name: str) -> "Section":
        """The state of a part."""
        return Section(self._folder, (*self._names, name))

    def restore(self) -> dict[str, Any] | None:
        """Load the arrays that were saved; `None` if there are none.

        Raises:
            ValueError: If the file is damaged.
        """
        if not self.path.exists():
            return None
        try:
            # NumPy leaves a file open that turns out to be damaged.
            with self.path.open("rb") as file, np.load(file) as saved:
                return {
                    key: saved[key][()] if saved[key].ndim == 0 else saved[key]
                    for key in saved.files
                }
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
            raise ValueError(
                "The state of an evaluation must be a whole file; remove it "
                f"to start again. Received: {self.path}, {error}"
            ) from None

    def save(self, force: bool = False, **arrays: Any) -> None:
        """Write arrays atomically, unless they were just written.

        Args:
            force: Whether to write even if the last write is not long ago.
            **arrays: Arrays and numbers by name.
        """
        now = time.monotonic()
        if not force and now - self._saved_at < SECONDS_BETWEEN_SAVES:
            return

        def write(part: pathlib.Path) -> None:
            with open(part, "wb") as file:
                np.savez(file, **arrays)

        write_atomically(self.path, write)
        self._saved_at = now
