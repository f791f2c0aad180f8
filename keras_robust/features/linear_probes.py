"""Linear classifiers of parts of a representation, clean and attacked."""

from typing import Any

import keras
import numpy as np

from keras_robust.evaluation import evaluate_robustness
from keras_robust.evaluation.data import check_data
from keras_robust.features.usefulness import FeatureUsefulness
from keras_robust.transforms.source_model import source_classifier


def linear_probes(
    model: Any,
    train: Any,
    test: Any,
    usefulness: FeatureUsefulness,
    attacks: dict[str, Any] | None = None,
    layer: str | None = None,
    least: float = 0.1,
    batch_size: int = 256,
    verbose: int = 1,
    output: str | int | None = None,
) -> dict[str, dict[str, float]]:
    """Accuracy of a linear classifier of each part of a layer's units.

    The parts are those of `FeatureUsefulness.split`: useful and robust, useful
    and non-robust, useless. A probe (scikit-learn's logistic regression, on
    standardized units) is a network of its own, and attacked as such.

    Args:
        model: A built Keras classifier.
        train: `(x, y)` arrays, or a data set of batches, to fit the probes;
            with every class.
        test: The same, to evaluate them.
        usefulness: What `feature_usefulness` found of this model and layer.
        attacks: Dictionary of attacks by name, `None` for none. They attack the
            probes, which have one output.
        layer: As for `feature_usefulness`.
        least: As for `FeatureUsefulness.split`.
        batch_size: Int >= 1, for outputs.
        verbose: 0 for no progress bars.
        output: Name or position of the output that is classified, of a model
            with several.

    Returns:
        Dictionary by part: `units`, how many; `clean` and the attacks' names,
        accuracies. A part without units has no accuracies.

    Raises:
        ValueError: If data and model do not fit, or a class is missing.

    Example:

    ```python
    attack = keras_robust.PGDAttack(epsilon=0.25)
    found = feature_usefulness(model, test, attack)
    linear_probes(model, train, test, found, {"pgd": attack})
    ```
    """
    source_classifier(model, output=output)
    classifier, x, y = check_data(model, train, True, output=output)
    _, *tested = check_data(classifier, test)
    classes = classifier.num_classes
    missing = sorted(set(range(classes)) - set(np.unique(y).tolist()))
    if missing:
        raise ValueError(
            f"Argument `train` must hold all {classes} classes. "
            f"Received: none of {missing}"
        )
    view = classifier.representation(layer)
    flat = keras.layers.Flatten()(view.output)
    flat = keras.layers.Activation("linear", dtype="float32")(flat)
    flat_view = keras.Model(view.inputs, flat)
    outputs = flat_view.predict(x, batch_size=batch_size, verbose=0)
    found: dict[str, dict[str, float]] = {}
    for part, units in usefulness.split(least).items():
        found[part] = {"units": len(units)}
        if len(units) == 0:
            continue
        dense = keras.layers.Dense(classes, dtype="float32")
        probe = keras.Model(flat_view.inputs, dense(flat))
        dense.set_weights(_fitted(outputs, y, units, classes))
        report = evaluate_robustness(
            probe, tuple(tested), attacks or {}, verbose=verbose, probe=False
        )
        found[part].update(
            {k: v for k, v in report.accuracy.items() if k != "worst case"}
        )
    return found


def _fitted(
    outputs: np.ndarray, y: np.ndarray, units: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Fit a probe: kernel `(D, C)`, zero for other units, and bias `(C,)`."""
    from sklearn.linear_model import LogisticRegression

    mean, deviation = outputs[:, units].mean(0), outputs[:, units].std(0)
    deviation = np.where(deviation > 0, deviation, 1)
    fit = LogisticRegression(max_iter=1000).fit(
        (outputs[:, units] - mean) / deviation, y
    )
    weights, bias = fit.coef_.T / deviation[:, None], fit.intercept_
    if classes == 2:
        # One column, of the second class.
        weights = np.concatenate([-weights / 2, weights / 2], axis=1)
        bias = np.concatenate([-bias / 2, bias / 2])
    kernel = np.zeros((outputs.shape[1], classes), "float32")
    kernel[units] = weights
    return kernel, np.asarray(bias - mean @ weights, "float32")
