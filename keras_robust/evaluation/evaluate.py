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
from keras_robust.evaluation.checkpoint import Checkpoint
from keras_robust.evaluation.checkpoint import fingerprint
from keras_robust.evaluation.flags import find_flags
from keras_robust.evaluation.named_attacks import get_attack
from keras_robust.evaluation.outputs import inspect_output
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


def evaluate_robustness(
    model,
    data,
    attacks,
    batch_size=128,
    verbose=1,
    norm=None,
    epsilon=None,
    probe=True,
    state_path=None,
):
    """Accuracy on clean data, under each attack, and in the worst case.

    Robust accuracy is counted on true labels: an example counts as right
    under an attack if the model is right on the attack's output, and in the
    worst case if it is right on the clean image and on every attack's output.

    The report's `flags` say what speaks against the numbers: see
    `find_flags`.

    Args:
        model: A built Keras classifier.
        data: `(x, y)` arrays, or a data set of `(x, y)` batches.
        attacks: Dictionary of attacks by name, or one attack, or the name of
            one (`"autoattack"`, ... see `get_attack`) with `norm` and
            `epsilon`.
        batch_size: Int >= 1, for predictions and attacks by name; other
            attacks have their own.
        verbose: 0 for no progress bars.
        norm: `"l2"` or `"linf"`, for an attack by name.
        epsilon: Float >= 0, its radius in units of `value_range`.
        probe: Whether to look for flags that cost more forward and backward
            passes: on up to 100 examples.
        state_path: `None`, or a folder in which the state is kept, so that
            the same call goes on where it was stopped.

    Returns:
        `RobustnessReport`.

    Raises:
        ValueError: If an attack is none, or data and model do not fit.

    Example:

    ```python
    report = keras_robust.evaluate_robustness(
        model, (x, y), "autoattack", norm="l2", epsilon=0.5
    )
    report.table()
    ```
    """
    attacks = _as_dictionary(attacks, norm, epsilon, batch_size)
    first = next(iter(attacks.values()), None)
    from_logits = first.from_logits if first else None
    model, x, y = check_data(model, data, from_logits)
    clean = predict_labels(model, x, batch_size, from_logits) == y
    correct, stages, findings = {"clean": clean}, {}, {}
    checkpoint = None
    if state_path is not None:
        checkpoint = Checkpoint(state_path, fingerprint(model, x, y, attacks))
    for name, attack in attacks.items():
        section = checkpoint.section(name) if checkpoint else None
        done = section.section("done") if section else None
        found = done.restore() if done else None
        if found is None:
            found = _attacked(model, x, y, attack, section, verbose, batch_size)
            if done:
                done.save(force=True, **found)
        correct[name] = found.pop("correct")
        if "broken_by" in found:
            parts = attack.parts(count_classes(model, x, from_logits))
            stages[name] = _stages(found.pop("broken_by"), parts)
        findings[name] = found
    flags = find_flags(
        model, x, y, attacks, correct, stages, findings, probe, verbose
    )
    return RobustnessReport(correct, flags, stages)


def _as_dictionary(attacks, norm, epsilon, batch_size):
    if isinstance(attacks, str):
        attack = get_attack(attacks, norm, epsilon, batch_size=batch_size)
        attacks = {attacks: attack}
    elif norm is not None or epsilon is not None:
        raise ValueError(
            "Arguments `norm` and `epsilon` must come with the name of an "
            f"attack. Received: attacks={attacks!r}"
        )
    if isinstance(attacks, Attack):
        attacks = {type(attacks).__name__: attacks}
    for name, attack in attacks.items():
        if not isinstance(attack, Attack) or name in ("clean", "worst case"):
            raise ValueError(
                "Argument `attacks` must be attacks by name, and 'clean' and "
                f"'worst case' are taken. Received: {name!r}: {attack!r}"
            )
        if attack.targeted:
            raise ValueError(
                "An attack in an evaluation must be untargeted: its labels "
                f"are the true ones. Received: {name!r}: {attack!r}"
            )
    return attacks


def check_data(model, data, from_logits):
    """The inner model, images as NumPy, and int32 labels.

    Args:
        model: A built Keras classifier.
        data: `(x, y)` arrays, or a data set of `(x, y)` batches.
        from_logits: As in `PGDAttack`.

    Returns:
        `(model, x, y)`.

    Raises:
        ValueError: If they do not fit, or there are no examples.
    """
    is_pair = isinstance(data, (tuple, list)) and len(data) == 2
    x, y = data if is_pair and not is_dataset(data[0]) else to_arrays(data)
    x = np.asarray(ops.convert_to_numpy(x))
    model = inner_model(model)
    check_built(model)
    if not len(x):
        raise ValueError("Argument `data` must hold examples. Received: none")
    classes = count_classes(model, x, from_logits)
    return model, x, checks.check_labels(y, len(x), classes)


def _attacked(model, x, y, attack, section, verbose, batch_size):
    """One attack's outcome as arrays, and what is wrong with its output."""
    result = attack.run(
        model, x, y, verbose=verbose, scored=True, checkpoint=section
    )
    attacked = np.asarray(ops.convert_to_numpy(result["x"]))
    labels = predict_labels(model, attacked, batch_size, attack.from_logits)
    found = {"correct": labels == y, **inspect_output(attack, x, attacked)}
    if "broken_by" in result:
        found["broken_by"] = result["broken_by"]
    return found


def _stages(broken_by, parts):
    """Accuracy after each part of an ensemble of attacks."""
    broken = np.zeros(len(broken_by), bool) | (broken_by == 0)
    accuracy = {}
    for number, name in enumerate(parts, 1):
        broken |= broken_by == number
        accuracy[name] = float(1 - broken.mean())
    return accuracy
