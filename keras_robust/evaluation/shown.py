"""Examples that attacks have broken, kept to be looked at."""

import math
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from keras_robust.attacks.attack import Attack
from keras_robust.evaluation.data import Examples
from keras_robust.evaluation.outcomes import Outcome

if TYPE_CHECKING:
    from keras_robust.plot.style import Picture

# How many are shown.
_COUNT = 8


@dataclass(frozen=True, kw_only=True)
class ShownExamples:
    """Examples that are classified correctly, and not after an attack.

    Attributes:
        x: Float array `(n, ...)`.
        x_adv: What the attack made of them.
        labels: Int array `(n,)`, the true ones.
        predictions: Int array `(n,)`, the model's answers to `x_adv`.
        attack: Name of the attack.
        value_range: `(low, high)` of pixels.
    """

    x: np.ndarray
    x_adv: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray
    attack: str
    value_range: tuple[float, float]

    @classmethod
    def of(
        cls,
        examples: Examples,
        attacks: Mapping[str, Attack],
        outcomes: Mapping[str, Outcome],
    ) -> "ShownExamples | None":
        """Those of the first attack that has broken some.

        Args:
            examples: What is evaluated.
            attacks: Attacks by name, with the numbers they run with.
            outcomes: Outcomes by attack, in the order of their runs.

        Returns:
            `None` where nothing was broken, inputs are no images, or their
            range is not one pair of numbers.
        """
        if examples.image.ndim not in (3, 4):
            return None
        for name, outcome in outcomes.items():
            rows, moved = outcome.broken_rows, outcome.broken_images
            bounds = _bounds(attacks[name])
            if rows is None or moved is None or not len(rows) or not bounds:
                continue
            labels = outcome.broken_labels
            return cls(
                x=examples.image[rows[:_COUNT]],
                x_adv=moved[:_COUNT],
                labels=examples.y[rows[:_COUNT]],
                predictions=np.asarray(labels)[:_COUNT],
                attack=name,
                value_range=bounds,
            )
        return None

    def plot(self, class_names: Sequence[str] | None = None) -> "Picture":
        """Draw the images, the changes amplified, and the changed images.

        Args:
            class_names: Names of the classes, in place of numbers; numbers
                stay where a model has more classes than names.
        """
        from keras_robust.plot.images import images

        largest = max(self.labels.max(), self.predictions.max())
        if class_names is not None and largest >= len(class_names):
            class_names = None
        return images(
            self.x,
            self.x_adv,
            self.labels,
            self.predictions,
            class_names=class_names,
            value_range=self.value_range,
            count=_COUNT,
        )

    def caption(self) -> str:
        """What the picture shows, also for who cannot see it."""
        return (
            f"The first {len(self.x)} images that the attack {self.attack} has "
            "broken. Above: as they are, with the true label. Middle: the "
            "change, amplified. Below: image and change together, with the "
            "model's answer."
        )


def _bounds(attack: Attack) -> tuple[float, float] | None:
    # Of a resolved attack: a pair of numbers or arrays.
    bounds: Any = attack.value_range
    low, high = bounds
    if np.ndim(low) or np.ndim(high) or not math.isfinite(high - low):
        return None
    return float(low), float(high)
