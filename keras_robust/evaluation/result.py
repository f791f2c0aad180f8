"""Numbers that can be written as JSON and drawn."""

import dataclasses
import json
import math
import os
from abc import ABC
from abc import abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING
from typing import Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

    from keras_robust.evaluation.flags import Flag


class Result(ABC):
    """Base class for the results of evaluations and measures.

    A subclass gives `numbers()`, a dictionary of plain Python values, and
    `draw()`, a `matplotlib.figure.Figure`.
    """

    @abstractmethod
    def numbers(self) -> dict[str, Any]:
        """The content of the JSON file."""

    @abstractmethod
    def draw(self) -> "Figure":
        """The figure."""

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The numbers as JSON, with `null` for NaN and infinity.

        Args:
            path: File to write, or `None`.

        Returns:
            String.
        """
        text = json.dumps(_finite(self.numbers()), indent=2, allow_nan=False)
        if path is not None:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text + "\n")
        return text

    def figure(self, path: str | os.PathLike[str] | None = None) -> "Figure":
        """The figure.

        Args:
            path: File to save, whose suffix decides the format, or `None`.

        Returns:
            The `matplotlib.figure.Figure`.
        """
        figure = self.draw()
        figure.tight_layout()
        if path is not None:
            figure.savefig(path)
        return figure


class EvaluationResult(Result):
    """Base class for results with flags and provenance.

    Args:
        flags: `Flag`s: reasons to doubt the numbers.
        provenance: All that the numbers depend on, as plain values.
    """

    def __init__(
        self,
        flags: "Iterable[Flag]" = (),
        provenance: dict[str, Any] | None = None,
    ) -> None:
        self.flags = list(flags)
        self.provenance = dict(provenance or {})

    def background(self) -> dict[str, Any]:
        """Flags and provenance, for the JSON file."""
        return {
            "flags": [dataclasses.asdict(flag) for flag in self.flags],
            "provenance": self.provenance,
        }

    def print_flags(self, console: "Console | None" = None) -> None:
        """Print a line for each flag.

        Args:
            console: A `rich.console.Console`, or `None` for the terminal.
        """
        from rich.console import Console
        from rich.markup import escape

        console = console or Console()
        for flag in self.flags:
            console.print(f"[bold]Flag[/bold] {escape(str(flag))}")


def _finite(value: Any) -> Any:
    """The same value with `None` for NaN and infinity."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
