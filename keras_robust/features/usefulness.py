"""How useful the units of a network are, and how robustly so."""

from typing import TYPE_CHECKING
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust.classifier import Classifier
from keras_robust.evaluation.data import check_data
from keras_robust.evaluation.result import Result
from keras_robust.transforms.source_model import source_classifier
from keras_robust.utils.progress import Progress

if TYPE_CHECKING:
    from rich.table import Table

    from keras_robust.plot.style import Picture

KINDS = ("useful, robust", "useful, non-robust", "useless")
# Standard deviations below this are those of a unit that never changes.
_DEAD = 1e-6


class FeatureUsefulness(Result):
    """Usefulness of units: rho, and gamma under attack.

    Args:
        units: Int array `(D,)`, which units.
        rho: Float array `(D, C)`: correlation with each class, in the unit's
            better direction, in [0, 1].
        gamma: Float array `(D, C)`: the same under attack, at most rho.
    """

    def __init__(self, units: Any, rho: Any, gamma: Any) -> None:
        self.units = np.asarray(units)
        self.rho = np.asarray(rho)
        self.gamma = np.asarray(gamma)

    @property
    def best(self) -> tuple[np.ndarray, np.ndarray]:
        """`(rho, gamma)` of each unit, of the class it is most useful for."""
        rows = np.arange(len(self.units))
        classes = self.rho.argmax(1)
        return self.rho[rows, classes], self.gamma[rows, classes]

    def split(self, least: float = 0.1) -> dict[str, np.ndarray]:
        """Split the units: useful and robust, useful and non-robust, useless.

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

    def numbers(self) -> dict[str, Any]:
        """See `Result`."""
        return {
            "units": self.units.tolist(),
            "rho": self.rho.tolist(),
            "gamma": self.gamma.tolist(),
            "split": {k: len(v) for k, v in self.split().items()},
        }

    def tables(self) -> "list[Table]":
        """See `Result`: how many units of each kind."""
        from rich.table import Table

        table = Table(title=f"Usefulness of {len(self.units)} units")
        for heading in ("kind", "units"):
            table.add_column(heading, justify="right")
        for kind, units in self.split().items():
            table.add_row(kind, str(len(units)))
        return [table]

    def records(self) -> list[dict[str, Any]]:
        """See `Result`: a row for each unit, of the class it is best for."""
        kinds = {
            int(unit): kind
            for kind, units in self.split().items()
            for unit in units
        }
        return [
            {
                "unit": int(unit),
                "rho": float(rho),
                "gamma": float(gamma),
                "kind": kinds[int(unit)],
            }
            for unit, rho, gamma in zip(self.units, *self.best, strict=True)
        ]

    def draw(self) -> "Picture":
        """Draw a dot per unit: gamma over rho."""
        from keras_robust.plot.style import BLUE
        from keras_robust.plot.style import GREY
        from keras_robust.plot.style import RED
        from keras_robust.plot.style import new_picture
        from keras_robust.plot.style import open_sides

        picture = new_picture(4.5, 4)
        axes = picture.subplots()
        rho, gamma = self.best
        place = {unit: row for row, unit in enumerate(self.units)}
        for (kind, units), marker, color in zip(
            self.split().items(),
            ("o", "s", "x"),
            (BLUE, RED, GREY),
            strict=True,
        ):
            rows = [place[unit] for unit in units]
            label = f"{kind} ({len(units)})"
            axes.plot(rho[rows], gamma[rows], marker, color=color, label=label)
        axes.axhline(0, color="black", lw=0.8)
        axes.set_xlabel("usefulness rho")
        axes.set_ylabel("robust usefulness gamma")
        axes.legend(frameon=False, fontsize=8)
        open_sides(axes)
        return picture


def feature_usefulness(
    model: Any,
    data: Any,
    attack: Any,
    layer: str | None = None,
    units: Any = None,
    batch_size: int = 256,
    verbose: int = 1,
) -> FeatureUsefulness:
    """Usefulness rho and robust usefulness gamma of every unit and class.

    Ilyas et al. 2019, section 2: a feature f of mean 0 and variance 1 is
    rho-useful if `E[y f(x)] >= rho`, and gamma-robustly useful if `E[inf_d y
    f(x + d)] >= gamma` over the perturbations d. Here, for many classes, y is
    one class against the rest, standardized as well, so that rho is a
    correlation; and a unit counts in its better direction. The infimum is
    found by the attack on that unit, so gamma is an upper bound; it includes
    d = 0, so it is never above rho.

    Args:
        model: A built Keras classifier.
        data: `(x, y)` arrays, or a data set of `(x, y)` batches.
        attack: A `PGDAttack`, of which ball, steps and start are used.
        layer: `None` for the input of the classifying layer, or the name of
            a layer; its outputs, flattened, are the units.
        units: Which of them, ints; `None` for all. Each costs two attacks.
        batch_size: Int >= 1, for outputs.
        verbose: 0 for no progress bar.

    Returns:
        `FeatureUsefulness`.

    Raises:
        ValueError: If data and model do not fit.

    Example:

    ```python
    found = keras_robust.features.feature_usefulness(
        model, (x, y), keras_robust.PGDAttack(epsilon=0.25)
    )
    found.plot("units.png")
    ```
    """
    source_classifier(model, output=attack.output)
    classifier, x, y = check_data(
        model, data, attack.from_logits, output=attack.output
    )
    attack = attack.resolve(classifier)
    batch_size = classifier.batch_size or batch_size
    view = _both_ways(classifier, layer)
    outputs = view.predict(x, batch_size=batch_size, verbose=0)
    total = outputs.shape[1] // 2
    units = np.arange(total) if units is None else np.asarray(units)
    clean = outputs[:, units]
    mean, deviation = clean.mean(0), clean.std(0)
    dead = deviation < _DEAD
    deviation = np.where(dead, 1, deviation)
    worst = _extremes(view, x, attack, units, total, batch_size, verbose)
    scaled = [
        np.where(dead, 0, (values - mean) / deviation)
        # The unattacked value is one of the ball's.
        for values in (
            clean,
            np.minimum(worst[0], clean),
            np.maximum(worst[1], clean),
        )
    ]
    rho, gamma = _usefulness(
        y,
        classifier.num_classes,
        clean=scaled[0],
        low=scaled[1],
        high=scaled[2],
    )
    return FeatureUsefulness(units, rho, gamma)


def _usefulness(
    y: np.ndarray,
    num_classes: int,
    clean: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Rho and gamma, `(units, C)`, of standardized outputs.

    Both are 0 for a class that does not occur, which nothing correlates with.
    """
    share = np.bincount(y, minlength=num_classes) / len(y)
    deviation = np.sqrt(share * (1 - share))
    signs = (y[:, None] == np.arange(num_classes)) - share
    signs = signs / np.where(deviation > 0, deviation, 1)
    rho = clean.T @ signs / len(y)
    # In the better direction, the worst value is low for one side of the
    # label and high for the other.
    up, down = np.maximum(signs, 0), np.minimum(signs, 0)
    along = (low.T @ up + high.T @ down) / len(y)
    against = -(high.T @ up + low.T @ down) / len(y)
    return np.abs(rho), np.where(rho >= 0, along, against)


def _both_ways(classifier: Classifier, layer: str | None) -> keras.Model:
    """A model of the units and, behind them, of their negatives."""

    def make() -> keras.Model:
        view = classifier.representation(layer)
        flat = keras.layers.Flatten()(view.output)
        flat = keras.layers.Activation("linear", dtype="float32")(flat)
        negative = keras.layers.Rescaling(-1.0, dtype="float32")(flat)
        both = keras.layers.Concatenate(dtype="float32")([flat, negative])
        return keras.Model(view.input, both)

    return classifier.cached(("both ways", layer), make)


def _own_output(y: Any, outputs: Any) -> Any:
    """The output that an attack on a unit increases."""
    return ops.take_along_axis(outputs, y[:, None], axis=-1)[:, 0]


def _extremes(
    view: keras.Model,
    x: np.ndarray,
    attack: Any,
    units: np.ndarray,
    total: int,
    batch_size: int,
    verbose: int,
) -> np.ndarray:
    """Smallest and largest value of each unit in the ball, `(N, units)`."""
    raise_unit = attack.replace(
        loss=_own_output,
        layer=None,
        targeted=False,
        from_logits=True,
        early_stop=False,
        # The view has one.
        output=None,
    )
    progress = Progress(2 * len(units), verbose, unit_name="attack")
    found = np.zeros((2, len(x), len(units)))
    for column, unit in enumerate(units):
        for side, (output, sign) in enumerate(((unit + total, -1), (unit, 1))):
            labels = np.full(len(x), output, "int32")
            moved = raise_unit(view, x, labels, verbose=0)
            outputs = view.predict(moved, batch_size=batch_size, verbose=0)
            found[side, :, column] = sign * outputs[:, output]
            progress.add()
    return found
