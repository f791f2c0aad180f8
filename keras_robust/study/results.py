"""What a run of a study returns."""

from typing import TYPE_CHECKING
from typing import Any
from typing import cast

from matplotlib.figure import Figure

from keras_robust.study.replication import figures
from keras_robust.study.replication import tables
from keras_robust.study.replication.results import ClaimResult
from keras_robust.study.replication.results import Results

if TYPE_CHECKING:
    import pandas as pd


class StudyResults(dict[str, Any]):
    """The content of `results.json`, with its table, claims and figure.

    Example:

    ```python
    results = study.run("runs/mine")
    results.table()
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

    def plot(self) -> Figure:
        """Clean and robust accuracy by training set.

        Returns:
            A figure of Matplotlib.
        """
        return figures.draw_bars(self._typed())

    def to_dataframe(self) -> "pd.DataFrame":
        """Accuracies by training set, seed and attack.

        Returns:
            `pandas.DataFrame` of the columns `trained_on`, `seed`, `attack`
            and `accuracy`, `low` and `high`: a fraction with its 95 %
            interval.
        """
        import pandas as pd

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
        return pd.DataFrame(rows)

    def _typed(self) -> Results:
        return cast("Results", self)
