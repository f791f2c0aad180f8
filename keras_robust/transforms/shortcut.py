"""The control of D_rand, D_det and D_other: labels without any features."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust.attacks.engine.randomness import generator
from keras_robust.attacks.norms import distances
from keras_robust.attacks.norms import get_ball
from keras_robust.transforms.batch import Batch
from keras_robust.transforms.batch import Made
from keras_robust.transforms.non_robustifier import Relabelling
from keras_robust.utils import checks

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
    others stay unchanged, and so teach the true label. The control is that
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
        seed: Int for patterns and targets. With `None` targets are fresh in
            every call, and patterns are drawn once: calls of one object, for
            training and for test images, share them.
        config_name: Name of a generated data set; `None` for
            `"shortcut_rand"`, ...

    Example:

    ```python
    x_s, t = keras_robust.Shortcut(10, target="random", seed=0)(x, y)
    ```
    """

    _prefix = "shortcut_"

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
        super().__init__(
            target,
            config_name=config_name,
            value_range=value_range,
            batch_size=batch_size,
            seed=seed,
        )
        self.num_classes = checks.check_positive_integer(
            num_classes, "num_classes", least=2
        )
        self.norm = get_ball(norm, ("l2", "linf")).name
        if epsilon is None:
            epsilon = checks.default_radius(_RADIUS_SHARE, self.value_range)
        self.epsilon = checks.check_non_negative(epsilon, "epsilon")
        self._patterns: np.ndarray | None = None

    @property
    def input_rank(self) -> int:
        """Number of axes of `(N, H, W, C)`."""
        return 4

    def count_classes(self, images: Any) -> int:
        """The number of classes that the constructor was given."""
        del images
        return self.num_classes

    def patterns(self, shape: tuple[int, ...]) -> np.ndarray:
        """The pattern of each class.

        Args:
            shape: `(H, W, C)`.

        Returns:
            Float32 array `(num_classes, H, W, C)`.
        """
        if len(shape) != 3:
            raise ValueError(
                "Images must be of shape (N, H, W, C), with an axis for a "
                "single channel (`x[..., None]`). "
                f"Received: images of shape {('N', *shape)}"
            )
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
            self._patterns = np.asarray(self.epsilon * noise, "float32")
        return self._patterns

    def make(self, batch: Batch) -> Made:
        """Make one batch.

        Args:
            batch: See `Batch`; its `labels` are the new ones.

        Returns:
            Dictionary of NumPy arrays: `x`, `distance` moved, and `success`,
            whether the image got a pattern.
        """
        x = ops.convert_to_numpy(batch.images)
        marked = np.asarray(batch.labels) != np.asarray(batch.original_labels)
        pattern = self.patterns(x.shape[1:])[batch.labels]
        moved = np.clip(x + pattern, *self.value_range)
        moved = np.where(marked[:, None, None, None], moved, x)
        return {
            "x": moved,
            "distance": distances(moved, x, self.norm),
            "success": marked,
        }

    def make_all(
        self, batch: Batch, verbose: int, scored: bool
    ) -> dict[str, Any]:
        """Make all images of a call at once; see `Transform`."""
        del verbose, scored
        return {**self.make(batch)}
