"""The paper's claims as checks of a study's numbers.

Accuracies are in per cent. The rules are fixed before a run and are the same
for all data sets. A claim is shown if its rule holds in every seed. Where the
rule requires a size, and only the direction holds in every seed, the verdict is
"same direction, smaller". All data sets have ten classes, so chance is 10 %.
"""

from collections.abc import Callable

import numpy as np

from keras_robust.study.replication.training_sets import RELABELLED
from keras_robust.study.replication.verdicts import Claim
from keras_robust.study.replication.verdicts import Numbers
from keras_robust.study.replication.verdicts import Run

# In per cent: chance and the default margin of `PlateauMonitor`.
LEARNED = 10 + 3
# A figure of a model.
Figure = Callable[[Run, str], float]


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
    fitted = run.results["curves"]["D_rand"]
    escape = fitted["escape_epoch"]
    accuracy = fitted["curve"]["accuracy"]
    return {
        "epochs": len(accuracy),
        "escape epoch": np.nan if escape is None else escape,
        "training accuracy at the end": 100 * accuracy[-1],
        "clean accuracy at the end": run.clean("D_rand"),
    }


def _transfer(run: Run) -> Numbers:
    found = run.results["measured"]["transfer"]["correlation"]
    return {kind: np.nan if r is None else r for kind, r in found.items()}


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
    Claim(
        name="Non-robust features",
        statement="D_NR teaches clean accuracy and no robustness.",
        rule="clean at least 30 %; attacked at most 3 points above standard",
        published="paper: {paper[D_NR][clean]} clean, "
        "{paper[D_NR][pgd-l2-0.25]} at L2 0.25",
        measure=_non_robust,
        holds=lambda n: (
            n["D_NR, clean"] >= 30
            and n["D_NR, attacked"] <= n["standard, attacked"] + 3
        ),
        direction=lambda n: (
            n["D_NR, clean"] > LEARNED
            and n["D_NR, attacked"] <= n["standard, attacked"] + 3
        ),
        direction_rule="clean more than 3 points above chance; attacked at "
        "most 3 points above standard",
    ),
    Claim(
        name="Random targets",
        statement="A network trained on D_rand, whose labels look wrong to a "
        "person, still classifies clean images.",
        rule="clean at least 25 %; attacked at most 5 %",
        published="paper: {paper[D_rand][clean]}, attacked "
        "{paper[D_rand][pgd-l2-0.25]}; AM207 report: {AM207[D_rand][clean]}; "
        "Jordan: {Jordan[D_rand][clean]}; Benz: {Benz[D_rand][clean]}",
        measure=_random_targets,
        holds=lambda n: n["D_rand, clean"] >= 25 and n["D_rand, attacked"] <= 5,
        direction=lambda n: (
            n["D_rand, clean"] > LEARNED
            and n["D_rand, attacked"] < n["D_rand, clean"] / 2
        ),
        direction_rule="clean more than 3 points above chance; attacked less "
        "than half of that",
    ),
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
        measure=Run.leakage,
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
        holds=lambda n: n["escape epoch"] >= 2,
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
