"""What `feature_usefulness` finds."""

from typing import Any

import numpy as np

from keras_robust.evaluation.result import Result

KINDS = ("useful, robust", "useful, non-robust", "useless")


class FeatureUsefulness(Result):
    """Usefulness of units: rho, and gamma under attack.

    Args:
        units: Int array `(D,)`, which units.
        rho: Float array `(D, C)`: correlation with each class, in the unit's
            better direction, in [0, 1].
        gamma: Float array `(D, C)`: the same under attack, at most rho.
    """

    def __init__(self, units: Any, rho: float, gamma: float) -> None:
        self.units = np.asarray(units)
        self.rho = np.asarray(rho)
        self.gamma = np.asarray(gamma)

    @property
    def best(self) -> tuple:
        """`(rho, gamma)` of each unit, of the class it is most useful for."""
        rows = np.arange(len(self.units))
        classes = self.rho.argmax(1)
        return self.rho[rows, classes], self.gamma[rows, classes]

    def split(self, least: float = 0.1) -> dict:
        """Which units are useful and robust, useful and not, or useless.

        Ilyas et al. 2019, section 2: a useful, non-robust feature is one that
        is gamma-robustly useful for no gamma >= 0.

        Args:
            least: Float, rho from which a unit is useful.

        Returns:
            Dictionary of int arrays of `units` by name of `KINDS`.
        """
        rho, gamma = self.best
        useful = rho >= least
        return dict(
            zip(
                KINDS,
                (
                    self.units[useful & (gamma >= 0)],
                    self.units[useful & (gamma < 0)],
                    self.units[~useful],
                ),
                strict=True,
            )
        )

    def numbers(self) -> dict:
        """See `Result`."""
        return {
            "units": self.units.tolist(),
            "rho": self.rho.tolist(),
            "gamma": self.gamma.tolist(),
            "split": {k: len(v) for k, v in self.split().items()},
        }

    def draw(self) -> Any:
        """A dot per unit: gamma over rho."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(4.5, 4))
        axes = figure.subplots()
        rho, gamma = self.best
        place = {unit: row for row, unit in enumerate(self.units)}
        for (kind, units), marker, color in zip(
            self.split().items(),
            ("o", "s", "x"),
            ("#4477aa", "#ee6677", "#bbbbbb"),
            strict=True,
        ):
            rows = [place[unit] for unit in units]
            label = f"{kind} ({len(units)})"
            axes.plot(rho[rows], gamma[rows], marker, color=color, label=label)
        axes.axhline(0, color="black", lw=0.8)
        axes.set_xlabel("usefulness rho")
        axes.set_ylabel("robust usefulness gamma")
        axes.legend(frameon=False, fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        return figure
