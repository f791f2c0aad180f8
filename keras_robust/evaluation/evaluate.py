"""Accuracy of a model, clean and under attacks."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_robust.attacks.attack import Attack
from keras_robust.attacks.registry import as_attacks
from keras_robust.classifier import Classifier
from keras_robust.datasets.arrays import check_form
from keras_robust.evaluation.checkpoint import Checkpoint
from keras_robust.evaluation.data import Examples
from keras_robust.evaluation.data import check_function
from keras_robust.evaluation.data import check_model
from keras_robust.evaluation.data import read_examples
from keras_robust.evaluation.diagnostics import Diagnostics
from keras_robust.evaluation.flags import Stages
from keras_robust.evaluation.flags import baseline_flags
from keras_robust.evaluation.flags import find_flags
from keras_robust.evaluation.flags import repeat_flags
from keras_robust.evaluation.outcomes import LAST
from keras_robust.evaluation.outcomes import Baseline
from keras_robust.evaluation.outcomes import Outcome
from keras_robust.evaluation.outcomes import run_attack
from keras_robust.evaluation.provenance import provenance
from keras_robust.evaluation.report import RobustnessReport
from keras_robust.evaluation.shown import ShownExamples
from keras_robust.evaluation.survivors import Survivors
from keras_robust.evaluation.survivors import by_cost
from keras_robust.evaluation.threats import CorruptionRun
from keras_robust.evaluation.threats import described_corruptions
from keras_robust.evaluation.threats import split_corruptions
from keras_robust.evaluation.threats import threats_of


def predict_labels(
    model: Any,
    x: Any,
    batch_size: int = 128,
    from_logits: bool | None = None,
) -> np.ndarray:
    """Predict labels in inference mode.

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
    state_path: str | os.PathLike[str] | None = None,
    survivors_only: bool = True,
    scaling: str | tuple[Any, ...] | None = None,
    value_range: Any = None,
    from_logits: bool | None = None,
    attacked: str | int | None = None,
    output: str | int | None = None,
) -> RobustnessReport:
    """Measure accuracy on clean data, under each attack, and in the worst case.

    An example counts as correct if the model itself, called as Keras calls it,
    predicts the true label for the attack's output. A flag is raised where the
    search of an attack disagrees with the model.

    Once an adversarial example is found, that image is skipped by the
    remaining steps and restarts, and by later attacks whose ball contains it.
    Attacks run from the cheapest to the most expensive. So the accuracy under
    an attack is what this attack and the cheaper ones in the same or a smaller
    ball have left, except for attacks of a single step, which keep their own.
    With `survivors_only=False` every attack runs on every example in full, and
    its accuracy is its own. Models whose outputs change from call to call are
    always attacked in full: one lucky draw would end the search.

    The report's `flags` are reasons to doubt its numbers, after the published
    AutoAttack and the checklist of Carlini et al. 2019 (arXiv:1902.06705,
    section 5):

    - outputs of attacks: `nan`, `outside ball`, `outside box`,
      `zero gradient`, `search disagrees`;
    - settings of attacks: `few classes`, `left out`, `radius`;
    - attacks compared with each other: `more attack raises accuracy`,
      `black box beats white box`;
    - data: `range`, `repeated examples`;
    - model: `nan outputs`, `randomized`, and with `probe` those of
      `Diagnostics.run`.

    Args:
        model: A built Keras classifier, or what `Classifier.from_function`
            makes of a function, on which attacks without gradients run.
        data: `(x, y)` arrays, or a data set of batches `(x, y)` that ends:
            `tf.data`, `PyDataset`, `DataLoader`, generator. `x` may be a list
            or dictionary of a model's inputs. Sample weights are ignored:
            every example counts once.
        attacks: An attack, the name of one (`"autoattack"`, ... see
            `get_attack`), a list of attacks or names, or a dictionary of
            attacks by name. Names need `norm` and `epsilon`. Among them may be
            `"corruptions"` or `Corruptions`: common corruptions, which are no
            attacks and no part of the worst case.
        batch_size: Int >= 1, for predictions and attacks by name; other
            attacks have their own.
        verbose: 0 for no progress bars.
        norm: `"l0"`, `"l1"`, `"l2"` or `"linf"`, for attacks by name; see
            `get_attack`.
        epsilon: Float >= 0, their radius in units of `value_range`.
        probe: Whether to run the experiments of `Diagnostics` on up to 100
            examples, for more flags.
        state_path: Folder in which the state is kept, so that the same call
            resumes after a stop, or `None`. Several evaluations may share a
            folder.
        survivors_only: Whether an attack skips examples that are broken
            already.
        scaling: Pixels that the model takes: `"unit"` ([0, 1]), `"byte"`
            ([0, 255]), `"symmetric"` ([-1, 1]), `"standardized"` (mean 0 and
            variance 1 in each channel of these data) or `("standardized",
            mean, deviation)`. The data are then pixels in [0, 1] or 0 to 255
            (rounded to whole ones where the Input takes integers), and radii
            are shares of the whole range. `None`: the data are in the model's
            own units.
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
    options: dict[str, Any] = {
        "from_logits": from_logits,
        "attacked": attacked,
        "output": output,
    }
    attacks, corruptions = split_corruptions(attacks, value_range)
    attacks = as_attacks(
        attacks,
        norm=norm,
        epsilon=epsilon,
        batch_size=batch_size,
        value_range=value_range,
        **options,
    )
    check_function(model, attacks.values(), state_path)
    examples = read_examples(model, data, attacks.values(), scaling, **options)
    check_function(examples.classifier, attacks.values())
    attacks = {
        name: attack.resolve(examples.classifier)
        for name, attack in attacks.items()
    }
    corrupted = None
    if corruptions:
        corrupted = CorruptionRun(examples, corruptions, batch_size)
    baseline = Baseline.of(examples, batch_size)
    survivors_only = survivors_only and not baseline.randomized
    facts = provenance(
        examples,
        attacks,
        scaling=scaling,
        survivors_only=survivors_only,
        **described_corruptions(corruptions),
    )
    checkpoint = Checkpoint.of(state_path, {"kind": "report", **facts})
    survivors = Survivors(baseline.right) if survivors_only else None
    outcomes, correct = _run_attacks(
        examples,
        baseline,
        attacks,
        checkpoint=checkpoint,
        verbose=verbose,
        survivors=survivors,
    )
    stages = _stages(examples, attacks, outcomes)
    compared = None
    if survivors and len(attacks) > 1:
        compared = survivors.always_attacked
    flags = find_flags(examples, attacks, outcomes, stages, compared)
    if attacks and probe:
        run = Diagnostics(examples, baseline.right, attacks, verbose, correct)
        flags += run.run()
    flags += baseline_flags(baseline, flags) + repeat_flags(examples)
    return RobustnessReport(
        {"clean": baseline.right, **correct},
        flags,
        stages,
        facts,
        threats=threats_of(attacks),
        corrupted=corrupted.run(checkpoint, verbose) if corrupted else None,
        shown=ShownExamples.of(examples, attacks, outcomes),
    )


def _run_attacks(
    examples: Examples,
    baseline: Baseline,
    attacks: Mapping[str, Attack],
    checkpoint: Checkpoint | None,
    verbose: int,
    survivors: Survivors | None,
) -> tuple[dict[str, Outcome], dict[str, np.ndarray]]:
    """Run all attacks, the cheapest first.

    Returns:
        The outcome of each attack in the order of their runs, and in the order
        of `attacks`, which examples are still classified correctly: bool
        arrays `(N,)`.
    """
    outcomes, correct = {}, {}
    for name in by_cost(attacks):
        section = checkpoint.section(name) if checkpoint else None
        outcome = run_attack(
            examples, baseline, attacks[name], section, verbose, survivors
        )
        outcomes[name] = outcome
        correct[name] = outcome.correct
        if survivors:
            correct[name] = survivors.record(attacks[name], ~outcome.correct)
    return outcomes, {name: correct[name] for name in attacks}


def _stages(
    examples: Examples,
    attacks: Mapping[str, Attack],
    outcomes: Mapping[str, Outcome],
) -> dict[str, Stages]:
    """Accuracy after each part of the attacks that have parts."""
    stages = {}
    for name, outcome in outcomes.items():
        if outcome.broken_by is None:
            continue
        attack: Any = attacks[name]
        parts = attack.parts(
            examples.classifier.num_classes, shape=examples.image.shape
        )
        broken_by = outcome.broken_by.copy()
        broken_by[broken_by == LAST] = len(parts)
        stages[name] = {
            part: float(1 - ((0 <= broken_by) & (broken_by <= number)).mean())
            for number, part in enumerate(parts, 1)
        }
    return stages
