"""How each kind of data that a text can name is described and read."""

import re
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from typing import NamedTuple
from typing import Protocol

import numpy as np

from keras_robust.datasets.arrays import check_form
from keras_robust.datasets.arrays import is_dataset
from keras_robust.datasets.arrays import read_data
from keras_robust.datasets.image_dataset import ImageDataset
from keras_robust.datasets.sources import CLASS_NAMES
from keras_robust.datasets.sources import load_named
from keras_robust.datasets.tfds import image_and_label
from keras_robust.datasets.tfds import prepare
from keras_robust.datasets.tfds import supervised
from keras_robust.utils.checks import takes_arguments
from keras_robust.utils.environment import is_installed
from keras_robust.utils.messages import describe
from keras_robust.utils.named_functions import load_function

# Shapes of the package's own sets; all have ten classes.
NAMED = {
    "planted": (16, 16, 1),
    "digits": (8, 8, 1),
    "fashion_mnist": (28, 28, 1),
    "cifar10": (32, 32, 3),
}
# What reading a damaged file raises.
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)
_TFDS_VERSION = re.compile(r"\d+\.(\d+|\*)\.(\d+|\*)")
_BATCH = 1000
SPLITS = ("train", "test")

Shape = tuple[int | None, ...]


class Layout(NamedTuple):
    """What is known of a data set before it is read.

    Attributes:
        shape: Of one image; `None` where it is not known, or for an axis in
            which images differ.
        num_classes: Number of classes, or `None`.
        class_names: Their names, or `None`.
    """

    shape: Shape | None = None
    num_classes: int | None = None
    class_names: tuple[str, ...] | None = None


class Content(NamedTuple):
    """Images and labels as they are stored.

    Attributes:
        x: Array of images.
        y: Labels: integers, or one-hot.
        class_names: Names of the classes, or `None`.
        was_byte: Whether images in [0, 1] were 0 to 255 before they were
            resized.
    """

    x: Any
    y: Any
    class_names: tuple[str, ...] | None = None
    was_byte: bool = False


class Reader(Protocol):
    """One kind of data."""

    @property
    def name(self) -> str:
        """A short name."""
        ...

    @property
    def channels(self) -> tuple[int, ...]:
        """Numbers of channels among which there is a choice."""
        ...

    @property
    def tfds_name(self) -> str | None:
        """Name by which `datasets.generate` reads the same images."""
        ...

    @property
    def numbers_what_is_there(self) -> bool:
        """Whether a class without images would change the labels of others."""
        ...

    @property
    def splits(self) -> tuple[str, ...]:
        """See `DataSpecification.splits`."""
        ...

    def layout(self, split: str) -> Layout:
        """What is known of a split without reading it."""
        ...

    def read(
        self,
        split: str,
        size: Shape | None,
        channels: int | None,
        examples: int | None,
    ) -> Content:
        """Read a split.

        Args:
            split: `"train"` or `"test"`; ignored where there is one only.
            size: `(H, W)` to resize images to, where they are decoded or
                differ in size; `None` for their own.
            channels: Channels to decode, where there is a choice; `None` for
                those of the images.
            examples: How many images are needed, the first ones; `None` for
                all. More may be returned.
        """
        ...


class NamedReader:
    """A data set of the package."""

    channels = ()
    numbers_what_is_there = False
    splits = SPLITS

    def __init__(self, name: str) -> None:
        self.name = name
        self.tfds_name = None if name == "planted" else name

    def layout(self, split: str) -> Layout:
        """See `Reader`."""
        del split
        return Layout(NAMED[self.name], 10, CLASS_NAMES.get(self.name))

    def read(
        self,
        split: str,
        size: Shape | None,
        channels: int | None,
        examples: int | None,
    ) -> Content:
        """See `Reader`."""
        del size, channels, examples
        data = load_named(self.name)
        x, y = getattr(data, split)
        return Content(x, y, class_names=data.class_names)


class NpzReader:
    """A file of NumPy arrays, of which only the names are read at first."""

    channels = ()
    numbers_what_is_there = False
    tfds_name = None
    # Names of images and labels, by split; the first pair that is complete is
    # read.
    PAIRS = {
        "train": (("x_train", "y_train"), ("x", "y"), ("images", "labels")),
        "test": (("x_test", "y_test"), ("x", "y"), ("images", "labels")),
    }
    SINGLE = (("x", "y"), ("images", "labels"))

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.stem
        if not path.is_file() or not zipfile.is_zipfile(path):
            problem = "no .npz file" if path.exists() else "nothing there"
            raise ValueError(
                "Argument `--data` must be an .npz file, as "
                "numpy.savez('images.npz', x=images, y=labels) writes it. "
                f"Received: {path}, {problem}"
            )
        with np.load(path) as arrays:
            self._found = list(arrays)
        pairs = [*self.SINGLE, self.PAIRS["train"][0], self.PAIRS["test"][0]]
        if not any(set(pair) <= set(self._found) for pair in pairs):
            self._refuse(pairs)

    @property
    def splits(self) -> tuple[str, ...]:
        """See `Reader`."""
        if self._names("train") == self._names("test"):
            return ()
        return tuple(split for split in SPLITS if self._names(split))

    def layout(self, split: str) -> Layout:
        """See `Reader`."""
        shape = self._stored_shape(self._names(split, needed=True)[0])
        return Layout(None if shape is None else shape[1:])

    def read(
        self,
        split: str,
        size: Shape | None,
        channels: int | None,
        examples: int | None,
    ) -> Content:
        """See `Reader`."""
        del size, channels, examples
        names = self._names(split, needed=True)
        x, y = (self._array(name) for name in names)
        if x.dtype.kind not in "uif" or x.ndim < 2 or not len(x):
            raise ValueError(
                f"Array {names[0]!r} of `--data` must be numbers of shape "
                f"(N, ...), N >= 1. Received: shape {x.shape}, dtype {x.dtype}"
            )
        return Content(x, y)

    def _names(self, split: str, needed: bool = False) -> tuple[str, ...]:
        pairs = self.PAIRS[split]
        for pair in pairs:
            if set(pair) <= set(self._found):
                return pair
        if needed:
            self._refuse(pairs)
        return ()

    def _refuse(self, pairs: Iterable[tuple[str, ...]]) -> None:
        wanted = ", ".join(" and ".join(pair) for pair in pairs)
        raise ValueError(
            f"Argument `--data` must hold one of the pairs {wanted}. "
            f"Received: {self.path} with the arrays {self._found[:8]}"
        )

    def _stored_shape(self, name: str) -> tuple[int, ...] | None:
        """Shape of an array by the head of its file; `None` if unreadable."""
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        try:
            with (
                zipfile.ZipFile(self.path) as archive,
                archive.open(f"{name}.npy") as file,
            ):
                version = np.lib.format.read_magic(file)
                if version not in readers:
                    return None
                shape: tuple[int, ...] = readers[version](file)[0]
                return shape
        except (*_BROKEN, ValueError, KeyError):
            # What is wrong is said when the array is read.
            return None

    def _array(self, name: str) -> np.ndarray:
        try:
            with np.load(self.path) as arrays:
                found = arrays[name]
        except (*_BROKEN, ValueError) as error:
            if "allow_pickle" in str(error):
                raise ValueError(
                    f"Array {name!r} of `--data` must be an array of numbers, "
                    "such as uint8 or float32: make one of images of one shape "
                    "by `numpy.stack(images)`, and of labels by "
                    "`numpy.asarray(labels, int)`. Received: an array of "
                    f"Python objects (dtype object) in {self.path}"
                ) from None
            raise ValueError(
                f"Array {name!r} of `--data` must be an array of numbers. "
                f"Received: {error}"
            ) from None
        if not isinstance(found, np.ndarray):
            raise ValueError(
                f"Array {name!r} of `--data` must be an array, as "
                "numpy.savez('images.npz', x=images, y=labels) writes it. "
                f"Received: {self.path}, with a file that is not one"
            )
        return found


class TfdsReader:
    """A data set of TFDS, by name or prepared in a folder.

    Args:
        builder: `tfds.core.DatasetBuilder`.
        split: Which split to read whatever is asked for, such as
            `"train[80%:]"`; `None` for the one that is asked for.
        tfds_name: See `Reader`.
    """

    channels = ()
    numbers_what_is_there = False

    def __init__(
        self,
        builder: Any,
        split: str | None = None,
        tfds_name: str | None = None,
    ) -> None:
        self._builder = builder
        self.tfds_name = tfds_name
        self.name = builder.info.name
        self.split = split
        self._image, self._label = image_and_label(builder.info)
        if split is not None:
            self._find(split)

    @classmethod
    def of_name(cls, text: str) -> "TfdsReader":
        """Find a data set by `name`, `name:split` or `name:version:split`."""
        import tensorflow_datasets as tfds

        name, _, rest = text.partition(":")
        version, _, split = rest.partition(":")
        if _TFDS_VERSION.fullmatch(version):
            name = f"{name}:{version}"
        else:
            # A split such as train[80%:] holds colons itself.
            split = rest
        try:
            builder = tfds.builder(name)
        except (tfds.core.DatasetNotFoundError, ValueError) as error:
            first = str(error).strip().splitlines()[0]
            raise ValueError(
                "A data set of TFDS must be tfds:name:split, with a name that "
                f"`tfds.list_builders()` holds. Received: {name!r}: {first}"
            ) from None
        return cls(builder, split or None, None if split else name)

    @classmethod
    def of_folder(cls, folder: Path) -> "TfdsReader":
        """A data set that is prepared in a folder."""
        import tensorflow_datasets as tfds

        builder = tfds.builder_from_directory(folder)
        splits = list(builder.info.splits)
        return cls(builder, splits[0] if len(splits) == 1 else None)

    @staticmethod
    def knows(name: str) -> bool:
        """Whether TFDS has a data set of a name."""
        if not re.fullmatch(r"[a-z]\w*(/[\w.-]+)?", name):
            return False
        if not is_installed("tensorflow_datasets"):
            return False
        import tensorflow_datasets as tfds

        known = tfds.list_builders(with_community_datasets=False)
        return name.partition("/")[0] in known

    @property
    def splits(self) -> tuple[str, ...]:
        """See `Reader`."""
        return SPLITS if self.split is None else ()

    def layout(self, split: str) -> Layout:
        """See `Reader`."""
        self._find(self.split or split)
        names = CLASS_NAMES.get(self.name, self._label.names)
        return Layout(
            tuple(self._image.shape), int(self._label.num_classes), tuple(names)
        )

    def read(
        self,
        split: str,
        size: Shape | None,
        channels: int | None,
        examples: int | None,
    ) -> Content:
        """See `Reader`."""
        prepare(self._builder)
        dataset = supervised(self._builder, self._find(self.split or split))
        del channels
        if examples is not None:
            dataset = dataset.take(examples)
        was_byte = False
        if size is not None and None in self._image.shape:
            was_byte = dataset.element_spec[0].dtype.is_integer
            dataset = dataset.map(_resizing(size))
        x, y = self._arrays(dataset)
        return Content(x, y, self.layout(split).class_names, was_byte)

    def _arrays(self, dataset: Any) -> tuple[Any, Any]:
        import tensorflow as tf

        try:
            return read_data(dataset.batch(_BATCH))
        except tf.errors.InvalidArgumentError as error:
            raise ValueError(
                f"Images of {self.name} must be of one size, or resized "
                f"(--resize). Received: {str(error).splitlines()[0]}"
            ) from None

    def _find(self, split: str) -> str:
        """The split's own name, checked as soon as the splits are known."""
        known = list(self._builder.info.splits or ())
        if not known or re.split(r"[\[+]", split)[0] in (*known, "all"):
            return split
        if self.split is None and split == "test" and "validation" in known:
            return "validation"
        raise ValueError(
            f"The split of {self.name} must be one of {known}, or a part of "
            f"one, as in tfds:{self.name}:{known[0]}[80%:]. "
            f"Received: {split!r}"
        )


def _resizing(size: Shape | None) -> Any:
    import tensorflow as tf

    def resize(image: Any, label: Any) -> tuple[Any, Any]:
        resized = tf.image.resize(tf.cast(image, "float32"), size)
        # Floats may be in [0, 1] already.
        return resized / (255 if image.dtype.is_integer else 1), label

    return resize


class FunctionReader:
    """A function of the user's that returns images and labels."""

    channels = ()
    numbers_what_is_there = False
    tfds_name = None

    def __init__(self, text: str) -> None:
        self._text = text
        self._function = load_function(text, "--data")
        if not takes_arguments(self._function, 0):
            raise ValueError(
                f"The function {text} must be one that can be called without "
                f"arguments. Received: {describe(self._function)}"
            )
        self.name = self._function.__name__
        self._returned: Any = None
        # A generator gives its images once.
        self._read: dict[str, Content] = {}

    @property
    def splits(self) -> tuple[str, ...]:
        """See `Reader`; runs the function."""
        data = self._data()
        both = isinstance(data, ImageDataset) or _are_two(data)
        return SPLITS if both else ()

    def layout(self, split: str) -> Layout:
        """See `Reader`: nothing is known before the function has run."""
        del split
        return Layout()

    def read(
        self,
        split: str,
        size: Shape | None,
        channels: int | None,
        examples: int | None,
    ) -> Content:
        """See `Reader`."""
        del size, channels, examples
        part = split if self.splits else ""
        if part not in self._read:
            self._read[part] = self._content(part)
        return self._read[part]

    def _content(self, split: str) -> Content:
        data, names = self._data(), None
        if isinstance(data, ImageDataset):
            data, names = getattr(data, split), data.class_names
        elif split:
            data = data[SPLITS.index(split)]
        x, y = read_data(data)
        return Content(x, y, names)

    def _data(self) -> Any:
        if self._returned is None:
            self._returned = self._function()
        data = self._returned
        try:
            if not isinstance(data, ImageDataset):
                check_form(data)
        except ValueError as error:
            raise ValueError(
                f"The function {self._text} must return images and labels: "
                "(x, y), ((x, y), (x_test, y_test)), a data set of batches "
                "(x, y), or a kr.datasets.ImageDataset. "
                f"Received: {describe(data)}"
            ) from error
        return data


def _are_two(data: Any) -> bool:
    """Whether a function has returned training and test images."""
    if not (isinstance(data, tuple) and len(data) == 2):
        return False
    return all(
        len(part) == 2 if isinstance(part, tuple) else is_dataset(part)
        for part in data
    )
