"""The paper's claims as checks of a study's numbers.

Accuracies are in per cent. A claim is shown if its rule holds in every seed.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from keras_robust.study.verdicts import Run


@dataclass(frozen=True)
class Claim:
    """A claim, and when it counts as shown.

    Attributes:
        name: Short.
        statement: A sentence.
        rule: What must hold in every seed, in words.
        published: What others found on CIFAR-10, in words, with places for
            the figures of `reference.json`.
        measure: Callable of a `Run`; returns numbers by name, and raises
            `KeyError` where something was not run.
        holds: Callable of those numbers.
    """

    name: str
    statement: str
    rule: str
    published: str
    measure: Callable
    holds: Callable


def _adversarial_training(run):
    return {
        "standard, clean": run.clean("standard"),
        "adversarial, clean": run.clean("adversarial"),
        "standard, attacked": run.robust("standard"),
        "adversarial, attacked": run.robust("adversarial"),
    }


def _kept_set(name, robust):
    def measure(run):
        return {
            f"{name}, clean": run.clean(name),
            "standard, attacked": robust(run, "standard"),
            f"{name}, attacked": robust(run, name),
        }

    return measure


def _random_targets(run):
    return {
        "D_rand, clean": run.clean("D_rand"),
        "D_rand, attacked": run.robust("D_rand"),
    }


def _shifted_targets(name):
    return lambda run: {"y": run.clean(name), "y + 1": run.shifted(name)}


def _robust_source(run):
    return {
        "standard source": run.clean("D_rand"),
        "robust source": run.clean("D_rand_robust"),
    }


def _beyond_shortcuts(run):
    return {
        f"{name}{kind.replace('_', ', ')}": run.clean(name + kind)
        for name in ("D_rand", "D_det", "D_other")
        for kind in ("", "_shortcut")
    }


def _plateau(run):
    curve = run.run["curves"]["D_rand"]
    escape = curve["escape_epoch"]
    return {
        "epochs": len(curve["curve"]["accuracy"]),
        "escape epoch": np.nan if escape is None else escape,
        "training accuracy at the end": 100 * curve["curve"]["accuracy"][-1],
        "clean accuracy at the end": run.clean("D_rand"),
    }


def _transfer(run):
    found = run.run["measured"]["transfer"]["correlation"]
    return {kind: np.nan if r is None else r for kind, r in found.items()}


CLAIMS = (
    Claim(
        "Adversarial training",
        "Adversarial training costs clean accuracy and buys robustness.",
        "clean lower; attacked at least 20 points higher",
        "paper: {paper[standard][clean]} to {paper[adversarial][clean]} clean, "
        "{paper[standard][pgd-l2-0.25]} to {paper[adversarial][pgd-l2-0.25]} "
        "at L2 0.25",
        _adversarial_training,
        lambda n: (
            n["adversarial, clean"] < n["standard, clean"]
            and n["adversarial, attacked"] > n["standard, attacked"] + 20
        ),
    ),
    Claim(
        "Robust features",
        "Plain training on D_R gives a robust network.",
        "attacked at least 20 points above standard",
        "paper: {paper[standard][pgd-l2-0.25]} to {paper[D_R][pgd-l2-0.25]} at "
        "L2 0.25, clean {paper[D_R][clean]}; AM207 report: "
        "{report[standard][pgd-l2-0.25]} to {report[D_R][pgd-l2-0.25]}",
        _kept_set("D_R", Run.robust),
        lambda n: n["D_R, attacked"] > n["standard, attacked"] + 20,
    ),
    Claim(
        "Robust features in L-infinity",
        "The robustness of D_R is not one of L2 alone.",
        "attacked above standard, at the L-infinity radius of equal volume",
        "Wang et al. 2020: {Wang[standard][pgd-linf-2/255]} to "
        "{Wang[D_R][pgd-linf-2/255]} at 2/255; AM207 report: "
        "{report[D_R][broken-linf-0.25]} for all, by an attack that leaves "
        "ball and box",
        _kept_set("D_R", Run.robust_linf),
        lambda n: n["D_R, attacked"] > n["standard, attacked"],
    ),
    Claim(
        "Non-robust features",
        "D_NR teaches clean accuracy and no robustness.",
        "clean at least 30 %; attacked at most 3 points above standard",
        "paper: {paper[D_NR][clean]} clean, {paper[D_NR][pgd-l2-0.25]} at "
        "L2 0.25",
        _kept_set("D_NR", Run.robust),
        lambda n: (
            n["D_NR, clean"] > 30
            and n["D_NR, attacked"] < n["standard, attacked"] + 3
        ),
    ),
    Claim(
        "Random targets",
        "D_rand, mislabelled to a human, teaches the classes of clean images.",
        "clean above 25 %; attacked below 5 %",
        "paper: {paper[D_rand][clean]}, attacked {paper[D_rand][pgd-l2-0.25]}; "
        "AM207 report: {report[D_rand][clean]}; Jordan: "
        "{Jordan[D_rand][clean]}; Benz: {Benz[D_rand][clean]}",
        _random_targets,
        lambda n: n["D_rand, clean"] > 25 and n["D_rand, attacked"] < 5,
    ),
    Claim(
        "The report's gap",
        "Nothing but training kept the report's 24 % from the paper's 63.3 %.",
        "clean at least 63.3 %",
        "paper: {paper[D_rand][clean]}; AM207 report: {report[D_rand][clean]}; "
        "Jordan: {Jordan[D_rand][clean]}",
        lambda run: {"D_rand, clean": run.clean("D_rand")},
        lambda n: n["D_rand, clean"] >= 63.3,
    ),
    Claim(
        "Shifted targets",
        "D_det teaches the true classes, though its labels are all y + 1.",
        "test images taken for y more often than for y + 1",
        "paper: {paper[D_det][clean]} against {paper[D_det][y + 1]}",
        _shifted_targets("D_det"),
        lambda n: n["y"] > n["y + 1"],
    ),
    Claim(
        "Shifted targets, robust source",
        "With a robust source the labels win over what perturbations carry.",
        "test images taken for y + 1 more often than for y",
        "paper: {paper[D_det_robust][clean]} against "
        "{paper[D_det_robust][y + 1]}",
        _shifted_targets("D_det_robust"),
        lambda n: n["y + 1"] > n["y"],
    ),
    Claim(
        "Random targets, robust source",
        "A robust source destroys D_rand: it was the non-robust features.",
        "clean at least 5 points lower",
        "paper: {paper[D_rand][clean]} to {paper[D_rand_robust][clean]}",
        _robust_source,
        lambda n: n["robust source"] < n["standard source"] - 5,
    ),
    Claim(
        "Beyond shortcuts",
        "Perturbations teach more than a fixed pattern per label would.",
        "each set's clean accuracy above that of its control",
        "Jordan: {Jordan[D_rand][clean]} against "
        "{Jordan[D_rand_shortcut][clean]} (D_rand), {Jordan[D_det][clean]} "
        "against {Jordan[D_det_shortcut][clean]} (D_det), "
        "{Jordan[D_other][clean]} against {Jordan[D_other_shortcut][clean]} "
        "(D_other); the paper has no such control",
        _beyond_shortcuts,
        lambda n: all(
            n[name] > n[f"{name}, shortcut"]
            for name in ("D_rand", "D_det", "D_other")
        ),
    ),
    Claim(
        "Where robustness is lost",
        "The D_R network is most robust on D_R, and least on test images.",
        "D_R of training images > D_R of test images > test images",
        "paper: {paper[decomposition][D_R train]}, "
        "{paper[decomposition][D_R test]}, {paper[decomposition][test]} at L2 "
        "0.25",
        lambda run: run.measured("decomposition"),
        lambda n: n["D_R train"] > n["D_R test"] > n["test"],
    ),
    Claim(
        "Robust leakage",
        "Robust linear features leak into D_rand, and mislead in D_det.",
        "linear model: above chance from D_rand, below it from D_det",
        "Goh 2019: {Goh[leakage][D_rand]} and {Goh[leakage][D_det]}",
        lambda run: run.measured("leakage"),
        lambda n: n["D_rand"] > n["chance"] > n["D_det"],
    ),
    Claim(
        "Plateau",
        "On D_rand a network sits at chance for epochs, and then jumps.",
        "training accuracy within 3 points of chance after the first epoch or "
        "longer, above it at the end",
        "paper: at chance to epoch {paper[plateau][last epoch at chance]} of "
        "{paper[plateau][epochs]}, beyond at "
        "{paper[plateau][first epoch beyond]}; AM207 notebook (Adam): beyond "
        "at about {report[plateau][first epoch beyond]}",
        _plateau,
        lambda n: n["escape epoch"] >= 2,
    ),
    Claim(
        "Transfer",
        "What learns more from D_det is fooled more by its source.",
        "correlation above 0.7 over the architectures",
        "paper: {paper[transfer][untargeted]} untargeted, "
        "{paper[transfer][targeted]} targeted, "
        "{paper[transfer][architectures]} architectures",
        _transfer,
        lambda n: n["untargeted"] > 0.7,
    ),
)
