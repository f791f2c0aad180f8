"""Inputs and outputs of a transform."""

from dataclasses import dataclass
from typing import Any
from typing import NotRequired
from typing import TypedDict
from typing import cast

import numpy as np

from keras_robust.utils.messages import describe


@dataclass(frozen=True, eq=False)
class Batch:
    """Images of a data set from which a transform makes new ones.

    Attributes:
        images: Float array or tensor `(N, ...)` in the transform's
            `value_range`.
        rows: Int array `(N,)`, the rows of the data set that these are. Random
            numbers drawn by them do not depend on how a set is split.
        labels: Int32 array `(N,)`, the labels that the new images will carry.
            `None` only in a call of a transform that does not need labels.
        original_labels: Int32 array `(N,)`, the labels of `images`; `None` like
            `labels`.
        start: Array or tensor like `images` to start from, or `None` where
            the transform does not use start images.
    """

    images: Any
    rows: np.ndarray
    labels: np.ndarray | None = None
    original_labels: np.ndarray | None = None
    start: Any = None

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, first: int, stop: int) -> "Batch":
        """The examples from `first` up to `stop`, as a batch."""

        def cut(values: Any) -> Any:
            return None if values is None else values[first:stop]

        return Batch(
            images=cut(self.images),
            rows=self.rows[first:stop],
            labels=cut(self.labels),
            original_labels=cut(self.original_labels),
            start=cut(self.start),
        )


class Made(TypedDict):
    """New images of a batch: arrays or tensors of length N.

    Attributes:
        x: The new images, like `Batch.images`.
        distance: Float `(N,)`, how far each image is from its goal or from the
            original, as the docstring of the transform states.
        success: Bool `(N,)`, whether the transform reached what it aims at.
    """

    x: Any
    distance: Any
    success: Any


class Plan(TypedDict):
    """Random choices for a whole data set: int arrays `(N,)`.

    Attributes:
        label: The labels that the new images will carry.
        start_id: Row of each start image, -1 for none.
        original_label: The true labels, where they are not those of the source;
            -1 where they are not known.
    """

    label: np.ndarray
    start_id: np.ndarray
    original_label: NotRequired[np.ndarray]


def check_made(transform: str, made: Any, batch: Batch) -> Made:
    """Return what a transform made of a batch.

    Args:
        transform: The name of the transform's class.
        made: What its `make` returned.
        batch: The batch.

    Raises:
        ValueError: If an entry is missing or has another length.
    """
    names = ("x", "distance", "success")
    if not isinstance(made, dict) or not set(names) <= set(made):
        received = list(made) if isinstance(made, dict) else describe(made)
        raise ValueError(
            f"{transform}.make must return a dictionary of `x`, `distance` "
            f"and `success`. Received: {received}"
        )
    for name in names:
        shape = tuple(np.shape(made[name]))
        compared = shape[:1] if name == "x" else shape
        if compared != (len(batch),):
            rest = " ..." if name == "x" else ""
            raise ValueError(
                f"{transform}.make must return `{name}` of shape "
                f"({len(batch)},{rest}). Received: {name}.shape={shape}"
            )
    return cast("Made", made)
