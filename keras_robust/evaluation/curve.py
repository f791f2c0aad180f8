"""Accuracy over radii."""

import numpy as np
from keras import ops

from keras_robust.attacks.attack import Attack
from keras_robust.attacks.per_model import is_randomized
from keras_robust.attacks.per_model import predict_logits
from keras_robust.attacks.survivor_attack import begin
from keras_robust.evaluation.evaluate import check_data
from keras_robust.evaluation.evaluate import predict_labels
from keras_robust.evaluation.named_attacks import get_attack
from keras_robust.evaluation.report import wilson_interval
from keras_robust.evaluation.result import Result
from keras_robust.evaluation.standing import stopping


class RobustnessCurve(Result):
    """Accuracy at each radius, with intervals.

    Args:
        epsilons: Increasing radii, the first one 0 for clean accuracy.
        correct: Bool array `(radii, N)`: which examples are still right.
        norm: `"l1"`, `"l2"` or `"linf"`.
        attack: What was run, as text.

    Attributes:
        epsilons: NumPy array.
        correct: As given.
        accuracy: NumPy array, one number per radius.
        intervals: NumPy array `(radii, 2)`, 95 % Wilson intervals.
    """

    def __init__(self, epsilons, correct, norm, attack):
        self.epsilons = np.asarray(epsilons, float)
        self.correct = np.asarray(correct, bool)
        self.norm = norm
        self.attack = attack
        self.accuracy = self.correct.mean(-1)
        self.intervals = np.array([wilson_interval(r) for r in self.correct])

    def smallest_radius(self):
        """Per example the smallest radius of the sweep that breaks it.

        Returns:
            Float array `(N,)`; 0 for what is wrong from the start, infinity
            for what survives the largest.
        """
        padded = np.append(self.epsilons, np.inf)
        return padded[self.correct.sum(0)]

    def table(self, console=None):
        """Prints the table.

        Args:
            console: A `rich.console.Console`, or `None` for the terminal.

        Returns:
            The `rich.table.Table`.
        """
        from rich.console import Console
        from rich.table import Table

        examples = self.correct.shape[1]
        table = Table(title=f"{self.attack} on {examples} examples, %")
        for heading in (f"{self.norm} radius", "accuracy", "95 % interval"):
            table.add_column(heading, justify="right")
        rows = zip(self.epsilons, self.accuracy, self.intervals, strict=True)
        for epsilon, accuracy, (low, high) in rows:
            table.add_row(
                f"{epsilon:.4g}",
                f"{100 * accuracy:.2f}",
                f"{100 * low:.2f} - {100 * high:.2f}",
            )
        (console or Console()).print(table)
        return table

    def numbers(self):
        """See `Result`."""
        return {
            "attack": self.attack,
            "norm": self.norm,
            "examples": self.correct.shape[1],
            "epsilons": self.epsilons.tolist(),
            "accuracy": self.accuracy.tolist(),
            "intervals": self.intervals.tolist(),
        }

    def draw(self):
        """Accuracy over radius, with the band of the intervals."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(4.5, 3.5))
        axes = figure.subplots()
        axes.plot(self.epsilons, 100 * self.accuracy, marker="o")
        axes.fill_between(self.epsilons, *(100 * self.intervals.T), alpha=0.3)
        axes.set_xlabel(f"{self.norm} radius")
        axes.set_ylabel("accuracy, %")
        axes.set_ylim(0, 100)
        return figure


def robustness_curve(
    model,
    data,
    norm,
    epsilons,
    attack="autoattack",
    batch_size=128,
    verbose=1,
    seed=0,
):
    """Accuracy over radii, each attack on what the smaller radii have left.

    A perturbation inside a small ball is inside every larger one, so an
    example that is broken at one radius is broken at all larger ones.

    Args:
        model: A built Keras classifier.
        data: `(x, y)` arrays, or a data set of `(x, y)` batches.
        norm: `"l2"`, `"linf"`, or where the attack can do it `"l1"`.
        epsilons: Radii >= 0 in units of `value_range`, in any order.
        attack: Name of an attack (see `get_attack`), or a function
            `epsilon -> Attack`.
        batch_size: Int >= 1.
        verbose: 0 for no progress bars.
        seed: Int or `None`, of attacks by name.

    Returns:
        `RobustnessCurve`, with the radius 0 in front.

    Raises:
        ValueError: If a radius is negative, or data and model do not fit.

    Example:

    ```python
    curve = keras_robust.robustness_curve(
        model, (x, y), "l2", [0.25, 0.5, 1.0], attack="pgd"
    )
    curve.figure("curve.png")
    ```
    """
    epsilons = np.unique(np.asarray(epsilons, float))
    if epsilons.ndim != 1 or not (epsilons >= 0).all():
        raise ValueError(
            f"Argument `epsilons` must be numbers >= 0. Received: {epsilons}"
        )
    epsilons = epsilons[epsilons > 0]
    make = attack
    if isinstance(attack, str):

        def make(epsilon):
            return get_attack(
                attack, norm, epsilon, seed=seed, batch_size=batch_size
            )

    attacks = [make(float(epsilon)) for epsilon in epsilons]
    for made in attacks:
        if not isinstance(made, Attack) or made.targeted:
            raise ValueError(
                "Argument `attack` must be a name, or a function that returns "
                f"an untargeted attack. Received: {made!r}"
            )
    from_logits = attacks[0].from_logits if attacks else None
    model, x, y = check_data(model, data, from_logits)
    logits = predict_logits(model, x, batch_size, from_logits)
    right = logits.argmax(-1) == y
    correct = [right]
    if not is_randomized(model, x, from_logits):
        attacks = [stopping(made) for made in attacks]
    for made in attacks:
        right = right.copy()
        rows = np.flatnonzero(right)
        if len(rows):
            begun = begin(x, logits, ~right)
            found = made.run(model, x, y, verbose=verbose, begun=begun)["x"]
            attacked = np.asarray(ops.convert_to_numpy(found))[rows]
            labels = predict_labels(model, attacked, batch_size, from_logits)
            right[rows] = labels == y[rows]
        correct.append(right)
    name = attack if isinstance(attack, str) else type(attacks[0]).__name__
    return RobustnessCurve([0.0, *epsilons], correct, norm, name)
