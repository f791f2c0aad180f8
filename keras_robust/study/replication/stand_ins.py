"""Models and sets of the user in the place of stages of a study."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import keras
import numpy as np

from keras_robust.classifier import Classifier
from keras_robust.classifier.fingerprint import model_sha256
from keras_robust.datasets.labels import read_labels
from keras_robust.datasets.pixels import value_range_of
from keras_robust.datasets.tfds import columns_of
from keras_robust.study.data import StudyData
from keras_robust.study.data import to_unit
from keras_robust.study.data import training_rows
from keras_robust.study.replication.networks import Range
from keras_robust.study.replication.networks import check_pixels
from keras_robust.study.replication.networks import takes_unit_pixels
from keras_robust.study.replication.store import Arrays
from keras_robust.utils.files import read_json
from keras_robust.utils.messages import describe
from keras_robust.utils.messages import did_you_mean

if TYPE_CHECKING:
    from keras_robust.study.study import Study


@dataclass(frozen=True)
class StandIn:
    """What takes the place of a stage.

    Attributes:
        sha256: Hash of it.
        model: A model of images in [0, 1], or `None`.
        arrays: A set as `Replication.generated` returns it, or `None`.
    """

    sha256: str
    model: keras.Model | None = None
    arrays: Arrays | None = None


def gives_model(study: Study, name: str) -> bool:
    """Whether a model of the user takes the place of a trained one.

    Args:
        study: A `Study`.
        name: One of `study.models`.
    """
    taken = study.stand_ins.get(name)
    return taken is not None and taken.model is not None


def gives_set(study: Study, name: str) -> bool:
    """Whether a set of the user takes the place of a generated one.

    Args:
        study: A `Study`.
        name: One of `study.models`.
    """
    taken = study.stand_ins.get(name)
    return taken is not None and taken.arrays is not None


def stand_in(study: Study, name: str, value: Any) -> StandIn:
    """Read and check what shall take the place of a stage, see `Study.use`.

    Args:
        study: A `Study`.
        name: One of `study.models`.
        value: A Keras model, `(x, y)` or a folder.

    Raises:
        ValueError: If the name is unknown, or the value does not fit.
    """
    names = list(study.models)
    if name not in names:
        raise ValueError(
            f"Argument `name` must be one of {names}."
            f"{did_you_mean(name, names)} Received: name={name!r}"
        )
    data = study.read()
    if isinstance(value, keras.Model):
        return _of_model(value, data)
    made = study.training_set(name)
    if not made.is_generated:
        raise ValueError(
            f"What takes the place of {name!r} must be a Keras model: it is "
            "trained on the data set itself. "
            f"Received: value={describe(value)}"
        )
    if isinstance(value, (str, os.PathLike)):
        arrays = _of_folder(Path(value), data)
    elif isinstance(value, (tuple, list)) and len(value) == 2:
        arrays = _of_arrays(value[0], value[1], data, data.value_range)
    else:
        raise ValueError(
            "What takes the place of a stage must be a trained Keras model, "
            "(x, y), or the folder of a generated set. "
            f"Received: value={describe(value)}"
        )
    digest = hashlib.sha256()
    for key in sorted(arrays):
        digest.update(f"{key}{arrays[key].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[key]).data)
    return StandIn(digest.hexdigest(), arrays=arrays)


def _of_model(model: keras.Model, data: StudyData) -> StandIn:
    classifier = Classifier.of(model)
    check_pixels(classifier.model, data.value_range)
    images = data.to_pixels(data.images.train[0][:8])
    classifier.check_shape(images)
    classes = classifier.check(images)
    if classes != data.num_classes:
        raise ValueError(
            f"A model of this study must have {data.num_classes} classes. "
            f"Received: model {model.name!r} with {classes}"
        )
    return StandIn(
        model_sha256(classifier.model),
        model=takes_unit_pixels(classifier.model, data.shape, data.value_range),
    )


def _of_arrays(x: Any, y: Any, data: StudyData, value_range: Range) -> Arrays:
    x = np.asarray(x)
    if x.shape[1:] != data.shape or not len(x):
        raise ValueError(
            f"Images of a set must be of shape {data.shape}, like those of the "
            f"data. Received: an array of shape {x.shape}"
        )
    labels, _ = read_labels(y, len(x))
    if labels.max() >= data.num_classes:
        raise ValueError(
            f"Labels of a set must lie in 0 ... {data.num_classes - 1}. "
            f"Received: labels up to {labels.max()}"
        )
    arrays = {"x": to_unit(x, value_range), "y": labels}
    original = data.images.train[1]
    # A set is made image by image; of another one they are not known.
    arrays["original_label"] = (
        original
        if len(original) == len(labels)
        else np.full(len(labels), -1, "int32")
    )
    return arrays


def _of_folder(folder: Path, data: StudyData) -> Arrays:
    """A set that `datasets.generate` wrote."""
    import tensorflow_datasets as tfds

    path = folder / "description.json"
    if not path.exists():
        raise ValueError(
            "A folder that takes the place of a set must be that of a "
            "generated data set, finished, with its description.json. "
            f"Received: {str(folder)!r}"
        )
    description = read_json(path)
    builder = tfds.builder_from_directory(str(folder))
    rows = columns_of(builder, description["source"]["split"])
    kept = training_rows(rows["original_label"], data.images)
    rows = {key: column[kept] for key, column in rows.items()}
    low, high = value_range_of(description)
    value_range = (float(low), float(high))
    arrays = _of_arrays(rows["image"], rows["label"], data, value_range)
    arrays["original_label"] = rows["original_label"]
    distance = rows["distance"]
    # That of released sets is not known, and so stored as -1.
    if (distance >= 0).all():
        arrays["distance"] = distance
        arrays["success"] = rows["success"]
    return arrays
