"""The images of an optimizer search."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_robust import datasets
from keras_robust.study.replication.recipes import RECIPES
from keras_robust.study.replication.replication import Replication
from keras_robust.utils.files import read_json

Split = tuple[np.ndarray, np.ndarray]

# One in so many rows is held out: its clean image is used for validation.
HELD_OUT = 10


@dataclass(frozen=True)
class SweepData:
    """The images of a search.

    Attributes:
        train: `(x, t)`, images and labels to learn.
        validation: `(x, y)`, the clean images of the rows held out.
        test: `(x, y)`, clean test images.
        description: Where they come from, as plain values.
    """

    train: Split
    validation: Split
    test: Split
    description: dict[str, Any]


def of_study(study: Replication, made: str) -> SweepData:
    """The images of a set that a replication makes.

    Args:
        study: A `Replication`.
        made: `"D"`, the data set itself, or a generated one such as
            `"D_rand"`.
    """
    clean = study.data.train
    x, t = clean
    if made != "D":
        generated = study.generated(made)
        x, t = generated["x"], generated["y"]
    description = {"set": made, **study.description()}
    return _split(x, t, clean, study.data.test, description)


def of_directory(directory: str | os.PathLike[str]) -> SweepData:
    """The images of a generated set on disk.

    Args:
        directory: Of a TFDS data set that `datasets.generate` wrote from a
            source which `datasets.load` knows.

    Raises:
        ValueError: If the source is not known.
    """
    import tensorflow_datasets as tfds

    path = Path(directory) / "description.json"
    if not path.exists():
        raise ValueError(
            "Argument `source` must be one of "
            f"{sorted({name for name, _ in RECIPES})}, or the directory of a "
            "generated data set with its description.json. "
            f"Received: source={str(directory)!r}"
        )
    description = read_json(path)
    source = description["source"]["name"]
    if source not in {name for name, _ in RECIPES}:
        raise ValueError(
            "Argument `source` must be a set that was generated from a named "
            "data set: the search is judged by clean images of that one. "
            f"Received: a set made of {source!r}"
        )
    data = datasets.load(source)
    builder = tfds.builder_from_directory(str(directory))
    rows = tfds.as_numpy(builder.as_dataset(split="train", batch_size=-1))
    x = np.asarray(rows["image"], "float32")
    if rows["image"].dtype == np.uint8:
        x = x / 255
    x_clean, y_clean = data.train
    clean = x_clean[rows["id"]], y_clean[rows["id"]]
    described = {"directory": str(directory), "name": source}
    return _split(x, rows["label"], clean, data.test, described)


def _split(
    x: np.ndarray,
    t: np.ndarray,
    clean: Split,
    test: Split,
    description: dict[str, Any],
) -> SweepData:
    held_out = np.arange(len(x)) % HELD_OUT == HELD_OUT - 1
    x_clean, y_clean = clean
    return SweepData(
        train=(x[~held_out], t[~held_out].astype("int32")),
        validation=(x_clean[held_out], y_clean[held_out]),
        test=test,
        description=description,
    )
