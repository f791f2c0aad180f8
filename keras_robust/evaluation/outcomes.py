"""What an attack achieved, by the model's own answers."""

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import fields
from typing import Any
from typing import Self
from typing import TypeVar

import numpy as np
from keras import ops

from keras_robust.attacks.attack import Attack
from keras_robust.attacks.engine.search import Findings
from keras_robust.attacks.norms import relative_distance
from keras_robust.evaluation.checkpoint import Section
from keras_robust.evaluation.data import Examples
from keras_robust.evaluation.survivors import Survivors
from keras_robust.evaluation.survivors import with_early_stop
from keras_robust.utils.array_checks import outside_box

# Stands for the last part in `broken_by`.
LAST = np.iinfo("int32").max
# Broken examples that an outcome keeps, to be looked at.
_KEPT = 8
# Share of the radius, or of the width of the box, that is rounding.
_ROUNDING = 1e-5
Kind = TypeVar("Kind", bound="OutputCheck")


@dataclass(frozen=True)
class Baseline:
    """A classifier's answers to the unperturbed examples.

    Attributes:
        logits: NumPy array `(N, C)`.
        labels: Int array `(N,)`, predictions.
        right: Bool array `(N,)`, which predictions are correct.
        randomized: Whether outputs change from call to call.
        batch_size: For predictions.
    """

    logits: np.ndarray
    labels: np.ndarray
    right: np.ndarray
    randomized: bool
    batch_size: int

    @classmethod
    def of(cls, examples: Examples, batch_size: int) -> Self:
        """Predict the unperturbed examples."""
        classifier = examples.classifier
        logits = classifier.predict_logits(
            examples.image, batch_size, examples.held
        )
        labels = logits.argmax(-1).astype("int32")
        return cls(
            logits=logits,
            labels=labels,
            right=labels == examples.y,
            randomized=classifier.is_randomized(examples.image, examples.held),
            batch_size=batch_size,
        )


@dataclass(kw_only=True)
class OutputCheck:
    """What is wrong with the output of an attack.

    Attributes:
        nan: How many examples hold NaN or infinity.
        outside_box: How many leave `value_range`.
        outside_ball: How many leave the radius.
        largest_excess: By what share of the radius the worst one leaves it.
        zero_gradient: Whether every input gradient is zero at the start.
        denied: Successes of the search that the model does not confirm.
        missed: Successes by the model's answer that the search does not claim.
        nan_answers: How many perturbed examples the model answers by NaN or
            infinity, though their pixels are numbers.
    """

    nan: int
    outside_box: int
    outside_ball: int
    largest_excess: float
    zero_gradient: bool = False
    denied: int = 0
    missed: int = 0
    nan_answers: int = 0

    def arrays(self) -> dict[str, Any]:
        """Arrays and numbers by name, for a checkpoint."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: v for name, v in found.items() if v is not None}

    @classmethod
    def from_arrays(cls, saved: Mapping[str, Any]) -> Self:
        """The inverse of `arrays`.

        Raises:
            ValueError: If something is missing.
        """
        names = [each.name for each in fields(cls) if each.name in saved]
        try:
            return cls(**{name: saved[name] for name in names})
        except TypeError as error:
            raise ValueError(
                "The state of an evaluation must hold the outcome of an "
                "attack; remove it to start again. "
                f"Received: a state with {sorted(saved)}"
            ) from error


@dataclass(kw_only=True)
class Outcome(OutputCheck):
    """What an attack did to the examples.

    Attributes:
        correct: Bool array `(N,)`: which examples the model classifies
            correctly after the attack.
        broken_by: Int array `(N,)` of an `AutoAttack`: the part that broke
            each example, -1 for none; `None` for other attacks.
        broken_rows: Int array: the first examples that were right and were
            broken, a few of them, to be looked at.
        broken_images: What the attack made of these.
        broken_labels: Int array, what the model says to it.
    """

    correct: np.ndarray
    broken_by: np.ndarray | None = None
    broken_rows: np.ndarray | None = None
    broken_images: np.ndarray | None = None
    broken_labels: np.ndarray | None = None


def run_attack(
    examples: Examples,
    baseline: Baseline,
    attack: Attack,
    section: Section | None = None,
    verbose: int = 0,
    survivors: Survivors | None = None,
) -> Outcome:
    """Run an attack, or load its outcome from before a stop.

    Args:
        examples: `Examples`.
        baseline: The model's answers to them.
        attack: An untargeted attack.
        section: State of the attack, or `None`.
        verbose: 0 for no progress bar.
        survivors: What other attacks have left; `None` to attack all examples
            in full.
    """

    def run() -> Outcome:
        used, skipped = attack, None
        if survivors:
            used = with_early_stop(attack)
            skipped = survivors.skipped_by(used)
        result = run_on_rest(
            examples, baseline, used, section, verbose, skipped
        )
        rest = np.ones(len(examples.y), bool) if skipped is None else ~skipped
        return outcome_of(examples, baseline, used, result, rest)

    return finished_or_run(section, Outcome, run)


def finished_or_run(
    section: Section | None, kind: type[Kind], run: Callable[[], Kind]
) -> Kind:
    """Return an outcome from before a stop, or run the attack and keep it.

    Args:
        section: State of the attack, or `None`.
        kind: Class of the outcome.
        run: Runs the attack and judges its output.
    """
    done = section.section("done") if section else None
    saved = done.restore() if done else None
    if saved is not None:
        return kind.from_arrays(saved)
    outcome = run()
    if done:
        done.save(force=True, **outcome.arrays())
    return outcome


def run_on_rest(
    examples: Examples,
    baseline: Baseline,
    attack: Attack,
    section: Section | None,
    verbose: int,
    skipped: np.ndarray | None,
) -> dict[str, Any]:
    """Run an attack on the examples that are not skipped.

    Args:
        examples: `Examples`.
        baseline: The model's answers to them.
        attack: The attack.
        section: State of the attack, or `None`.
        verbose: 0 for no progress bar.
        skipped: Bool array `(N,)`, or `None` to attack all.

    Returns:
        See `Attack.run`.
    """
    previous = None
    if skipped is not None:
        previous = Findings.before_attack(
            examples.image, baseline.logits, skipped
        )
    return attack.run(
        examples.classifier,
        examples.x,
        examples.y,
        verbose=verbose,
        scored=True,
        checkpoint=section,
        previous=previous,
    )


def outcome_of(
    examples: Examples,
    baseline: Baseline,
    attack: Attack,
    result: Mapping[str, Any],
    attacked: np.ndarray,
) -> Outcome:
    """Judge the output of an attack by the model.

    Args:
        examples: `Examples`.
        baseline: The model's answers to them.
        attack: The attack.
        result: What its `run` returned.
        attacked: Bool array `(N,)`, which examples it ran on.
    """
    image = attacked_image(examples, result["x"])
    labels, nan_answers = predict_moved(examples, image, baseline)
    correct = labels == examples.y
    check = check_output(attack, examples.image, image)
    rows = np.flatnonzero(attacked & baseline.right & ~correct)[:_KEPT]
    outcome = Outcome(
        **check.arrays(),
        correct=correct,
        broken_rows=rows,
        broken_images=image[rows],
        broken_labels=labels[rows],
    )
    outcome.zero_gradient = bool(result.get("zero_gradient", False))
    outcome.nan_answers = nan_answers
    if "success" in result and not baseline.randomized:
        claimed = np.asarray(result["success"], bool)
        outcome.denied, outcome.missed = count_disagreements(
            examples,
            image,
            labels=examples.y,
            claimed=claimed,
            differ=attacked & (claimed == correct),
        )
    if "broken_by" in result:
        outcome.broken_by = _confirmed_parts(
            np.array(result["broken_by"]), correct, attacked
        )
    return outcome


def check_output(
    attack: Attack, x: np.ndarray, attacked: np.ndarray
) -> OutputCheck:
    """Check the output of an attack.

    Args:
        attack: The attack, with the numbers that it ran with.
        x: NumPy array `(N, ...)`, its input.
        attacked: NumPy array, its output.

    Raises:
        ValueError: If the output has another shape than `x`.
    """
    if attacked.shape != x.shape:
        raise ValueError(
            f"An attack must return images of shape {x.shape}. "
            f"Received: shape {attacked.shape} from {type(attack).__name__}"
        )
    attacked = attacked.astype("float64")
    bad = ~np.isfinite(attacked).reshape(len(x), -1).all(-1)
    low, high = (np.asarray(edge, "float64") for edge in attack.value_range)
    width = high - low
    slack = _ROUNDING * (width.max() if np.isfinite(width).all() else 1.0)
    beyond = outside_box(attacked, attack.value_range)
    excess = relative_distance(attack, x, attacked) - 1
    return OutputCheck(
        nan=int(bad.sum()),
        outside_box=int((beyond[~bad] > slack).sum()),
        outside_ball=int((excess[~bad] > _ROUNDING).sum()),
        largest_excess=float(excess[~bad].max(initial=0.0)),
    )


def attacked_image(examples: Examples, x: Any) -> np.ndarray:
    """The attacked input in the output of an attack, as NumPy."""
    image, _ = examples.classifier.split(x)
    return np.asarray(ops.convert_to_numpy(image))


def predict_moved(
    examples: Examples, image: np.ndarray, baseline: Baseline
) -> tuple[np.ndarray, int]:
    """Predict perturbed images; unperturbed ones keep their label.

    Args:
        examples: `Examples` of the classifier that predicts.
        image: NumPy array like `examples.image`.
        baseline: The classifier's answers to `examples.image`.

    Returns:
        Int array `(N,)`, and how many perturbed images without NaN get an
        answer without a largest number.
    """
    flat = (len(image), -1)
    moved = (image.reshape(flat) != examples.image.reshape(flat)).any(-1)
    rows = np.flatnonzero(moved)
    labels = baseline.labels.copy()
    if not len(rows):
        return labels, 0
    logits = examples.predict_logits(image[rows], rows, baseline.batch_size)
    labels[rows] = logits.argmax(-1)
    # Of images that are NaN themselves the attack is to blame.
    sound = np.isfinite(image[rows].reshape(len(rows), -1)).all(-1)
    return labels, int((sound & no_largest(logits)).sum())


def no_largest(logits: np.ndarray) -> np.ndarray:
    """Whether the largest score is NaN or infinite, so that it decides nothing.

    Args:
        logits: Array `(N, C)`. Classes that are left out by minus infinity are
            no fault.

    Returns:
        Bool array `(N,)`.
    """
    found: np.ndarray = ~np.isfinite(logits.max(-1))
    return found


def count_disagreements(
    examples: Examples,
    image: np.ndarray,
    labels: np.ndarray,
    claimed: np.ndarray,
    differ: np.ndarray,
) -> tuple[int, int]:
    """Count where a search and the model disagree about the same images.

    An image on the boundary of two classes, to rounding, is not counted.

    Args:
        examples: `Examples`.
        image: The attack's output.
        labels: Int array `(N,)`, the labels to leave or to reach.
        claimed: Bool array `(N,)`, where the search claims success.
        differ: Bool array `(N,)`, where the model's prediction contradicts
            `claimed`.

    Returns:
        How many successes the model does not confirm, and how many the search
        does not claim.
    """
    rows = np.flatnonzero(differ)
    if len(rows):
        held = {name: part[rows] for name, part in examples.held.items()}
        logits = examples.classifier.predict_logits(
            image[rows], min(len(rows), 128), held
        )
        places = np.arange(len(rows)), labels[rows]
        others = logits.copy()
        others[places] = -np.inf
        margin = np.abs(logits[places] - others.max(-1))
        # A NaN is no tie.
        rounding = examples.classifier.rounding
        tied = margin <= rounding * np.abs(logits).max(-1)
        rows = rows[~tied]
    return int(claimed[rows].sum()), int((~claimed[rows]).sum())


def _confirmed_parts(
    broken_by: np.ndarray, correct: np.ndarray, attacked: np.ndarray
) -> np.ndarray:
    """`broken_by`, corrected where the model's predictions contradict it."""
    broken_by[attacked & correct] = -1
    broken_by[attacked & ~correct & (broken_by < 0)] = LAST
    return broken_by
