"""Relabelled adversarial examples: D_rand, D_det, D_other."""

from typing import Any

import keras
import numpy as np

from keras_robust.attacks import checks
from keras_robust.attacks.norms import distances
from keras_robust.attacks.pgd import PGDAttack
from keras_robust.datasets.arrays import is_dataset
from keras_robust.datasets.arrays import to_arrays
from keras_robust.datasets.labels import labels_of_model
from keras_robust.datasets.pixels import read_images
from keras_robust.features.relabelling import Relabelling
from keras_robust.features.relabelling import check_target
from keras_robust.features.source_model import default_step
from keras_robust.features.source_model import input_rank
from keras_robust.features.source_model import resolve_range
from keras_robust.features.source_model import source_classifier


@keras.saving.register_keras_serializable("keras_robust")
class NonRobustifier(Relabelling):
    """Images that look like `x` and carry the non-robust features of `t`.

    Ilyas et al. 2019 (arXiv:1905.02175), section 3.2 and appendix C.5:
    `x_n = argmin_{||x' - x|| <= epsilon} loss(x', t)` against a standard
    model, stored with the label `t`. (That appendix calls the result D_NR;
    here D_NR is the inversion set of section 3.1, see `Robustifier`.)

    Args:
        model: A built Keras classifier, the source of the features.
        target: `"random"`: D_rand, t uniform over all C classes, so t = y
            with probability 1/C; `"deterministic"`: D_det, t = (y + 1) mod C;
            `"other"`: D_other, t uniform over the C - 1 others; or a function
            `(y, num_classes, random) -> t` of int arrays `(N,)`, with a
            `numpy.random.Generator`.
        norm: `"l2"` or `"linf"`.
        epsilon: Radius of the ball in units of `value_range`; `None` for half
            its width.
        step_size: Length of a step in that norm; `"auto"` for a tenth of that
            width, `None` for `2.5 * epsilon / steps`.
        steps: Int, gradient steps. Defaults are those of the paper's Table 6.
        value_range: `(low, high)`, the box that holds all images; or
            `"auto"`, see `PGDAttack`.
        batch_size: Int >= 1, how many images are made at once.
        seed: Int for the same targets in every call; `None` for fresh ones.
        from_logits: As in `PGDAttack`.
        jit_compile: As in `PGDAttack`.
        early_stop: Whether an image is done once the source model says t;
            the paper's definition goes on to the lowest loss.
        config_name: Name of a generated data set; `None` for `"rand"`,
            `"det"`, `"other"`, or of a function, `"custom"`.
        output: As in `PGDAttack`.
        scaling: As in `Robustifier`.

    Example:

    ```python
    to_rand = keras_robust.NonRobustifier(standard, target="random")
    x_n, t = to_rand(x, y)
    ```
    """

    def __init__(
        self,
        model: Any,
        target: Any = "random",
        norm: Any = "l2",
        epsilon: Any = None,
        step_size: Any = "auto",
        steps: int = 100,
        value_range: Any = (0.0, 1.0),
        batch_size: int = 128,
        seed: int | None = None,
        from_logits: bool | None = None,
        jit_compile: bool | str = "auto",
        early_stop: bool = False,
        config_name: str | None = None,
        output: str | int | None = None,
        scaling: Any = None,
    ) -> None:
        self.target = check_target(target)
        self.model = model
        self._config_name = config_name
        self.from_logits = from_logits
        self.output = output
        self.scaling = scaling
        source = self._source()
        self.value_range = resolve_range(value_range, source)
        if isinstance(step_size, str) and step_size == "auto":
            step_size = default_step(self.value_range)
        self.attack = PGDAttack(
            norm=norm,
            epsilon=epsilon,
            step_size=step_size,
            steps=steps,
            targeted=True,
            value_range=self.value_range,
            batch_size=batch_size,
            seed=seed,
            from_logits=from_logits,
            jit_compile=jit_compile,
            early_stop=early_stop,
            output=output,
        )
        for name in (
            "norm",
            "epsilon",
            "step_size",
            "steps",
            "batch_size",
            "seed",
            "jit_compile",
            "early_stop",
        ):
            setattr(self, name, getattr(self.attack, name))

    def _source(self):
        """The `Classifier` that gives the features, as it is now."""
        return source_classifier(
            self.model,
            from_logits=self.from_logits,
            output=self.output,
            scaling=self.scaling,
        )

    def __call__(
        self,
        x: Any,
        y: Any = None,
        verbose: int = 1,
        return_details: bool = False,
    ) -> tuple:
        """Perturbed images and their new labels.

        Args:
            x: Array or tensor of shape `(N, ...)`: floats in `value_range`,
                or of dtype uint8, then scaled to it; or a data set of
                `(x, y)` batches, then without `y`.
            y: True labels, `(N,)`, `(N, 1)` or one-hot.
            verbose: 0 for no progress bar.
            return_details: Whether to tell how far each example got.

        Returns:
            `(x_n, t)`; `t` is int32 `(N,)`. With `return_details`, also a
            dictionary of arrays `(N,)`: `success` (the source model says
            `t`), `distance` (norm of the perturbation), `original_label`.

        Raises:
            ValueError: If an input is out of range or of the wrong shape.
        """
        if y is None and is_dataset(x):
            x, y = to_arrays(x)
        elif y is None:
            raise ValueError(
                "Argument `y` must hold the true labels. Received: y=None"
            )
        x = read_images(x, self.value_range)
        classes = 2
        if x.shape[0]:
            classes = self.count_classes(x)
        y = labels_of_model(y, x.shape[0], classes)
        targets = self._targets(y, classes)
        result = self.attack.run(
            self._source(), x, targets, verbose=verbose, scored=return_details
        )
        if not return_details:
            return result["x"], targets
        details = {
            "success": np.asarray(result["success"]),
            "distance": distances(result["x"], x, self.norm),
            "original_label": y,
        }
        return result["x"], targets, details

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
            labels: Int array `(N,)`, the targets.
            start: Not used.
            rows: Not used.
            original: Not used.

        Returns:
            Dictionary of arrays: `x`, `distance` in the attack's norm, and
            `success`, whether the source model says the target.
        """
        del start, rows, original
        checks.check_images(x, self.value_range)
        result = self.attack.run(
            self._source(), x, labels, verbose=0, scored=True
        )
        return {
            "x": result["x"],
            "distance": distances(result["x"], x, self.norm),
            "success": np.asarray(result["success"]),
        }

    @property
    def input_rank(self) -> int | None:
        """How many axes a batch of images has."""
        return input_rank(self._source())

    def count_classes(self, x: Any) -> int | None:
        """How many classes the source model tells apart.

        Args:
            x: A few images.
        """
        return self._source().check(x)
