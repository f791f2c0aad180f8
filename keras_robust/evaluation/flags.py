"""Flags: reasons to doubt the numbers of an evaluation."""

import hashlib
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust.attacks.attack import Attack
from keras_robust.attacks.auto_attack import AutoAttack
from keras_robust.attacks.grid import doubtful_grid
from keras_robust.attacks.grid import grid_of
from keras_robust.attacks.objectives import LEAST_CLASSES
from keras_robust.attacks.radii import doubtful_radius
from keras_robust.classifier import Classifier
from keras_robust.classifier.scaling import implied_range
from keras_robust.evaluation.data import Examples
from keras_robust.evaluation.outcomes import Baseline
from keras_robust.evaluation.outcomes import Outcome
from keras_robust.evaluation.outcomes import OutputCheck
from keras_robust.evaluation.outcomes import no_largest

# Accuracy after each part of an attack, by part.
Stages = dict[str, float]
# Images whose units are taken as those of all.
_UNIT_IMAGES = 64
# A difference of a smaller share of the examples is not evidence.
_SHARE = 0.01
# Share of copies from which a data set was probably repeated: `.repeat(2)`
# makes a half. Data sets have some copies by themselves.
_COPIES = 0.5
_OUTPUTS = {
    "nan": "outputs of the attack hold NaN or infinity",
    "outside_ball": "outputs of the attack leave its radius",
    "outside_box": "outputs of the attack leave `value_range`",
}


@dataclass(frozen=True)
class Flag:
    """A reason to doubt the numbers: name, meaning and evidence."""

    name: str
    message: str
    evidence: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        numbers = ", ".join(
            f"{key} {value:.4g}"
            if isinstance(value, float)
            else f"{key} {value}"
            for key, value in self.evidence.items()
        )
        return f"{self.name}: {self.message} ({numbers})"

    def about(self, **evidence: object) -> "Flag":
        """The same flag with more evidence in front."""
        return replace(self, evidence={**evidence, **self.evidence})


def find_flags(
    examples: Examples,
    attacks: Mapping[str, Attack],
    outcomes: Mapping[str, Outcome],
    stages: Mapping[str, Stages] | None = None,
    compared: np.ndarray | None = None,
) -> list[Flag]:
    """Find all flags that need no further calls of the model.

    Args:
        examples: `Examples`.
        attacks: Attacks by name, with the numbers they run with.
        outcomes: Outcomes by attack.
        stages: Accuracies after each part, by attack.
        compared: Rows that all attacks ran on; `None` for all.
    """
    own = {name: outcome.correct for name, outcome in outcomes.items()}
    if compared is not None:
        own = {name: correct[compared] for name, correct in own.items()}
    ran = {name: attacks[name] for name in attacks if name in outcomes}
    return [
        *outcome_flags(outcomes),
        *comparison_flags(ran, own, stages),
        *unit_flags(examples, attacks),
        *_no_radius_flags(attacks),
        *setting_flags(
            attacks, examples.image.shape, examples.classifier.num_classes
        ),
    ]


RANDOMIZED = Flag(
    "randomized",
    "outputs change from call to call; use AutoAttack's version 'rand', or "
    "`eot`",
)


def baseline_flags(
    baseline: Baseline, found: Iterable[Flag] = ()
) -> list[Flag]:
    """Flags of a model's answers to the unperturbed examples.

    Names: `nan outputs`, `randomized`.

    Args:
        baseline: The answers.
        found: Flags of `Diagnostics`, which hold more evidence about a
            randomized model, but need examples that are classified correctly.
    """
    flags = []
    count = int(no_largest(baseline.logits).sum())
    if count:
        flags.append(
            Flag(
                "nan outputs",
                "the largest score is NaN or infinite on unperturbed examples; "
                "the answer is then the first class that has it",
                {"examples": count, "of": len(baseline.logits)},
            )
        )
    known = any(flag.name == RANDOMIZED.name for flag in found)
    if baseline.randomized and not known:
        flags.append(RANDOMIZED)
    return flags


def outcome_flags(outcomes: Mapping[str, OutputCheck]) -> list[Flag]:
    """Flags of the outputs of attacks.

    Names: `nan`, `outside ball`, `outside box`, `nan outputs`,
    `zero gradient`, `search disagrees`.

    Args:
        outcomes: By attack.
    """
    return [
        flag
        for name, outcome in outcomes.items()
        for flag in _output_flags(name, outcome)
    ]


def _output_flags(name: str, outcome: OutputCheck) -> Iterator[Flag]:
    for key, message in _OUTPUTS.items():
        count = int(getattr(outcome, key))
        if count:
            evidence = {
                "attack": name,
                "examples": count,
                "largest excess": float(outcome.largest_excess),
            }
            yield Flag(key.replace("_", " "), message, evidence)
    if outcome.nan_answers:
        yield Flag(
            "nan outputs",
            "the largest score is NaN or infinite on perturbed examples; the "
            "answer is then the first class that has it",
            {"attack": name, "examples": int(outcome.nan_answers)},
        )
    if outcome.zero_gradient:
        yield Flag(
            "zero gradient",
            "every input gradient is exactly zero where the attack starts: it "
            "has nothing to follow",
            {"attack": name},
        )
    denied, missed = int(outcome.denied), int(outcome.missed)
    if denied or missed:
        evidence = {
            "attack": name,
            "examples": denied + missed,
            "broken by the search alone": denied,
            "broken by the model alone": missed,
        }
        yield Flag(
            "search disagrees",
            "the search and the model see the same images differently; the "
            "numbers are the model's",
            evidence,
        )


# Images that fill a smaller share of `value_range` are probably in other units.
_LEAST_SPAN = 0.25
_NARROW = (
    "the images fill less than a quarter of value_range: are they in other "
    "units?"
)
_DARK = (
    "the model begins with a Rescaling of pixels of 0 ... 255, and gets images "
    "in [0, 1]; pass scaling='byte', or such pixels and value_range=(0, 255)"
)


def _is_dark(classifier: Classifier, image: np.ndarray) -> bool:
    """Whether a model that rescales bytes gets images in [0, 1]."""
    if classifier.access != "gradients":
        return False
    _, high = implied_range(classifier.model, classifier.inputs.tensor)
    if high <= 1 or image.ndim < 3:
        return False
    some = ops.convert_to_tensor(image[:_UNIT_IMAGES], "float32")
    taken = ops.convert_to_numpy(classifier.outputs.scale(some))
    return bool(taken.max() <= 1)


def unit_flags(examples: Examples, attacks: Mapping[str, Attack]) -> list[Flag]:
    """Flags of images, model and attacks in different units.

    Names: `range`, `radius`.

    Args:
        examples: `Examples`.
        attacks: Attacks by name, with the numbers they run with.
    """
    flags = []
    image, classifier = examples.image, examples.classifier
    span = float(np.max(image) - np.min(image))
    grid = grid_of(classifier, image)
    is_dark = _is_dark(classifier, image)
    for name, attack in attacks.items():
        # Of a resolved attack: a pair of numbers or arrays.
        bounds: Any = attack.value_range
        low, high = bounds
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


_NO_RADIUS = (
    "without a radius an adversarial example at any distance counts; pass "
    "epsilon, or measure distances with minimum_distance"
)


def _no_radius_flags(attacks: Mapping[str, Attack]) -> list[Flag]:
    """Flag minimum-norm attacks without a radius; name `radius`."""
    return [
        Flag("radius", _NO_RADIUS, {"attack": name})
        for name, attack in attacks.items()
        if attack.is_minimum_norm and attack.epsilon is None
    ]


def setting_flags(
    attacks: Mapping[str, Attack], shape: tuple[int, ...], classes: int
) -> list[Flag]:
    """Flags of the settings of attacks.

    Names: `few classes`, `left out`, `radius`.

    Args:
        attacks: Attacks by name, with the numbers they run with.
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


def _needed_classes(attack: Attack) -> int:
    """How many classes the losses of an attack need; 0 for any number."""
    if not isinstance(attack, AutoAttack):
        return 0
    losses = {"standard": "targeted_dlr", "plus": "targeted_dlr"}
    return LEAST_CLASSES[losses.get(attack.version, "dlr")]


def comparison_flags(
    attacks: Mapping[str, Attack],
    correct: Mapping[str, np.ndarray],
    stages: Mapping[str, Stages] | None = None,
) -> list[Flag]:
    """Flags of attacks compared with each other.

    Names: `more attack raises accuracy`, `black box beats white box`.

    Args:
        attacks: Attacks by name.
        correct: Bool arrays by attack: which of some examples, the same for
            all, the attack has left by itself.
        stages: Accuracies after each part, by attack.
    """
    return [
        *_monotone_flags(attacks, correct),
        *_stage_flags((stages or {}).values()),
        *_black_box_flags(attacks, correct),
    ]


def _monotone_flags(
    attacks: Mapping[str, Attack], correct: Mapping[str, np.ndarray]
) -> list[Flag]:
    """Flag pairs of attacks where more examples survive the stronger one."""
    flags = []
    for weak_name, weak in attacks.items():
        for strong_name, strong in attacks.items():
            what = _stronger_by(weak, strong)
            # Attacks of a larger radius may have had no example left.
            if what is None or not len(correct[weak_name]):
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


def _stronger_by(weak: Attack, strong: Attack) -> str | None:
    """The only argument in which two attacks differ, larger in `strong`."""
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


def _stage_flags(stages: Iterable[Stages]) -> list[Flag]:
    """Flag AutoAttack where Square breaks what gradients did not."""
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


def _black_box_flags(
    attacks: Mapping[str, Attack], correct: Mapping[str, np.ndarray]
) -> list[Flag]:
    """Flag attacks that do not break what needs no gradients in their ball."""
    flags = []
    black = [
        name for name, attack in attacks.items() if attack.needs != "gradients"
    ]
    for name in black:
        same = [
            correct[other]
            for other in attacks
            if other not in black and _same_ball(attacks[name], attacks[other])
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


def _same_ball(first: Attack, second: Attack) -> bool:
    norms = getattr(first, "norm", None), getattr(second, "norm", None)
    same_radius = np.array_equal(first.epsilon, second.epsilon)
    return norms[0] == norms[1] and same_radius


def repeat_flags(examples: Examples) -> list[Flag]:
    """Flag a data set that probably gave its examples several times.

    Name: `repeated examples`.

    Args:
        examples: `Examples`.
    """
    total = len(examples.y)
    copies = total - len(set(_row_hashes(examples)))
    if not copies or copies < _COPIES * total:
        return []
    message = (
        "examples are copies of earlier ones, so that the intervals are too "
        "narrow; is there a `.repeat` in the data set?"
    )
    return [Flag("repeated examples", message, {"copies": copies, "of": total})]


def _row_hashes(examples: Examples) -> Iterator[bytes]:
    """A hash of inputs and label of each example."""
    arrays = keras.tree.flatten((examples.x, examples.y))
    arrays = [np.ascontiguousarray(array) for array in arrays]
    for row in range(len(examples.y)):
        digest = hashlib.blake2b(digest_size=16)
        for array in arrays:
            digest.update(array[row].tobytes())
        yield digest.digest()
