"""Certified accuracy, with the radius or the margin of each example."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING
from typing import Any

import numpy as np

from keras_robust.evaluation.flags import Flag
from keras_robust.evaluation.report import wilson_interval
from keras_robust.evaluation.result import EvaluationResult
from keras_robust.evaluation.verdict import caution
from keras_robust.evaluation.verdict import share_text
from keras_robust.plot.units import Units
from keras_robust.utils.messages import shown

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from keras_robust.plot.style import Picture

# Radii of a curve.
_POINTS = 201


class CertifiedResult(EvaluationResult):
    """Base class of results that hold a certificate for each example.

    Args:
        predictions: Int array `(N,)`, -1 where the classifier abstains.
        correct: Bool array `(N,)`, which predictions are the labels.
        flags: List of `Flag`: reasons to doubt the numbers.
        provenance: Dictionary of plain values: what the numbers depend on.

    Attributes:
        predictions: As given.
        correct: As given.
        flags: As given.
        provenance: As given.
    """

    def __init__(
        self,
        predictions: np.ndarray,
        correct: np.ndarray,
        flags: Iterable[Flag] = (),
        provenance: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(flags, provenance)
        self.predictions = np.asarray(predictions, "int32")
        self.correct = np.asarray(correct, bool)

    @abstractmethod
    def rows(self) -> dict[str, np.ndarray]:
        """Bool arrays `(N,)` by what the table calls their share."""

    @abstractmethod
    def title(self) -> str:
        """The method and its settings, for the title of the table."""

    def table(self, console: "Console | None" = None) -> "Table":
        """Print the table.

        Args:
            console: A `rich.console.Console`, or `None` for the terminal.

        Returns:
            The `rich.table.Table`.
        """
        return self.print_tables(console)[0]

    def tables(self) -> "list[Table]":
        """See `Result`."""
        from rich.table import Table

        examples = len(self.correct)
        table = Table(title=f"{self.title()}, {examples} examples, %")
        for heading in ("", "accuracy", "95 % interval"):
            table.add_column(heading, justify="right")
        for name, rows in self.rows().items():
            low, high = wilson_interval(rows)
            table.add_row(
                name,
                f"{100 * rows.mean():.2f}",
                f"{100 * low:.2f} - {100 * high:.2f}",
            )
        return [table]

    @abstractmethod
    def columns(self) -> dict[str, np.ndarray]:
        """Arrays `(N,)` of the data frame besides predictions, by name."""

    def records(self) -> list[dict[str, Any]]:
        """See `Result`: a row for each example."""
        columns = {
            "prediction": self.predictions,
            "correct": self.correct,
            **self.columns(),
        }
        return [
            {name: values[row].item() for name, values in columns.items()}
            for row in range(len(self.correct))
        ]

    def numbers(self) -> dict[str, Any]:
        """See `Result`; with the numbers of each example."""
        rows = self.rows()
        return {
            "examples": len(self.correct),
            "accuracy": {name: float(row.mean()) for name, row in rows.items()},
            "intervals": {
                name: wilson_interval(row) for name, row in rows.items()
            },
            "predictions": self.predictions.tolist(),
            "correct": self.correct.tolist(),
            **self.background(),
        }


class SmoothingResult(CertifiedResult):
    """Certified L2 radii of a smoothed classifier.

    Args:
        predictions: See `CertifiedResult`; -1 where it abstains.
        correct: See `CertifiedResult`.
        lower_bounds: Float array `(N,)`, lower confidence bounds of the
            probability of the predicted class under noise.
        sigma: Float, standard deviation of the noise.
        clean: Bool array `(N,)`, where the model without noise is right.
        flags: See `CertifiedResult`.
        provenance: See `CertifiedResult`.

    Attributes:
        radii: Float array `(N,)`: no perturbation of a smaller L2 norm changes
            the prediction. 0 where the classifier abstains or is wrong.
        lower_bounds: As given.
        sigma: As given.
        clean: As given.
        abstained: Bool array `(N,)`.
    """

    def __init__(
        self,
        predictions: np.ndarray,
        correct: np.ndarray,
        lower_bounds: np.ndarray,
        sigma: float,
        clean: np.ndarray,
        flags: Iterable[Flag] = (),
        provenance: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(predictions, correct, flags, provenance)
        self.lower_bounds = np.asarray(lower_bounds, "float64")
        self.sigma = float(sigma)
        self.clean = np.asarray(clean, bool)
        self.abstained = self.predictions < 0
        self.radii = np.where(
            self.correct, radius_of(self.lower_bounds, self.sigma), 0.0
        )

    def certified(self, radius: float) -> np.ndarray:
        """Which examples are right for every perturbation below a radius.

        Args:
            radius: Float >= 0, in the L2 norm.

        Returns:
            Bool array `(N,)`.
        """
        if not radius >= 0:
            raise ValueError(
                "Argument `radius` must be a number >= 0. "
                f"Received: radius={shown(radius)}"
            )
        return self.correct & (self.radii >= radius)

    def accuracy(self, radii: Any) -> np.ndarray:
        """Certified accuracy at each radius.

        Args:
            radii: Floats >= 0.

        Returns:
            Float array.
        """
        radii = np.atleast_1d(np.asarray(radii, float))
        return np.array([self.certified(radius).mean() for radius in radii])

    def rows(self) -> dict[str, np.ndarray]:
        """See `CertifiedResult`; in steps of sigma / 2."""
        largest = self.radii.max(initial=0.0)
        steps = self.sigma / 2 * np.arange(int(2 * largest / self.sigma) + 2)
        return {
            "without noise": self.clean,
            "smoothed": self.correct,
            **{f"l2 < {step:.4g}": self.certified(step) for step in steps[1:]},
        }

    def title(self) -> str:
        """See `CertifiedResult`."""
        return f"Randomized smoothing, sigma {self.sigma:.4g}"

    def numbers(self) -> dict[str, Any]:
        """See `Result`."""
        return {
            **super().numbers(),
            "method": "randomized smoothing",
            "norm": "l2",
            "sigma": self.sigma,
            "abstained": float(self.abstained.mean()),
            "mean_radius": float(self.radii.mean()),
            "radii": self.radii.tolist(),
            "lower_bounds": self.lower_bounds.tolist(),
        }

    def columns(self) -> dict[str, np.ndarray]:
        """See `CertifiedResult`."""
        return {"lower_bound": self.lower_bounds, "radius": self.radii}

    def verdict(self) -> str:
        """See `EvaluationResult`."""
        middle = float(np.median(self.radii))
        return (
            f"With noise added, the model is right on "
            f"{share_text(self.correct.mean())}. For half of the images it is "
            f"proven that no change shorter than L2 {middle:.3g} alters a "
            f"right answer (0 where there is no proof). "
            f"{caution(self.flags, is_bound=False)}"
        )

    def draw(self) -> "Picture":
        """Certified accuracy over the radius, with 95 % intervals."""
        from keras_robust.plot.diagrams import label_radii
        from keras_robust.plot.style import BLUE
        from keras_robust.plot.style import new_picture
        from keras_robust.plot.style import percent_axis

        picture = new_picture(5, 3.6)
        axes = picture.subplots()
        radii = np.linspace(0, 1.05 * self.radii.max(initial=0.0), _POINTS)
        rows = [self.certified(radius) for radius in radii]
        low, high = 100 * np.array([wilson_interval(row) for row in rows]).T
        axes.plot(radii, [100 * row.mean() for row in rows], color=BLUE)
        axes.fill_between(radii, low, high, color=BLUE, alpha=0.2, linewidth=0)
        label_radii(axes, Units.of(self.provenance, "l2"))
        percent_axis(axes, "certified accuracy")
        return picture


class IntervalResult(CertifiedResult):
    """Accuracy in an L-infinity ball, verified by interval bounds.

    Args:
        predictions: See `CertifiedResult`: those of the model itself.
        correct: See `CertifiedResult`.
        margins: Float array `(N,)`, lower bounds over the ball of the label's
            logit minus the largest other one; minus infinity where bounds
            overflow.
        certified: Bool array `(N,)`, which examples no point of the ball
            misclassifies.
        epsilon: Radius of the ball, as text or number.
        flags: See `CertifiedResult`.
        provenance: See `CertifiedResult`.

    Attributes:
        margins: As given.
        certified: As given.
        accuracy: Dictionary of floats, `"clean"` and `"certified"`.
        intervals: Dictionary of `(low, high)`: 95 % Wilson intervals.
    """

    def __init__(
        self,
        predictions: np.ndarray,
        correct: np.ndarray,
        margins: np.ndarray,
        certified: np.ndarray,
        epsilon: Any,
        flags: Iterable[Flag] = (),
        provenance: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(predictions, correct, flags, provenance)
        self.margins = np.asarray(margins, "float64")
        self.certified = np.asarray(certified, bool)
        self.epsilon = epsilon
        rows = self.rows()
        self.accuracy = {name: float(row.mean()) for name, row in rows.items()}
        self.intervals = {
            name: wilson_interval(row) for name, row in rows.items()
        }

    def rows(self) -> dict[str, np.ndarray]:
        """See `CertifiedResult`."""
        return {"clean": self.correct, "certified": self.certified}

    def title(self) -> str:
        """See `CertifiedResult`."""
        radius = self.epsilon
        text = f"{radius:.4g}" if isinstance(radius, float) else shown(radius)
        return f"Interval bounds, linf {text}"

    def numbers(self) -> dict[str, Any]:
        """See `Result`."""
        return {
            **super().numbers(),
            "method": "interval bounds",
            "norm": "linf",
            "margins": self.margins.tolist(),
            "certified": self.certified.tolist(),
        }

    def columns(self) -> dict[str, np.ndarray]:
        """See `CertifiedResult`."""
        return {"margin": self.margins, "certified": self.certified}

    def verdict(self) -> str:
        """See `EvaluationResult`."""
        return (
            f"The model is right on {share_text(self.correct.mean())}. For "
            f"{share_text(self.certified.mean())} it is proven that no change "
            "within the radius makes it wrong. "
            f"{caution(self.flags, is_bound=False)}"
        )

    def draw(self) -> "Picture":
        """Certified examples over the margin that is left in the ball."""
        from keras_robust.plot.style import BLUE
        from keras_robust.plot.style import new_picture
        from keras_robust.plot.style import percent_axis

        picture = new_picture(5, 3.6)
        axes = picture.subplots()
        margins = np.sort(self.margins)[::-1]
        shares = 100 * np.arange(1, len(margins) + 1) / len(margins)
        axes.step(margins, shares, where="post", color=BLUE)
        axes.axvline(0.0, color="black", linewidth=0.8)
        axes.set_xlabel("lower bound of the margin (above 0: certified)")
        percent_axis(axes, "examples with at least this")
        return picture


def radius_of(lower_bounds: Any, sigma: float) -> np.ndarray:
    """`sigma * Phi^-1(p)` of Cohen et al. 2019, theorem 1; 0 up to p = 1/2.

    Args:
        lower_bounds: Lower bounds p of the probability of the predicted class.
        sigma: Standard deviation of the noise.

    Returns:
        Float array: L2 radii.
    """
    from scipy.stats import norm

    bounds = np.asarray(lower_bounds, "float64")
    radii: np.ndarray = sigma * norm.ppf(np.maximum(bounds, 0.5))
    return radii
