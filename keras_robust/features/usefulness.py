"""How useful the units of a network are, and how robustly so."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust.evaluation.data import check_data
from keras_robust.features.feature_usefulness import FeatureUsefulness
from keras_robust.features.source_model import source_classifier
from keras_robust.progress import Progress

# Standard deviations below this are those of a unit that never changes.
_DEAD = 1e-6


def feature_usefulness(
    model: Any,
    data: Any,
    attack: Any,
    layer: str | None = None,
    units: Any = None,
    batch_size: int = 256,
    verbose: int = 1,
) -> Any:
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
        attack: A `PGDAttack`: its ball, steps and start are taken.
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
    found.figure("units.png")
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
    rho, gamma = _usefulness(y, classifier.num_classes, *scaled)
    return FeatureUsefulness(units, rho, gamma)


def _usefulness(y, num_classes, clean, low, high):
    """Rho and gamma, `(units, C)`, of standardized outputs.

    Both are 0 for a class that does not occur, which nothing correlates with.
    """
    share = np.bincount(y, minlength=num_classes) / len(y)
    spread = np.sqrt(share * (1 - share))
    signs = (y[:, None] == np.arange(num_classes)) - share
    signs = signs / np.where(spread > 0, spread, 1)
    rho = clean.T @ signs / len(y)
    # In the better direction, the worst value is low for one side of the
    # label and high for the other.
    up, down = np.maximum(signs, 0), np.minimum(signs, 0)
    along = (low.T @ up + high.T @ down) / len(y)
    against = -(high.T @ up + low.T @ down) / len(y)
    return np.abs(rho), np.where(rho >= 0, along, against)


def _both_ways(classifier, layer):
    """A model of the units and, behind them, of their negatives."""

    def make():
        view = classifier.representation(layer)
        flat = keras.layers.Flatten()(view.output)
        flat = keras.layers.Activation("linear", dtype="float32")(flat)
        negative = keras.layers.Rescaling(-1.0, dtype="float32")(flat)
        both = keras.layers.Concatenate(dtype="float32")([flat, negative])
        return keras.Model(view.input, both)

    return classifier.once(("both ways", layer), make)


def _own_output(y, outputs):
    """What an attack on a unit raises."""
    return ops.take_along_axis(outputs, y[:, None], axis=-1)[:, 0]


def _extremes(view, x, attack, units, total, batch_size, verbose):
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
