"""From generated batches to finished shards."""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from keras_robust.datasets.generation import records
from keras_robust.datasets.generation.statistics import merged
from keras_robust.datasets.generation.statistics import statistics_of

if TYPE_CHECKING:
    from keras_robust.datasets.generation.generation import Generation

# Rows of the data set, and what was made of them.
_Rows = tuple[np.ndarray, dict[str, np.ndarray]]


class ShardWriter:
    """Collects the batches of a shard, then writes it and commits it.

    Args:
        generation: A `Generation`.
    """

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._batches: list[_Rows] = []

    def __call__(
        self, item: tuple[int, np.ndarray, dict[str, np.ndarray]]
    ) -> None:
        """Take the next batch: `(shard, rows, made)`."""
        shard, rows, made = item
        self._batches.append((rows, made))
        if rows[-1] == self._generation.rows(shard)[-1]:
            batches, self._batches = self._batches, []
            self._write(shard, batches)

    def _write(self, shard: int, batches: list[_Rows]) -> None:
        generation = self._generation
        path = generation.shards.temporary(shard)
        writer = records.RecordWriter(path, generation.file_format)
        try:
            parts = [
                self._write_batch(writer, rows=rows, made=made)
                for rows, made in batches
            ]
        finally:
            writer.close()
        found = merged(parts)
        generation.shards.commit(shard, found["examples"], found)

    def _write_batch(
        self,
        writer: records.RecordWriter,
        rows: np.ndarray,
        made: dict[str, np.ndarray],
    ) -> dict[str, Any]:
        generation = self._generation
        images = self._stored(made["x"])
        columns = {
            "id": rows,
            "label": generation.plan["label"][rows],
            "original_label": generation.plan["original_label"][rows],
            "start_id": generation.plan["start_id"][rows],
            "distance": made["distance"],
            "success": made["success"],
        }
        for i, image in enumerate(images):
            example = {key: column[i] for key, column in columns.items()}
            example["image"] = image
            writer.write(records.serialize(generation.feature, example))
        classes = len(generation.class_names)
        return statistics_of(columns, images, classes)

    def _stored(self, images: np.ndarray) -> np.ndarray:
        """Images in the dtype that is stored."""
        images = np.asarray(images, "float32")
        if self._generation.dtype == "float32":
            return images
        low, high = self._generation.transform.value_range
        scaled = 255 * (images - low) / (high - low)
        return np.clip(np.round(scaled), 0, 255).astype("uint8")
