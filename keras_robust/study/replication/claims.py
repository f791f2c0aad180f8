"""The paper's claims as checks of a study's numbers.

Accuracies are in per cent. The rules are fixed before a run and are the same
for all data sets. A claim is shown if its rule holds in every seed. Where the
rule requires a size, and only the direction holds in every seed, the verdict is
"same direction, smaller". Clean accuracies that a rule requires are written for
ten classes; with others they lie as far between chance and 100 %.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_robust.study.replication.training_sets import RELABELLED
from keras_robust.study.replication.verdicts import Claim
from keras_robust.study.replication.verdicts import Numbers
from keras_robust.study.replication.verdicts import Run
from keras_robust.study.replication.verdicts import UndecidedError

# In per cent, the default margin of `PlateauMonitor`.
_MARGIN = 3
# The correlation of fewer is 1 or -1, whatever they have learned.
_LEAST_NETWORKS = 3
# The number that is missing where a training never leaves chance.
ESCAPE_EPOCH = "escape epoch"
# A figure of a model.
Figure = Callable[[Run, str], float]


@dataclass(frozen=True)
class Levels:
    """Clean accuracies, in per cent, that count as learned.

    Attributes:
        classes: Number of classes.
    """

    classes: int

    @property
    def chance(self) -> float:
        """Accuracy of guessing."""
        return 100 / self.classes

    @property
    def learned(self) -> float:
        """The accuracy that is distinguishable from guessing."""
        return self.chance + _MARGIN

    def at(self, accuracy: float) -> float:
        """The accuracy as far above chance as this one is for ten classes."""
        return self.chance + (accuracy - 10) * (100 - self.chance) / 90


def _compared(
    first: str, second: str, figure: Figure, what: str
) -> Callable[[Run], Numbers]:
    """A function that returns one figure of two models."""

    def measure(run: Run) -> Numbers:
        return {
            f"{name}, {what}": figure(run, name) for name in (first, second)
        }

    return measure


def _non_robust(run: Run) -> Numbers:
    return {
        "D_NR, clean": run.clean("D_NR"),
        "standard, attacked": run.robust("standard"),
        "D_NR, attacked": run.robust("D_NR"),
    }


def _robust_set(figure: Figure) -> Callable[[Run], Numbers]:
    def measure(run: Run) -> Numbers:
        return {
            "D_R, clean": run.clean("D_R"),
            "standard, attacked": figure(run, "standard"),
            "D_R, attacked": figure(run, "D_R"),
        }

    return measure


def _random_targets(run: Run) -> Numbers:
    return {
        "D_rand, clean": run.clean("D_rand"),
        "D_rand, attacked": run.robust("D_rand"),
    }


def _shifted_targets(name: str) -> Callable[[Run], Numbers]:
    return lambda run: {"y": run.clean(name), "y + 1": run.shifted(name)}


def _robust_source(run: Run) -> Numbers:
    return {
        "standard source": run.clean("D_rand"),
        "robust source": run.clean("D_rand_robust"),
    }


def _beyond_shortcuts(run: Run) -> Numbers:
    numbers = {}
    for name in RELABELLED:
        numbers[name] = run.clean(name)
        numbers[f"{name}, shortcut"] = run.clean(f"{name}_shortcut")
    return numbers


def _plateau(run: Run) -> Numbers:
    clean = run.clean("D_rand")
    fitted = run.results["curves"].get("D_rand")
    if fitted is None:
        raise UndecidedError("the network of D_rand was not trained here")
    escape = fitted["escape_epoch"]
    accuracy = fitted["curve"]["accuracy"]
    return {
        "epochs": len(accuracy),
        ESCAPE_EPOCH: np.nan if escape is None else escape,
        "training accuracy at the end": 100 * accuracy[-1],
        "clean accuracy at the end": clean,
    }


def _leakage(run: Run) -> Numbers:
    numbers = run.leakage()
    for name in ("D_rand", "D_det"):
        if name not in numbers:
            # As for other figures that were not run.
            raise KeyError(name)
    return numbers


def _transfer(run: Run) -> Numbers:
    transfer = run.results["measured"]["transfer"]
    if len(transfer["names"]) < _LEAST_NETWORKS:
        raise UndecidedError(
            "two points are on a line: a correlation needs three networks, "
            "two architectures besides the study's network"
        )
    found = transfer["correlation"]
    if found["untargeted"] is None:
        raise UndecidedError(
            "all networks are fooled alike, or learn the same from D_det, so "
            "that there is no correlation"
        )
    return {kind: np.nan if r is None else r for kind, r in found.items()}


def _non_robust_features(levels: Levels) -> Claim:
    return Claim(
        name="Non-robust features",
        statement="D_NR teaches clean accuracy and no robustness.",
        rule=f"clean at least {levels.at(30):.3g} %; attacked at most 3 points "
        "above standard",
        published="paper: {paper[D_NR][clean]} clean, "
        "{paper[D_NR][pgd-l2-0.25]} at L2 0.25",
        measure=_non_robust,
        holds=lambda n: (
            n["D_NR, clean"] >= levels.at(30)
            and n["D_NR, attacked"] <= n["standard, attacked"] + 3
        ),
        direction=lambda n: (
            n["D_NR, clean"] > levels.learned
            and n["D_NR, attacked"] <= n["standard, attacked"] + 3
        ),
        direction_rule="clean more than 3 points above chance; attacked at "
        "most 3 points above standard",
    )


def _random_targets_teach(levels: Levels) -> Claim:
    return Claim(
        name="Random targets",
        statement="A network trained on D_rand, whose labels look wrong to a "
        "person, still classifies clean images.",
        rule=f"clean at least {levels.at(25):.3g} %; attacked at most 5 %",
        published="paper: {paper[D_rand][clean]}, attacked "
        "{paper[D_rand][pgd-l2-0.25]}; AM207 report: {AM207[D_rand][clean]}; "
        "Jordan: {Jordan[D_rand][clean]}; Benz: {Benz[D_rand][clean]}",
        measure=_random_targets,
        holds=lambda n: (
            n["D_rand, clean"] >= levels.at(25) and n["D_rand, attacked"] <= 5
        ),
        direction=lambda n: (
            n["D_rand, clean"] > levels.learned
            and n["D_rand, attacked"] < n["D_rand, clean"] / 2
        ),
        direction_rule="clean more than 3 points above chance; attacked less "
        "than half of that",
    )


_TEN = Levels(10)
CLAIMS = (
    Claim(
        name="Adversarial training",
        statement="Adversarial training makes a network robust.",
        rule="attacked at least 20 points above standard",
        published="paper: {paper[standard][pgd-l2-0.25]} to "
        "{paper[adversarial][pgd-l2-0.25]} at L2 0.25",
        measure=_compared("standard", "adversarial", Run.robust, "attacked"),
        holds=lambda n: (
            n["adversarial, attacked"] >= n["standard, attacked"] + 20
        ),
        direction=lambda n: (
            n["adversarial, attacked"] > n["standard, attacked"]
        ),
        direction_rule="attacked above standard",
    ),
    Claim(
        name="Price of robustness",
        statement="Adversarial training costs clean accuracy.",
        rule="clean below standard",
        published="paper: {paper[standard][clean]} to "
        "{paper[adversarial][clean]}",
        measure=_compared("standard", "adversarial", Run.clean, "clean"),
        holds=lambda n: n["adversarial, clean"] < n["standard, clean"],
    ),
    Claim(
        name="Robust features",
        statement="Plain training on D_R gives a robust network.",
        rule="attacked at least 20 points above standard",
        published="paper: {paper[standard][pgd-l2-0.25]} to "
        "{paper[D_R][pgd-l2-0.25]} at L2 0.25, clean {paper[D_R][clean]}; "
        "AM207 report: {AM207[standard][pgd-l2-0.25]} to "
        "{AM207[D_R][pgd-l2-0.25]}",
        measure=_robust_set(Run.robust),
        holds=lambda n: n["D_R, attacked"] >= n["standard, attacked"] + 20,
        direction=lambda n: n["D_R, attacked"] > n["standard, attacked"],
        direction_rule="attacked above standard",
    ),
    Claim(
        name="Robust features in L-infinity",
        statement="The robustness of D_R is not limited to L2.",
        rule="attacked above standard, at the L-infinity radius of equal "
        "volume",
        published="Wang et al. 2020: {Wang[standard][pgd-linf-2/255]} to "
        "{Wang[D_R][pgd-linf-2/255]} at 2/255; AM207 report: "
        "{AM207[D_R][broken-linf-0.25]} for all, by an attack that leaves "
        "ball and box",
        measure=_robust_set(Run.robust_linf),
        holds=lambda n: n["D_R, attacked"] > n["standard, attacked"],
    ),
    _non_robust_features(_TEN),
    _random_targets_teach(_TEN),
    Claim(
        name="The AM207 report's gap",
        statement="The AM207 report's 24 % on D_rand was too low only because "
        "of training.",
        rule="clean at least the paper's 63.3 %",
        published="paper: {paper[D_rand][clean]}; AM207 report: "
        "{AM207[D_rand][clean]}; Jordan: {Jordan[D_rand][clean]}",
        measure=lambda run: {"D_rand, clean": run.clean("D_rand")},
        holds=lambda n: n["D_rand, clean"] >= 63.3,
        direction=lambda n: n["D_rand, clean"] > 24,
        direction_rule="clean above the AM207 report's 24 %",
        datasets=("cifar10",),
    ),
    Claim(
        name="Shifted targets",
        statement="D_det teaches the true classes, though its labels are all "
        "y + 1.",
        rule="test images taken for y more often than for y + 1",
        published="paper: {paper[D_det][clean]} against {paper[D_det][y + 1]}",
        measure=_shifted_targets("D_det"),
        holds=lambda n: n["y"] > n["y + 1"],
    ),
    Claim(
        name="Shifted targets, robust source",
        statement="With a robust source D_det teaches its labels, y + 1.",
        rule="test images taken for y + 1 more often than for y",
        published="paper: {paper[D_det_robust][clean]} against "
        "{paper[D_det_robust][y + 1]}",
        measure=_shifted_targets("D_det_robust"),
        holds=lambda n: n["y + 1"] > n["y"],
    ),
    Claim(
        name="Random targets, robust source",
        statement="D_rand made with a robust source teaches less: it lacks the "
        "non-robust features.",
        rule="clean at least 5 points lower",
        published="paper: {paper[D_rand][clean]} to "
        "{paper[D_rand_robust][clean]}",
        measure=_robust_source,
        holds=lambda n: n["robust source"] <= n["standard source"] - 5,
        direction=lambda n: n["robust source"] < n["standard source"],
        direction_rule="clean lower",
    ),
    Claim(
        name="Beyond shortcuts",
        statement="Perturbations teach more than a fixed pattern per label "
        "would.",
        rule="each set's clean accuracy above that of its control",
        published="Jordan: {Jordan[D_rand][clean]} against "
        "{Jordan[D_rand_shortcut][clean]} (D_rand), {Jordan[D_det][clean]} "
        "against {Jordan[D_det_shortcut][clean]} (D_det), "
        "{Jordan[D_other][clean]} against {Jordan[D_other_shortcut][clean]} "
        "(D_other); the paper has no such control",
        measure=_beyond_shortcuts,
        holds=lambda n: all(
            n[name] > n[f"{name}, shortcut"] for name in RELABELLED
        ),
    ),
    Claim(
        name="Where robustness is lost",
        statement="The D_R network is most robust on D_R, and least on test "
        "images.",
        rule="attacked: D_R of training images > D_R of test images > test "
        "images",
        published="paper: {paper[decomposition][D_R train]}, "
        "{paper[decomposition][D_R test]}, {paper[decomposition][test]} at L2 "
        "0.25",
        measure=Run.decomposition,
        holds=lambda n: n["D_R train"] > n["D_R test"] > n["test"],
    ),
    Claim(
        name="Robust leakage",
        statement="Robust linear features leak into D_rand, and mislead in "
        "D_det.",
        rule="linear model: above chance from D_rand, below it from D_det",
        published="Goh 2019: {Goh[leakage][D_rand]} and {Goh[leakage][D_det]}",
        measure=_leakage,
        holds=lambda n: n["D_rand"] > n["chance"] > n["D_det"],
    ),
    Claim(
        name="Plateau",
        statement="On D_rand a network sits at chance for epochs, and then "
        "jumps.",
        rule="training accuracy within 3 points of chance after the first "
        "epoch or longer, above it at the end",
        published="paper: at chance to epoch "
        "{paper[plateau][last epoch at chance]} of {paper[plateau][epochs]}, "
        "beyond at {paper[plateau][first epoch beyond]}; AM207 notebook "
        "(Adam): beyond at about {AM207[plateau][first epoch beyond]}",
        measure=_plateau,
        holds=lambda n: n[ESCAPE_EPOCH] >= 2,
    ),
    Claim(
        name="Transfer",
        statement="A network that learns more from D_det is fooled more by its "
        "source.",
        rule="correlation at least 0.7 over the architectures",
        published="paper: {paper[transfer][untargeted]} untargeted, "
        "{paper[transfer][targeted]} targeted, "
        "{paper[transfer][architectures]} architectures",
        measure=_transfer,
        holds=lambda n: n["untargeted"] >= 0.7,
        direction=lambda n: n["untargeted"] > 0,
        direction_rule="correlation above 0",
    ),
)

# What two classes cannot decide.
_OF_TWO_CLASSES = {
    name: "with two classes half of the labels of D_rand are right"
    for name in (
        "Random targets",
        "Random targets, robust source",
        "Robust leakage",
        "Plateau",
    )
}


def undecidable_with(classes: int) -> dict[str, str]:
    """Reasons by name of the claims that so few classes cannot decide.

    Args:
        classes: Number of classes.
    """
    return _OF_TWO_CLASSES if classes == 2 else {}


def claims_of(
    classes: int, own_sets: Iterable[Mapping[str, Any]] = ()
) -> tuple[Claim, ...]:
    """The claims of a study.

    Args:
        classes: Number of classes.
        own_sets: Sets of the user, dictionaries with `name`, `base` and
            `control`.

    Returns:
        Those of the paper, and one for each set of the user that is not a
        control.
    """
    levels = Levels(classes)
    scaled = {
        "Non-robust features": _non_robust_features(levels),
        "Random targets": _random_targets_teach(levels),
    }
    sets = list(own_sets)
    own = [
        _own_claim(
            made["name"],
            [each["name"] for each in sets if _controls(each, made)],
            levels,
        )
        for made in sets
        if not made["control"]
    ]
    return (*(scaled.get(claim.name, claim) for claim in CLAIMS), *own)


def _controls(other: Mapping[str, Any], made: Mapping[str, Any]) -> bool:
    return bool(other["control"]) and other["base"] == made["name"]


def _own_claim(name: str, controls: list[str], levels: Levels) -> Claim:
    """What a set of the user teaches, beyond its controls if it has some."""

    def measure(run: Run) -> Numbers:
        return {each: run.clean(each) for each in (name, *controls)}

    def learned(n: Numbers) -> bool:
        return n[name] > levels.learned

    if not controls:
        return Claim(
            name=f"{name} teaches",
            statement=f"{name} teaches the classes of clean images.",
            rule="clean more than 3 points above chance",
            published="",
            measure=measure,
            holds=learned,
        )
    return Claim(
        name=f"{name} beyond its control",
        statement=f"{name} teaches the classes of clean images, and more than "
        "its control does.",
        rule="clean more than 3 points above chance, and above that of "
        f"{' and '.join(controls)}",
        published="",
        measure=measure,
        holds=lambda n: learned(n) and all(n[name] > n[c] for c in controls),
        direction=learned,
        direction_rule="clean more than 3 points above chance",
    )
