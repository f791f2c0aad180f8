"""The images of an optimizer search."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_robust import datasets
from keras_robust.study.recipes import RECIPES

# One in so many rows is held out: not trained on, its clean image validates.
HELD_OUT = 10


@dataclass(frozen=True)
class SweepData:
    """What a search trains on, is judged by and reports.

    Attributes:
        train: `(x, t)`, images and labels to learn.
        validation: `(x, y)`, the clean images of the rows held out.
        test: `(x, y)`, clean test images.
        description: Dictionary of plain values: what it is.
    """

    train: Any
    validation: Any
    test: Any
    description: dict


def of_study(study: Any, made: Any) -> Any:
    """The data of a set that a replication makes.

    Args:
        study: A `Replication`.
        made: `"D"`, the data set itself, or a generated one such as
            `"D_rand"`.

    Returns:
        `SweepData`.
    """
    clean = study.data.train
    x, t = clean
    if made != "D":
        generated = study.generated(made)
        x, t = generated["x"], generated["y"]
    description = {"set": made, **study.description()}
    return _split(x, t, clean, study.data.test, description)


def of_directory(directory: str | os.PathLike) -> Any:
    """The data of a generated set on disk.

    Args:
        directory: Of a TFDS data set that `datasets.generate` wrote from a
            source which `datasets.load` knows.

    Returns:
        `SweepData`.

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
    description = json.loads(path.read_text(encoding="utf-8"))
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
    clean = tuple(part[rows["id"]] for part in data.train)
    described = {"directory": str(directory), "name": source}
    return _split(x, rows["label"], clean, data.test, described)


def _split(x, t, clean, test, description):
    held_out = np.arange(len(x)) % HELD_OUT == HELD_OUT - 1
    return SweepData(
        train=(x[~held_out], t[~held_out].astype("int32")),
        validation=tuple(part[held_out] for part in clean),
        test=test,
        description=description,
    )
