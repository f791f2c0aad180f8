"""What a run of a study returns."""

from typing import TYPE_CHECKING
from typing import Any
from typing import cast

from keras_robust.plot.style import Picture
from keras_robust.study.replication import figures
from keras_robust.study.replication import tables
from keras_robust.study.replication.results import ClaimResult
from keras_robust.study.replication.results import Results
from keras_robust.study.replication.results import column_heading
from keras_robust.utils.dataframes import to_dataframe
from keras_robust.utils.pages import embedded
from keras_robust.utils.pages import render

if TYPE_CHECKING:
    import pandas


class StudyResults(dict[str, Any]):
    """The content of `results.json`, with its table, claims and figure.

    Example:

    ```python
    results = study.run("runs/mine", verbose=0)
    results.table()  # what a run with verbose=1 prints at its end
    results["summary"]["D_R"]["clean"]["mean"]  # in per cent
    [c["name"] for c in results.claims() if c["verdict"] == "shown"]
    results.to_dataframe()
    results.plot().savefig("bars.png")
    ```
    """

    def __repr__(self) -> str:
        """Which study it is, and how many of its claims are shown."""
        return tables.summary_text(self._typed())

    def table(self) -> str:
        """Print accuracies and claims.

        Returns:
            What is printed.
        """
        results = self._typed()
        text = f"{tables.table_text(results)}\n{tables.claims_text(results)}"
        print(text)
        return text

    def claims(self) -> list[ClaimResult]:
        """The verdict on each claim, with its numbers in per cent.

        Returns:
            List of dictionaries: `name`, `statement`, `rule`, `verdict`,
            `reason` where it cannot be decided, `numbers` and others.
        """
        return self._typed()["claims"]

    def plot(self) -> Picture:
        """Clean and robust accuracy by training set.

        Returns:
            A figure of Matplotlib.
        """
        return figures.draw_bars(self._typed())

    def to_dataframe(self) -> "pandas.DataFrame":
        """Accuracies by training set, seed and attack.

        Returns:
            `pandas.DataFrame` of the columns `trained_on`, `seed`, `attack`
            and `accuracy`, `low` and `high`: a fraction with its 95 %
            interval.

        Raises:
            ImportError: If pandas is not installed.
        """
        rows = []
        for seed, run in self._typed()["runs"].items():
            for model, found in run["evaluation"].items():
                for attack, accuracy in found["accuracy"].items():
                    low, high = found["intervals"].get(attack, (None, None))
                    rows.append(
                        {
                            "trained_on": model,
                            "seed": seed,
                            "attack": attack,
                            "accuracy": accuracy,
                            "low": low,
                            "high": high,
                        }
                    )
        return to_dataframe(rows)

    def _repr_html_(self) -> str:
        """Accuracies, claims and figure, for notebooks."""
        results = self._typed()
        header, *rows = tables.rows(results)
        accuracies = {
            "title": f"Accuracy on {tables.images_text(results)}, %",
            "header": [" ".join(column_heading(name)) for name in header],
            "rows": rows,
        }
        claims = {
            "title": "Claims",
            "header": ["claim", "verdict"],
            "rows": [
                [f"{claim['name']}. {claim['statement']}", claim["verdict"]]
                for claim in results["claims"]
            ],
        }
        return render(
            "keras_robust.utils",
            "notebook.html",
            texts=[tables.summary_text(results)],
            tables=[accuracies, claims],
            flags=[],
            figure=embedded(self.plot(), "png"),
        )

    def _typed(self) -> Results:
        return cast("Results", self)
