"""Accuracy of a model, clean and under attacks."""

import os
from typing import Any

import numpy as np

from keras_robust.attacks.registry import as_attacks
from keras_robust.classifier import Classifier
from keras_robust.datasets.arrays import check_form
from keras_robust.evaluation.checkpoint import Checkpoint
from keras_robust.evaluation.data import check_data as check_data
from keras_robust.evaluation.data import check_model
from keras_robust.evaluation.data import read_examples
from keras_robust.evaluation.flags import baseline_flags
from keras_robust.evaluation.flags import find_flags
from keras_robust.evaluation.outcomes import LAST
from keras_robust.evaluation.outcomes import Baseline
from keras_robust.evaluation.outcomes import run_attack
from keras_robust.evaluation.probes import Probes
from keras_robust.evaluation.provenance import provenance
from keras_robust.evaluation.repeats import repeat_flags
from keras_robust.evaluation.report import RobustnessReport
from keras_robust.evaluation.standing import Standing
from keras_robust.evaluation.standing import by_cost


def predict_labels(
    model: Any,
    x: Any,
    batch_size: int = 128,
    from_logits: bool | None = None,
) -> np.ndarray:
    """Predicted labels in inference mode.

    Args:
        model: A built Keras classifier or a `Classifier`.
        x: Array `(N, ...)`, or a list or dictionary of a model's inputs.
        batch_size: Int >= 1.
        from_logits: As in `PGDAttack`.

    Returns:
        Int32 array `(N,)`.
    """
    classifier = Classifier.of(model, from_logits=from_logits)
    image, held = classifier.split(x)
    return classifier.predict_labels(image, batch_size, held)


def evaluate_robustness(
    model: Any,
    data: Any,
    attacks: Any,
    batch_size: int = 128,
    verbose: int = 1,
    norm: Any = None,
    epsilon: Any = None,
    probe: bool = True,
    state_path: str | os.PathLike | None = None,
    survivors_only: bool = True,
    scaling: str | tuple | None = None,
    value_range: Any = None,
    from_logits: bool | None = None,
    attacked: str | int | None = None,
    output: str | int | None = None,
) -> RobustnessReport:
    """Accuracy on clean data, under each attack, and in the worst case.

    Robust accuracy is counted on true labels. What counts is what the model
    itself says of the final images, called as Keras calls it; where the
    search of an attack saw something else, a flag says so.

    Once an adversarial example is found, that image is skipped by the
    remaining steps and restarts, and by later attacks whose ball contains it.
    Attacks run from the cheapest to the most expensive, so the cost grows
    with what survives, and the accuracy under an attack is what it and the
    cheaper ones in the same or a smaller ball have left; attacks of a single
    step count for themselves. With `survivors_only=False` every attack runs
    on every example in full, and an example is right if the model is right on
    the output.

    Of models whose outputs change from call to call nothing is left out: a
    lucky draw would end the search.

    The report's `flags` say what speaks against the numbers. By name, of what
    attacks returned: `nan`, `outside ball`, `outside box`, `zero gradient`,
    `search disagrees`; of how they are set: `few classes`, `left out`,
    `radius`; of attacks beside each other: `more attack raises accuracy`,
    `black box beats white box`; of the data: `repeated examples`; and of the
    model, where `probe`: see `Probes.run`. They follow the published
    AutoAttack's and the checklist of Carlini et al. 2019 (arXiv:1902.06705,
    section 5).

    Args:
        model: A built Keras classifier.
        data: `(x, y)` arrays, or a data set of batches `(x, y)` that ends:
            `tf.data`, `PyDataset`, `DataLoader`, generator. `x` may be a list
            or dictionary of a model's inputs. Sample weights are ignored:
            every example counts once.
        attacks: An attack, the name of one (`"autoattack"`, ... see
            `get_attack`), a list of attacks or names, or a dictionary of
            attacks by name. Names need `norm` and `epsilon`.
        batch_size: Int >= 1, for predictions and attacks by name; other
            attacks have their own.
        verbose: 0 for no progress bars.
        norm: `"l1"`, `"l2"` or `"linf"`, for attacks by name.
        epsilon: Float >= 0, their radius in units of `value_range`.
        probe: Whether to look for flags that cost more forward and backward
            passes: on up to 100 examples.
        state_path: `None`, or a folder in which the state is kept, so that
            the same call goes on where it was stopped. Other evaluations may
            use the same folder.
        survivors_only: Whether to attack only what still stands.
        scaling: What pixels the model takes: `"unit"` ([0, 1]), `"byte"`
            ([0, 255]), `"symmetric"` ([-1, 1]), `"standardized"` (mean 0 and
            variance 1 in each channel of these data) or `("standardized",
            mean, deviation)`. The data are then pixels in [0, 1] or 0 to 255
            (rounded to whole ones where the Input takes integers), and radii
            are shares of the whole range. `None`: the data are what the model
            takes.
        value_range: `(low, high)`, the box of attacks by name.
        from_logits: As in `PGDAttack`.
        attacked: Name of the input to perturb, of a model with several; the
            others are held fixed.
        output: Name of the output that is classified, of a model with several.

    Returns:
        `RobustnessReport`.

    Raises:
        ValueError: If an argument is not as above, or data and model do not
            fit.

    Example:

    ```python
    report = keras_robust.evaluate_robustness(
        model, (x, y), "autoattack", norm="l2", epsilon=0.5
    )
    report.table()
    ```
    """
    check_model(model)
    check_form(data)
    options = {
        "from_logits": from_logits,
        "attacked": attacked,
        "output": output,
    }
    attacks = as_attacks(
        attacks,
        norm=norm,
        epsilon=epsilon,
        batch_size=batch_size,
        value_range=value_range,
        **options,
    )
    examples = read_examples(model, data, attacks.values(), scaling, **options)
    attacks = {
        name: attack.resolve(examples.classifier)
        for name, attack in attacks.items()
    }
    baseline = Baseline(examples, batch_size)
    survivors_only = survivors_only and not baseline.randomized
    facts = provenance(
        examples, attacks, scaling=scaling, survivors_only=survivors_only
    )
    checkpoint = Checkpoint.of(state_path, {"kind": "report", **facts})
    standing = Standing(baseline.right) if survivors_only else None
    outcomes, correct = {}, {"clean": baseline.right}
    for name in by_cost(attacks):
        section = checkpoint.section(name) if checkpoint else None
        found = run_attack(
            examples, baseline, attacks[name], section, verbose, standing
        )
        outcomes[name] = found
        correct[name] = found["correct"]
        if standing:
            correct[name] = standing.after(attacks[name], ~found["correct"])
    stages = _stages(examples, attacks, outcomes)
    compared = standing.witnesses if standing and len(attacks) > 1 else None
    flags = find_flags(examples, attacks, outcomes, stages, compared)
    if attacks and probe:
        flags += Probes(examples, baseline.right, attacks, verbose).run()
    flags += baseline_flags(baseline, flags) + repeat_flags(examples)
    correct = {key: correct[key] for key in ("clean", *attacks)}
    return RobustnessReport(correct, flags, stages, facts)


def _stages(examples, attacks, outcomes):
    """Accuracy after each part of the attacks that are made of parts."""
    stages = {}
    for name, found in outcomes.items():
        if "broken_by" not in found:
            continue
        parts = attacks[name].parts(
            examples.classifier.num_classes, shape=examples.image.shape
        )
        broken_by = found["broken_by"].copy()
        broken_by[broken_by == LAST] = len(parts)
        stages[name] = {
            part: float(1 - ((0 <= broken_by) & (broken_by <= number)).mean())
            for number, part in enumerate(parts, 1)
        }
    return stages
