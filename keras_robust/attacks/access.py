"""Which attacks a classifier can take: some need gradients, some scores."""

from typing import Any

from keras_robust.classifier import Classifier

# What a classifier can give, each with what comes before it.
_LEVELS = ("labels", "scores", "gradients")
# The attacks that need no more.
_WORKING = {
    "labels": "HopSkipJumpAttack and SpatialAttack",
    "scores": "SquareAttack, HopSkipJumpAttack and SpatialAttack",
}


def check_access(attack: Any, classifier: Classifier) -> None:
    """Check that a classifier gives what an attack needs.

    Args:
        attack: The attack; its `needs` is `"labels"`, `"scores"` or
            `"gradients"`.
        classifier: The classifier.

    Raises:
        ValueError: If it does not; the message names the attacks that work.
    """
    given = classifier.access
    if _LEVELS.index(attack.needs) <= _LEVELS.index(given):
        return
    raise ValueError(
        f"{type(attack).__name__} must have a classifier that gives "
        f"{attack.needs}; for a function that returns {given} use "
        f"{_WORKING[given]}. Received: the function {classifier.name!r}"
    )
