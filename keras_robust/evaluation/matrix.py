"""What a transfer evaluation found."""

from collections.abc import Iterable
from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from keras_robust.evaluation.flags import Flag
from keras_robust.evaluation.result import EvaluationResult
from keras_robust.evaluation.verdict import caution

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from keras_robust.plot.style import Picture


class TransferMatrix(EvaluationResult):
    """Rates of transfer between models.

    Args:
        sources: Names of the models attacked.
        targets: Names of the models fooled.
        untargeted: Array `(sources, targets)`: of the examples that both
            models get right, the share that the target gets wrong after the
            attack on the source.
        targeted: The same, the share that the target takes for the class
            that the attack on the source aimed at, drawn among the wrong
            ones; or `None`.
        examples: Int array `(sources, targets)`, how many both get right.
        flags: List of `Flag`: reasons to doubt the numbers.
        provenance: Dictionary of plain values: attacks with their
            configuration, fingerprints of models and data, versions, date.
    """

    def __init__(
        self,
        sources: Iterable[str],
        targets: Iterable[str],
        untargeted: Any,
        targeted: Any,
        examples: Any,
        flags: Iterable[Flag] = (),
        provenance: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(flags, provenance)
        self.sources = list(sources)
        self.targets = list(targets)
        self.untargeted = np.asarray(untargeted)
        self.targeted = None if targeted is None else np.asarray(targeted)
        self.examples = np.asarray(examples)

    def _rates(self) -> dict[str, np.ndarray]:
        rates = {"untargeted": self.untargeted}
        if self.targeted is not None:
            rates["targeted"] = self.targeted
        return rates

    def table(self, console: "Console | None" = None) -> "list[Table]":
        """Print a table for each kind.

        Args:
            console: A `rich.console.Console`, or `None` for the terminal.

        Returns:
            List of `rich.table.Table`.
        """
        return self.print_tables(console)

    def tables(self) -> "list[Table]":
        """See `Result`: a table for each kind."""
        from rich.table import Table

        tables = []
        for kind, rates in self._rates().items():
            table = Table(title=f"{kind.capitalize()} transfer, %")
            table.add_column("source")
            for target in self.targets:
                table.add_column(target, justify="right")
            for source, row in zip(self.sources, rates, strict=True):
                table.add_row(source, *(f"{100 * rate:.1f}" for rate in row))
            tables.append(table)
        return tables

    def records(self) -> list[dict[str, Any]]:
        """See `Result`: a row for each source and target."""
        return [
            {
                "source": source,
                "target": target,
                "examples": int(self.examples[row, column]),
                **{
                    kind: float(rates[row, column])
                    for kind, rates in self._rates().items()
                },
            }
            for row, source in enumerate(self.sources)
            for column, target in enumerate(self.targets)
        ]

    def verdict(self) -> str:
        """See `EvaluationResult`."""
        pairs = [row for row in self.records() if _is_transfer(row)]
        parts = [
            "Each model was attacked, and the others were asked what they see "
            "in the images that came out."
        ]
        if pairs:
            most = max(pairs, key=lambda row: row["untargeted"])
            parts.append(
                f"The most fooled is {most['target']}: of 100 images that "
                f"both were right on, {100 * most['untargeted']:.0f} became "
                f"wrong by an attack on {most['source']}, without access to "
                f"{most['target']} itself."
            )
        return " ".join([*parts, caution(self.flags)])

    def numbers(self) -> dict[str, Any]:
        """See `Result`."""
        rates = {kind: rate.tolist() for kind, rate in self._rates().items()}
        return {
            "sources": self.sources,
            "targets": self.targets,
            "examples": self.examples.tolist(),
            **rates,
            **self.background(),
        }

    def draw(self) -> "Picture":
        """A square of a darker blue for each higher rate, for each kind."""
        from keras_robust.plot.diagrams import matrix
        from keras_robust.plot.style import new_picture

        kinds = self._rates()
        width = 1.8 + 0.7 * len(self.targets)
        height = 1.8 + 0.6 * len(self.sources)
        picture = new_picture(width * len(kinds), height)
        panels = picture.subplots(1, len(kinds), squeeze=False)[0]
        for axes, (kind, rates) in zip(panels, kinds.items(), strict=True):
            matrix(axes, rates, self.sources, self.targets)
            axes.set_title(f"{kind} transfer, %", fontsize=10)
            axes.set_xlabel("who is fooled")
        panels[0].set_ylabel("who was attacked")
        return picture


def _is_transfer(row: dict[str, Any]) -> bool:
    """Whether two models are meant, and there is a rate."""
    return row["source"] != row["target"] and not np.isnan(row["untargeted"])
