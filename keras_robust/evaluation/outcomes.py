"""What an attack has done, as the model sees it."""

from typing import Any

import numpy as np
from keras import ops

from keras_robust.attacks.attack import Attack
from keras_robust.attacks.engine.search import Findings
from keras_robust.classifier.frozen_model import rounding_of
from keras_robust.evaluation.data import Examples
from keras_robust.evaluation.outputs import inspect_output
from keras_robust.evaluation.standing import Standing
from keras_robust.evaluation.standing import stopping

# Stands for the last part in `broken_by`.
LAST = np.iinfo("int32").max


class Baseline:
    """What a classifier says of the unperturbed examples.

    Args:
        examples: `Examples`.
        batch_size: Int >= 1.

    Attributes:
        logits: NumPy array `(N, C)`.
        labels: Int array `(N,)`.
        right: Bool array `(N,)`.
        randomized: Whether outputs change from call to call.
    """

    def __init__(self, examples: Examples, batch_size: int) -> None:
        classifier, image, held = (
            examples.classifier,
            examples.image,
            examples.held,
        )
        self.batch_size = batch_size
        self.logits = classifier.predict_logits(image, batch_size, held)
        self.labels = self.logits.argmax(-1).astype("int32")
        self.right = self.labels == examples.y
        self.randomized = classifier.is_randomized(image, held)


def run_attack(
    examples: Examples,
    baseline: Baseline,
    attack: Attack,
    section: Any = None,
    verbose: int = 0,
    standing: Standing | None = None,
) -> dict:
    """Runs an attack, or reads what it did before a stop.

    Args:
        examples: `Examples`.
        baseline: What the model says of them.
        attack: An untargeted attack.
        section: A `checkpoint.Section` or `None`.
        verbose: 0 for no progress bar.
        standing: What has been broken by other attacks; `None` to attack all
            examples in full.

    Returns:
        Dictionary of NumPy arrays and numbers: `correct`, which examples the
        model gets right on the attack's output; what `inspect_output` counts;
        `denied` and `missed`, see `compare`; `broken_by` of an `AutoAttack`.
    """
    done = section.section("done") if section else None
    found = done.restore() if done else None
    if found is not None:
        return found
    previous = None
    if standing:
        attack = stopping(attack)
        skipped = standing.skipped(attack)
        previous = Findings.before_attack(
            examples.image, baseline.logits, skipped
        )
    result = attack.run(
        examples.classifier,
        examples.x,
        examples.y,
        verbose=verbose,
        scored=True,
        checkpoint=section,
        previous=previous,
    )
    image = attacked_image(examples, result["x"])
    labels = relabel(examples, image, examples.image, baseline)
    found = inspect_output(attack, examples.image, image)
    found["correct"] = labels == examples.y
    attacked = np.ones(len(examples.y), bool)
    if previous is not None:
        attacked = ~previous.success
    if "success" in result and not baseline.randomized:
        claimed = np.asarray(result["success"], bool)
        differ = attacked & (claimed == found["correct"])
        found.update(compare(examples, image, examples.y, claimed, differ))
    found["zero_gradient"] = bool(result.get("zero_gradient", False))
    if "broken_by" in result:
        found["broken_by"] = _agreed_stages(
            np.array(result["broken_by"]), found["correct"], attacked
        )
    if done:
        done.save(force=True, **found)
    return found


def attacked_image(examples: Examples, x: Any) -> np.ndarray:
    """Returns the attacked input of what an attack returned, as NumPy."""
    image, _ = examples.classifier.split(x)
    return np.asarray(ops.convert_to_numpy(image))


def relabel(
    examples: Examples,
    image: np.ndarray,
    before: np.ndarray,
    baseline: Baseline,
) -> np.ndarray:
    """Labels of changed images; only those that moved are predicted anew.

    Args:
        examples: `Examples` of the classifier that is asked.
        image: NumPy array like `examples.image`.
        before: What `image` was made from.
        baseline: What this classifier says of `before`.

    Returns:
        Int array `(N,)`.
    """
    flat = (len(image), -1)
    moved = (image.reshape(flat) != before.reshape(flat)).any(-1)
    rows = np.flatnonzero(moved)
    labels = baseline.labels.copy()
    if len(rows):
        labels[rows] = examples.predict(image[rows], rows, baseline.batch_size)
    return labels


def compare(
    examples: Examples,
    image: np.ndarray,
    labels: np.ndarray,
    claimed: np.ndarray,
    differ: np.ndarray,
) -> dict:
    """Counts where a search and the model see the same images differently.

    An image that lies on the boundary of two classes, to rounding, counts on
    neither side.

    Args:
        examples: `Examples`.
        image: The attack's output.
        labels: Int array `(N,)`, the labels to leave or to reach.
        claimed: Bool array `(N,)`, where the search has succeeded.
        differ: Bool array `(N,)`, where the model's answer says otherwise.

    Returns:
        Dictionary: `denied`, successes that the model does not confirm;
        `missed`, successes by the model's answer alone.
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
        rounding = rounding_of(examples.classifier.model)
        tied = margin <= rounding * np.abs(logits).max(-1)
        rows = rows[~tied]
    return {
        "denied": int(claimed[rows].sum()),
        "missed": int((~claimed[rows]).sum()),
    }


def _agreed_stages(broken_by, correct, attacked):
    """`broken_by`, with survivors and broken ones as the model sees them."""
    broken_by[attacked & correct] = -1
    broken_by[attacked & ~correct & (broken_by < 0)] = LAST
    return broken_by
