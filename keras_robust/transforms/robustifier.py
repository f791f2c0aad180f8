"""Inversion of a representation: D_R and D_NR."""

import copy
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust.attacks.engine.randomness import generator
from keras_robust.classifier import Classifier
from keras_robust.datasets.pixels import read_images
from keras_robust.models.parts import fake_relu_copy
from keras_robust.transforms.batch import Batch
from keras_robust.transforms.batch import Made
from keras_robust.transforms.inversion import OPTIMIZERS
from keras_robust.transforms.inversion import Inversion
from keras_robust.transforms.inversion_frames import InversionFrames
from keras_robust.transforms.inversion_frames import check_steps
from keras_robust.transforms.source_model import default_step
from keras_robust.transforms.source_model import resolve_range
from keras_robust.transforms.source_model import source_classifier
from keras_robust.transforms.transform import Transform
from keras_robust.utils import checks
from keras_robust.utils.messages import describe
from keras_robust.utils.messages import shown


@keras.saving.register_keras_serializable("keras_robust")
class Robustifier(Transform):
    """Images with the representation of `x` that look like a start image.

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
        start: `"image"`: other images of the same array, drawn per example with
            replacement; `"noise"`: Gaussian noise around the middle of the box
            with a standard deviation of a tenth of its width (the paper only
            says that it is Gaussian).
        fake_relu: Whether the last ReLU has the identity's gradient, as in
            MadryLab's `robustness`.
        value_range: `(low, high)`, the box: the only constraint; or `"auto"`,
            see `PGDAttack`.
        batch_size: Int >= 1, how many images are made at once.
        seed: Int for the same starts in every call; `None` for fresh ones.
        jit_compile: As in `PGDAttack`.
        optimizer: `"gradient_descent"`, normalized steps of one length, which
            is the paper's; or `"polyak"`, steps in proportion to the distance
            that is left, with momentum (see `PolyakLoop`): as close in about a
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
        # Raises where model and layer do not fit, before any image is seen.
        source = self.classifier()
        source.representation(layer)
        resolved = resolve_range(value_range, source)
        super().__init__(resolved, batch_size=batch_size, seed=seed)
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
        self.jit_compile = jit_compile
        self.optimizer = optimizer

    def classifier(self) -> Classifier:
        """The classifier that is inverted, in its current state."""
        options = {"output": self.output, "scaling": self.scaling}
        source = source_classifier(self.model, **options)
        if not self.fake_relu:
            return source
        copy = source.cached(
            ("fake relu", self.output),
            lambda: fake_relu_copy(source.model, self.output),
        )
        # The model may have been trained since the copy was made.
        copy.set_weights(source.model.get_weights())
        return Classifier.of(copy, **options)

    def __call__(
        self,
        x: Any,
        start: Any = None,
        verbose: int = 1,
        return_details: bool = False,
    ) -> Any:
        """Make images with the representations of `x`.

        Args:
            x: Array or tensor of shape `(N, ...)`: floats in `value_range`,
                or of dtype uint8, then scaled to it; or a data set of
                `(x, y)` batches, whose labels are returned unchanged.
            start: Array like `x` of start images, or `None` to draw them.
            verbose: 0 for no progress bar.
            return_details: Whether to return distances as well.

        Returns:
            `x_r` like `x`; for a data set the arrays `(x_r, y)`. With
            `return_details` a dictionary of arrays `(N,)` follows:
            `distance_before` and `distance_after` between representations,
            and where the start images were drawn from `x`, `start_index`.

        Raises:
            ValueError: If an input is out of range or of the wrong shape.
        """
        return self._apply(
            x, start=start, verbose=verbose, return_details=return_details
        )

    def frames(
        self,
        x: Any,
        start: Any = None,
        steps: Any = None,
        verbose: int = 1,
    ) -> InversionFrames:
        """Make images with the representations of `x`, and keep stages of it.

        Args:
            x: Array of a few images, as in the call.
            start: As in the call.
            steps: Ints >= 0, after how many steps an image is kept; `None` for
                0, 1, 3, 10, 30, ... up to the `steps` of the constructor. Each
                is made from the start anew, so that all are what a call with as
                many steps returns.
            verbose: 0 for no progress bars.

        Returns:
            `InversionFrames`, which has `plot` and `animate`.
        """
        found = check_steps(steps, self.steps)
        stage = copy.copy(self)
        if self.seed is None:
            # One start for all.
            stage.seed = int(np.random.default_rng().integers(2**31))
        made = []
        for count in found.tolist():
            stage.steps = count
            made.append(
                stage(x, start=start, verbose=verbose, return_details=True)
            )
        images = ops.convert_to_numpy(x)
        return InversionFrames(
            target=read_images(images, self.value_range),
            steps=found,
            x=np.stack([ops.convert_to_numpy(x_r) for x_r, _ in made]),
            distance=np.stack(
                [ops.convert_to_numpy(one["distance_after"]) for _, one in made]
            ),
            value_range=self.value_range,
        )

    @property
    def config_name(self) -> str:
        """Name of the data set of a robust model.

        For a standard model, the caller passes `config="non_robust"`.
        """
        return "robust"

    @property
    def uses_start_images(self) -> bool:
        """Whether the start is another image; otherwise it is noise."""
        return bool(self.start == "image")

    def draw_noise(self, rows: Any, shape: Any) -> np.ndarray:
        """Draw start images of noise.

        Args:
            rows: Int array `(N,)`: each row of a data set has its own noise,
                whichever others are drawn.
            shape: Shape of an image.

        Returns:
            Float32 array `(N, *shape)`.
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

    def make(self, batch: Batch) -> Made:
        """Make one batch.

        Args:
            batch: See `Batch`; where `start` is `None`, noise is drawn for its
                `rows`.

        Returns:
            Dictionary of arrays: `x`, `distance` between the representations,
            and `success`, whether it is at most half of what it was at the
            start.
        """
        made = self.make_all(batch, verbose=0, scored=True)
        before = np.asarray(made["distance_before"])
        after = np.asarray(made["distance_after"])
        return {
            "x": made["x"],
            "distance": after,
            "success": after <= before / 2,
        }

    def make_all(
        self, batch: Batch, verbose: int, scored: bool
    ) -> dict[str, Any]:
        """Make all images of a call; see `Transform`."""
        del scored
        x = batch.images
        if len(batch) == 0:
            return {"x": x}
        start = batch.start
        if start is None:
            start = self.draw_noise(batch.rows, x.shape[1:])
        source = self.classifier()
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
