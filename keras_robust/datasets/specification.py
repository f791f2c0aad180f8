"""Images and labels that a text names, such as the value of `--data`."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from keras import ops

from keras_robust.datasets.image_dataset import ImageDataset
from keras_robust.datasets.image_folder import FolderReader
from keras_robust.datasets.labels import read_labels
from keras_robust.datasets.pixels import check_units
from keras_robust.datasets.pixels import is_byte
from keras_robust.datasets.pixels import to_unit
from keras_robust.datasets.readers import NAMED
from keras_robust.datasets.readers import SPLITS
from keras_robust.datasets.readers import Content
from keras_robust.datasets.readers import FunctionReader
from keras_robust.datasets.readers import Layout
from keras_robust.datasets.readers import NamedReader
from keras_robust.datasets.readers import NpzReader
from keras_robust.datasets.readers import Reader
from keras_robust.datasets.readers import Shape
from keras_robust.datasets.readers import TfdsReader
from keras_robust.utils.checks import check_positive_integer
from keras_robust.utils.messages import describe
from keras_robust.utils.messages import did_you_mean
from keras_robust.utils.messages import shown
from keras_robust.utils.named_functions import names_function

FORMS = (
    "a folder with a subfolder for each class, an .npz file with arrays x and "
    "y, tfds:name:split, module:function, file.py:function, or one of "
    f"{', '.join(NAMED)}"
)
_BATCH = 256


class LabelledImages(NamedTuple):
    """Images with labels.

    Attributes:
        x: Array `(N, ...)`: uint8, or float32 in [0, 1].
        y: Int32 array `(N,)`.
        columns: Number of columns of one-hot labels; `None` where labels are
            numbers.
        class_names: Names of the classes, or `None`.
    """

    x: np.ndarray
    y: np.ndarray
    columns: int | None
    class_names: tuple[str, ...] | None

    def floats(self) -> np.ndarray:
        """The images in float32, in [0, 1]."""
        images: np.ndarray = to_unit(self.x)
        return images


class DataSpecification:
    """Images and labels that a text names; nothing is read yet.

    | text | what is read |
    |---|---|
    | `images/test` | a folder with a subfolder for each class, by `keras.utils.image_dataset_from_directory`; or `train/` and `test/` with such subfolders |
    | `images.npz` | NumPy arrays `x` and `y`, `images` and `labels`, or `x_train`, `y_train`, `x_test` and `y_test` |
    | `tfds:name:split` | an image classification set of TensorFlow Datasets; the split may be left out |
    | `data/mine/rand/1.0.0` | a set that TFDS or `datasets.generate` prepared |
    | `module:function`, `file.py:function` | what the function returns: `(x, y)`, `((x, y), (x_test, y_test))`, a data set of batches, or an `ImageDataset` |
    | `digits` | a data set of the package, see `load`; `./digits` is a folder |

    Pixels are in [0, 1] or 0 to 255, labels integers or one-hot.

    Args:
        text: One of the forms above.

    Raises:
        ValueError: If it has another form, or there is nothing of that name.

    Attributes:
        text: As given.
        name: A short name of the data.

    Example:

    ```python
    data = keras_robust.datasets.DataSpecification("tfds:kmnist")
    x, y, _, class_names = data.read("test", shape=(28, 28, 1))
    ```
    """  # noqa: E501

    def __init__(self, text: str) -> None:
        if not isinstance(text, str) or not text:
            raise ValueError(
                f"Data must be named by a text: {FORMS}. "
                f"Received: {describe(text)}"
            )
        self.text = text
        self._reader = _reader_of(text)

    @property
    def name(self) -> str:
        """A short name of the data."""
        return self._reader.name

    @property
    def tfds_name(self) -> str | None:
        """The name by which `datasets.generate` reads the same images.

        `None` for files and for a split of one's own, which have no such name.
        """
        return self._reader.tfds_name

    @property
    def is_split(self) -> bool:
        """Whether there are training and test images."""
        return len(self.splits) == 2

    @property
    def splits(self) -> tuple[str, ...]:
        """Those of `"train"` and `"test"` that there are.

        Empty where there is one set of images, which is read for both.
        """
        return self._reader.splits

    def __repr__(self) -> str:
        return f"DataSpecification({self.text!r})"

    def layout(self, split: str = "test") -> Layout:
        """What is known before anything is downloaded or computed.

        Args:
            split: `"train"` or `"test"`.

        Returns:
            `Layout(shape, num_classes, class_names)`, each `None` where it is
            not known.
        """
        return self._reader.layout(_check_split(split))

    def count_classes(self, split: str = "train") -> int:
        """Count the classes; reads the labels where nothing says it.

        Then the largest label counts, of training and test images together:
        a part of the images may lack the last classes.

        Args:
            split: `"train"` or `"test"`, which is asked for the names of the
                classes.

        Returns:
            Int >= 1.
        """
        known = self.layout(split).num_classes
        if known is not None:
            return known
        counts = []
        for each in self.splits or (split,):
            content = self._reader.read(each, None, None, None)
            labels, columns = read_labels(content.y, len(content.x))
            named = len(content.class_names or ())
            counts.append(named or columns or int(labels.max()) + 1)
        return max(counts)

    def check_fit(
        self,
        shape: Shape,
        num_classes: int | None = None,
        split: str = "test",
        resize: bool = False,
    ) -> None:
        """Raise if a model is known not to fit; downloads nothing.

        Args:
            shape: Of one image as the model takes it, `None` for an axis of
                any length.
            num_classes: Classes that the model tells apart, if known.
            split: `"train"` or `"test"`.
            resize: Whether images will be resized to `shape`.

        Raises:
            ValueError: If images are of another shape, of more classes, or in
                folders of fewer classes, whose labels would not be the model's.
        """
        layout = self.layout(split)
        if resize and (len(shape) != 3 or None in shape):
            raise ValueError(
                "To resize images, the model must take images of a fixed "
                f"shape (H, W, C). Received: a model of input shape {shape}"
            )
        if layout.shape is not None:
            _check_shape(
                layout.shape, shape, resize, self.text, self._reader.channels
            )
        found = layout.num_classes
        if num_classes is None or found is None:
            return
        if found > num_classes:
            raise ValueError(
                f"The model must tell the {found} classes of {self.text} "
                f"apart. Received: a model of {num_classes} classes"
            )
        if found < num_classes and self._reader.numbers_what_is_there:
            raise ValueError(
                f"{self.text} must hold a folder with images for each of the "
                f"{num_classes} classes of the model: classes are numbered in "
                "the order of their folders, and a missing one changes the "
                "labels of others. Give labels in an .npz file or by a "
                f"function instead. Received: {found} classes, "
                f"{shown(layout.class_names)}"
            )

    def read(
        self,
        split: str = "test",
        shape: Shape | None = None,
        num_classes: int | None = None,
        resize: bool = False,
        examples: int | None = None,
    ) -> LabelledImages:
        """Read images and labels, after checking that they fit.

        Args:
            split: `"train"` or `"test"`, where the data have both and the text
                names none; otherwise there is one, which is read.
            shape: Of one image as the model takes it; `None` for any.
            num_classes: Classes that the model tells apart; `None` for any.
            resize: Whether to resize images to `shape`, bilinearly as
                `keras.layers.Resizing` does.
            examples: Int, how many images from the first on; `None` for all.
                The images of a folder come in an order that is drawn once.

        Returns:
            `LabelledImages`.

        Raises:
            ValueError: If data are not as `DataSpecification` says, or do not
                fit the model.
        """
        return self.read_stored(split, shape, num_classes, resize, examples)[0]

    def read_stored(
        self,
        split: str = "test",
        shape: Shape | None = None,
        num_classes: int | None = None,
        resize: bool = False,
        examples: int | None = None,
    ) -> tuple[LabelledImages, bool]:
        """Read as `read` does, and say how pixels are stored.

        Args:
            split: See `read`.
            shape: See `read`.
            num_classes: See `read`.
            resize: See `read`.
            examples: See `read`.

        Returns:
            `(images, is_byte)`: whether they are stored as 0 to 255.

        Raises:
            ValueError: See `read`.
        """
        if examples is not None:
            examples = check_positive_integer(examples, "examples")
        size: Shape | None = None
        channels: int | None = None
        if shape is not None:
            self.check_fit(shape, num_classes, split, resize)
            channels = shape[-1] if len(shape) == 3 else None
            size = shape[:2] if resize else None
        content = self._reader.read(
            _check_split(split), size, channels, examples
        )
        data = _checked(content, size, examples)
        if shape is not None:
            _check_shape(data.x.shape[1:], shape, resize, self.text)
        if num_classes is not None:
            _check_labels(data, num_classes)
        return data, content.was_byte or is_byte(content.x)

    def load(self, size: tuple[int, int] | None = None) -> ImageDataset:
        """Read training and test images.

        Args:
            size: `(H, W)` to resize them to; `None` for their own.

        Returns:
            `ImageDataset`, of float32 images in [0, 1].

        Raises:
            ValueError: If there are no training and test images.
        """
        if not self.is_split:
            raise ValueError(
                "Data must hold training and test images: folders train/ and "
                "test/, arrays x_train, y_train, x_test and y_test, a set of "
                "TFDS without :split, or a function that returns "
                f"((x, y), (x_test, y_test)). Received: {self.text!r}"
            )
        train, test = (
            _checked(self._reader.read(split, size, None, None), size, None)
            for split in SPLITS
        )
        if train.x.shape[1:] != test.x.shape[1:]:
            raise ValueError(
                "Training and test images must have one shape. Received: "
                f"{train.x.shape[1:]} and {test.x.shape[1:]} of {self.text!r}"
            )
        names = train.class_names or tuple(
            str(label) for label in range(_count(train, test))
        )
        return ImageDataset(
            (train.floats(), train.y), (test.floats(), test.y), names
        )


def _reader_of(text: str) -> Reader:
    """The reader of a text; errors here cost nothing."""
    path = Path(text)
    if text in NAMED:
        return NamedReader(text)
    if text.startswith("tfds:"):
        return TfdsReader.of_name(text.removeprefix("tfds:"))
    if path.is_dir():
        if (path / "dataset_info.json").exists():
            return TfdsReader.of_folder(path)
        return FolderReader(path)
    if path.suffix == ".npz":
        return NpzReader(path)
    if names_function(text):
        return FunctionReader(text)
    if TfdsReader.knows(text):
        return TfdsReader.of_name(text)
    raise ValueError(
        f"Data must be {FORMS}.{did_you_mean(text, NAMED)} Received: {text!r}"
    )


def _check_split(split: str) -> str:
    if split not in SPLITS:
        raise ValueError(
            f"Argument `split` must be one of {SPLITS}. "
            f"Received: split={split!r}"
        )
    return split


def _check_shape(
    found: Shape,
    wanted: Shape,
    resize: bool,
    text: str,
    channels: tuple[int, ...] = (),
) -> None:
    """Raise unless a model takes images of a shape, resized if asked for."""
    fits = len(found) == len(wanted)
    is_size = fits and len(found) == 3
    for axis, (one, other) in enumerate(zip(found, wanted, strict=False)):
        if resize and is_size and axis < 2:
            continue
        if axis == 2 and channels:
            fits = fits and other in (None, *channels)
        else:
            fits = fits and other in (None, one)
    if fits:
        return
    hint = ""
    if is_size and not resize and wanted[2] in (None, found[2], *channels):
        hint = ", or the images be resized (--resize)"
    elif wanted == (*found, 1):
        hint = ", or the images an axis for the one channel, x[..., None]"
    raise ValueError(
        f"The model must take images of shape {found} for {text}{hint}. "
        f"Received: a model of input shape {wanted}"
    )


def _check_labels(data: LabelledImages, classes: int) -> None:
    """Raise if labels do not match the number of classes of a model."""
    if data.columns not in (None, classes):
        raise ValueError(
            f"One-hot labels must have a column for each of the {classes} "
            f"classes of the model. Received: {data.columns} columns"
        )
    if data.y.max() >= classes:
        raise ValueError(
            f"Labels must lie in 0 ... {classes - 1}, the classes of the "
            f"model. Received: labels from {data.y.min()} to {data.y.max()}"
        )


def _checked(
    content: Content, size: Shape | None, examples: int | None
) -> LabelledImages:
    """Images and labels in the form that `read` returns."""
    x, y = content.x, content.y
    if not isinstance(x, np.ndarray) or x.ndim < 2 or not len(x):
        raise ValueError(
            "Images must be numbers of shape (N, ...), N >= 1. "
            f"Received: {describe(x)}"
        )
    labels, columns = read_labels(y, len(x))
    x, labels = x[:examples], labels[:examples]
    check_units(x)
    if x.dtype != "uint8":
        x = to_unit(x).astype("float32", copy=False)
        if not (x.min() >= 0 and x.max() <= 1):
            raise ValueError(
                "Images must be pixels in [0, 1] or 0 to 255; for other inputs "
                "call kr.evaluate_robustness with `value_range`. "
                f"Received: values in [{content.x.min():g}, "
                f"{content.x.max():g}]"
            )
    if size is not None and x.shape[1:3] != size:
        x = _resized(x, size)
    return LabelledImages(x, labels, columns, content.class_names)


def _resized(x: np.ndarray, size: Shape) -> np.ndarray:
    if x.ndim != 4:
        # Keras would take a batch without channels for one image.
        raise ValueError(
            "Images to be resized must be of shape (N, H, W, C), with an axis "
            "for a single channel (`x[..., None]`). "
            f"Received: images of shape {x.shape}"
        )
    parts = []
    for start in range(0, len(x), _BATCH):
        images = to_unit(x[start : start + _BATCH])
        made = ops.image.resize(images, size, data_format="channels_last")
        parts.append(np.clip(ops.convert_to_numpy(made), 0, 1))
    return np.concatenate(parts)


def _count(*parts: LabelledImages) -> int:
    return max(part.columns or int(part.y.max()) + 1 for part in parts)
