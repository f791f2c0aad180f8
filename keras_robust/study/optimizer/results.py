"""What an optimizer search returns."""

import textwrap
from typing import TYPE_CHECKING
from typing import Any
from typing import cast

from keras_robust.plot.style import Picture
from keras_robust.study.optimizer import outputs
from keras_robust.study.optimizer.trials import SearchResults
from keras_robust.study.replication.tables import WIDTH
from keras_robust.study.replication.tables import aligned
from keras_robust.utils.dataframes import to_dataframe
from keras_robust.utils.pages import embedded
from keras_robust.utils.pages import render

if TYPE_CHECKING:
    import pandas


class SweepResults(dict[str, Any]):
    """The content of a search's `results.json`, with its table and figure.

    Its keys are those of `SearchResults`.

    Example:

    ```python
    results = keras_robust.study.sweep("digits", output="runs/search")
    results.table()
    results["best"]["adam"]["test_accuracy"]  # a fraction
    results.to_dataframe().groupby("optimizer").outcome.value_counts()
    results.plot().savefig("search.png")
    ```
    """

    def __repr__(self) -> str:
        """How many trainings there were, and what they show."""
        results = self._typed()
        return f"{len(results['runs'])} trainings. {results['verdict']}"

    def table(self) -> str:
        """Print the verdict, and a line for each setting, the best first.

        Returns:
            What is printed, in lines of at most 80 characters. Columns that do
            not fit are left out from the right; `table.md` has them all.
        """
        results = self._typed()
        lines = textwrap.wrap(results["verdict"], WIDTH)
        header, *rows = outputs.rows(results["runs"])
        # What does not fit is left out from the right: never the accuracy.
        place = header.index(outputs.ACCURACY)
        moved = [
            [row[place], *row[:place], *row[place + 1 :]]
            for row in (header, *rows)
        ]
        lines += ["", *aligned(moved)]
        text = "\n".join(lines)
        print(text)
        return text

    def plot(self) -> Picture:
        """Accuracy against learning rate, a panel for each optimizer.

        Returns:
            A figure of Matplotlib with a dot for each training, whose color
            and marker are its outcome.
        """
        return outputs.draw(self._typed()["runs"])

    def to_dataframe(self) -> "pandas.DataFrame":
        """All trainings, a row for each.

        Returns:
            `pandas.DataFrame` with a column for each factor, for `seed` and
            `epochs`, and for each result; accuracies are fractions. The
            curves by epoch are left out.

        Raises:
            ImportError: If pandas is not installed.
        """
        return to_dataframe(
            {key: value for key, value in run.items() if key != "curve"}
            for run in self._typed()["runs"]
        )

    def _repr_html_(self) -> str:
        """Verdict, table and figure, for notebooks."""
        results = self._typed()
        header, *rows = outputs.rows(results["runs"])
        table = {"title": "Settings", "header": header, "rows": rows}
        return render(
            "keras_robust.utils",
            "notebook.html",
            texts=[results["verdict"]],
            tables=[table],
            flags=[],
            figure=embedded(self.plot(), "png"),
        )

    def _typed(self) -> SearchResults:
        return cast("SearchResults", self)
