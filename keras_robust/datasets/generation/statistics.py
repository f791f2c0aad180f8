"""Statistics of a generated data set, added up over its parts."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np


def statistics_of(
    batch: Mapping[str, Any], images: np.ndarray, num_classes: int
) -> dict[str, Any]:
    """Counts and extremes of some examples.

    Args:
        batch: Dictionary of arrays `(n,)`: `label`, `original_label`,
            `distance`, `success`.
        images: Array `(n, ...)` as stored.
        num_classes: C.

    Returns:
        Dictionary of plain values that `merged` can add up.
    """
    labels = np.asarray(batch["label"])
    original = np.asarray(batch["original_label"])
    distance = np.asarray(batch["distance"], "float64")
    return {
        "examples": len(labels),
        "class_counts": np.bincount(labels, minlength=num_classes).tolist(),
        "label_is_original": int((labels == original).sum()),
        "successes": int(np.sum(batch["success"])),
        "distance_sum": float(distance.sum()),
        "distance_max": float(distance.max()),
        "smallest_entry": float(np.min(images)),
        "largest_entry": float(np.max(images)),
    }


def merged(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The statistics of the union of some parts.

    Args:
        parts: List of what `statistics_of` returned, at least one.

    Returns:
        The same kind of dictionary.
    """

    def column(key: str) -> list[Any]:
        return [part[key] for part in parts]

    return {
        "examples": sum(column("examples")),
        "class_counts": np.sum(column("class_counts"), 0).tolist(),
        "label_is_original": sum(column("label_is_original")),
        "successes": sum(column("successes")),
        "distance_sum": sum(column("distance_sum")),
        "distance_max": max(column("distance_max")),
        "smallest_entry": min(column("smallest_entry")),
        "largest_entry": max(column("largest_entry")),
    }
