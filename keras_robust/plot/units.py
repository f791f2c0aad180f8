"""Radii in words: units of the range of pixels, and levels of 255."""

import math
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

NORMS = {"linf": "L∞", "l2": "L2", "l1": "L1", "l0": "L0"}
# What a level on the upper axis of a diagram is, by norm.
_LEVELS = {
    "linf": "levels of 255 by which every number may change",
    "l2": "levels of 255, if every number changes alike",
    "l1": "levels of 255, if every number changes alike",
}


@dataclass(frozen=True)
class Units:
    """How a radius in a norm is said in levels of an eight-bit image.

    Attributes:
        norm: `"l0"`, `"l1"`, `"l2"` or `"linf"`.
        value_range: `(low, high)` of pixels; `None` where it is not known or
            differs between inputs.
        numbers: How many numbers an image has; 0 for what is no image.
    """

    norm: str
    value_range: tuple[float, float] | None
    numbers: int

    @classmethod
    def of(cls, provenance: Mapping[str, Any], norm: str) -> "Units":
        """The units of an evaluation.

        Args:
            provenance: Of the evaluation; may be empty.
            norm: The norm of its attacks.
        """
        shape = provenance.get("input_shape") or ()
        return cls(
            norm,
            _shared_range(provenance.get("attacks") or {}),
            math.prod(shape) if len(shape) > 1 else 0,
        )

    @property
    def levels(self) -> float | None:
        """Levels of 255 of a radius of 1, `None` where there are none.

        For L2 and L1 by how much every number changes if all change alike.
        """
        if self.value_range is None or not self.numbers:
            return None
        low, high = self.value_range
        shares = {
            "linf": 1.0,
            "l2": 1 / math.sqrt(self.numbers),
            "l1": 1 / self.numbers,
        }
        if self.norm not in shares:
            return None
        return shares[self.norm] * 255 / (high - low)

    def axis_label(self) -> str:
        """The label of an axis of radii."""
        name = f"{NORMS.get(self.norm, self.norm)} radius"
        if self.norm == "l0":
            return f"{name}, in numbers of an image that may change"
        if self.value_range is None:
            return f"{name}, in units of value_range"
        low, high = self.value_range
        return f"{name}, for values in [{low:g}, {high:g}]"

    def levels_label(self) -> str:
        """The label of an axis of levels."""
        return _LEVELS[self.norm]

    def text(self, radius: float) -> str:
        """A radius in words, such as `L∞ 0.0314 (8 of 255)`."""
        name = f"{NORMS.get(self.norm, self.norm)} {radius:.3g}"
        if self.levels is None or self.norm != "linf":
            return name
        return f"{name} ({radius * self.levels:.3g} of 255)"


def _shared_range(
    attacks: Mapping[str, Mapping[str, Any]],
) -> tuple[float, float] | None:
    """The box of all attacks, `None` where it is not one pair of numbers."""
    ranges = [
        attack.get("config", {}).get("value_range")
        for attack in attacks.values()
    ]
    first = ranges[0] if ranges else None
    if any(one != first for one in ranges) or not _is_pair(first):
        return None
    low, high = map(float, first or ())
    return (low, high) if math.isfinite(high - low) and low < high else None


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and len(value) == 2
        and all(isinstance(one, (int, float, np.number)) for one in value)
    )
