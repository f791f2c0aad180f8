"""The images of a study: a data set by name, or the user's own."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from typing import Any

import numpy as np

from keras_robust import datasets
from keras_robust.datasets import readers
from keras_robust.datasets.arrays import as_array
from keras_robust.datasets.arrays import is_dataset
from keras_robust.datasets.arrays import to_arrays
from keras_robust.datasets.image_dataset import ImageDataset
from keras_robust.datasets.labels import read_labels
from keras_robust.datasets.sources import NAMES
from keras_robust.datasets.specification import DataSpecification
from keras_robust.study.replication.networks import UNIT
from keras_robust.study.replication.networks import Range
from keras_robust.utils.messages import describe
from keras_robust.utils.messages import shown

# Data sets of the package. The stages of a study of them are named by the name
# alone.
NAMED = NAMES
# Shapes of their images, which are so known without reading them.
SHAPES = readers.NAMED
BYTE: Range = (0.0, 255.0)
SYMMETRIC: Range = (-1.0, 1.0)
# Channels where a data set does not say how many there are.
_COLORS = 3
# One image in so many is a test image, where a data set has none.
_ONE_IN = 5
# Whole numbers that are no brighter are hardly bytes.
_DARK = 100


@dataclass(frozen=True)
class StudyData:
    """The images of a study, in [0, 1].

    Attributes:
        images: `ImageDataset`: float32 images in [0, 1], int32 labels.
        value_range: `(low, high)`, the range of pixels of the user's data.
        sha256: Hash of images and labels; `None` for a data set by name.
    """

    images: ImageDataset
    value_range: Range = UNIT
    sha256: str | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an image."""
        return tuple(self.images.train[0].shape[1:])

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.images.class_names)

    def to_pixels(self, x: np.ndarray) -> np.ndarray:
        """Images in [0, 1], in the range of the user's data."""
        if self.value_range == UNIT:
            return x
        low, high = self.value_range
        return np.asarray(x * np.float32(high - low) + np.float32(low))


def name_of(data: Any) -> str:
    """A short name of a data set, for titles.

    Args:
        data: See `Study`.
    """
    return data if isinstance(data, str) else "own data"


def check_form(data: Any) -> None:
    """Raise unless data have one of the forms of `read`; reads nothing.

    Args:
        data: See `Study`.

    Raises:
        ValueError: If they have another form.
    """
    if isinstance(data, (str, ImageDataset)):
        return
    pair = isinstance(data, (tuple, list)) and len(data) == 2
    if pair and all(_is_split(split) for split in data):
        return
    raise ValueError(
        "Argument `data` of a study must be ((x, y), (x_test, y_test)), two "
        "data sets of batches (training, test), or the name of a data set: "
        f"{', '.join(NAMED[:4])}, or one of TFDS. "
        f"Received: data={describe(data)}"
    )


def _is_split(split: Any) -> bool:
    if isinstance(split, (tuple, list)):
        return len(split) == 2
    return is_dataset(split)


def read(
    data: Any,
    value_range: Sequence[float] | None = None,
    image_size: tuple[int, int] | None = None,
) -> StudyData:
    """Read the images of a study.

    Args:
        data: See `Study`.
        value_range: `(low, high)` of the pixels; `None` to read it off the
            training images.
        image_size: `(H, W)`, to which images of TFDS and of files are resized;
            `None` for their own.

    Returns:
        `StudyData`.

    Raises:
        ValueError: If they are no images with labels, or the range of their
            pixels is not one of the usual ones.
    """
    check_form(data)
    if isinstance(data, str) and data in NAMED:
        images = datasets.load(data)
        if is_dataset(images.train):
            raise ValueError(
                "A data set of a study must fit into memory. "
                f"Received: data={data!r}, which is read image by image"
            )
        low, high = value_range or UNIT
        return StudyData(images, value_range=(float(low), float(high)))
    if isinstance(data, str):
        images, found = _by_name(data, image_size)
    else:
        images, found = _own(data, value_range)
    if value_range is not None:
        low, high = value_range
        found = (float(low), float(high))
    return StudyData(images, value_range=found, sha256=_sha256(images))


def _by_name(
    data: str, image_size: tuple[int, int] | None
) -> tuple[ImageDataset, Range]:
    """A data set of TFDS, a folder, a file or a function."""
    specification = DataSpecification(data)
    shape: tuple[int | None, ...] | None = None
    if image_size is not None:
        stored = specification.layout("train").shape
        channels = stored[-1] if stored and stored[-1] else _COLORS
        shape = (*image_size, channels)
    splits = ("train", "test") if specification.is_split else ("train",)
    (train, is_byte), *others = (
        specification.read_stored(split, shape=shape, resize=shape is not None)
        for split in splits
    )
    tests = [images for images, _ in others]
    pair = [(part.floats(), part.y) for part in (train, *tests)]
    # One-hot labels may have columns for classes without images.
    names = train.class_names or tuple(map(str, range(train.columns or 0)))
    if not tests:
        x, y = pair[0]
        pair = _divided(x, y, names, data)
    first, second = pair
    own = ImageDataset(first, second, names) if names else pair
    images, _ = _own(own, UNIT)
    return images, BYTE if is_byte else UNIT


def _divided(
    x: np.ndarray, y: np.ndarray, names: Sequence[str], data: str
) -> list[tuple[Any, Any]]:
    """Training and test images, see `tested_rows`."""
    for label, count in zip(*np.unique(y, return_counts=True), strict=True):
        if count < _ONE_IN:
            name = names[label] if names else str(label)
            raise ValueError(
                "Data of a study without test images of their own (folders "
                "train/ and test/, arrays x_train, y_train, x_test, y_test) "
                f"must have {_ONE_IN} images of each class or more: every "
                f"{_ONE_IN}th is a test image. Received: {data!r} with "
                f"{count} of class {name!r}"
            )
    tested = tested_rows(y)
    return [(x[~tested], y[~tested]), (x[tested], y[tested])]


def tested_rows(y: np.ndarray) -> np.ndarray:
    """Which images are test images, of data without a split.

    Args:
        y: Int array `(N,)`, labels.

    Returns:
        Bool array `(N,)`: every so many images of a class.
    """
    rank = np.zeros(len(y), int)
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        rank[rows] = np.arange(len(rows))
    tested: np.ndarray = rank % _ONE_IN == _ONE_IN - 1
    return tested


def training_rows(original: np.ndarray, images: ImageDataset) -> np.ndarray:
    """Which images of a generated set were made of training images.

    Args:
        original: Int array `(N,)`, the labels of what they were made of.
        images: Those of a study.

    Returns:
        Bool array `(N,)`: all, unless the set was made of images without test
        images of their own, some of which a study takes for a test.
    """
    train, test = images.train[1], images.test[1]
    tested = tested_rows(original)
    is_whole = np.array_equal(original[~tested], train) and np.array_equal(
        original[tested], test
    )
    return ~tested if is_whole else np.ones(len(original), bool)


def _own(
    data: Any, value_range: Sequence[float] | None
) -> tuple[ImageDataset, Range]:
    names: tuple[str, ...] = ()
    if isinstance(data, ImageDataset):
        names = tuple(data.class_names)
    splits = [_arrays(split) for split in data]
    (x, y), (x_test, y_test) = splits
    if not len(x) or not len(x_test):
        raise ValueError(
            "A study must have images in both splits. "
            f"Received: {len(x)} training images and {len(x_test)} test images"
        )
    if x.ndim != 4 or x.shape[1:] != x_test.shape[1:]:
        raise ValueError(
            "Images of a study must be of shape (N, H, W, C), with an axis for "
            "a single channel (`x[..., None]`), in both splits. "
            f"Received: {x.shape} and {x_test.shape}"
        )
    labels, width = read_labels(y, len(x))
    test_labels, test_width = read_labels(y_test, len(x_test))
    largest = max(int(labels.max()), int(test_labels.max()))
    smallest = min(int(labels.min()), int(test_labels.min()))
    if smallest and not (names or width or test_width):
        raise ValueError(
            "Labels of a study must be numbers from 0, or have a class without "
            "images that one-hot labels or the `class_names` of an "
            "`ImageDataset` show. "
            f"Received: labels from {smallest} to {largest}"
        )
    count = max(width or 0, test_width or 0, largest + 1, len(names), 2)
    names += tuple(str(number) for number in range(len(names), count))
    found = _range(x) if value_range is None else check_range(value_range)
    if value_range is None and found != UNIT and _is_unit(x_test):
        raise ValueError(
            "Training and test images must be in one range of pixels; give "
            "`value_range` if they are. Received: training images in "
            f"[{found[0]:g}, {found[1]:g}] and test images from "
            f"{x_test.min():g} to {x_test.max():g}"
        )
    images = ImageDataset(
        (to_unit(x, found), labels),
        (to_unit(x_test, found), test_labels),
        names,
    )
    return images, found


def _arrays(split: Any) -> tuple[np.ndarray, Any]:
    """Images and labels of a split, as they are stored."""
    if is_dataset(split):
        spec = getattr(split, "element_spec", None)
        single = isinstance(spec, tuple) and getattr(spec[0], "shape", None)
        if single and single.rank == 3:
            split = split.batch(128)
        x, y = to_arrays(split)
        return x, y
    x, y = split
    return as_array(x, "x"), as_array(y, "y")


def _range(x: np.ndarray) -> Range:
    """The range of pixels that images are in."""
    low, high = float(x.min()), float(x.max())
    if x.dtype == np.uint8:
        return BYTE
    if low >= 0 and high <= 1:
        return UNIT
    if low >= -1 and high <= 1:
        return SYMMETRIC
    if low >= 0 and _DARK < high <= 255:
        return BYTE
    raise ValueError(
        "Argument `value_range` must be given: the pixels of the training "
        "images are in none of [0, 1], [-1, 1] and [0, 255]. "
        f"Received: pixels from {low:g} to {high:g}"
    )


def _is_unit(x: np.ndarray) -> bool:
    """Whether pixels, which are no bytes, are all in [0, 1]."""
    return bool(x.dtype != np.uint8 and x.min() >= 0 and x.max() <= 1)


def check_range(value_range: Any) -> Range:
    """The range of pixels as two floats.

    Args:
        value_range: `(low, high)`.

    Raises:
        ValueError: If it is not two numbers, low < high.
    """
    try:
        low, high = (float(value) for value in value_range)
    except (TypeError, ValueError):
        low = high = 0.0
    if not low < high:
        raise ValueError(
            "Argument `value_range` must be (low, high) with low < high. "
            f"Received: value_range={shown(value_range)}"
        )
    return low, high


def to_unit(x: np.ndarray, value_range: Range) -> np.ndarray:
    """Images in a range of pixels, in [0, 1].

    Args:
        x: Array of images.
        value_range: `(low, high)`.

    Returns:
        Float32 array.

    Raises:
        ValueError: If an image leaves the range, or the images are in [0, 1]
            and the range is that of bytes.
    """
    low, high = check_range(value_range)
    if high > _DARK and _is_unit(x):
        raise ValueError(
            "Argument `value_range` must be that of the images, which the "
            "network takes as they are. Received: "
            f"value_range={shown((low, high))} and pixels from {x.min():g} to "
            f"{x.max():g}"
        )
    # Neither is true of NaN.
    if not (x.min() >= low and x.max() <= high):
        raise ValueError(
            f"Images must lie in the value_range {shown(value_range)}. "
            f"Received: pixels from {x.min():g} to {x.max():g}"
        )
    unit = x.astype("float32")
    if value_range != UNIT:
        unit = (unit - np.float32(low)) / np.float32(high - low)
    return np.clip(unit, 0, 1)


def _sha256(images: ImageDataset) -> str:
    digest = hashlib.sha256(repr(images.class_names).encode())
    for split in images:
        for part in split:
            digest.update(f"{part.dtype}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


def choose(
    data: StudyData,
    train_images: int | None,
    test_images: int | None,
    validation_images: int,
) -> ImageDataset:
    """The images that a study uses.

    Args:
        data: `StudyData`.
        train_images: See `Study`.
        test_images: See `Study`.
        validation_images: See `Study`.

    Returns:
        `ImageDataset` of read-only arrays. The first images, or all of them,
        are no copies.

    Raises:
        ValueError: If nothing is left to train on.
    """
    images = data.images
    count = len(images.train[0])
    if validation_images >= count:
        raise ValueError(
            "A study must leave images to train on: fewer `validation_images` "
            f"than the {count} training images. "
            f"Received: validation_images={validation_images}"
        )
    if validation_images:
        held_out = np.zeros(count, bool)
        if data.sha256 is None:
            held_out[-validation_images:] = True
        else:
            held_out[some_rows(data, count, validation_images)] = True
        images = replace(
            images,
            train=tuple(part[~held_out] for part in images.train),
            test=tuple(part[held_out] for part in images.train),
        )
    train = some_rows(data, len(images.train[0]), train_images)
    test = np.arange(len(images.test[0]))
    if data.sha256 is not None:
        # Some measures take the first so many of these, too.
        np.random.default_rng(0).shuffle(test)
    test = test[:test_images]
    return replace(
        images,
        train=tuple(_taken(part, train) for part in images.train),
        test=tuple(_taken(part, test) for part in images.test),
    )


def _taken(part: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Some rows, read-only: the first ones are a view of what all seeds use."""
    is_first = np.array_equal(rows, np.arange(len(rows)))
    taken = part[: len(rows)] if is_first else part[rows]
    taken.flags.writeable = False
    return taken


def some_rows(data: StudyData, count: int, most: int | None) -> np.ndarray:
    """Rows of training images, in order, for what takes only some of them.

    Args:
        data: `StudyData`.
        count: How many rows there are.
        most: How many are taken, if there are more; `None` for all.

    Returns:
        Increasing int array: the first rows of a data set by name, evenly
        spaced ones of the user's, whose images may be sorted by class.
    """
    chosen = count if most is None else min(most, count)
    if data.sha256 is None:
        return np.arange(chosen)
    return np.linspace(0, count - 1, chosen).round().astype(int)
