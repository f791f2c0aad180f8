"""An image data set with training and test split."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ImageDataset:
    """Train and test images with labels; unpacks into the two.

    Attributes:
        train: `(x, y)`: float32 images `(N, H, W, C)` in [0, 1] and int32
            labels `(N,)`; for `restricted_imagenet` a `tf.data.Dataset` of
            such pairs, one by one.
        test: The same.
        class_names: Names of the classes, in order of their labels.
    """

    train: Any
    test: Any
    class_names: tuple[str, ...]

    def __iter__(self) -> Iterator[Any]:
        return iter((self.train, self.test))
