"""Sources of generated data sets: images by row, with labels."""

import hashlib
import os
import shutil
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_robust.datasets.arrays import EndlessWatch
from keras_robust.datasets.arrays import as_array
from keras_robust.datasets.arrays import has_known_length
from keras_robust.datasets.arrays import is_dataset
from keras_robust.datasets.elements import as_pairs
from keras_robust.datasets.elements import read_element
from keras_robust.datasets.generation.row_file import RowFile
from keras_robust.datasets.labels import read_labels
from keras_robust.datasets.pixels import as_floats
from keras_robust.datasets.sources import CLASS_NAMES
from keras_robust.datasets.sources import load
from keras_robust.datasets.tfds import image_and_label
from keras_robust.datasets.tfds import prepare
from keras_robust.datasets.tfds import supervised
from keras_robust.utils import array_checks
from keras_robust.utils import checks
from keras_robust.utils.messages import describe
from keras_robust.utils.messages import shown

_BATCH = 1000
# What ends a data set.
_REMEDY = "say by `examples` how many images to take"


class IndexedSource:
    """Images by row, and all labels.

    Args:
        images: Array or `RowFile` of images: float32 or float64 in
            `value_range`, or uint8, then scaled to it.
        labels: Integers `(N,)` or `(N, 1)`, or one-hot `(N, C)`.
        class_names: Names of the classes, or `None` where their number is
            not known.
        name: Name for messages and the description.
        version: Version of the data, or `None`.
        split: Such as `"train"`.
        value_range: `(low, high)`, the values of uint8 0 and 255.
        scratch: `None`, or a folder that `close` deletes.
        width: C where `labels` were one-hot before, or `None`.
    """

    def __init__(
        self,
        images: Any,
        labels: Any,
        class_names: Sequence[str] | None = None,
        name: str = "images",
        version: str | None = None,
        split: str = "train",
        value_range: Any = (0.0, 1.0),
        scratch: Path | None = None,
        width: int | None = None,
    ) -> None:
        self._images = images
        self.labels, found = read_labels(labels, len(images))
        self.width = width or found
        if not len(self.labels):
            raise ValueError("A source must hold images. Received: none")
        self.class_names = None if class_names is None else list(class_names)
        most = self.labels.max()
        if self.class_names is not None and most >= len(self.class_names):
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

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Float32 images of the given rows."""
        images = as_floats(self._images[rows], self.value_range)
        return images.astype("float32")

    def description(self) -> dict[str, Any]:
        """Describe the source by plain values; reads and checks all images.

        Raises:
            ValueError: If an image is out of range.
        """
        digest = hashlib.sha256(self.labels.tobytes())
        for start in range(0, len(self), _BATCH):
            stop = min(start + _BATCH, len(self))
            images = self._images[np.arange(start, stop)]
            digest.update(np.ascontiguousarray(images).data)
            images = as_floats(images, self.value_range)
            array_checks.check_images(
                images.astype("float32"), self.value_range
            )
        return {
            "name": self.name,
            "version": self.version,
            "split": self.split,
            "examples": len(self),
            "sha256": digest.hexdigest(),
        }

    def close(self) -> None:
        """Delete what was written to read images by row."""
        if self.scratch is not None:
            shutil.rmtree(self.scratch, ignore_errors=True)

    @classmethod
    def open(
        cls,
        source: Any,
        scratch: str | os.PathLike[str],
        split: str = "train",
        examples: int | None = None,
        value_range: Any = (0.0, 1.0),
        rank: int | None = None,
    ) -> "IndexedSource":
        """Open a source: a name, arrays or a data set.

        Args:
            source: `"digits"`, `"cifar10"`, `"fashion_mnist"` or any image
                classification set of TFDS; `(x, y)` arrays; a
                `tf.data.Dataset` of `(x, y)` batches; an `IndexedSource`.
            scratch: Folder for decoded images, where they are read from disk.
            split: Split of a named set.
            examples: Int, how many images from the first on; `None` for all.
            value_range: As of the constructor.
            rank: How many axes a batch of images has, where that is known.

        Returns:
            `IndexedSource`.

        Raises:
            ValueError: If `source` is anything else.
        """
        if isinstance(source, cls):
            return source
        if examples is not None:
            examples = checks.check_positive_integer(examples, "examples")
        options: dict[str, Any] = {"split": split, "value_range": value_range}
        pair = isinstance(source, (tuple, list)) and len(source) == 2
        if pair and not is_dataset(source):
            x = as_array(source[0], "x")
            y, width = read_labels(source[1], len(x))
            return cls(x[:examples], y[:examples], width=width, **options)
        if isinstance(source, str) and source == "digits":
            return _from_digits(examples, options)
        scratch = Path(scratch)
        if isinstance(source, str):
            return _from_tfds(source, scratch, examples, options)
        if is_dataset(source):
            if hasattr(source, "element_spec"):
                source = as_pairs(source, "source", rank)
            return _spooled(source, scratch, examples, options)
        raise ValueError(
            "Argument `source` must be a name, (x, y) arrays or a data set of "
            f"(x, y) batches. Received: {describe(source)}"
        )


def _from_digits(
    examples: int | None, options: dict[str, Any]
) -> IndexedSource:
    data = load("digits")
    split = options["split"]
    if split not in ("train", "test"):
        raise ValueError(
            "Argument `split` of digits must be 'train' or 'test'. "
            f"Received: split={shown(split)}"
        )
    x, y = (part[:examples] for part in getattr(data, split))
    low, high = options["value_range"]
    return IndexedSource(
        # Clipped, since rounding can lead beyond the range.
        np.clip(low + x * (high - low), low, high, dtype="float32"),
        labels=y,
        class_names=data.class_names,
        name="digits",
        **options,
    )


def _from_tfds(
    name: str, scratch: Path, examples: int | None, options: dict[str, Any]
) -> IndexedSource:
    import tensorflow_datasets as tfds

    builder = tfds.builder(name)
    _, label = image_and_label(builder.info)
    prepare(builder)
    info = builder.info
    dataset = supervised(
        builder,
        options["split"],
        # Read once: nothing is to stay in memory.
        read_config=tfds.ReadConfig(try_autocache=False),
    )
    options = {
        **options,
        "class_names": CLASS_NAMES.get(name, label.names),
        "name": name,
        "version": str(info.version),
    }
    return _spooled(dataset.batch(_BATCH), scratch, examples, options)


def _spooled(
    dataset: Iterable[Any],
    scratch: Path,
    examples: int | None,
    options: dict[str, Any],
) -> IndexedSource:
    """Write a data set to disk once, since it cannot be read by row."""
    watch = None
    if examples is None and not has_known_length(dataset, _REMEDY):
        watch = EndlessWatch(_REMEDY, in_memory=False)
    labels: list[np.ndarray] = []
    widths: set[int | None] = set()

    def batches() -> Iterator[np.ndarray]:
        left = np.inf if examples is None else examples
        for element in dataset:
            x, y, width = read_element(element, "source")
            widths.add(width)
            if watch:
                watch.add((x, y))
            take = int(min(left, len(x)))
            labels.append(y[:take])
            yield x[:take]
            left -= take
            if left <= 0:
                return

    scratch.mkdir(parents=True, exist_ok=True)
    try:
        images = RowFile.write(scratch / "images.bin", batches())
        if len(widths) > 1:
            raise ValueError(
                "Labels must have one form in all batches. "
                f"Received: one-hot labels of {widths} columns"
            )
        return IndexedSource(
            images,
            np.concatenate(labels),
            scratch=scratch,
            width=widths.pop(),
            **options,
        )
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
