"""Images that a generation reads: by row, in their order, with labels."""

import hashlib
import shutil
from pathlib import Path

import numpy as np

from keras_robust.datasets.arrays import is_dataset
from keras_robust.datasets.row_file import RowFile
from keras_robust.datasets.sources import CLASS_NAMES
from keras_robust.datasets.sources import load

_BATCH = 1000


class IndexedSource:
    """Images by row, and all labels.

    Args:
        images: What gives images for an array of rows: float32 or float64 in
            `value_range`, or uint8, then scaled to it.
        labels: Int array `(N,)`.
        class_names: Names of the classes, or `None` for their numbers.
        name: What to call it.
        version: Of the data, as text; or `None`.
        split: Such as `"train"`.
        value_range: `(low, high)`, what uint8 0 and 255 stand for.
        scratch: `None`, or a folder to delete when done.
    """

    def __init__(
        self,
        images,
        labels,
        class_names=None,
        name="images",
        version=None,
        split="train",
        value_range=(0.0, 1.0),
        scratch=None,
    ):
        self._images = images
        self.labels = np.asarray(labels).astype("int32").reshape(-1)
        if len(self.labels) != len(images) or not len(self.labels):
            raise ValueError(
                "A source must hold a label for each image. Received: "
                f"{len(images)} images and {len(self.labels)} labels"
            )
        if class_names is None:
            class_names = [str(c) for c in range(self.labels.max() + 1)]
        self.class_names = list(class_names)
        if self.labels.min() < 0 or self.labels.max() >= len(self.class_names):
            raise ValueError(
                f"Labels must lie in [0, {len(self.class_names) - 1}]. "
                f"Received: {self.labels.min()} to {self.labels.max()}"
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
        images = self._images[rows]
        if images.dtype == np.uint8:
            low, high = self.value_range
            return low + np.float32(images) / 255 * np.float32(high - low)
        return images.astype("float32")

    def description(self):
        """What it is, as plain values."""
        digest = hashlib.sha256(self.labels.tobytes())
        for start in range(0, len(self), _BATCH):
            stop = min(start + _BATCH, len(self))
            rows = np.arange(start, stop)
            digest.update(np.ascontiguousarray(self._images[rows]).data)
        return {
            "name": self.name,
            "version": self.version,
            "split": self.split,
            "examples": len(self),
            "sha256": digest.hexdigest(),
        }

    def close(self):
        """Deletes what was written to read by row."""
        if self.scratch is not None:
            shutil.rmtree(self.scratch, ignore_errors=True)

    @classmethod
    def open(
        cls,
        source,
        scratch,
        split="train",
        examples=None,
        value_range=(0.0, 1.0),
    ):
        """The source that a name, arrays or a data set stand for.

        Args:
            source: `"digits"`, `"cifar10"`, `"fashion_mnist"` or any image
                classification set of TFDS; `(x, y)` arrays; a
                `tf.data.Dataset` of `(x, y)` batches; an `IndexedSource`.
            scratch: Folder for decoded images, where they are read from disk.
            split: Which one, of a name.
            examples: Int, only the first so many; `None` for all.
            value_range: As of the constructor.

        Returns:
            `IndexedSource`.
        """
        if isinstance(source, cls):
            return source
        options = {"split": split, "value_range": value_range}
        if isinstance(source, (tuple, list)) and len(source) == 2:
            x, y = (np.asarray(part)[:examples] for part in source)
            return cls(x, y, **options)
        if source == "digits":
            data = load("digits")
            x, y = (part[:examples] for part in getattr(data, split))
            low, high = value_range
            x = np.float32(low + x * (high - low))
            return cls(x, y, data.class_names, "digits", **options)
        if isinstance(source, str):
            return _from_tfds(cls, source, scratch, examples, options)
        if is_dataset(source):
            return _spooled(cls, source, scratch, examples, options)
        raise ValueError(
            "Argument `source` must be a name, (x, y) arrays or a data set of "
            f"(x, y) batches. Received: {source!r}"
        )


def class_count(name):
    """How many classes a named source has.

    Args:
        name: `"digits"` or the name of a TFDS data set.
    """
    if name == "digits":
        return 10
    import tensorflow_datasets as tfds

    info = tfds.builder(name).info
    return info.features[info.supervised_keys[1]].num_classes


def _from_tfds(cls, name, scratch, examples, options):
    import tensorflow_datasets as tfds

    builder = tfds.builder(name)
    builder.download_and_prepare()
    info = builder.info
    dataset = builder.as_dataset(
        split=options["split"],
        as_supervised=True,
        # Read once: nothing is to stay in memory.
        read_config=tfds.ReadConfig(try_autocache=False),
    )
    label = info.features[info.supervised_keys[1]]
    options = {
        **options,
        "class_names": CLASS_NAMES.get(name, label.names),
        "name": name,
        "version": str(info.version),
    }
    return _spooled(cls, dataset.batch(_BATCH), scratch, examples, options)


def _spooled(cls, dataset, scratch, examples, options):
    """Written to disk once, since a data set cannot be read by row."""
    labels = []

    def batches():
        left = np.inf if examples is None else examples
        for x, y in dataset:
            x, y = np.asarray(x), np.asarray(y)
            take = int(min(left, len(x)))
            labels.append(y[:take])
            yield x[:take]
            left -= take
            if left <= 0:
                return

    scratch = Path(scratch)
    scratch.mkdir(parents=True, exist_ok=True)
    images = RowFile.write(scratch / "images.bin", batches())
    return cls(images, np.concatenate(labels), scratch=scratch, **options)
