"""A folder of shards that survives interruptions."""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class ShardFolder:
    """Finished shards with their checksums and their configuration.

    A shard counts once its file is whole, on disk, and described by a small
    file beside it; each appears under its name in one move, so that a process
    that is killed leaves finished shards or nothing.

    Args:
        folder: Where the shards are.
        file_names: Names of all shards.
        config: All that the bytes depend on, as plain values.

    Raises:
        ValueError: If the folder belongs to another configuration; the message
            names what differs.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        file_names: Sequence[str],
        config: dict[str, Any],
    ) -> None:
        self.folder = Path(folder)
        self.state = self.folder / "generation"
        self.file_names = list(file_names)
        # Unlike that of any other process or machine on the same folder.
        self._mine = uuid.uuid4().hex
        self.config: dict[str, Any] = json.loads(json.dumps(config))
        self.state.mkdir(parents=True, exist_ok=True)
        path = self.state / "config.json"
        if not path.exists():
            write_json(path, self.config)
        self._check_configuration(json.loads(path.read_text(encoding="utf-8")))

    def _check_configuration(self, known: dict[str, Any]) -> None:
        """Raise if the folder was started with another configuration."""
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

    def __len__(self) -> int:
        return len(self.file_names)

    def path(self, shard: int) -> Path:
        """The file of a shard."""
        return self.folder / self.file_names[shard]

    def entry(self, shard: int) -> dict[str, Any] | None:
        """Describe a finished shard.

        A shard whose bytes are not those that were written is not finished.

        Args:
            shard: Its number.

        Returns:
            Dictionary with `sha256`, `bytes`, `examples`, `statistics`; `None`
            for a shard that is not finished.
        """
        described, path = self._description(shard), self.path(shard)
        try:
            entry: dict[str, Any] = json.loads(
                described.read_text(encoding="utf-8")
            )
            if path.stat().st_size == entry["bytes"]:
                return entry if sha256(path) == entry["sha256"] else None
        except (OSError, ValueError, KeyError):
            # Missing, or cut off.
            return None
        return None

    def _description(self, shard: int) -> Path:
        return self.state / f"shard-{shard:05d}.json"

    def temporary(self, shard: int) -> Path:
        """Path to write a shard to, before `commit`.

        Args:
            shard: Its number.

        Returns:
            Path with the same suffixes.
        """
        return self.state / f"part-{self._mine}-{self.file_names[shard]}"

    def commit(
        self, shard: int, examples: int, statistics: dict[str, Any]
    ) -> None:
        """Record a written shard as finished.

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
        """Delete the unfinished shards of this object."""
        for path in self.state.glob(f"part-{self._mine}-*"):
            path.unlink(missing_ok=True)

    def remove_leftovers(self, keep: Path | None = None) -> None:
        """Delete what killed processes have left; only under the lock.

        Args:
            keep: Folder of decoded images that is in use, or `None`.
        """
        for path in self.state.glob("part-*"):
            path.unlink(missing_ok=True)
        for path in self.state.glob("source-*"):
            if path != keep:
                shutil.rmtree(path, ignore_errors=True)

    @contextmanager
    def lock(self, worker: str | None = None) -> Iterator[None]:
        """Keep other processes out.

        Args:
            worker: `None` to exclude all others; or a name, such as "0 of 4",
                to exclude processes of the same name only.

        Raises:
            RuntimeError: If another process uses the folder.
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
                    # Released by the system when the process ends.
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


def sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file, as hexadecimal text."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write JSON to a file, which appears under its name once it is whole."""
    part = Path(f"{path}.part-{uuid.uuid4().hex}")
    try:
        with open(part, "w", encoding="utf-8") as file:
            file.write(json.dumps(value, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _differences(
    first: dict[str, Any], second: dict[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Yield `(key, value in first, value in second)` where these differ."""
    for key in sorted(first.keys() | second.keys()):
        one, other = first.get(key), second.get(key)
        if key == "module" and _is_registered(first, second):
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            yield from _differences(one, other, f"{prefix}{key}.")
        elif one != other:
            yield f"{prefix}{key}", one, other


def _is_registered(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether both describe a class that Keras knows by one registered name.

    Where the class is defined makes no difference then.
    """
    name = first.get("registered_name")
    return ">" in str(name) and name == second.get("registered_name")
