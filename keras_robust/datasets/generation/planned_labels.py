"""Check whether stored labels are those that were planned."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_robust.datasets.labels import KEPT
from keras_robust.datasets.labels import labels_sha256

# Below this probability a distribution is not the one that it should be.
_IMPROBABLE = 1e-6
# Whether a check passed, and what was found.
Finding = tuple[bool, str]
# Names of configurations that imply how labels follow from the true ones.
_NAMED = {
    "rand": "random",
    "det": "deterministic",
    "other": "other",
    "robust": KEPT,
    "non_robust": KEPT,
}


def check_planned_labels(
    label: np.ndarray, original: np.ndarray, description: Mapping[str, Any]
) -> Finding:
    """Compare stored labels with the plan of the data set.

    A checksum shows whether the labels are those that were drawn. Where the
    plan follows one of this package's rules, the rule is checked as well, and
    so is the rule that the name of the configuration implies.

    Args:
        label: Int array `(N,)`, as stored.
        original: Int array `(N,)`, the true labels, -1 where unknown.
        description: Of the data set.

    Returns:
        `(passed, found)`: a bool, and what was found as text.
    """
    plan = description.get("plan") or _inferred_plan(description)
    classes = plan["num_classes"]
    found = []
    if "labels_sha256" in plan:
        same = labels_sha256(label) == plan["labels_sha256"]
        found.append((same, "as planned" if same else "not as planned"))
    if plan["rule"] is None:
        found.append((True, f"by a rule of {description['transform']}"))
        return _together(found)
    found.append(_check_rule(plan["rule"], label, original, classes))
    named = _named_rule(description["config"])
    if named not in (None, plan["rule"]):
        passed, what = _check_rule(named, label, original, classes)
        name = description["config"]
        found.append((passed, f"{what}, for the name {name!r}"))
    return _together(found)


def _inferred_plan(description: Mapping[str, Any]) -> dict[str, Any]:
    """Infer the plan of a data set that was made before plans were recorded."""
    transform = description["transform"]
    rule = None
    if transform in ("NonRobustifier", "Shortcut"):
        rule = description["arguments"]["target"]
    elif transform in ("Robustifier", "Mixture"):
        rule = KEPT
    elif transform == "ReleasedTensors":
        rule = _named_rule(description["config"])
    return {"rule": rule, "num_classes": len(description["class_names"])}


def _named_rule(config: str) -> str | None:
    if config.startswith("mix_"):
        return KEPT
    return _NAMED.get(config.removeprefix("shortcut_"))


def _together(found: list[Finding]) -> Finding:
    wrong = [what for passed, what in found if not passed]
    return not wrong, "; ".join(wrong or [what for _, what in found])


def _check_rule(
    rule: str, label: np.ndarray, original: np.ndarray, classes: int
) -> Finding:
    """Check labels against the definition of a rule."""
    same = f"{float((label == original).mean()):.2%} are the original label"
    known = bool((original >= 0).all())
    if rule == "random":
        return _uniform(label, classes, "uniform over all classes")
    if not known:
        return True, "original labels not known"
    if rule == "deterministic":
        passed = bool((label == (original + 1) % classes).all())
        return passed, "y + 1 for all" if passed else "not always y + 1"
    if rule == "other":
        if (label == original).any():
            return False, same
        shift = (label - original) % classes - 1
        return _uniform(shift, classes - 1, "uniform over the others")
    return bool((label == original).all()), same


def _uniform(values: np.ndarray, categories: int, what: str) -> Finding:
    from scipy.stats import chisquare

    counts = np.bincount(values, minlength=categories)
    if len(counts) > categories:
        return False, f"labels beyond {categories - 1}"
    if categories == 1:
        return True, what
    chance = float(chisquare(counts).pvalue)
    return chance > _IMPROBABLE, f"{what}: chi-square p = {chance:.3g}"
