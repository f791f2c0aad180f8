"""New labels for images: random, deterministic, another."""

import numpy as np

from keras_robust.attacks import checks
from keras_robust.attacks.config import ConfigMixin
from keras_robust.attacks.randomness import generator
from keras_robust.datasets.mapped import mapped

CONFIG_NAMES = {"random": "rand", "deterministic": "det", "other": "other"}
# Streams 0 and up of a seed belong to the attack's restarts.
_TARGET_STREAM = 1_000_000


def check_target(target):
    """Returns `target`.

    Raises:
        ValueError: If it is none of `CONFIG_NAMES`.
    """
    if target not in CONFIG_NAMES:
        raise ValueError(
            f"Argument `target` must be one of {tuple(CONFIG_NAMES)}. "
            f"Received: target={target!r}"
        )
    return target


class Relabelling(ConfigMixin):
    """Base of transforms that give images features of a new label.

    A subclass has `target`, `seed` and `value_range`, `make` and
    `count_classes(x)`.
    """

    @property
    def config_name(self):
        """Name of the data set: `"rand"`, `"det"` or `"other"`."""
        return CONFIG_NAMES[self.target]

    def plan(self, labels, num_classes):
        """What is drawn for a whole data set; see `datasets.generate`.

        Args:
            labels: Int array `(N,)`.
            num_classes: C.

        Returns:
            Dictionary of int arrays `(N,)`: the new `label`, and `start_id`,
            here -1.
        """
        targets = self.draw_targets(labels, num_classes)
        return {"label": targets, "start_id": np.full(len(labels), -1)}

    def map(self, dataset, return_details=False):
        """A `tf.data.Dataset` of generated batches.

        The next batch computes while the last one is used. With a seed, every
        pass gives the same as one call on all of the data.

        Args:
            dataset: `tf.data.Dataset` of `(x, y)` batches.
            return_details: Whether a dictionary as of `__call__` follows.

        Returns:
            `tf.data.Dataset` of `(x_n, t)` batches.
        """

        def batches(items):
            random = generator(self.seed, _TARGET_STREAM)
            for x, y in items:
                checks.check_images(x, self.value_range)
                classes = self.count_classes(x)
                y = checks.check_labels(y, len(x), classes)
                t = self.draw_targets(y, classes, random)
                made = self.make(x, t, original=y)
                x = made.pop("x")
                yield x, t, {**made, "original_label": y}

        return mapped(dataset, batches, return_details)

    def draw_targets(self, y, num_classes, random=None):
        """The labels to reach.

        Args:
            y: Int array `(N,)`, true labels.
            num_classes: C.
            random: A `numpy.random.Generator` to go on with, or `None`.

        Returns:
            Int32 array `(N,)`.
        """
        y = np.asarray(y)
        random = random or generator(self.seed, _TARGET_STREAM)
        if self.target == "random":
            t = random.integers(0, num_classes, y.shape)
        elif self.target == "deterministic":
            t = (y + 1) % num_classes
        else:
            t = (y + random.integers(1, num_classes, y.shape)) % num_classes
        return t.astype("int32")
