"""Inversion of a representation: D_R and D_NR."""

import itertools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust.attacks import checks
from keras_robust.attacks.config import ConfigMixin
from keras_robust.attacks.engine.randomness import generator
from keras_robust.classifier import Classifier
from keras_robust.datasets.arrays import describe
from keras_robust.datasets.arrays import is_dataset
from keras_robust.datasets.arrays import to_arrays
from keras_robust.datasets.elements import as_pairs
from keras_robust.datasets.labels import KEPT
from keras_robust.datasets.labels import read_labels
from keras_robust.datasets.mapped import mapped
from keras_robust.datasets.pixels import as_floats
from keras_robust.datasets.pixels import read_images
from keras_robust.features.inversion import OPTIMIZERS
from keras_robust.features.inversion import Inversion
from keras_robust.features.source_model import default_step
from keras_robust.features.source_model import input_rank
from keras_robust.features.source_model import resolve_range
from keras_robust.features.source_model import source_classifier
from keras_robust.messages import shown
from keras_robust.models.parts import fake_relu_copy


@keras.saving.register_keras_serializable("keras_robust")
class Robustifier(ConfigMixin):
    """Images with the representation of `x` and the looks of a start image.

    Ilyas et al. 2019 (arXiv:1905.02175), section 3.1 and appendix C.4:
    `x_r = argmin_{z in the box} ||g(z) - g(x)||_2` by normalized gradient
    steps from a start drawn independently of the label. With an
    adversarially trained model the result is D_R, with a standard one D_NR;
    the label stays that of `x`.

    Args:
        model: A built Keras model, the source of the features.
        step_size: L2 length of a step, in units of `value_range`; `"auto"`
            for a tenth of its width. With `optimizer="polyak"` the most that
            one gradient adds to a step.
        steps: Int, gradient steps. Defaults are those of the paper's Table 5.
        layer: `None` for the input of the classifying layer, or the name of a
            layer whose output is the representation g.
        start: `"image"`: other images of the same array, drawn per example
            with replacement; `"noise"`: Gaussian noise around the middle of
            the box with a standard deviation of a tenth of its width (the
            paper says Gaussian and no more).
        fake_relu: Whether the last ReLU has the identity's gradient, as in
            MadryLab's `robustness`.
        value_range: `(low, high)`, the box: the only constraint; or `"auto"`,
            see `PGDAttack`.
        batch_size: Int >= 1, how many images are made at once.
        seed: Int for the same starts in every call; `None` for fresh ones.
        jit_compile: As in `PGDAttack`.
        optimizer: `"gradient_descent"`, normalized steps of one length, which
            is the paper's; or `"polyak"`, steps as long as the distance left
            asks for, with momentum (see `PolyakLoop`): as close in about a
            quarter of the steps (`benchmarks/inversion_optimizers.py`).
        output: Name or position of the output that classifies, of a model
            with several.

    Example:

    ```python
    to_robust = keras_robust.Robustifier(robust.model, steps=1000)
    x_r = to_robust(x)  # the labels of D_R are those of x
    ```
    """

    def __init__(
        self,
        model: Any,
        step_size: Any = "auto",
        steps: int = 1000,
        layer: str | None = None,
        start: Any = "image",
        fake_relu: bool = False,
        value_range: Any = (0.0, 1.0),
        batch_size: int = 128,
        seed: int | None = None,
        jit_compile: bool | str = "auto",
        optimizer: str = "gradient_descent",
        output: str | int | None = None,
        scaling: Any = None,
    ) -> None:
        if not isinstance(optimizer, str) or optimizer not in OPTIMIZERS:
            raise ValueError(
                f"Argument `optimizer` must be one of {tuple(OPTIMIZERS)}. "
                f"Received: optimizer={describe(optimizer)}"
            )
        if not isinstance(start, str) or start not in ("image", "noise"):
            raise ValueError(
                "Argument `start` must be 'image' or 'noise'. "
                f"Received: start={describe(start)}"
            )
        self.model = model
        self.layer = layer
        self.output = output
        self.fake_relu = bool(fake_relu)
        self.scaling = scaling
        # Says what is wrong with model and layer before any image is seen.
        _ = self._view
        self.value_range = resolve_range(value_range, self._source())
        low, high = self.value_range
        if start == "noise" and not np.isfinite(high - low).all():
            raise ValueError(
                "Argument `start` must be 'image' where pixels have no bounds. "
                f"Received: start='noise', value_range={shown(value_range)}"
            )
        if isinstance(step_size, str) and step_size == "auto":
            step_size = default_step(self.value_range)
        if step_size is None:
            raise ValueError(
                "Argument `step_size` must be given where `value_range` has no "
                f"one width. Received: value_range={shown(value_range)}"
            )
        self.step_size = checks.check_non_negative(step_size, "step_size")
        self.steps = checks.check_positive_integer(steps, "steps", least=0)
        self.start = start
        self.batch_size = checks.check_positive_integer(
            batch_size, "batch_size"
        )
        self.seed = seed
        self.jit_compile = jit_compile
        self.optimizer = optimizer

    def _source(self):
        """The `Classifier` whose representation is taken, as it is now."""
        options = {"output": self.output, "scaling": self.scaling}
        source = source_classifier(self.model, **options)
        if not self.fake_relu:
            return source
        copy = source.once(
            ("fake relu", self.output),
            lambda: fake_relu_copy(source.model, self.output),
        )
        # The model may have been trained since the copy was made.
        copy.set_weights(source.model.get_weights())
        return Classifier.of(copy, **options)

    @property
    def _view(self):
        """The model from images to representations, as it is now."""
        return self._source().representation(self.layer)

    def __call__(
        self,
        x: Any,
        start: Any = None,
        verbose: int = 1,
        return_details: bool = False,
    ) -> Any:
        """Images with the representations of `x`.

        Args:
            x: Array or tensor of shape `(N, ...)`: floats in `value_range`,
                or of dtype uint8, then scaled to it; or a data set of
                `(x, y)` batches, whose labels come back as they are.
            start: Array like `x` of start images, or `None` to draw them.
            verbose: 0 for no progress bar.
            return_details: Whether to tell how far each example got.

        Returns:
            `x_r` like `x`; for a data set the arrays `(x_r, y)`. With
            `return_details` a dictionary of arrays `(N,)` follows:
            `distance_before` and `distance_after` between representations,
            and where the start images were drawn from `x`, `start_index`.

        Raises:
            ValueError: If an input is out of range or of the wrong shape.
        """
        labels = ()
        if is_dataset(x):
            x, y = to_arrays(x)
            labels = (y,)
        x = read_images(x, self.value_range)
        index = None
        if start is None:
            start, index = self.draw_start(x)
        start = read_images(start, self.value_range, "start")
        if tuple(start.shape) != tuple(x.shape):
            raise ValueError(
                f"Argument `start` must have the shape {tuple(x.shape)} of x. "
                f"Received: start.shape={tuple(start.shape)}"
            )
        result = self._run(x, start, verbose)
        details = {key: value for key, value in result.items() if key != "x"}
        if index is not None:
            details["start_index"] = index
        outputs = (result["x"], *labels)
        if return_details:
            outputs = (*outputs, details)
        return outputs if len(outputs) > 1 else outputs[0]

    def draw_start(self, x: Any) -> tuple:
        """Start images, independent of what `x` shows at the same place.

        Args:
            x: Array or tensor of shape `(N, ...)`.

        Returns:
            `(start, index)`: an array like `x`, and the rows it came from
            (`None` for noise).
        """
        if self.start == "noise":
            return self.draw_noise(np.arange(x.shape[0]), x.shape[1:]), None
        index = self.draw_index(x.shape[0])
        if isinstance(x, np.ndarray):
            return x[index], index
        return ops.take(x, index, axis=0), index

    def draw_index(self, examples: int) -> Any:
        """Rows of the start images, `(examples,)`, with replacement."""
        random = generator(self.seed, 0)
        return random.integers(0, max(examples, 1), examples)

    def draw_noise(self, rows: Any, shape: tuple) -> Any:
        """Start images of noise, float32 `(len(rows), *shape)`.

        Args:
            rows: Int array: each row has its own noise, whoever else is drawn.
            shape: Shape of an image.
        """
        low, high = self.value_range
        noise = np.stack(
            [
                generator(self.seed, 1, row).standard_normal(tuple(shape))
                for row in rows
            ]
            or [np.zeros(shape)]
        )[: len(rows)]
        noise = noise * (high - low) / 10 + (low + high) / 2
        return np.clip(noise, low, high).astype("float32")

    @property
    def config_name(self) -> str:
        """Name of the data set of a robust model; of a standard one it is
        `"non_robust"`, which the caller has to say.
        """
        return "robust"

    @property
    def label_rule(self) -> str | None:
        """`"kept"`: labels stay; `None` where a subclass decides."""
        return KEPT if type(self).plan is Robustifier.plan else None

    @property
    def input_rank(self) -> int | None:
        """How many axes a batch of images has."""
        return input_rank(self._source())

    def count_classes(self, x: Any) -> int | None:
        """How many classes the source model tells apart.

        Args:
            x: Not used.

        Returns:
            Int; `None` for a model whose output is not `(N, C)`.
        """
        del x
        try:
            return self._source().num_classes
        except ValueError:
            return None

    def plan(self, labels: Any, num_classes: int) -> dict:
        """What is drawn for a whole data set; see `datasets.generate`.

        Args:
            labels: Int array `(N,)`.
            num_classes: Not used.

        Returns:
            Dictionary of int arrays `(N,)`: the `label`, unchanged, and
            `start_id`, the row of the start image or -1 for noise.
        """
        del num_classes
        start_id = np.full(len(labels), -1)
        if self.start == "image":
            start_id = self.draw_index(len(labels))
        return {"label": np.asarray(labels), "start_id": start_id}

    def make(
        self,
        x: Any,
        labels: Any,
        start: Any = None,
        rows: Any = None,
        original: Any = None,
    ) -> dict:
        """One batch of a generated data set; see `datasets.generate`.

        Args:
            x: Float array `(N, ...)` in `value_range`.
            labels: Not used.
            start: Array like `x`, or `None` for noise.
            rows: Int array `(N,)`, rows of the data set, for the noise.
            original: Not used.

        Returns:
            Dictionary of arrays: `x`, `distance` between the representations,
            and `success`, whether it is at most half of what it was at the
            start.
        """
        del labels, original
        checks.check_images(x, self.value_range)
        if start is None:
            start = self.draw_noise(rows, x.shape[1:])
        made = self._run(x, start, verbose=0)
        before, after = (
            np.asarray(made[f"distance_{when}"]) for when in ("before", "after")
        )
        return {
            "x": made["x"],
            "distance": after,
            "success": after <= before / 2,
        }

    def map(
        self,
        dataset: Any,
        return_details: bool = False,
        buffer_size: int = 10_000,
    ) -> Any:
        """A `tf.data.Dataset` of generated batches.

        Start images are those of a second, shuffled pass over the data set.
        The next batch computes while the last one is used.

        Args:
            dataset: `tf.data.Dataset` of `(x, y)` batches, the images as in
                the call, labels `(N,)`, `(N, 1)` or one-hot.
            return_details: Whether a dictionary of `distance`, `success` (see
                `make`) and `original_label` follows.
            buffer_size: Int >= 1, how many images the shuffling holds.

        Returns:
            `tf.data.Dataset` of `(x_r, y)` batches; `y` is int32 `(N,)`.
        """
        return self.mapped_by(self.make, dataset, return_details, buffer_size)

    def mapped_by(
        self,
        make: Callable,
        dataset: Any,
        return_details: bool,
        buffer_size: int,
    ) -> Any:
        """`map` with another function in the place of `make`."""
        dataset = as_pairs(dataset, "dataset", self.input_rank)
        starts = None
        if self.start == "image":
            images = dataset.map(lambda x, y: x).unbatch()
            starts = images.shuffle(buffer_size, seed=self.seed)

        def batches(items):
            at = 0
            others = starts and starts.as_numpy_iterator()
            for x, y in items:
                y, _ = read_labels(y, x.shape[0])
                rows = np.arange(at, at + x.shape[0])
                start = others and self._next_starts(others, len(rows))
                made = make(x, y, start, rows)
                at += len(rows)
                yield made.pop("x"), y, {**made, "original_label": y}

        return mapped(
            dataset,
            batches,
            return_details,
            value_range=self.value_range,
            rank=self.input_rank,
        )

    def _next_starts(self, images, count):
        starts = list(itertools.islice(images, count))
        if len(starts) < count:
            raise ValueError(
                "Argument `dataset` must give as many images when it is read "
                "once more, for the start images; or use start='noise'"
            )
        return as_floats(np.stack(starts), self.value_range).astype("float32")

    def _run(self, x, start, verbose):
        if x.shape[0] == 0:
            return {"x": x}
        source = self._source()
        source.check_shape(x)
        invert = Inversion(
            source,
            self.layer,
            self.value_range,
            self.jit_compile,
            self.optimizer,
        )
        return invert(
            x,
            start,
            step_size=self.step_size,
            steps=self.steps,
            batch_size=self.batch_size,
            verbose=verbose,
        )
