"""Accuracy of a model, clean and under attacks."""

import numpy as np
from keras import ops

from keras_robust.attacks import checks
from keras_robust.attacks.attack import Attack
from keras_robust.attacks.frozen import check_built
from keras_robust.attacks.frozen import inner_model
from keras_robust.attacks.per_model import count_classes
from keras_robust.attacks.per_model import predict_logits
from keras_robust.datasets.arrays import is_dataset
from keras_robust.datasets.arrays import to_arrays
from keras_robust.evaluation.report import RobustnessReport


def predict_labels(model, x, batch_size=128, from_logits=None):
    """Predicted labels in inference mode.

    Args:
        model: A built Keras classifier.
        x: Float array `(N, ...)`.
        batch_size: Int >= 1.
        from_logits: As in `PGDAttack`.

    Returns:
        Int32 array `(N,)`.
    """
    if not len(x):
        return np.zeros(0, "int32")
    logits = predict_logits(inner_model(model), x, batch_size, from_logits)
    return logits.argmax(-1).astype("int32")


def evaluate_robustness(model, data, attacks, batch_size=128, verbose=1):
    """Accuracy on clean data, under each attack, and in the worst case.

    Robust accuracy is counted on true labels: an example counts as right
    under an attack if the model is right on the attack's output, and in the
    worst case if it is right on the clean image and on every attack's output.

    Args:
        model: A built Keras classifier.
        data: `(x, y)` arrays, or a data set of `(x, y)` batches.
        attacks: Dictionary of attacks by name, or one attack.
        batch_size: Int >= 1, for predictions; attacks have their own.
        verbose: 0 for no progress bars.

    Returns:
        `RobustnessReport`.

    Raises:
        ValueError: If an attack is none, or data and model do not fit.

    Example:

    ```python
    report = keras_robust.evaluate_robustness(
        model, (x, y), {"pgd": keras_robust.PGDAttack(epsilon=0.5)}
    )
    report.table()
    ```
    """
    if isinstance(attacks, Attack):
        attacks = {type(attacks).__name__: attacks}
    for name, attack in attacks.items():
        if not isinstance(attack, Attack) or name in ("clean", "worst case"):
            raise ValueError(
                "Argument `attacks` must be attacks by name, and 'clean' and "
                f"'worst case' are taken. Received: {name!r}: {attack!r}"
            )
    is_pair = isinstance(data, (tuple, list)) and len(data) == 2
    x, y = data if is_pair and not is_dataset(data[0]) else to_arrays(data)
    x = np.asarray(ops.convert_to_numpy(x))
    check_built(inner_model(model))
    first = next(iter(attacks.values()), None)
    from_logits = first.from_logits if first else None
    if not len(x):
        raise ValueError("Argument `data` must hold examples. Received: none")
    classes = count_classes(inner_model(model), x, from_logits)
    y = checks.check_labels(y, len(x), classes)
    correct = {"clean": predict_labels(model, x, batch_size, from_logits) == y}
    for name, attack in attacks.items():
        if attack.targeted:
            raise ValueError(
                "An attack in an evaluation must be untargeted: its labels "
                f"are the true ones. Received: {name!r}: {attack!r}"
            )
        attacked = attack(model, x, y, verbose=verbose)
        labels = predict_labels(model, attacked, batch_size, from_logits)
        correct[name] = labels == y
    return RobustnessReport(correct)
