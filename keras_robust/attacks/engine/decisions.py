"""Answers of a classifier to NumPy images: is the goal reached?"""

from typing import Any

import numpy as np

from keras_robust import backend
from keras_robust.attacks.engine.batches import padded_size
from keras_robust.classifier import Classifier


class Decisions:
    """Which images reach the goal, by the classifier's own predictions.

    Args:
        classifier: The classifier.
        targeted: Whether labels are to be reached, not to be left.

    Attributes:
        size: Images that the classifier is asked about at once.
    """

    def __init__(self, classifier: Classifier, targeted: bool) -> None:
        self._classifier = classifier
        self._targeted = targeted
        self.size = classifier.outputs.batch_size
        has_model = classifier.access == "gradients"
        self._pads = has_model and backend.needs_padding(classifier.jit())

    def __call__(
        self, x: np.ndarray, y: np.ndarray, held: dict[str, np.ndarray]
    ) -> np.ndarray:
        """Ask for images.

        Args:
            x: Float32 array `(n, ...)`.
            y: Int labels `(n,)`, to leave or to reach.
            held: Dictionary of arrays `(n, ...)`, the other inputs.

        Returns:
            Bool array `(n,)`.
        """
        if not len(x):
            return np.zeros(0, bool)
        found = []
        for start in range(0, len(x), self.size):
            rows = slice(start, start + self.size)
            kept = {name: part[rows] for name, part in held.items()}
            found.append(self._predict(x[rows], kept))
        hit = np.concatenate(found) == y
        return hit if self._targeted else ~hit

    def _predict(self, x: np.ndarray, held: dict[str, Any]) -> np.ndarray:
        """Labels of at most `size` images, in a batch of a compiled size."""
        count = len(x)
        target = padded_size(count, self.size, pads=self._pads, fixed=False)
        rows = np.minimum(np.arange(target), count - 1)
        held = {name: part[rows] for name, part in held.items()}
        labels = self._classifier.predict_labels(x[rows], target, held)
        return labels[:count]
