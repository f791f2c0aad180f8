"""What an attack is run on, checked."""

from typing import Any
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_robust.attacks.engine.search import Findings
from keras_robust.classifier import Classifier


class Problem(NamedTuple):
    """A classifier, inputs and labels that have been checked.

    Attributes:
        classifier: The `Classifier`.
        x: The inputs to perturb, float array or tensor `(N, ...)`.
        y: Labels, int32 array `(N,)`; or what a compiled loss takes.
        classes: The number of classes, `None` where the model has none.
        previous: What an earlier search has found, for attacks that skip
            what is broken already; or `None`.
        held: Dictionary of the inputs that are held fixed.
        targets: Labels as `fit` takes them, for a compiled loss; or `None`.
        grid: Spacing of the values that inputs can take, `None` for any.
        memory: What the runs of an attack on this problem share, by key.
    """

    classifier: Classifier
    x: Any
    y: Any
    classes: int | None
    previous: Findings | None = None
    held: dict[str, Any] = {}
    targets: Any = None
    grid: float | None = None
    memory: dict[Any, Any] | None = None

    @property
    def batch_size(self) -> int | None:
        """The batch size that the model fixes, or `None`."""
        return self.classifier.batch_size

    @property
    def shape(self) -> tuple[int, ...]:
        """`(N, ...)`, the shape of the inputs."""
        return tuple(self.x.shape)

    def on_host(self) -> "Problem":
        """Return the problem with its inputs as NumPy arrays."""

        def to_numpy(value: Any) -> np.ndarray:
            return np.asarray(ops.convert_to_numpy(value))

        held = {key: to_numpy(value) for key, value in self.held.items()}
        return self._replace(x=to_numpy(self.x), held=held)

    def rows(self, index: np.ndarray) -> dict[str, Any]:
        """Return `center`, `y`, `held`, `targets` of some examples."""
        rows = {"center": self.x[index], "y": self.y[index]}
        if self.held:
            rows["held"] = {k: v[index] for k, v in self.held.items()}
        if self.targets is not None:
            rows["targets"] = keras.tree.map_structure(
                lambda value: value[index], self.targets
            )
        return rows
