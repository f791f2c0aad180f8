"""New labels for images: random, deterministic, another."""

from typing import Any

import numpy as np

from keras_robust.attacks import checks
from keras_robust.attacks.config import ConfigMixin
from keras_robust.attacks.engine.randomness import generator
from keras_robust.datasets.arrays import describe
from keras_robust.datasets.labels import labels_of_model
from keras_robust.datasets.mapped import mapped

CONFIG_NAMES = {"random": "rand", "deterministic": "det", "other": "other"}
# Streams 0 and up of a seed belong to the attack's restarts.
_TARGET_STREAM = 1_000_000


def check_target(target: Any) -> Any:
    """Returns `target`.

    Raises:
        ValueError: If it is none of `CONFIG_NAMES` and no function.
    """
    if callable(target):
        return target
    if not isinstance(target, str) or target not in CONFIG_NAMES:
        raise ValueError(
            f"Argument `target` must be one of {tuple(CONFIG_NAMES)}, or a "
            "function `(y, num_classes, random) -> labels`. "
            f"Received: target={describe(target)}"
        )
    return target


class Relabelling(ConfigMixin):
    """Base of transforms that give images features of a new label.

    A subclass has `target`, `seed` and `value_range`, `make`,
    `count_classes(x)` and `input_rank`.
    """

    # What the name of the data set begins with.
    _prefix = ""
    _config_name = None

    @property
    def config_name(self) -> str:
        """Name of the data set: that of the constructor, or by default
        `"rand"`, `"det"` or `"other"`; of a function, `"custom"`.
        """
        if self._config_name is not None:
            return self._config_name
        if callable(self.target):
            return f"{self._prefix}custom"
        return self._prefix + CONFIG_NAMES[self.target]

    @property
    def label_rule(self) -> str | None:
        """How labels follow from the true ones: `target`, or `None` where a
        function or a subclass decides.
        """
        kind = type(self)
        own = (
            kind.draw_targets is not Relabelling.draw_targets
            or kind.plan is not Relabelling.plan
        )
        return None if own or callable(self.target) else self.target

    def plan(self, labels: Any, num_classes: int) -> dict:
        """What is drawn for a whole data set; see `datasets.generate`.

        Args:
            labels: Int array `(N,)`.
            num_classes: C.

        Returns:
            Dictionary of int arrays `(N,)`: the new `label`, and `start_id`,
            here -1.
        """
        targets = self._targets(labels, num_classes)
        return {"label": targets, "start_id": np.full(len(labels), -1)}

    def map(self, dataset: Any, return_details: bool = False) -> Any:
        """A `tf.data.Dataset` of generated batches.

        The next batch computes while the last one is used. With a seed, every
        pass gives the same as one call on all of the data.

        Args:
            dataset: `tf.data.Dataset` of `(x, y)` batches as of `__call__`.
            return_details: Whether a dictionary as of `__call__` follows.

        Returns:
            `tf.data.Dataset` of `(x_n, t)` batches; `t` is int32 `(N,)`.
        """

        def batches(items):
            random = generator(self.seed, _TARGET_STREAM)
            for x, y in items:
                checks.check_images(x, self.value_range)
                classes = self.count_classes(x)
                y = labels_of_model(y, len(x), classes)
                t = self._targets(y, classes, random)
                made = self.make(x, t, original=y)
                x = made.pop("x")
                yield x, t, {**made, "original_label": y}

        return mapped(
            dataset,
            batches,
            return_details,
            value_range=self.value_range,
            rank=self.input_rank,
        )

    def draw_targets(
        self, y: Any, num_classes: int, random: Any = None
    ) -> np.ndarray:
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
        if callable(self.target):
            t = self.target(y, num_classes, random)
            return checks.check_labels(t, len(y), num_classes, "target")
        if self.target == "random":
            t = random.integers(0, num_classes, y.shape)
        elif self.target == "deterministic":
            t = (y + 1) % num_classes
        else:
            t = (y + random.integers(1, num_classes, y.shape)) % num_classes
        return t.astype("int32")

    def _targets(self, y, num_classes, random=None):
        """What `draw_targets` gives, also of a subclass, checked."""
        t = self.draw_targets(y, num_classes, random)
        return checks.check_labels(t, len(y), num_classes, "target")
