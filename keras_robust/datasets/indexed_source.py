"""Images that a generation reads: by row, in their order, with labels."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from keras_robust.attacks import checks
from keras_robust.datasets.arrays import as_array
from keras_robust.datasets.arrays import describe
from keras_robust.datasets.arrays import is_dataset
from keras_robust.datasets.elements import as_pairs
from keras_robust.datasets.elements import check_ends
from keras_robust.datasets.elements import read_element
from keras_robust.datasets.labels import read_labels
from keras_robust.datasets.pixels import as_floats
from keras_robust.datasets.row_file import RowFile
from keras_robust.datasets.sources import CLASS_NAMES
from keras_robust.datasets.sources import load
from keras_robust.messages import shown

_BATCH = 1000


class IndexedSource:
    """Images by row, and all labels.

    Args:
        images: What gives images for an array of rows: float32 or float64 in
            `value_range`, or uint8, then scaled to it.
        labels: Integers `(N,)` or `(N, 1)`, or one-hot `(N, C)`.
        class_names: Names of the classes, or `None` where nobody says how
            many there are.
        name: What to call it.
        version: Of the data, as text; or `None`.
        split: Such as `"train"`.
        value_range: `(low, high)`, what uint8 0 and 255 stand for.
        scratch: `None`, or a folder to delete when done.
        width: C of one-hot labels that `labels` were read from, or `None`.
    """

    def __init__(
        self,
        images: Any,
        labels: Any,
        class_names: Any = None,
        name: str = "images",
        version: str | None = None,
        split: str = "train",
        value_range: Any = (0.0, 1.0),
        scratch: Any = None,
        width: int | None = None,
    ) -> None:
        self._images = images
        self.labels, found = read_labels(labels, len(images))
        self.width = width or found
        if not len(self.labels):
            raise ValueError("A source must hold images. Received: none")
        self.class_names = None if class_names is None else list(class_names)
        most = self.labels.max()
        if class_names is not None and most >= len(self.class_names):
            raise ValueError(
                f"Labels must lie in 0 ... {len(self.class_names) - 1}, one "
                "for each of `class_names`. "
                f"Received: labels from {self.labels.min()} to {most}"
            )
        self.name = name
        self.version = version
        self.split = split
        self.value_range = tuple(value_range)
        self.scratch = scratch

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, rows):
        """Float32 images of the given rows."""
        images = as_floats(self._images[rows], self.value_range)
        return images.astype("float32")

    def description(self) -> dict:
        """What it is, as plain values.

        All images are read for it, so all are looked at.

        Raises:
            ValueError: If an image is out of range.
        """
        digest = hashlib.sha256(self.labels.tobytes())
        for start in range(0, len(self), _BATCH):
            stop = min(start + _BATCH, len(self))
            images = self._images[np.arange(start, stop)]
            digest.update(np.ascontiguousarray(images).data)
            images = as_floats(images, self.value_range)
            checks.check_images(images.astype("float32"), self.value_range)
        return {
            "name": self.name,
            "version": self.version,
            "split": self.split,
            "examples": len(self),
            "sha256": digest.hexdigest(),
        }

    def close(self) -> None:
        """Deletes what was written to read by row."""
        if self.scratch is not None:
            shutil.rmtree(self.scratch, ignore_errors=True)

    @classmethod
    def open(
        cls,
        source: Any,
        scratch: Any,
        split: str = "train",
        examples: int | None = None,
        value_range: Any = (0.0, 1.0),
        rank: int | None = None,
    ) -> Any:
        """The source that a name, arrays or a data set stand for.

        Args:
            source: `"digits"`, `"cifar10"`, `"fashion_mnist"` or any image
                classification set of TFDS; `(x, y)` arrays; a
                `tf.data.Dataset` of `(x, y)` batches; an `IndexedSource`.
            scratch: Folder for decoded images, where they are read from disk.
            split: Which one, of a name.
            examples: Int, only the first so many; `None` for all.
            value_range: As of the constructor.
            rank: How many axes a batch of images has, where that is known.

        Returns:
            `IndexedSource`.

        Raises:
            ValueError: If it is none of them.
        """
        if isinstance(source, cls):
            return source
        options = {"split": split, "value_range": value_range}
        pair = isinstance(source, (tuple, list)) and len(source) == 2
        if pair and not is_dataset(source):
            x = as_array(source[0], "x")
            y, width = read_labels(source[1], len(x))
            return cls(x[:examples], y[:examples], width=width, **options)
        if isinstance(source, str) and source == "digits":
            data = load("digits")
            if split not in ("train", "test"):
                raise ValueError(
                    "Argument `split` of digits must be 'train' or 'test'. "
                    f"Received: split={shown(split)}"
                )
            x, y = (part[:examples] for part in getattr(data, split))
            low, high = value_range
            x = np.float32(low + x * (high - low))
            return cls(x, y, data.class_names, "digits", **options)
        if isinstance(source, str):
            return _from_tfds(cls, source, scratch, examples, options)
        if is_dataset(source):
            if hasattr(source, "element_spec"):
                source = as_pairs(source, "source", rank)
            if examples is None:
                check_ends(source, "source")
            return _spooled(cls, source, scratch, examples, options)
        raise ValueError(
            "Argument `source` must be a name, (x, y) arrays or a data set of "
            f"(x, y) batches. Received: {describe(source)}"
        )


def class_count(name: str) -> int:
    """How many classes a named source has.

    Args:
        name: `"digits"` or the name of a TFDS data set.
    """
    if name == "digits":
        return 10
    import tensorflow_datasets as tfds

    return _label_of(tfds.builder(name).info).num_classes


def _label_of(info):
    """The feature of the labels of a TFDS classification set."""
    keys = info.supervised_keys
    label = info.features[keys[1]] if keys and len(keys) == 2 else None
    if not hasattr(label, "names"):
        raise ValueError(
            "Argument `source` must be an image classification set. "
            f"Received: {info.full_name}, supervised_keys={keys}"
        )
    return label


def _from_tfds(cls, name, scratch, examples, options):
    import tensorflow_datasets as tfds

    builder = tfds.builder(name)
    label = _label_of(builder.info)
    builder.download_and_prepare()
    info = builder.info
    dataset = builder.as_dataset(
        split=options["split"],
        as_supervised=True,
        # Read once: nothing is to stay in memory.
        read_config=tfds.ReadConfig(try_autocache=False),
    )
    options = {
        **options,
        "class_names": CLASS_NAMES.get(name, label.names),
        "name": name,
        "version": str(info.version),
    }
    return _spooled(cls, dataset.batch(_BATCH), scratch, examples, options)


def _spooled(cls, dataset, scratch, examples, options):
    """Written to disk once, since a data set cannot be read by row."""
    labels, widths = [], set()

    def batches():
        left = np.inf if examples is None else examples
        for element in dataset:
            x, y, width = read_element(element, "source")
            widths.add(width)
            take = int(min(left, len(x)))
            labels.append(y[:take])
            yield x[:take]
            left -= take
            if left <= 0:
                return

    scratch = Path(scratch)
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        images = RowFile.write(scratch / "images.bin", batches())
        if len(widths) > 1:
            raise ValueError(
                "Labels must have one form in all batches. "
                f"Received: one-hot labels of {widths} columns"
            )
        return cls(
            images,
            np.concatenate(labels),
            scratch=scratch,
            width=widths.pop(),
            **options,
        )
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
