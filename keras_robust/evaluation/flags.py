"""What speaks against the numbers of an evaluation."""

from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from typing import Any

import numpy as np
from keras import ops

from keras_robust.attacks.attack import Attack
from keras_robust.attacks.auto_attack import AutoAttack
from keras_robust.attacks.grid import doubtful_grid
from keras_robust.attacks.grid import grid_of
from keras_robust.attacks.objectives import LEAST_CLASSES
from keras_robust.attacks.radii import doubtful_radius
from keras_robust.attacks.square import SquareAttack
from keras_robust.classifier.scaling import shown_range
from keras_robust.evaluation.data import Examples

# Images by which the units of all are told.
_LOOKED_AT = 64
# A count of examples below this share is no evidence.
_SHARE = 0.01
_OUTPUTS = {
    "nan": "outputs of the attack hold NaN or infinity",
    "outside_ball": "outputs of the attack leave its radius",
    "outside_box": "outputs of the attack leave `value_range`",
}


@dataclass(frozen=True)
class Flag:
    """One doubt: its name, what it means, and the numbers behind it."""

    name: str
    message: str
    evidence: dict = field(default_factory=dict)

    def __str__(self):
        numbers = ", ".join(
            f"{key} {value:.4g}"
            if isinstance(value, float)
            else f"{key} {value}"
            for key, value in self.evidence.items()
        )
        return f"{self.name}: {self.message} ({numbers})"

    def about(self, **evidence: object) -> "Flag":
        """The same with more evidence in front."""
        return replace(self, evidence={**evidence, **self.evidence})


def find_flags(
    examples: Examples,
    attacks: dict[str, Attack],
    outcomes: dict[str, dict],
    stages: dict[str, dict] | None = None,
    witnesses: np.ndarray | None = None,
) -> list[Flag]:
    """Every doubt that needs no more calls of the model.

    Args:
        examples: `Examples`.
        attacks: Dictionary of attacks by name, with the numbers they run with.
        outcomes: Dictionary by attack of what `run_attack` returned.
        stages: Dictionary by attack of accuracies after each part.
        witnesses: Rows that all attacks ran on; `None` for all.
    """
    own = {name: found["correct"] for name, found in outcomes.items()}
    if witnesses is not None:
        own = {name: correct[witnesses] for name, correct in own.items()}
    ran = {name: attacks[name] for name in attacks if name in outcomes}
    return [
        *outcome_flags(outcomes),
        *comparison_flags(ran, own, stages),
        *unit_flags(examples, attacks),
        *setting_flags(
            attacks, examples.image.shape, examples.classifier.num_classes
        ),
    ]


RANDOMIZED = Flag(
    "randomized",
    "outputs change from call to call; use AutoAttack's version 'rand', or "
    "`eot`",
)


def baseline_flags(baseline: Any, probed: Iterable[Flag] = ()) -> list[Flag]:
    """Flags of what a model says of the unperturbed examples.

    By name: `nan outputs`, `randomized`.

    Args:
        baseline: A `Baseline`.
        probed: Flags that probes gave, which tell more of randomness; they
            need examples that are right.
    """
    flags = []
    count = int(np.isnan(baseline.logits).any(-1).sum())
    if count:
        flags.append(
            Flag(
                "nan outputs",
                "the model gives NaN on unperturbed examples; its answer is "
                "then the first class that has one",
                {"examples": count, "of": len(baseline.logits)},
            )
        )
    known = any(flag.name == RANDOMIZED.name for flag in probed)
    if baseline.randomized and not known:
        flags.append(RANDOMIZED)
    return flags


def outcome_flags(outcomes: dict[str, dict]) -> list[Flag]:
    """Flags of what attacks returned.

    By name: `nan`, `outside ball`, `outside box`, `zero gradient`,
    `search disagrees`.

    Args:
        outcomes: Dictionary by attack of what `run_attack` returned.
    """
    flags = []
    for name, found in outcomes.items():
        for key, message in _OUTPUTS.items():
            if found[key]:
                evidence = {
                    "attack": name,
                    "examples": int(found[key]),
                    "largest excess": float(found["largest_excess"]),
                }
                flags.append(Flag(key.replace("_", " "), message, evidence))
        if found.get("zero_gradient", False):
            flags.append(
                Flag(
                    "zero gradient",
                    "every input gradient is exactly zero where the attack "
                    "starts: it has nothing to follow",
                    {"attack": name},
                )
            )
        denied, missed = (
            int(found.get(key, 0)) for key in ("denied", "missed")
        )
        if denied or missed:
            evidence = {
                "attack": name,
                "examples": denied + missed,
                "broken by the search alone": denied,
                "broken by the model alone": missed,
            }
            flags.append(
                Flag(
                    "search disagrees",
                    "the search and the model see the same images "
                    "differently; the numbers are the model's",
                    evidence,
                )
            )
    return flags


# Images that fill a smaller share of the box are probably in other units.
_LEAST_SPAN = 0.25
_NARROW = (
    "the images fill less than a quarter of value_range: are they in other "
    "units?"
)
_DARK = (
    "the model begins with a Rescaling of pixels of 0 ... 255, and gets images "
    "in [0, 1]; pass scaling='byte', or such pixels and value_range=(0, 255)"
)


def _is_dark(classifier, image):
    """Whether a model that shows that it takes bytes gets [0, 1]."""
    shown = shown_range(classifier.model, classifier.inputs.tensor)
    if shown[1] <= 1 or image.ndim < 3:
        return False
    some = ops.convert_to_tensor(image[:_LOOKED_AT], "float32")
    taken = ops.convert_to_numpy(classifier.outputs.scale(some))
    return bool(taken.max() <= 1)


def unit_flags(examples: Examples, attacks: dict[str, Attack]) -> list[Flag]:
    """Flags of images, model and attacks that speak of different units.

    By name: `range`, `radius`.

    Args:
        examples: `Examples`.
        attacks: Dictionary of attacks by name, with the numbers they run with.
    """
    flags = []
    image, classifier = examples.image, examples.classifier
    span = float(np.max(image) - np.min(image))
    grid = grid_of(classifier, image)
    is_dark = _is_dark(classifier, image)
    for name, attack in attacks.items():
        low, high = attack.value_range
        if np.ndim(low) == np.ndim(high) == 0 and np.isfinite(high - low):
            evidence = {
                "attack": name,
                "value_range": str((low, high)),
                "smallest": float(np.min(image)),
                "largest": float(np.max(image)),
            }
            if len(image) > 1 and span < _LEAST_SPAN * (high - low):
                flags.append(Flag("range", _NARROW, evidence))
            elif is_dark:
                flags.append(Flag("range", _DARK, evidence))
        doubt = doubtful_grid(attack, grid)
        if doubt is not None:
            radius = float(np.max(attack.epsilon))
            flags.append(
                Flag("radius", doubt, {"attack": name, "radius": radius})
            )
    return flags


def setting_flags(
    attacks: dict[str, Attack], shape: tuple, classes: int
) -> list[Flag]:
    """Flags of how attacks are set.

    By name: `few classes`, `left out`, `radius`.

    Args:
        attacks: Dictionary of attacks by name, with the numbers they run with.
        shape: Shape of the attacked input, `(N, ...)`.
        classes: Number of classes.
    """
    flags = []
    for name, attack in attacks.items():
        needed = _needed_classes(attack)
        if classes < needed:
            flags.append(
                Flag(
                    "few classes",
                    "the DLR losses are not defined; margins took their place",
                    {"attack": name, "classes": classes, "needed": needed},
                )
            )
        left_out = getattr(attack, "left_out", None)
        left_out = left_out(shape) if left_out else ()
        if left_out:
            flags.append(
                Flag(
                    "left out",
                    "these parts of the attack cannot take inputs of this "
                    "shape and did not run",
                    {
                        "attack": name,
                        "parts": ", ".join(left_out),
                        "input shape": str(tuple(shape[1:])),
                    },
                )
            )
        doubt = doubtful_radius(attack, shape)
        if doubt is not None:
            evidence = {
                "attack": name,
                "radius": float(np.max(attack.epsilon)),
                "value_range": str(attack.value_range),
            }
            flags.append(Flag("radius", doubt, evidence))
    return flags


def _needed_classes(attack):
    """How many classes the losses of an attack need; 0 for any number."""
    if not isinstance(attack, AutoAttack):
        return 0
    losses = {"standard": "targeted_dlr", "plus": "targeted_dlr"}
    return LEAST_CLASSES[losses.get(attack.version, "dlr")]


def comparison_flags(
    attacks: dict[str, Attack],
    correct: dict[str, np.ndarray],
    stages: dict[str, dict] | None = None,
) -> list[Flag]:
    """Flags of attacks beside each other.

    By name: `more attack raises accuracy`, `black box beats white box`.

    Args:
        attacks: Dictionary of attacks by name.
        correct: Dictionary of bool arrays by attack: which of some examples,
            the same for all, each attack has left by itself.
        stages: Dictionary by attack of accuracies after each part.
    """
    return [
        *_monotone_flags(attacks, correct),
        *_stage_flags((stages or {}).values()),
        *_black_box_flags(attacks, correct),
    ]


def _monotone_flags(attacks, correct):
    """Pairs of attacks that differ in one number only, the wrong way."""
    flags = []
    for weak_name, weak in attacks.items():
        for strong_name, strong in attacks.items():
            what = _stronger_by(weak, strong)
            if what is None:
                continue
            before = correct[weak_name].mean()
            after = correct[strong_name].mean()
            if after > before + _SHARE:
                flags.append(
                    Flag(
                        "more attack raises accuracy",
                        f"{strong_name!r} has the larger {what} and leaves "
                        f"more than {weak_name!r}",
                        {
                            f"accuracy of {weak_name}": float(before),
                            f"accuracy of {strong_name}": float(after),
                        },
                    )
                )
    return flags


def _stronger_by(weak, strong):
    """The only number in which `strong` exceeds `weak`, or `None`."""
    if type(weak) is not type(strong):
        return None
    first, second = weak.get_config(), strong.get_config()
    if first.keys() != second.keys():
        return None
    different = [key for key in first if first[key] != second[key]]
    if len(different) != 1:
        return None
    key = different[0]
    if key not in ("epsilon", "steps", "restarts", "queries", "targets"):
        return None
    values = first[key], second[key]
    numbers = all(isinstance(value, (int, float)) for value in values)
    return key if numbers and values[1] > values[0] else None


_BLACK_BOX = Flag(
    "black box beats white box",
    "a search without gradients finds what gradients do not: they mislead",
)


def _stage_flags(stages: Iterable[dict]):
    """Where the last part of AutoAttack breaks what gradients did not."""
    flags = []
    for accuracy in stages:
        parts = list(accuracy)
        if "square" not in parts[1:]:
            continue
        before = accuracy[parts[parts.index("square") - 1]]
        if before - accuracy["square"] > _SHARE:
            evidence = {"before square": before, "after": accuracy["square"]}
            flags.append(_BLACK_BOX.about(**evidence))
    return flags


def _black_box_flags(attacks, correct):
    """Where Square breaks what other attacks of its ball did not."""
    flags = []
    square = [
        name for name, attack in attacks.items() if type(attack) is SquareAttack
    ]
    for name in square:
        same = [
            correct[other]
            for other in attacks
            if other not in square and _same_threat(attacks, name, other)
        ]
        if not same:
            continue
        left = np.logical_and.reduce(same)
        if correct[name].mean() < left.mean() - _SHARE:
            evidence = {
                "black box": float(correct[name].mean()),
                "white box": float(left.mean()),
            }
            flags.append(_BLACK_BOX.about(**evidence))
    return flags


def _same_threat(attacks, first, second):
    first, second = attacks[first], attacks[second]
    norms = getattr(first, "norm", None), getattr(second, "norm", None)
    same_radius = np.array_equal(first.epsilon, second.epsilon)
    return norms[0] == norms[1] and same_radius
