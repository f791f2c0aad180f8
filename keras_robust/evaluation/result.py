"""Numbers that can be written as JSON, drawn, and shown in notebooks."""

import dataclasses
import json
import math
import os
from abc import ABC
from abc import abstractmethod
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

from keras_robust.evaluation.flag_meanings import explain
from keras_robust.utils.dataframes import to_dataframe
from keras_robust.utils.files import write_atomically
from keras_robust.utils.pages import embedded
from keras_robust.utils.pages import render

if TYPE_CHECKING:
    import pandas
    from rich.console import Console
    from rich.table import Table

    from keras_robust.evaluation.flags import Flag
    from keras_robust.evaluation.shown import ShownExamples
    from keras_robust.plot.style import Picture


class Result(ABC):
    """Base class for the results of evaluations and measures.

    A subclass gives `numbers()`, a dictionary of plain Python values, `draw()`,
    a figure, `tables()` for people and `records()` for programs.
    """

    @abstractmethod
    def numbers(self) -> dict[str, Any]:
        """The content of the JSON file."""

    @abstractmethod
    def draw(self) -> "Picture":
        """The figure."""

    @abstractmethod
    def tables(self) -> "list[Table]":
        """The tables, of `rich`."""

    @abstractmethod
    def records(self) -> list[dict[str, Any]]:
        """The rows of the data frame, with the same keys in each."""

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

    def plot(self, path: str | os.PathLike[str] | None = None) -> "Picture":
        """Draw the figure.

        Args:
            path: File to save, whose suffix decides the format, or `None`.

        Returns:
            A `matplotlib.figure.Figure`, which a notebook shows where it is the
            last line of a cell.
        """
        picture = self.draw()
        if path is not None:
            picture.savefig(path)
        return picture

    def to_dataframe(self) -> "pandas.DataFrame":
        """The numbers as a `pandas.DataFrame`.

        Raises:
            ImportError: If pandas is not installed.
        """
        return to_dataframe(self.records())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.records()})"

    def _repr_html_(self) -> str:
        """Tables and figure, for notebooks."""
        return render(
            "keras_robust.utils",
            "notebook.html",
            texts=[],
            tables=[table_cells(table) for table in self.tables()],
            flags=[str(flag) for flag in getattr(self, "flags", ())],
            figure=embedded(self.draw(), "png"),
        )


class EvaluationResult(Result):
    """Base class for results with flags and provenance.

    Besides the methods of `Result` a subclass has `verdict`.

    Args:
        flags: `Flag`s: reasons to doubt the numbers.
        provenance: All that the numbers depend on, as plain values.
    """

    # Some examples that were broken, where the evaluation has kept them.
    shown: "ShownExamples | None" = None

    def __init__(
        self,
        flags: "Iterable[Flag]" = (),
        provenance: dict[str, Any] | None = None,
    ) -> None:
        self.flags = list(flags)
        self.provenance = dict(provenance or {})

    @abstractmethod
    def verdict(self) -> str:
        """The numbers in a paragraph for someone who is no expert."""

    def background(self) -> dict[str, Any]:
        """Flags and provenance, for the JSON file."""
        return {
            "flags": [dataclasses.asdict(flag) for flag in self.flags],
            "provenance": self.provenance,
        }

    def print_tables(self, console: "Console | None" = None) -> "list[Table]":
        """Print the tables, and a line for each flag.

        Args:
            console: A `rich.console.Console`, or `None` for the terminal.

        Returns:
            List of `rich.table.Table`.
        """
        from rich.console import Console
        from rich.markup import escape

        console = console or Console()
        tables = self.tables()
        for table in tables:
            console.print(table)
        for flag in self.flags:
            console.print(f"[bold]Flag[/bold] {escape(str(flag))}")
        return tables

    def to_html(
        self,
        path: str | os.PathLike[str] | None = None,
        class_names: Sequence[str] | None = None,
    ) -> str:
        """The report as an HTML page of one file, which needs no network.

        A paragraph for someone who is no expert comes first, then the figure,
        images that were attacked, the tables, each flag with its meaning and
        what to do, and what the numbers depend on.

        Args:
            path: File to write, or `None`.
            class_names: Names of the classes, in place of numbers.

        Returns:
            String.
        """
        images = None
        if self.shown is not None:
            images = embedded(self.shown.plot(class_names), "png")
        text = render(
            "keras_robust.evaluation",
            "evaluation.html",
            name=_names(self.provenance.get("model", "a classifier")),
            verdict=self.verdict(),
            figure=embedded(self.draw(), "svg"),
            images=images,
            images_caption=self.shown.caption() if self.shown else "",
            tables=[table_cells(table) for table in self.tables()],
            flags=[
                {"text": str(flag), "name": flag.name, **explain(flag.name)}
                for flag in self.flags
            ],
            facts=self.provenance,
            details=json.dumps(_finite(self.provenance), indent=2),
        )
        if path is not None:
            write_atomically(
                Path(path), lambda part: part.write_text(text, encoding="utf-8")
            )
        return text


def table_cells(table: "Table") -> dict[str, Any]:
    """Title, header and rows of a table of `rich`, as text."""
    columns = [list(column.cells) for column in table.columns]
    return {
        "title": str(table.title or ""),
        "header": [str(column.header) for column in table.columns],
        "rows": [
            [str(cell) for cell in row] for row in zip(*columns, strict=True)
        ],
    }


def _names(model: Any) -> str:
    """The name of a model, or the names of several by what they are called."""
    if isinstance(model, Mapping):
        return ", ".join(f"{key} ({name})" for key, name in model.items())
    return str(model)


def _finite(value: Any) -> Any:
    """The same value with `None` for NaN and infinity."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
