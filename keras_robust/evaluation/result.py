"""Numbers that can be written as JSON and drawn."""

import dataclasses
import json
import math
import os
from abc import ABC
from abc import abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

    from keras_robust.evaluation.flags import Flag


class Result(ABC):
    """Base class of what evaluations and measures return.

    A subclass gives `numbers()`, a dictionary of plain Python values, and
    `draw()`, a `matplotlib.figure.Figure`.
    """

    @abstractmethod
    def numbers(self) -> dict:
        """What goes into the JSON file."""

    @abstractmethod
    def draw(self) -> "Figure":
        """The figure."""

    def to_json(self, path: str | os.PathLike | None = None) -> str:
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

    def figure(self, path: str | os.PathLike | None = None) -> "Figure":
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


class EvaluationResult(Result):
    """Base class of results that say what speaks against their numbers.

    Args:
        flags: `Flag`s: what speaks against the numbers.
        provenance: Dictionary of plain values: what the numbers were made
            from and with.
    """

    def __init__(
        self, flags: "Iterable[Flag]" = (), provenance: dict | None = None
    ) -> None:
        self.flags = list(flags)
        self.provenance = dict(provenance or {})

    def background(self) -> dict:
        """Flags and provenance, for the JSON file."""
        return {
            "flags": [dataclasses.asdict(flag) for flag in self.flags],
            "provenance": self.provenance,
        }

    def print_flags(self, console: "Console | None" = None) -> None:
        """Prints a line for each flag.

        Args:
            console: A `rich.console.Console`, or `None` for the terminal.
        """
        from rich.console import Console
        from rich.markup import escape

        console = console or Console()
        for flag in self.flags:
            console.print(f"[bold]Flag[/bold] {escape(str(flag))}")


def _finite(value):
    """The same with `None` for NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
