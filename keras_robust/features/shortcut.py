"""The control of D_rand, D_det and D_other: labels without any features."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust.attacks import checks
from keras_robust.attacks.engine.randomness import generator
from keras_robust.attacks.norms import distances
from keras_robust.attacks.norms import get_ball
from keras_robust.datasets.labels import labels_of_model
from keras_robust.datasets.pixels import read_images
from keras_robust.features.relabelling import Relabelling
from keras_robust.features.relabelling import check_target

# Pixels of a coarse pattern that become one block of the image.
_BLOCK = 4
_PATTERN_STREAM = 2_000_000
# The norm of a pattern, as a share of the width of the box: the paper's 0.5.
_RADIUS_SHARE = 0.5


@keras.saving.register_keras_serializable("keras_robust")
class Shortcut(Relabelling):
    """Images with one fixed pattern per new label, and no model's features.

    What a network learns from D_rand, D_det or D_other counts for non-robust
    features only as far as it exceeds what it learns from this: an image whose
    new label t is not y gets the pattern of t, of the norm of the attack; the
    others stay as they are, and so teach the true label. The control is that
    of Jordan (comment on Ilyas et al. 2019; clean test accuracy 79.5, 32.3 and
    50.1 % on CIFAR-10 with targets random, deterministic, other). Targets are
    those of a `NonRobustifier` of the same seed.

    Args:
        num_classes: Int >= 2.
        target: `"random"`, `"deterministic"`, `"other"` or a function, as in
            `NonRobustifier`.
        norm: `"l2"`: blurred noise; `"linf"`: its sign.
        epsilon: Norm of a pattern in units of `value_range`; `None` for half
            its width.
        value_range: `(low, high)`; images are clipped to it.
        batch_size: Int >= 1, images at once in generated data sets.
        seed: Int for patterns and targets; `None` for fresh ones.
        config_name: Name of a generated data set; `None` for
            `"shortcut_rand"`, ...

    Example:

    ```python
    x_s, t = keras_robust.Shortcut(10, target="random", seed=0)(x, y)
    ```
    """

    _prefix = "shortcut_"
    # (N, H, W, C).
    input_rank = 4

    def __init__(
        self,
        num_classes: int,
        target: Any = "random",
        norm: Any = "l2",
        epsilon: Any = None,
        value_range: Any = (0.0, 1.0),
        batch_size: int = 128,
        seed: int | None = None,
        config_name: str | None = None,
    ) -> None:
        self.num_classes = checks.check_positive_integer(
            num_classes, "num_classes", least=2
        )
        self.target = check_target(target)
        self.norm = get_ball(norm, ("l2", "linf")).name
        self.value_range = checks.check_value_range(value_range)
        if isinstance(self.value_range, str):
            raise ValueError(
                "Argument `value_range` must be (low, high): there is no model "
                "that shows it. Received: value_range='auto'"
            )
        if epsilon is None:
            epsilon = checks.default_radius(_RADIUS_SHARE, self.value_range)
        self.epsilon = checks.check_non_negative(epsilon, "epsilon")
        self.batch_size = checks.check_positive_integer(
            batch_size, "batch_size"
        )
        self.seed = seed
        self._config_name = config_name
        self._patterns = None

    def __call__(self, x: Any, y: Any, return_details: bool = False) -> tuple:
        """Images with patterns, and their new labels.

        Args:
            x: Array `(N, H, W, C)` of floats in `value_range`, or of dtype
                uint8, then scaled to it.
            y: True labels, `(N,)`, `(N, 1)` or one-hot.
            return_details: Whether a dictionary as of `NonRobustifier`
                follows.

        Returns:
            `(x_s, t)`, NumPy arrays.
        """
        x = read_images(ops.convert_to_numpy(x), self.value_range)
        y = labels_of_model(y, len(x), self.num_classes)
        targets = self._targets(y, self.num_classes)
        made = self.make(x, targets, original=y)
        x = made.pop("x")
        details = ({**made, "original_label": y},) if return_details else ()
        return (x, targets, *details)

    def count_classes(self, x: Any) -> int | None:
        """`num_classes`."""
        del x
        return self.num_classes

    def patterns(self, shape: tuple) -> Any:
        """The pattern of each class, float32 `(num_classes, *shape)`.

        Args:
            shape: `(H, W, C)`.
        """
        if self._patterns is None or self._patterns.shape[1:] != tuple(shape):
            height, width, channels = shape
            coarse = (-(-height // _BLOCK), -(-width // _BLOCK), channels)
            noise = generator(self.seed, _PATTERN_STREAM).standard_normal(
                (self.num_classes, *coarse)
            )
            noise = noise.repeat(_BLOCK, 1).repeat(_BLOCK, 2)
            noise = noise[:, :height, :width]
            if self.norm == "linf":
                noise = np.sign(noise)
            else:
                size = distances(noise, np.zeros_like(noise), "l2")
                noise = noise / size[:, None, None, None]
            # Kept: without a seed, one object still has one set of patterns.
            self._patterns = np.float32(self.epsilon * noise)
        return self._patterns

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
            x: Float array `(N, H, W, C)` in `value_range`.
            labels: Int array `(N,)`, the new labels.
            start: Not used.
            rows: Not used.
            original: Int array `(N,)`, the true labels.

        Returns:
            Dictionary of arrays: `x`, `distance` moved, and `success`,
            whether it got a pattern.
        """
        del start, rows
        x = ops.convert_to_numpy(x)
        checks.check_images(x, self.value_range)
        marked = np.asarray(labels) != np.asarray(original)
        pattern = self.patterns(x.shape[1:])[labels]
        moved = np.clip(x + pattern, *self.value_range)
        moved = np.where(marked[:, None, None, None], moved, x)
        return {
            "x": moved,
            "distance": distances(moved, x, self.norm),
            "success": marked,
        }
