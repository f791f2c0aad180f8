"""The images of an optimizer search."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_robust import datasets
from keras_robust.datasets.pixels import value_range_of
from keras_robust.datasets.tfds import columns_of
from keras_robust.study.data import training_rows
from keras_robust.study.replication.recipes import RECIPES
from keras_robust.study.replication.replication import Replication
from keras_robust.utils.files import read_json

Split = tuple[np.ndarray, np.ndarray]

# One in so many rows is held out, of the user's images one in so many of a
# class: its clean image is used for validation.
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
    is_own = study.recipe.read().sha256 is not None
    return _split(x, t, clean, study.data.test, description, is_own)


def description_of(source: Any) -> dict[str, Any] | None:
    """What is written with a generated set; `None` if `source` is no such set.

    Args:
        source: A directory, or anything else.
    """
    if not isinstance(source, (str, os.PathLike)):
        return None
    path = Path(source) / "description.json"
    if not path.exists():
        return None
    description: dict[str, Any] = read_json(path)
    return description


def source_of(description: Mapping[str, Any], directory: str) -> str:
    """The name of the data set that a generated set was made of.

    Args:
        description: What `description_of` returned.
        directory: Of the set, for the error message.

    Raises:
        ValueError: If it was made of images without a name.
    """
    source = description["source"]
    name = str(source["name"])
    if name in {dataset for dataset, _ in RECIPES}:
        return name
    # Data sets of TFDS have a version, arrays have none.
    if source["version"] is not None:
        return f"tfds:{name}"
    raise ValueError(
        "Argument `data` must be the images that the set was made of, "
        "((x, y), (x_test, y_test)), a folder, ...: the search is judged by "
        f"clean images, and images named {name!r} cannot be loaded. "
        f"Received: data=None for the set {directory!r}"
    )


def of_directory(
    directory: str | os.PathLike[str], data: datasets.ImageDataset
) -> SweepData:
    """The images of a generated set on disk.

    Args:
        directory: Of a TFDS data set that `datasets.generate` wrote.
        data: What it was made of, in [0, 1].

    Raises:
        ValueError: If it was made of something else.
    """
    import tensorflow_datasets as tfds

    description = description_of(directory) or {}
    builder = tfds.builder_from_directory(str(directory))
    (split,) = builder.info.splits
    rows = columns_of(builder, split)
    x_clean, y_clean = data.test if split == "test" else data.train
    kept = training_rows(rows["original_label"], data)
    if not kept.all():
        rows = {key: column[kept] for key, column in rows.items()}
        rows["id"] = np.arange(len(rows["id"]))
    x = _in_unit_range(rows["image"], description)
    number = rows["id"]
    known = number.max() < len(y_clean) and x_clean.shape[1:] == x.shape[1:]
    if not (known and (y_clean[number] == rows["original_label"]).all()):
        raise ValueError(
            "Argument `data` must be the images that the set was made of, in "
            f"the same order. Received: {len(y_clean)} images of shape "
            f"{x_clean.shape[1:]}, and a set of {len(x)} of shape "
            f"{x.shape[1:]} in {str(directory)!r} with other original labels"
        )
    clean = x_clean[number], y_clean[number]
    source = description.get("source", {}).get("name")
    described = {"directory": str(directory), "name": source}
    is_own = source not in {dataset for dataset, _ in RECIPES}
    return _split(x, rows["label"], clean, data.test, described, is_own)


def _in_unit_range(
    images: np.ndarray, description: Mapping[str, Any]
) -> np.ndarray:
    """Stored images in [0, 1]."""
    if images.dtype == np.uint8:
        return images.astype("float32") / np.float32(255)
    low, high = (0.0, 1.0)
    if description:
        low, high = value_range_of(description)
    unit = images.astype("float32")
    if (low, high) != (0.0, 1.0):
        unit = (unit - np.float32(low)) / np.float32(high - low)
    return unit


def _split(
    x: np.ndarray,
    t: np.ndarray,
    clean: Split,
    test: Split,
    description: dict[str, Any],
    is_own: bool,
) -> SweepData:
    x_clean, y_clean = clean
    order = np.arange(len(x))
    if is_own:
        # Images may come in turns, one of each class.
        order = np.argsort(y_clean, kind="stable")
    held_out = np.zeros(len(x), bool)
    held_out[order[HELD_OUT - 1 :: HELD_OUT]] = True
    return SweepData(
        train=(x[~held_out], t[~held_out].astype("int32")),
        validation=(x_clean[held_out], y_clean[held_out]),
        test=test,
        description=description,
    )
