"""Images and labels of a user's own file, for the command line."""

import os
import pathlib
import zipfile
import zlib

import numpy as np

from keras_robust.classifier.scaling import to_unit
from keras_robust.datasets.labels import read_labels
from keras_robust.evaluation.scaling import check_units

# Names of the two arrays; the first pair that is complete is read.
NAMES = (("x_test", "y_test"), ("x", "y"), ("images", "labels"))
# What reading a damaged file raises.
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)


class OwnData:
    """An .npz file with images and labels.

    The names of its arrays are looked at, and nothing is read yet.

    Args:
        path: Of a file with the arrays `x` and `y`, `images` and `labels`, or
            `x_test` and `y_test`, which are taken first.

    Raises:
        ValueError: If it is no .npz file, or has no such arrays.

    Attributes:
        names: Names of the two arrays that are read.
        width: Columns of one-hot labels, once they are read; `None` where
            they are numbers.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = pathlib.Path(path)
        if not self.path.is_file() or not zipfile.is_zipfile(self.path):
            problem = "no .npz file" if self.path.exists() else "nothing there"
            raise ValueError(
                "Argument `--data` must be an .npz file, as "
                "numpy.savez('images.npz', x=images, y=labels) writes it. "
                f"Received: {self.path}, {problem}"
            )
        with np.load(self.path) as arrays:
            found = list(arrays)
        pairs = [pair for pair in NAMES if set(pair) <= set(found)]
        if not pairs:
            wanted = ", ".join(" and ".join(pair) for pair in NAMES)
            raise ValueError(
                f"Argument `--data` must hold one of the pairs {wanted}. "
                f"Received: {self.path} with the arrays {found[:8]}"
            )
        self.names = pairs[0]
        self.width: int | None = None

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """Read the arrays.

        Returns:
            `(x, y)`: images in [0, 1] and int32 labels `(N,)`.

        Raises:
            ValueError: If they are not pixels in [0, 1] or 0 to 255 with a
                label each.
        """
        x, y = (self._array(name) for name in self.names)
        if x.dtype.kind not in "uif" or x.ndim < 2 or not len(x):
            raise ValueError(
                f"Array {self.names[0]!r} of `--data` must be numbers of shape "
                f"(N, ...), N >= 1. Received: shape {x.shape}, dtype {x.dtype}"
            )
        labels, self.width = read_labels(y, len(x), self.names[1])
        check_units(x)
        unit = to_unit(x)
        if not (unit.min() >= 0 and unit.max() <= 1):
            raise ValueError(
                f"Array {self.names[0]!r} of `--data` must be pixels in [0, 1] "
                "or 0 to 255; for other inputs call kr.evaluate_robustness "
                "with `value_range`. "
                f"Received: values in [{x.min():g}, {x.max():g}]"
            )
        return unit.astype("float32", copy=False), labels

    def _array(self, name: str) -> np.ndarray:
        try:
            with np.load(self.path) as arrays:
                found = arrays[name]
        except (*_BROKEN, ValueError) as error:
            # Such as arrays of objects, which only pickle could read.
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
