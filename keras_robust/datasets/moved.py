"""How far stored images lie from those of their source."""

import tempfile
from typing import Any

import numpy as np

from keras_robust.datasets.indexed_source import IndexedSource

_BATCH = 500


def largest_move(images: Any, description: Any) -> float | None:
    """The largest norm of a perturbation, from the images themselves.

    Args:
        images: Iterable of stored images, float32, in source order.
        description: Of the data set.

    Returns:
        Float; `None` where the source cannot be read here, or is another.
    """
    source, arguments = description["source"], description["arguments"]
    if source["version"] is None and source["name"] != "digits":
        return None
    order = {"l1": 1, "l2": 2, "linf": np.inf}[arguments["norm"]]
    largest = 0.0
    with tempfile.TemporaryDirectory() as scratch:
        try:
            original = IndexedSource.open(
                source["name"],
                scratch,
                split=source["split"],
                examples=source["examples"],
                value_range=arguments["value_range"],
            )
            if original.description() != source:
                return None
        except Exception:  # TFDS raises many kinds where there is no network.
            return None
        rows = iter(range(len(original)))
        for batch in _batches(images):
            chosen = np.array([next(rows) for _ in batch])
            step = np.stack(batch) - original[chosen]
            flat = step.reshape(len(step), -1)
            size = np.linalg.norm(flat, ord=order, axis=1)
            largest = max(largest, float(size.max()))
    return largest


def _batches(images):
    batch = []
    for image in images:
        batch.append(image)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
