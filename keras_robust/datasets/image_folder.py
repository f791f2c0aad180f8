"""Folders of image files with a subfolder for each class."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_robust.datasets.readers import Content
from keras_robust.datasets.readers import Layout
from keras_robust.datasets.readers import Shape
from keras_robust.utils.messages import shown

# What `keras.utils.image_dataset_from_directory` reads.
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")
# Folders of training and test images, by split, each with a folder per class.
_SPLITS = {
    "train": ("train", "training"),
    "test": ("test", "val", "validation"),
}
_COLORS = {1: "grayscale", 3: "rgb", 4: "rgba"}
# Modes of Pillow without colors.
_GRAY = ("1", "L", "I", "I;16")
_BATCH = 100


class FolderReader:
    """Image files in a subfolder for each class, read by Keras.

    Classes are numbered in the order of their names. Test images have the
    numbers of the training images, whichever classes they are of.

    Args:
        folder: Holds the folders of the classes; or `train/` and `test/` (or
            `val/`, `validation/`), which hold them.
    """

    channels = tuple(_COLORS)
    tfds_name = None
    numbers_what_is_there = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._channels: int | None = None
        self.name = folder.resolve().name
        self._splits = {
            split: folder / name
            for split, names in _SPLITS.items()
            for name in reversed(names)
            if _class_folders(folder / name)
        }
        if not self._splits and len(_class_folders(folder)) < 2:
            raise ValueError(
                "A folder of `--data` must hold a subfolder of images for each "
                f"class ({', '.join(SUFFIXES)}), or train/ and test/ with such "
                f"subfolders. Received: {folder}, with "
                f"{sorted(path.name for path in folder.iterdir())[:8]}"
            )

    @property
    def splits(self) -> tuple[str, ...]:
        """See `Reader`."""
        return tuple(self._splits)

    def layout(self, split: str) -> Layout:
        """See `Reader`; the size is that of the first file."""
        folder = self._folder(split)
        names = self._names(split)
        with _opened(next(_files(folder))) as image:
            width, height = image.size
        return Layout((height, width, self._own_channels()), len(names), names)

    def read(
        self,
        split: str,
        size: Shape | None,
        channels: int | None,
        examples: int | None,
    ) -> Content:
        """See `Reader`; the order is drawn, and always the same."""
        del examples
        folder = self._folder(split)
        own = self.layout(split).shape or ()
        is_resized = size is not None
        if size is None:
            size = own[:2]
            self._check_sizes(folder, size)
        dataset = _keras_dataset(folder, size, _COLORS[channels or own[2] or 3])
        images, labels = [], []
        for x, y in _decoded(dataset, folder):
            # Files of their own size come as whole numbers.
            x = x / np.float32(255) if is_resized else x.round().astype("uint8")
            images.append(x)
            labels.append(y)
        # The first so many are then images of all classes.
        order = np.random.default_rng(0).permutation(sum(map(len, labels)))
        x, y = np.concatenate(images)[order], np.concatenate(labels)[order]
        names = self._names(split)
        numbers = np.array([names.index(name) for name in dataset.class_names])
        return Content(x, numbers[y], names, is_resized)

    def _names(self, split: str) -> tuple[str, ...]:
        """The classes, of which the images of a split may lack some."""
        own = tuple(_class_folders(self._folder(split)))
        names = own
        if "train" in self._splits:
            names = tuple(_class_folders(self._splits["train"]))
        unknown = sorted(set(own) - set(names))
        if unknown:
            raise ValueError(
                "Test images of a folder must be of classes of the training "
                f"images, {shown(names)}. Received: {self._folder(split)} with "
                f"{shown(unknown)}"
            )
        return names

    def _own_channels(self) -> int:
        """3 where any file of any split has colors, or else 1."""
        if self._channels is None:
            self._channels = 1
            for folder in self._splits.values() or [self.folder]:
                for path in _files(folder):
                    with _opened(path) as image:
                        if image.mode not in _GRAY:
                            self._channels = 3
                            return 3
        return self._channels

    def _folder(self, split: str) -> Path:
        if not self._splits:
            return self.folder
        if split not in self._splits:
            raise ValueError(
                "A folder of `--data` must hold the images of the split "
                f"{split!r} in {' or '.join(_SPLITS[split])}, each with a "
                "subfolder for each class. "
                f"Received: {self.folder}, without one"
            )
        return self._splits[split]

    def _check_sizes(self, folder: Path, size: tuple[Any, ...]) -> None:
        """Check that files are of one size, by their first bytes."""
        for path in _files(folder):
            with _opened(path) as image:
                found = image.size[::-1]
            if found != size:
                raise ValueError(
                    "Images of a folder must be of one size, or resized "
                    "(--resize). Received: images of size "
                    f"{size} and of size {found}, {path}"
                )


def _class_folders(folder: Path) -> dict[str, Path]:
    """Folders with images, directly or below, by name and in its order."""
    if not folder.is_dir():
        return {}
    return {
        path.name: path
        for path in sorted(folder.iterdir())
        if path.is_dir() and next(_files(path), None) is not None
    }


def _files(folder: Path) -> Iterator[Path]:
    return (
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SUFFIXES
    )


def _opened(path: Path) -> Any:
    """The image of a file, of which only the first bytes are read."""
    from PIL import Image

    try:
        return Image.open(path)
    except OSError as error:
        raise _undecodable(f"{path}: {error}") from error


def _decoded(dataset: Any, folder: Path) -> Iterator[Any]:
    """The batches of a data set; names a file that cannot be decoded."""
    import tensorflow as tf

    try:
        yield from dataset.as_numpy_iterator()
    except tf.errors.InvalidArgumentError as error:
        # The error does not say which file it was.
        for path in _files(folder):
            with _opened(path) as image:
                try:
                    image.load()
                except (OSError, SyntaxError, ValueError) as broken:
                    raise _undecodable(f"{path}: {broken}") from error
        raise _undecodable(str(error).splitlines()[0]) from error


def _undecodable(received: str) -> ValueError:
    return ValueError(
        "Files of a folder must be images that can be decoded; mend those that "
        f"cannot, or take them out. Received: {received}"
    )


def _keras_dataset(folder: Path, size: tuple[Any, ...], color: str) -> Any:
    """Images of all files, 0 to 255, by class."""
    try:
        return keras.utils.image_dataset_from_directory(
            folder,
            # Folders without images, such as hidden ones, are no classes.
            class_names=list(_class_folders(folder)),
            color_mode=color,
            batch_size=_BATCH,
            image_size=size,
            shuffle=False,
            data_format="channels_last",
            verbose=False,
        )
    except ImportError as error:
        raise ValueError(
            "Folders of images are read by "
            "keras.utils.image_dataset_from_directory, which must have "
            "TensorFlow installed, on any backend; an .npz file needs none. "
            f"Received: {error}"
        ) from error
