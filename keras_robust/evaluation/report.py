"""The report of an evaluation."""

from collections.abc import Iterable
from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from keras_robust.evaluation.flags import Flag
from keras_robust.evaluation.result import EvaluationResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console
    from rich.table import Table


def wilson_interval(rows: np.ndarray) -> tuple[float, float]:
    """The 95 % Wilson interval of a share.

    Args:
        rows: Bool array.

    Returns:
        `(low, high)`.
    """
    from scipy.stats import binomtest

    test = binomtest(int(rows.sum()), len(rows))
    interval = test.proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


class RobustnessReport(EvaluationResult):
    """Accuracy per attack with intervals, and the per-example worst case.

    Args:
        correct: Dictionary of bool arrays `(N,)` by attack, with `"clean"`.
        flags: List of `Flag`: reasons to doubt the numbers.
        stages: Dictionary, by attack made of parts, of dictionaries: accuracy
            after each part.
        provenance: Dictionary of plain values: attacks with their
            configuration, fingerprints of model and data, versions, date.

    Attributes:
        correct: The same, with `"worst case"`: right on all of them.
        accuracy: Dictionary of floats in [0, 1] by attack.
        intervals: Dictionary of `(low, high)`: 95 % Wilson intervals.
        examples: N.
        flags: As given.
        stages: As given.
        provenance: As given.
    """

    def __init__(
        self,
        correct: dict[str, np.ndarray],
        flags: Iterable[Flag] = (),
        stages: dict[str, dict[str, float]] | None = None,
        provenance: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(flags, provenance)
        self.stages = stages or {}
        correct = {key: np.asarray(rows, bool) for key, rows in correct.items()}
        worst = np.logical_and.reduce(list(correct.values()))
        self.correct = {**correct, "worst case": worst}
        self.examples = len(worst)
        self.accuracy = {
            key: float(rows.mean()) for key, rows in self.correct.items()
        }
        self.intervals = {
            key: wilson_interval(rows) for key, rows in self.correct.items()
        }

    def table(self, console: "Console | None" = None) -> "Table":
        """Print the table.

        Args:
            console: A `rich.console.Console`, or `None` for the terminal.

        Returns:
            The `rich.table.Table`.
        """
        from rich.console import Console
        from rich.table import Table

        table = Table(title=f"Accuracy on {self.examples} examples, %")
        for heading in ("attack", "accuracy", "95 % interval"):
            table.add_column(heading, justify="right")
        for name, accuracy in self.accuracy.items():
            low, high = self.intervals[name]
            table.add_row(
                name,
                f"{100 * accuracy:.2f}",
                f"{100 * low:.2f} - {100 * high:.2f}",
            )
            for part, left in self.stages.get(name, {}).items():
                table.add_row(f"after {part}", f"{100 * left:.2f}", "")
        console = console or Console()
        console.print(table)
        self.print_flags(console)
        return table

    def numbers(self) -> dict[str, Any]:
        """See `Result`."""
        return {
            "examples": self.examples,
            "accuracy": self.accuracy,
            "intervals": self.intervals,
            "stages": self.stages,
            **self.background(),
        }

    def draw(self) -> "Figure":
        """Bars of accuracy with their intervals."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(1.5 + 0.9 * len(self.accuracy), 3.5))
        axes = figure.subplots()
        heights = 100 * np.array(list(self.accuracy.values()))
        low, high = 100 * np.array(list(self.intervals.values())).T
        errors = np.maximum([heights - low, high - heights], 0)
        axes.bar(list(self.accuracy), heights, yerr=errors, capsize=3)
        axes.set_ylabel("accuracy, %")
        axes.set_ylim(0, 100)
        axes.tick_params(axis="x", rotation=30)
        return figure
