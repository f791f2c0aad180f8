"""Numbers that can be written as JSON and drawn."""

import json
import math
from abc import ABC
from abc import abstractmethod


class Result(ABC):
    """Base of what the functions of this room return.

    A subclass gives `numbers()`, a dictionary of plain Python values, and
    `draw()`, a `matplotlib.figure.Figure`.
    """

    @abstractmethod
    def numbers(self):
        """What goes into the JSON file."""

    @abstractmethod
    def draw(self):
        """The figure."""

    def to_json(self, path=None):
        """The numbers as JSON; what is not a number (NaN) is `null`.

        Args:
            path: Where to write them as well, or `None`.

        Returns:
            String.
        """
        text = json.dumps(_finite(self.numbers()), indent=2, allow_nan=False)
        if path is not None:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text + "\n")
        return text

    def figure(self, path=None):
        """The figure.

        Args:
            path: Where to save it (the suffix says the format), or `None`.

        Returns:
            The `matplotlib.figure.Figure`.
        """
        figure = self.draw()
        figure.tight_layout()
        if path is not None:
            figure.savefig(path)
        return figure


def _finite(value):
    """The same with `None` for NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
