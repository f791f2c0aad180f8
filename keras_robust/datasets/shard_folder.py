"""A data set that grows shard by shard and loses none of them."""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class ShardFolder:
    """Finished shards with their checksums, and what they are made by.

    A shard counts once its file is whole, on disk, and described by a small
    file beside it; each appears under its name in one move, so that a process
    that is killed leaves finished shards or nothing.

    Args:
        folder: Where the shards are.
        file_names: Names of all shards.
        config: All that the bytes depend on, as plain values.

    Raises:
        ValueError: If the folder belongs to another configuration; says what
            differs.
    """

    def __init__(
        self, folder: str | os.PathLike, file_names: Any, config: dict[str, Any]
    ) -> None:
        self.folder = Path(folder)
        self.state = self.folder / "generation"
        self.file_names = list(file_names)
        # Not the name of another process or machine on the same folder.
        self._mine = uuid.uuid4().hex
        self.config = json.loads(json.dumps(config))
        self.state.mkdir(parents=True, exist_ok=True)
        path = self.state / "config.json"
        if not path.exists():
            write_json(path, self.config)
        self._refuse_another(json.loads(path.read_text(encoding="utf-8")))

    def _refuse_another(self, known):
        changed = [
            f"{key} was {old!r} and is {new!r}"
            for key, old, new in _differences(known, self.config)
        ]
        if changed:
            raise ValueError(
                "Argument `directory` must be new, or hold the same data set, "
                "made by the same configuration. "
                f"Received: {str(self.folder)!r}, where {'; '.join(changed)}"
            )

    def __len__(self):
        return len(self.file_names)

    def path(self, shard: Any) -> Any:
        """The file of a shard."""
        return self.folder / self.file_names[shard]

    def entry(self, shard: Any) -> dict:
        """What is known of a finished shard, or `None`.

        A shard whose bytes are not those that were written is not finished.

        Args:
            shard: Its number.

        Returns:
            Dictionary with `sha256`, `bytes`, `examples`, `statistics`.
        """
        described, path = self._description(shard), self.path(shard)
        try:
            entry = json.loads(described.read_text(encoding="utf-8"))
            if path.stat().st_size == entry["bytes"]:
                return entry if sha256(path) == entry["sha256"] else None
        except (OSError, ValueError, KeyError):
            # Missing, or cut off.
            return None
        return None

    def _description(self, shard):
        return self.state / f"shard-{shard:05d}.json"

    def temporary(self, shard: Any) -> Any:
        """Where to write a shard, before `commit`.

        Args:
            shard: Its number.

        Returns:
            Path with the same suffixes.
        """
        return self.state / f"part-{self._mine}-{self.file_names[shard]}"

    def commit(self, shard: Any, examples: int, statistics: Any) -> None:
        """Makes a written shard count.

        Args:
            shard: Its number.
            examples: Int, how many it holds.
            statistics: Dictionary of plain values.
        """
        written = self.temporary(shard)
        with open(written, "rb") as file:
            os.fsync(file.fileno())
        entry = {
            "sha256": sha256(written),
            "bytes": written.stat().st_size,
            "examples": examples,
            "statistics": statistics,
        }
        os.replace(written, self.path(shard))
        write_json(self._description(shard), entry)

    def discard(self) -> None:
        """Deletes what this object has begun and not finished."""
        for path in self.state.glob(f"part-{self._mine}-*"):
            path.unlink(missing_ok=True)

    def sweep(self, but: Any = None) -> None:
        """Deletes what killed processes have left; only under the lock.

        Args:
            but: Folder of decoded images that is in use, or `None`.
        """
        for path in self.state.glob("part-*"):
            path.unlink(missing_ok=True)
        for path in self.state.glob("source-*"):
            if path != but:
                shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def lock(self, worker: int | None = None) -> Iterator:
        """Keeps other processes out.

        Args:
            worker: `None`, to be alone; or a name, such as "0 of 4": other
                names may work at the same time, the same one may not.

        Raises:
            RuntimeError: If another process is at work there.
        """
        import fcntl

        kind = fcntl.LOCK_EX if worker is None else fcntl.LOCK_SH
        wanted = [("lock", kind)]
        if worker is not None:
            name = f"lock-{worker.replace(' ', '-')}"
            wanted.append((name, fcntl.LOCK_EX))
        files = []
        try:
            for name, kind in wanted:
                files.append(open(self.state / name, "w", encoding="utf-8"))
                try:
                    # Given back by the system when the process ends.
                    fcntl.flock(files[-1], kind | fcntl.LOCK_NB)
                except OSError as error:
                    raise RuntimeError(
                        "The folder must not be in use by another process. "
                        f"Received: {str(self.folder)!r}, locked"
                    ) from error
            yield
        finally:
            for file in files:
                file.close()


def sha256(path: str | os.PathLike) -> str:
    """The SHA-256 of a file, as hexadecimal text."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Writes JSON that appears under its name when it is whole."""
    part = Path(f"{path}.part-{uuid.uuid4().hex}")
    try:
        with open(part, "w", encoding="utf-8") as file:
            file.write(json.dumps(value, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _differences(first, second, prefix=""):
    """`(key, value in first, value in second)` of nested dictionaries."""
    for key in sorted(first.keys() | second.keys()):
        one, other = first.get(key), second.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from _differences(one, other, f"{prefix}{key}.")
        elif one != other:
            yield f"{prefix}{key}", one, other
