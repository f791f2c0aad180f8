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
from keras_robust.evaluation.verdict import caution
from keras_robust.evaluation.verdict import judgement
from keras_robust.evaluation.verdict import publishing
from keras_robust.evaluation.verdict import share_text
from keras_robust.evaluation.verdict import threat_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from keras_robust.evaluation.shown import ShownExamples
    from keras_robust.plot.style import Picture


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
        shown: Some examples that were broken, for `to_html`, or `None`.

    Attributes:
        correct: The same, with `"worst case"`: right on all of them.
        accuracy: Dictionary of floats in [0, 1] by attack.
        intervals: Dictionary of `(low, high)`: 95 % Wilson intervals.
        examples: N.
        flags: As given.
        stages: As given.
        provenance: As given.
        shown: As given.
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
        shown: "ShownExamples | None" = None,
    ) -> None:
        super().__init__(flags, provenance)
        self.shown = shown
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
        return self.print_tables(console)[0]

    def tables(self) -> "list[Table]":
        """See `Result`: attacks, and corruptions and threats if there are."""
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
        return [table, *self._more_tables()]

    def records(self) -> list[dict[str, Any]]:
        """See `Result`: a row for each attack."""
        return [
            {
                "attack": name,
                "accuracy": accuracy,
                "low": self.intervals[name][0],
                "high": self.intervals[name][1],
                "examples": self.examples,
            }
            for name, accuracy in self.accuracy.items()
        ]

    def verdict(self) -> str:
        """See `EvaluationResult`."""
        clean, worst = self.accuracy.get("clean"), self.accuracy["worst case"]
        parts = []
        if clean is not None:
            parts.append(f"The model is right on {share_text(clean)}.")
        if len(self.accuracy) > 2:
            low, high = self.intervals["worst case"]
            parts.append(
                f"{threat_text(self.provenance)}, it is still right on "
                f"{share_text(worst)} (with other images it might be "
                f"{100 * low:.0f} to {100 * high:.0f})"
            )
            if clean is None:
                parts[-1] += "."
            else:
                parts[-1] += f": {judgement(clean, worst)}."
        if self.corrupted:
            mean = share_text(corruption_mean(self.corrupted))
            parts.append(
                "With common disturbances such as noise or blur it is right "
                f"on {mean} on average."
            )
        parts.append(caution(self.flags, is_bound=len(self.accuracy) > 2))
        return " ".join([*parts, *publishing(self.provenance)])

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

    def draw(self) -> "Picture":
        """Bars of accuracy with their intervals; lines of corruptions."""
        from keras_robust.plot.diagrams import bars
        from keras_robust.plot.diagrams import legend_beside
        from keras_robust.plot.style import line_style
        from keras_robust.plot.style import new_picture
        from keras_robust.plot.style import percent_axis

        height = 1.0 + 0.4 * len(self.accuracy)
        if not self.corrupted:
            picture = new_picture(5.5, height)
            bars(picture.subplots(), self.accuracy, self.intervals)
            return picture
        picture = new_picture(11, max(height, 3.5))
        axes, lines = picture.subplots(1, 2)
        bars(axes, self.accuracy, self.intervals)
        accuracy = self._corruption_accuracy()
        for number, (name, by_severity) in enumerate(accuracy.items()):
            percent = [100 * value for value in by_severity.values()]
            style = line_style(number)
            lines.plot(list(by_severity), percent, label=name, ms=4, **style)
        lines.set_xlabel("severity of the corruption")
        percent_axis(lines)
        legend_beside(lines)
        return picture
