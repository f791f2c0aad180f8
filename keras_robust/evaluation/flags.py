"""What speaks against the numbers of an evaluation."""

from dataclasses import dataclass
from dataclasses import field

import numpy as np

from keras_robust.attacks import AutoAttack
from keras_robust.attacks import SquareAttack
from keras_robust.attacks.objectives import LEAST_CLASSES
from keras_robust.attacks.per_model import count_classes
from keras_robust.evaluation.probes import Probes

# A count of examples below this share is no evidence.
_SHARE = 0.01


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


def find_flags(
    model, x, y, clean, attacks, correct, stages, findings, probe, verbose=0
):
    """Every doubt about an evaluation.

    After the published AutoAttack's flags and the checklist of Carlini et al.
    2019 (arXiv:1902.06705, section 5). By name: `nan`, `outside ball`,
    `outside box`; `few classes`; `more attack raises accuracy`;
    `black box beats white box`; and where `probe`: `randomized`,
    `batch dependent`, `probabilities as logits`, `vanishing gradients`,
    `noise beats gradients`, `unbounded radius survived`.

    Args:
        model: A built Keras classifier.
        x: NumPy array `(N, ...)`.
        y: Int array `(N,)`.
        clean: Bool array `(N,)`, which examples are right unperturbed.
        attacks: Dictionary of attacks by name.
        correct: Dictionary of bool arrays by attack: which of some examples,
            the same for all, each attack has left by itself.
        stages: Dictionary by attack of accuracies after each part.
        findings: Dictionary by attack of what `inspect_output` counted.
        probe: Whether to run the model for those that need it.
        verbose: 0 for no progress bars.

    Returns:
        List of `Flag`.
    """
    flags = [*_output_flags(findings), *_monotone_flags(attacks, correct)]
    flags += _black_box_flags(attacks, correct, stages)
    if attacks:
        attack = next(iter(attacks.values()))
        classes = count_classes(model, x, attack.from_logits)
        flags += _class_flags(attacks, classes)
    if attacks and probe:
        probes = Probes(model, x, y, clean, attacks, verbose)
        flags += [Flag(*found) for found in probes.run()]
    return flags


def _output_flags(findings):
    meanings = {
        "nan": "outputs of the attack hold NaN or infinity",
        "outside_ball": "outputs of the attack leave its radius",
        "outside_box": "outputs of the attack leave `value_range`",
    }
    return [
        Flag(
            key.replace("_", " "),
            message,
            {
                "attack": name,
                "examples": int(found[key]),
                "largest excess": float(found["largest_excess"]),
            },
        )
        for name, found in findings.items()
        for key, message in meanings.items()
        if found[key]
    ]


def _class_flags(attacks, classes):
    needed = {}
    for name, attack in attacks.items():
        if isinstance(attack, AutoAttack):
            losses = {"standard": "targeted_dlr", "plus": "targeted_dlr"}
            loss = losses.get(attack.version, "dlr")
            if classes < LEAST_CLASSES[loss]:
                needed[name] = LEAST_CLASSES[loss]
    return [
        Flag(
            "few classes",
            "the DLR losses are not defined; margins took their place",
            {"attack": name, "classes": classes, "needed": least},
        )
        for name, least in needed.items()
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
    different = [key for key in first if first[key] != second[key]]
    if len(different) != 1:
        return None
    key = different[0]
    if key not in ("epsilon", "steps", "restarts", "queries", "targets"):
        return None
    values = first[key], second[key]
    numbers = all(isinstance(value, (int, float)) for value in values)
    return key if numbers and values[1] > values[0] else None


def _black_box_flags(attacks, correct, stages):
    """Square breaks what gradients did not."""
    flags = []
    message = (
        "a search without gradients finds what gradients do not: they mislead"
    )
    for accuracy in stages.values():
        parts = list(accuracy)
        if "square" not in parts[1:]:
            continue
        before = accuracy[parts[parts.index("square") - 1]]
        if before - accuracy["square"] > _SHARE:
            evidence = {"before square": before, "after": accuracy["square"]}
            flags.append(Flag("black box beats white box", message, evidence))
    square = {
        name: correct[name]
        for name, attack in attacks.items()
        if isinstance(attack, SquareAttack)
    }
    others = {name: correct[name] for name in attacks if name not in square}
    for name, survivors in square.items():
        same = {
            other: kept
            for other, kept in others.items()
            if _same_threat(attacks[name], attacks[other])
        }
        if not same:
            continue
        left = np.logical_and.reduce(list(same.values()))
        if survivors.mean() < left.mean() - _SHARE:
            evidence = {
                "black box": float(survivors.mean()),
                "white box": float(left.mean()),
            }
            flags.append(Flag("black box beats white box", message, evidence))
    return flags


def _same_threat(first, second):
    norms = getattr(first, "norm", None), getattr(second, "norm", None)
    same_radius = np.array_equal(first.epsilon, second.epsilon)
    return norms[0] == norms[1] and same_radius
