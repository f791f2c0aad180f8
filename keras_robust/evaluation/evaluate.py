"""Accuracy of a model, clean and under attacks."""

import numpy as np
from keras import ops

from keras_robust.attacks import checks
from keras_robust.attacks.attack import Attack
from keras_robust.attacks.auto_attack import AutoAttack
from keras_robust.attacks.frozen import check_built
from keras_robust.attacks.frozen import inner_model
from keras_robust.attacks.per_model import count_classes
from keras_robust.attacks.per_model import is_randomized
from keras_robust.attacks.per_model import predict_logits
from keras_robust.attacks.survivor_attack import SurvivorAttack
from keras_robust.attacks.survivor_attack import begin
from keras_robust.datasets.arrays import is_dataset
from keras_robust.datasets.arrays import to_arrays
from keras_robust.evaluation.checkpoint import Checkpoint
from keras_robust.evaluation.checkpoint import fingerprint
from keras_robust.evaluation.flags import find_flags
from keras_robust.evaluation.named_attacks import get_attack
from keras_robust.evaluation.outputs import inspect_output
from keras_robust.evaluation.report import RobustnessReport
from keras_robust.evaluation.standing import Standing
from keras_robust.evaluation.standing import by_cost
from keras_robust.evaluation.standing import stopping


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
    survivors_only=True,
):
    """Accuracy on clean data, under each attack, and in the worst case.

    Robust accuracy is counted on true labels. An example that is wrong as it
    is, or at any point that a restart or a step has come to, is broken and
    attacked no more; nor is it by a later attack whose ball holds that point.
    So the cost grows with what survives, and the accuracy under an attack is
    what it and the cheaper ones in the same or a smaller ball have left: the
    cheapest attack comes first, and attacks of a single step count for
    themselves. With `survivors_only=False` every attack goes at every example
    in full, and an example is right if the model is right on the output.

    Of models whose outputs change from call to call nothing is left out: a
    lucky draw would end the search.

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
        survivors_only: Whether to attack only what still stands.

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
    logits = predict_logits(model, x, batch_size, from_logits)
    clean = logits.argmax(-1) == y
    if survivors_only:
        survivors_only = not is_randomized(model, x, from_logits)
    standing = Standing(clean) if survivors_only else None
    stages, findings = {}, {}
    own, correct = {"clean": clean}, {"clean": clean}
    checkpoint = None
    if state_path is not None:
        what = fingerprint(model, x, y, attacks, survivors_only)
        checkpoint = Checkpoint(state_path, what)
    for name in by_cost(attacks):
        attack = attacks[name]
        section = checkpoint.section(name) if checkpoint else None
        done = section.section("done") if section else None
        found = done.restore() if done else None
        if found is None:
            begun = None
            if standing:
                attack = stopping(attack)
                begun = begin(x, logits, standing.skipped(attack))
            found = _attacked(
                model, x, y, attack, section, verbose, batch_size, begun
            )
            if done:
                done.save(force=True, **found)
        own[name] = found.pop("correct")
        correct[name] = own[name]
        if standing:
            correct[name] = standing.after(attacks[name], ~own[name])
        if "broken_by" in found:
            parts = attack.parts(count_classes(model, x, from_logits))
            stages[name] = _stages(found.pop("broken_by"), parts)
        findings[name] = found
    if standing and len(attacks) > 1:
        own = {key: rows[standing.witnesses] for key, rows in own.items()}
    flags = find_flags(
        *(model, x, y, clean, attacks, own, stages, findings, probe, verbose)
    )
    correct = {key: correct[key] for key in ("clean", *attacks)}
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


def _attacked(model, x, y, attack, section, verbose, batch_size, begun):
    """One attack's outcome as arrays, and what is wrong with its output."""
    result = attack.run(
        *(model, x, y, verbose),
        scored=True,
        checkpoint=section,
        begun=begun,
    )
    attacked = np.asarray(ops.convert_to_numpy(result["x"]))
    found = inspect_output(attack, x, attacked)
    if begun is not None and isinstance(attack, (SurvivorAttack, AutoAttack)):
        # It has looked at its output itself.
        right = begun["clean"].argmax(-1) == y
        skipped = begun["success"] & right
        found["correct"] = ~result["success"] | skipped
    else:
        labels = predict_labels(model, attacked, batch_size, attack.from_logits)
        found["correct"] = labels == y
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
