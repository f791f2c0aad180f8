"""Inversion of a representation: D_R and D_NR."""

import keras
import numpy as np
from keras import ops

from keras_robust import backend
from keras_robust.attacks import checks
from keras_robust.attacks.balls import L2Ball
from keras_robust.attacks.balls import l2_norm
from keras_robust.attacks.batches import map_batches
from keras_robust.attacks.compiled import CompiledLoop
from keras_robust.attacks.config import ConfigMixin
from keras_robust.attacks.frozen import FrozenModel
from keras_robust.attacks.frozen import check_built
from keras_robust.attacks.frozen import inner_model
from keras_robust.attacks.loop import GradientLoop
from keras_robust.attacks.per_model import once_per_model
from keras_robust.attacks.randomness import generator
from keras_robust.datasets.arrays import is_dataset
from keras_robust.datasets.arrays import to_arrays
from keras_robust.models.parts import fake_relu_copy
from keras_robust.models.parts import representation_view


class RepresentationObjective:
    """Closeness to a target representation.

    Args:
        represent: `x -> (N, ...)` representation of a frozen model.
    """

    def __init__(self, represent):
        self.represent = represent

    def __call__(self, inputs, x):
        """Minus the squared distance, `(N,)`; there is no success."""
        # The square has the direction of the distance, and a gradient at 0.
        difference = ops.cast(self.represent(x), "float32") - inputs["target"]
        axes = tuple(range(1, len(difference.shape)))
        values = -ops.sum(ops.square(difference), axis=axes)
        return values, ops.zeros_like(values, dtype="bool")


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
        step_size: L2 length of a step, in units of `value_range`.
        steps: Int, gradient steps. Defaults are those of the paper's Table 5.
        layer: `None` for the input of the last `Dense` layer, or the name of
            a layer whose output is the representation g.
        start: `"image"`: other images of the same array, drawn per example
            with replacement; `"noise"`: Gaussian noise around the middle of
            the box with a standard deviation of a tenth of its width (the
            paper says Gaussian and no more).
        fake_relu: Whether the last ReLU has the identity's gradient, as in
            MadryLab's `robustness`.
        value_range: `(low, high)`, the box: the only constraint.
        batch_size: Int >= 1, how many images are made at once.
        seed: Int for the same starts in every call; `None` for fresh ones.
        jit_compile: As in `PGDAttack`.

    Example:

    ```python
    to_robust = keras_robust.Robustifier(robust.model, steps=1000)
    x_r = to_robust(x)  # the labels of D_R are those of x
    ```
    """

    def __init__(
        self,
        model,
        step_size=0.1,
        steps=1000,
        layer=None,
        start="image",
        fake_relu=False,
        value_range=(0.0, 1.0),
        batch_size=128,
        seed=None,
        jit_compile="auto",
    ):
        if start not in ("image", "noise"):
            raise ValueError(
                "Argument `start` must be 'image' or 'noise'. "
                f"Received: start={start!r}"
            )
        check_built(inner_model(model))
        self.model = model
        self.step_size = checks.check_non_negative(step_size, "step_size")
        self.steps = checks.check_positive_integer(steps, "steps", least=0)
        self.layer = layer
        self.start = start
        self.fake_relu = bool(fake_relu)
        self.value_range = checks.check_value_range(value_range)
        self.batch_size = checks.check_positive_integer(
            batch_size, "batch_size"
        )
        self.seed = seed
        self.jit_compile = jit_compile
        self._source = inner_model(model)
        if self.fake_relu:
            self._source = fake_relu_copy(self._source)
        self._view = once_per_model(
            self._source,
            ("representation", layer),
            lambda: representation_view(self._source, layer),
        )

    def __call__(self, x, start=None, verbose=1, return_details=False):
        """Images with the representations of `x`.

        Args:
            x: Float array or tensor of shape `(N, ...)` in `value_range`; or
                a data set of `(x, y)` batches.
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
        x = x if ops.is_tensor(x) else np.asarray(x)
        checks.check_images(x, self.value_range)
        index = None
        if start is None:
            start, index = self.draw_start(x)
        start = start if ops.is_tensor(start) else np.asarray(start)
        checks.check_images(start, self.value_range, "start")
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

    def draw_start(self, x):
        """Start images, independent of what `x` shows at the same place.

        Args:
            x: Array or tensor of shape `(N, ...)`.

        Returns:
            `(start, index)`: an array like `x`, and the rows it came from
            (`None` for noise).
        """
        random = generator(self.seed, 0)
        if self.start == "image":
            index = random.integers(0, max(x.shape[0], 1), x.shape[0])
            if isinstance(x, np.ndarray):
                return x[index], index
            return ops.take(x, index, axis=0), index
        low, high = self.value_range
        noise = random.standard_normal(tuple(x.shape)) * (high - low) / 10
        noise = np.clip(noise + (low + high) / 2, low, high)
        return noise.astype("float32"), None

    def _run(self, x, start, verbose):
        if x.shape[0] == 0:
            return {"x": x}
        if self.fake_relu:
            # The model may have been trained since the copy was made.
            weights = inner_model(self.model).get_weights()
            self._source.set_weights(weights)
        represent, distance, loop = self._compiled(x)
        inputs = {
            "start": start,
            "step_size": np.full(x.shape[0], self.step_size, "float32"),
        }

        def invert_batch(batch, report):
            image = batch.pop("center")
            batch["target"] = target = represent({"x": image})
            begun = {"x": batch["start"], "target": target}
            x = loop(batch, self.steps, report)["x"]
            return {
                "x": x,
                "distance_before": distance(begun),
                "distance_after": distance({"x": x, "target": target}),
            }

        return map_batches(
            invert_batch,
            x,
            inputs,
            value_range=self.value_range,
            batch_size=self.batch_size,
            pads=loop.pads,
            steps=self.steps,
            verbose=verbose,
        )

    def _compiled(self, x):
        key = ("inversion", self.value_range, self.jit_compile)

        def make():
            frozen = FrozenModel(self._view)
            loop = GradientLoop(
                RepresentationObjective(frozen),
                L2Ball,
                self.value_range,
                inside_ball=False,
            )

            def represent(inputs):
                return ops.cast(frozen(inputs["x"]), "float32")

            def distance(inputs):
                return l2_norm(represent(inputs) - inputs["target"])

            variables = self._view.variables
            return (
                backend.compile(represent, variables, self.jit_compile),
                backend.compile(distance, variables, self.jit_compile),
                CompiledLoop(loop, variables, self.jit_compile),
            )

        return once_per_model(self._view, (*key, tuple(x.shape[1:])), make)
