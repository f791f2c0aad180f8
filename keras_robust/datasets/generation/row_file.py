"""Images on disk, read row by row."""

import os
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np


class RowFile:
    """Rows of one shape and dtype in a plain file.

    Random access to more images than fit into memory: only the requested rows
    are read, and nothing stays mapped.

    Args:
        path: The file.
        shape: Shape of one row.
        dtype: NumPy dtype of the entries.
    """

    def __init__(
        self, path: str | os.PathLike[str], shape: tuple[int, ...], dtype: Any
    ) -> None:
        self.path = Path(path)
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)
        self._bytes = int(np.prod(self.shape)) * self.dtype.itemsize

    def __len__(self) -> int:
        return int(self.path.stat().st_size // self._bytes)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """The given rows, an array `(len(rows), *shape)`."""
        rows = np.asarray(rows)
        out = np.empty((len(rows), *self.shape), self.dtype)
        with open(self.path, "rb", buffering=0) as file:
            for place, row in enumerate(rows):
                file.seek(int(row) * self._bytes)
                if file.readinto(out[place].data) != self._bytes:
                    raise OSError(
                        f"{self.path} must hold row {row}. "
                        f"Received: a file of {len(self)} rows"
                    )
        return out

    @classmethod
    def write(
        cls, path: str | os.PathLike[str], batches: Iterable[np.ndarray]
    ) -> "RowFile":
        """Write all rows; the file appears once it is whole.

        Args:
            path: The file.
            batches: Iterable of arrays `(n, *shape)`, at least one.

        Returns:
            `RowFile`.

        Raises:
            ValueError: If there are no batches, or rows differ in shape or
                dtype.
        """
        part = Path(f"{path}.part-{uuid.uuid4().hex}")
        form: tuple[tuple[int, ...], np.dtype] | None = None
        try:
            with open(part, "wb") as file:
                for batch in batches:
                    batch = np.ascontiguousarray(batch)
                    found = batch.shape[1:], batch.dtype
                    if form is None:
                        form = found
                    if found != form:
                        raise ValueError(
                            "All images must have one shape and dtype. "
                            f"Received: {form[0]} of {form[1]}, then "
                            f"{found[0]} of {found[1]}"
                        )
                    file.write(batch.data)
            if form is None:
                raise ValueError("A source must hold images. Received: none")
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        return cls(path, shape=form[0], dtype=form[1])
