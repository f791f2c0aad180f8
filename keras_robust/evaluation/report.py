"""The report of an evaluation."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from keras_robust.evaluation.flags import Flag
from keras_robust.evaluation.gate import GatedResult
from keras_robust.evaluation.gate import RobustAccuracy
from keras_robust.evaluation.threats import CorruptedRight
from keras_robust.evaluation.threats import corruption_mean
from keras_robust.evaluation.threats import threat_accuracy

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


class RobustnessReport(GatedResult):
    """Accuracy per attack with intervals, and the per-example worst case.

    Args:
        correct: Dictionary of bool arrays `(N,)` by attack, with `"clean"`.
        flags: List of `Flag`: reasons to doubt the numbers.
        stages: Dictionary, by attack made of parts, of dictionaries: accuracy
            after each part.
        provenance: Dictionary of plain values: attacks with their
            configuration, fingerprints of model and data, versions, date.
        threats: Dictionary: names of attacks by threat, such as a ball.
        corrupted: Dictionary by corruption of dictionaries by severity of bool
            arrays `(N,)`, or `None`.

    Attributes:
        correct: The same, with `"worst case"`: right on all of them.
        accuracy: Dictionary of floats in [0, 1] by attack.
        intervals: Dictionary of `(low, high)`: 95 % Wilson intervals.
        examples: N.
        flags: As given.
        stages: As given.
        provenance: As given.
        corrupted: As given; no part of `correct` and its worst case.
        threats: Dictionary of floats in [0, 1]: where there are several
            threats, accuracy under all attacks of each and over all
            corruptions and severities, and the mean and the worst of these.
    """

    def __init__(
        self,
        correct: dict[str, np.ndarray],
        flags: Iterable[Flag] = (),
        stages: dict[str, dict[str, float]] | None = None,
        provenance: dict[str, Any] | None = None,
        threats: Mapping[str, Iterable[str]] | None = None,
        corrupted: CorruptedRight | None = None,
    ) -> None:
        super().__init__(flags, provenance)
        self.stages = stages or {}
        self.corrupted = corrupted or {}
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
        self.threats = threat_accuracy(
            self.correct, threats or {}, self.corrupted
        )

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
        for more in self._more_tables():
            console.print(more)
        self.print_flags(console)
        return table

    def _more_tables(self) -> "Iterator[Table]":
        """Accuracy under corruptions, and under each threat."""
        from rich.table import Table

        if self.corrupted:
            table = Table(title="Accuracy under corruptions, % by severity")
            severities = list(next(iter(self.corrupted.values())))
            for heading in ("corruption", *map(str, severities), "mean"):
                table.add_column(heading, justify="right")
            accuracy = self._corruption_accuracy()
            for name, by_severity in accuracy.items():
                values = list(by_severity.values())
                values.append(float(np.mean(values)))
                cells = [f"{100 * value:.2f}" for value in values]
                table.add_row(name, *cells)
            mean = f"{100 * corruption_mean(self.corrupted):.2f}"
            empty = [""] * len(severities)
            table.add_row("mean", *empty, mean)
            yield table
        if self.threats:
            table = Table(title="Accuracy under each threat, %")
            for heading in ("threat", "accuracy"):
                table.add_column(heading, justify="right")
            for name, value in self.threats.items():
                table.add_row(name, f"{100 * value:.2f}")
            yield table

    def _corruption_accuracy(self) -> dict[str, dict[str, float]]:
        """Accuracy by severity, by corruption."""
        return {
            name: {
                str(severity): float(right.mean())
                for severity, right in by_severity.items()
            }
            for name, by_severity in self.corrupted.items()
        }

    def robust_accuracy(self) -> RobustAccuracy:
        """See `GatedResult`: the worst case, or the mean over corruptions."""
        names = [name for name in self.correct if name != "worst case"]
        if self.corrupted and names == ["clean"]:
            mean = corruption_mean(self.corrupted)
            return RobustAccuracy("the mean over corruptions", mean, None)
        return RobustAccuracy(
            f"the worst case of {', '.join(names)} on {self.examples} examples",
            self.accuracy["worst case"],
            self.intervals["worst case"],
        )

    def numbers(self) -> dict[str, Any]:
        """See `Result`."""
        return {
            "examples": self.examples,
            "accuracy": self.accuracy,
            "intervals": self.intervals,
            "stages": self.stages,
            **self._more_numbers(),
            **self.background(),
        }

    def _more_numbers(self) -> dict[str, Any]:
        """Corruptions and threats, where there are any."""
        found: dict[str, Any] = {}
        if self.corrupted:
            found["corruptions"] = self._corruption_accuracy()
        if self.threats:
            found["threats"] = self.threats
        return found

    def draw(self) -> "Figure":
        """Bars of accuracy with their intervals; lines of corruptions."""
        from matplotlib.figure import Figure

        width = 1.5 + 0.9 * len(self.accuracy)
        if self.corrupted:
            figure = Figure(figsize=(width + 6, 3.5))
            axes, lines = figure.subplots(1, 2, width_ratios=(width, 6))
            for name, by_severity in self._corruption_accuracy().items():
                percent = [100 * value for value in by_severity.values()]
                lines.plot(list(by_severity), percent, ".-", label=name)
            lines.set_xlabel("severity")
            lines.set_ylim(0, 100)
            lines.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        else:
            figure = Figure(figsize=(width, 3.5))
            axes = figure.subplots()
        heights = 100 * np.array(list(self.accuracy.values()))
        low, high = 100 * np.array(list(self.intervals.values())).T
        errors = np.maximum([heights - low, high - heights], 0)
        axes.bar(list(self.accuracy), heights, yerr=errors, capsize=3)
        axes.set_ylabel("accuracy, %")
        axes.set_ylim(0, 100)
        axes.tick_params(axis="x", rotation=30)
        return figure
