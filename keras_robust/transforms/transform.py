"""The base class of transforms of a data set."""

import itertools
import re
from abc import abstractmethod
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import numpy as np
from keras import ops

from keras_robust.attacks.config import ConfigMixin
from keras_robust.attacks.engine.randomness import generator
from keras_robust.classifier import Classifier
from keras_robust.datasets.arrays import is_dataset
from keras_robust.datasets.arrays import to_arrays
from keras_robust.datasets.elements import as_pairs
from keras_robust.datasets.labels import KEPT
from keras_robust.datasets.labels import labels_of_model
from keras_robust.datasets.labels import read_labels
from keras_robust.datasets.pixels import as_floats
from keras_robust.datasets.pixels import read_images
from keras_robust.datasets.tf_data import map_dataset
from keras_robust.transforms.batch import Batch
from keras_robust.transforms.batch import Made
from keras_robust.transforms.batch import Plan
from keras_robust.transforms.batch import check_made
from keras_robust.utils import array_checks
from keras_robust.utils import checks
from keras_robust.utils.messages import shown
from keras_robust.utils.progress import Progress

# Streams 0 and up of a seed belong to start images and attack restarts.
TARGET_STREAM = 1_000_000


class Transform(ConfigMixin):
    """Base class of transforms, which make new images and labels of a data set.

    A transform is applied by call to arrays, by `map` to a `tf.data.Dataset`,
    and by `datasets.generate` to a whole data set on disk. A subclass has one
    method to write, `make`. It may also override, from the most to the least
    often needed:

    - `draw_targets` and `count_classes`, to give images new labels;
    - `needs_labels = True`, to read labels in `make` without changing them;
    - `uses_start_images = True`, to get another image of the data set for each;
    - `config_name`, the name of a generated data set;
    - `input_rank`, for an error where a data set is not in batches;
    - `make_all`, where the computation splits its images by itself.

    Arguments of the subclass's constructor become its configuration if they
    are attributes of the same name.

    Args:
        value_range: `(low, high)`, the range of pixels.
        batch_size: Int >= 1, how many images `make` gets at once.
        seed: Int for the same random numbers in every call and on every pass;
            `None` for fresh ones. Generated data sets need one.

    Example:

    ```python
    class Darker(keras_robust.transforms.Transform):
        def make(self, batch):
            x = batch.images / 2
            distance = abs(batch.images - x).max((1, 2, 3))
            return {"x": x, "distance": distance, "success": distance > 0}


    x_dark = Darker()(x)
    ```
    """

    # The Keras model whose features are taken. Generated data sets record it.
    model: Any = None
    needs_labels: bool = False

    def __init__(
        self,
        value_range: Any = (0.0, 1.0),
        batch_size: int = 128,
        seed: int | None = None,
    ) -> None:
        value_range = checks.check_value_range(value_range)
        if isinstance(value_range, str):
            raise ValueError(
                "Argument `value_range` must be (low, high): there is no model "
                f"that shows it. Received: value_range={shown(value_range)}"
            )
        self.value_range = value_range
        self.batch_size = checks.check_positive_integer(
            batch_size, "batch_size"
        )
        self.seed = seed

    @abstractmethod
    def make(self, batch: Batch) -> Made:
        """Make new images of one batch.

        Each image must depend on its own entries of the batch alone: a set is
        made in batches of any size, some of them filled up with repeated rows.

        Args:
            batch: Checked images, with what `plan` drew for them. NumPy arrays
                in `generate`, tensors in `map`, and in a call what the caller
                has; `keras.ops` takes both.

        Returns:
            Dictionary of `x`, `distance` and `success`, see `Made`.
        """

    @property
    def config_name(self) -> str:
        """Name of a generated data set by default: that of the class."""
        return re.sub(
            r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self).__name__
        ).lower()

    def classifier(self) -> Classifier | None:
        """The classifier whose features are taken, in its current state.

        `None` for a transform without a model.
        """
        return None

    @property
    def input_rank(self) -> int | None:
        """Number of axes of a batch of images; `None` where it is not known."""
        classifier = self.classifier()
        shape = None if classifier is None else classifier.input_shape
        return None if shape is None else len(shape) + 1

    def count_classes(self, images: Any) -> int | None:
        """Number of classes; by default those of the `classifier`.

        Args:
            images: A few images, for a model that does not show its output.

        Returns:
            Int; `None` where it is not known.
        """
        del images
        classifier = self.classifier()
        try:
            return None if classifier is None else classifier.num_classes
        except ValueError:
            # The output is not that of a classifier.
            return None

    def draw_targets(
        self, y: Any, num_classes: int, random: Any = None
    ) -> np.ndarray:
        """Draw the labels that the new images will carry.

        By default they are the original ones.

        Args:
            y: Int array `(N,)`, the original labels.
            num_classes: C.
            random: `numpy.random.Generator`, which successive batches of one
                pass share; `None` for a new one of `seed`.

        Returns:
            Int array `(N,)` of labels in 0 ... C - 1.
        """
        del num_classes, random
        return np.asarray(y)

    @property
    def keeps_labels(self) -> bool:
        """Whether the new images carry the original labels."""
        return type(self).draw_targets is Transform.draw_targets

    @property
    def label_rule(self) -> str | None:
        """How labels follow from the original ones, for `inspect` to check.

        `"kept"`, `"random"`, `"deterministic"`, `"other"`, or `None` for a
        rule of the subclass.
        """
        as_here = self.keeps_labels and type(self).plan is Transform.plan
        return KEPT if as_here else None

    @property
    def uses_start_images(self) -> bool:
        """Whether `make` gets another image of the data set for each."""
        return False

    def draw_index(self, examples: int) -> np.ndarray:
        """Draw the rows of the start images, with replacement.

        Args:
            examples: Number N of images in the data set.

        Returns:
            Int array `(N,)`.
        """
        random = generator(self.seed, 0)
        return np.asarray(random.integers(0, max(examples, 1), examples))

    def plan(self, labels: Any, num_classes: int) -> Plan:
        """Draw labels and start images of a whole data set.

        Args:
            labels: Int array `(N,)`, the original labels.
            num_classes: C.

        Returns:
            See `Plan`.
        """
        random = generator(self.seed, TARGET_STREAM)
        start_id = np.full(len(labels), -1)
        if self.uses_start_images:
            start_id = self.draw_index(len(labels))
        return {
            "label": self._checked_targets(labels, num_classes, random),
            "start_id": start_id,
        }

    def make_all(
        self, batch: Batch, verbose: int, scored: bool
    ) -> dict[str, Any]:
        """Make all images of a call, in batches of `batch_size`.

        Args:
            batch: All images of the call.
            verbose: 0 for no progress bar.
            scored: Whether the caller needs more than the images.

        Returns:
            Dictionary of the new images `x` and, where `scored`, of arrays
            `(N,)` for the details of the call.
        """
        del scored
        starts = range(0, max(len(batch), 1), self.batch_size)
        progress = Progress(len(starts), verbose, unit_name="batch")
        parts = []
        for first in starts:
            part = batch.part(first, first + self.batch_size)
            made = self.make(part)
            parts.append(check_made(type(self).__name__, made, part))
            progress.add()
        join = np.concatenate
        if not isinstance(batch.images, np.ndarray):
            join = ops.concatenate
        return {
            "x": join([_like(batch.images, part["x"]) for part in parts]),
            **{
                key: np.concatenate([_to_numpy(part[key]) for part in parts])
                for key in ("distance", "success")
            },
        }

    def __call__(
        self,
        x: Any,
        y: Any = None,
        verbose: int = 1,
        return_details: bool = False,
    ) -> Any:
        """Make new images.

        Args:
            x: Array or tensor of shape `(N, ...)`: floats in `value_range`,
                or of dtype uint8, then scaled to it; or a data set of
                `(x, y)` batches, then without `y`.
            y: Labels, `(N,)`, `(N, 1)` or one-hot. May be left out where the
                transform does not need labels, which then come back as they
                are.
            verbose: 0 for no progress bar.
            return_details: Whether a dictionary of arrays `(N,)` comes last:
                `distance` and `success`, see `make`, and `original_label`.

        Returns:
            The new images like `x`, and where there are labels, or details,
            `(x_new, labels)` and so on. New labels are int32 `(N,)`.

        Raises:
            ValueError: If an input is out of range or of the wrong shape.
        """
        return self._apply(
            x, y=y, verbose=verbose, return_details=return_details
        )

    def _apply(
        self,
        x: Any,
        y: Any = None,
        start: Any = None,
        verbose: int = 1,
        return_details: bool = False,
    ) -> Any:
        """The call, with start images or `None` to draw them."""
        if y is None and is_dataset(x):
            x, y = to_arrays(x)
        images = read_images(x, self.value_range)
        returned, original = y, None
        if self.needs_labels or not self.keeps_labels:
            random = generator(self.seed, TARGET_STREAM)
            original, returned = self._read_labels(y, images, random)
        index = None
        if start is not None:
            start = read_images(start, self.value_range, "start")
            _check_start(start, images)
        elif self.uses_start_images:
            index = self.draw_index(images.shape[0])
            start = _rows_of(images, index)
        batch = Batch(
            images=images,
            rows=np.arange(images.shape[0]),
            labels=None if original is None else returned,
            original_labels=original,
            start=start,
        )
        details = self.make_all(batch, verbose, scored=return_details)
        outputs = [details.pop("x")]
        if returned is not None:
            outputs.append(returned)
        if original is not None:
            details["original_label"] = original
        if index is not None:
            details["start_index"] = index
        if return_details:
            outputs.append(details)
        return tuple(outputs) if len(outputs) > 1 else outputs[0]

    def map(
        self,
        dataset: Any,
        return_details: bool = False,
        buffer_size: int = 10_000,
    ) -> Any:
        """Make a `tf.data.Dataset` of new batches.

        The next batch computes while the last one is used. New labels are, with
        a seed, on every pass those of one call on all of the data. Start images
        are those of a second, shuffled pass over the data set.

        Args:
            dataset: `tf.data.Dataset` of `(x, y)` batches, the images as in
                the call, labels `(N,)`, `(N, 1)` or one-hot.
            return_details: Whether a dictionary of `distance`, `success` (see
                `make`) and `original_label` follows.
            buffer_size: Int >= 1, how many start images the shuffling holds.

        Returns:
            `tf.data.Dataset` of `(x_new, labels)` batches; labels are int32
            `(N,)`.
        """
        dataset = as_pairs(dataset, "dataset", self.input_rank)
        starts = None
        if self.uses_start_images:
            images = dataset.map(lambda x, y: x).unbatch()
            starts = images.shuffle(buffer_size, seed=self.seed)

        def made(items: Iterable[Any]) -> Iterator[Any]:
            random = generator(self.seed, TARGET_STREAM)
            others = None if starts is None else starts.as_numpy_iterator()
            first = 0
            for x, y in items:
                array_checks.check_images(x, self.value_range)
                original, labels = self._read_labels(y, x, random)
                rows = np.arange(first, first + x.shape[0])
                first += len(rows)
                start = None
                if others is not None:
                    start = self._next_starts(others, len(rows))
                batch = Batch(
                    images=x,
                    rows=rows,
                    labels=labels,
                    original_labels=original,
                    start=start,
                )
                made = check_made(type(self).__name__, self.make(batch), batch)
                details = {
                    "distance": _to_numpy(made["distance"]),
                    "success": _to_numpy(made["success"]),
                    "original_label": original,
                }
                yield made["x"], labels, details

        return map_dataset(dataset, made, return_details, self.value_range)

    def _next_starts(self, images: Iterator[Any], count: int) -> np.ndarray:
        starts = list(itertools.islice(images, count))
        if len(starts) < count:
            raise ValueError(
                "Argument `dataset` must give as many images when it is read "
                "once more, for the start images; or use start='noise'"
            )
        return as_floats(np.stack(starts), self.value_range).astype("float32")

    def _read_labels(
        self, y: Any, images: Any, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """The original labels and those that the new images will carry."""
        if y is None:
            raise ValueError(
                "Argument `y` must hold the true labels. Received: y=None"
            )
        examples = images.shape[0]
        if self.keeps_labels:
            original, _ = read_labels(y, examples)
            return original, original
        classes = self.count_classes(images)
        if classes is None:
            raise ValueError(
                "A transform that draws labels must know how many there are: "
                "override `count_classes`. Received: "
                f"{type(self).__name__}.count_classes(x)=None"
            )
        original = labels_of_model(y, examples, classes)
        return original, self._checked_targets(original, classes, random)

    def _checked_targets(
        self, y: Any, num_classes: int, random: np.random.Generator
    ) -> np.ndarray:
        """Call `draw_targets`, which a subclass may override, and check."""
        t = self.draw_targets(y, num_classes, random)
        return array_checks.check_labels(t, len(y), num_classes, "target")


def _to_numpy(values: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(values))


def _like(images: Any, made: Any) -> Any:
    """Images in the kind of those that came in."""
    if isinstance(images, np.ndarray):
        return _to_numpy(made)
    return ops.convert_to_tensor(made)


def _rows_of(images: Any, index: np.ndarray) -> Any:
    if isinstance(images, np.ndarray):
        return images[index]
    return ops.take(images, index, axis=0)


def _check_start(start: Any, images: Any) -> None:
    if tuple(start.shape) != tuple(images.shape):
        raise ValueError(
            f"Argument `start` must have the shape {tuple(images.shape)} of x. "
            f"Received: start.shape={tuple(start.shape)}"
        )
