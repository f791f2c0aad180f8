"""What a transfer evaluation found."""

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
        from rich.console import Console
        from rich.table import Table

        console = console or Console()
        tables = []
        for kind, rates in self._rates().items():
            table = Table(title=f"{kind.capitalize()} transfer, %")
            table.add_column("source")
            for target in self.targets:
                table.add_column(target, justify="right")
            for source, row in zip(self.sources, rates, strict=True):
                table.add_row(source, *(f"{100 * rate:.1f}" for rate in row))
            console.print(table)
            tables.append(table)
        self.print_flags(console)
        return tables

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

    def draw(self) -> "Figure":
        """A heat map for each kind."""
        from matplotlib.figure import Figure

        kinds = self._rates()
        width = 1.5 + 0.8 * len(self.targets)
        height = 1.5 + 0.6 * len(self.sources)
        figure = Figure(figsize=(width * len(kinds), height))
        panels = figure.subplots(1, len(kinds), squeeze=False)[0]
        for axes, (kind, rates) in zip(panels, kinds.items(), strict=True):
            axes.imshow(100 * rates, vmin=0, vmax=100, cmap="Blues")
            axes.set_xticks(range(len(self.targets)), self.targets, rotation=30)
            axes.set_yticks(range(len(self.sources)), self.sources)
            axes.set_title(f"{kind} transfer, %")
            for (row, column), rate in np.ndenumerate(rates):
                dark = "white" if rate > 0.5 else "black"
                label = f"{100 * rate:.0f}"
                axes.text(column, row, label, ha="center", color=dark)
        return figure
