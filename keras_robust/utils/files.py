"""Files that appear only when complete, JSON, and short hashes."""

import hashlib
import json
import os
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write_atomically(
    path: Path, write: Callable[[Path], object], suffix: str = ".part"
) -> None:
    """Write a file under a temporary name, then give it its own.

    After a crash the file is there as a whole or not at all. Several processes
    may write the same file.

    Args:
        path: Where the file shall be.
        write: Callable of the temporary path.
        suffix: Of the temporary name. Keras and NumPy add or require theirs.
    """
    part = path.with_name(f"part-{os.getpid()}-{path.name}{suffix}")
    try:
        write(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[None]:
    """Keep out other processes that lock the same file, on any machine.

    The system releases the lock when the process ends. Where there are no such
    locks, as on Windows and some network folders, nothing is kept out.

    Args:
        path: A file for the lock alone, made if missing.
        wait: Whether to wait for a process that has the lock.

    Raises:
        BlockingIOError: If another process has the lock, without `wait`.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with open(path, "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise
        except OSError:
            # The file system has no locks.
            pass
        yield


def read_json(path: Path) -> Any:
    """Read the value in a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, value: Any, sort_keys: bool = False) -> None:
    """Write a value as a JSON file, atomically.

    Args:
        path: Where the file shall be.
        value: What JSON can hold.
        sort_keys: Whether dictionaries are written in the order of their keys.
    """
    text = json.dumps(value, indent=2, sort_keys=sort_keys) + "\n"
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


def json_hash(value: Any, digits: int = 12) -> str:
    """Hash what JSON can hold; the order of keys makes no difference.

    Args:
        value: What JSON can hold.
        digits: How many hexadecimal digits of the SHA-256 are kept.

    Returns:
        Hexadecimal text.
    """
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:digits]
