import copy

import pytest

from keras_robust.study.claims import CLAIMS
from keras_robust.study.training_sets import MODELS
from keras_robust.study.verdicts import verdicts

# Tables 1, 7, 8, 9, 10 of Ilyas et al. 2019, and where the paper has none,
# what others found (Wang et al. 2020, Jordan, Goh).
CLEAN = {
    **{"standard": 95.25, "adversarial": 90.83, "D_R": 85.4, "D_NR": 87.68},
    **{"D_rand": 83.9, "D_rand_robust": 25.2, "D_rand_shortcut": 79.5},
    **{"D_det": 43.7, "D_det_robust": 5.8, "D_det_shortcut": 32.3},
    **{"D_other": 67.3, "D_other_shortcut": 50.1},
}
ROBUST = {"standard": 4.49, "adversarial": 82.48, "D_R": 48.2, "D_NR": 0.82}
LINF = {"standard": 12, "D_R": 43}
SHIFTED = {"D_det": 16.2, "D_det_robust": 65.5}


@pytest.fixture
def published():
    """A run in which everything came out as it was published."""
    return {
        "evaluation": {
            name: {
                "accuracy": {
                    "clean": CLEAN[name] / 100,
                    "pgd-l2-0.25": ROBUST.get(name, 0) / 100,
                    "pgd-linf-0.00931": LINF.get(name, 0) / 100,
                    "pgd-linf-0.25": 0.0,
                    "y + 1": SHIFTED.get(name, 0) / 100,
                }
            }
            for name in MODELS
        },
        "curves": {
            "D_rand": {
                "curve": {"accuracy": [0.104, 0.112, 0.917, 0.992]},
                "escape_epoch": 3,
            }
        },
        "measured": {
            "decomposition": {
                "D_R train": 0.7733,
                "D_R test": 0.6249,
                "test": 0.4827,
            },
            "leakage": {"chance": 0.1, "D_rand": 0.235, "D_det": 0.0681},
            "transfer": {"correlation": {"untargeted": 0.979}},
        },
    }


def judged(*runs):
    found = verdicts(CLAIMS, dict(enumerate(runs)), (0.25, 0.5))
    return {claim["name"]: claim for claim in found}


def test_the_published_figures_show_every_claim(published):
    for claim in judged(published).values():
        assert claim["verdict"] == "shown", claim


def test_a_claim_must_hold_in_every_seed(published):
    other = copy.deepcopy(published)
    # As standard, and 19 points.
    other["evaluation"]["D_R"]["accuracy"]["pgd-l2-0.25"] = 0.0449 + 0.19
    claim = judged(published, other)["Robust features"]
    assert claim["verdict"] == "not shown" and claim["seeds"] == 1
    number = claim["numbers"]["D_R, attacked"]
    assert number["mean"] == pytest.approx((48.2 + 23.49) / 2)
    assert number["deviation"] == pytest.approx(17.47, abs=0.01)


@pytest.mark.parametrize(
    ("name", "model", "attack", "value"),
    [
        ("Adversarial training", "adversarial", "clean", 0.96),
        ("Adversarial training", "adversarial", "pgd-l2-0.25", 0.24),
        ("Robust features in L-infinity", "D_R", "pgd-linf-0.00931", 0.11),
        ("Non-robust features", "D_NR", "clean", 0.29),
        ("Non-robust features", "D_NR", "pgd-l2-0.25", 0.08),
        ("Random targets", "D_rand", "clean", 0.24),
        ("The report's gap", "D_rand", "clean", 0.63),
        ("Shifted targets", "D_det", "y + 1", 0.44),
        ("Shifted targets, robust source", "D_det_robust", "clean", 0.66),
        ("Random targets, robust source", "D_rand_robust", "clean", 0.8),
        ("Beyond shortcuts", "D_other_shortcut", "clean", 0.68),
    ],
)
def test_what_does_not_show_a_claim(published, name, model, attack, value):
    published["evaluation"][model]["accuracy"][attack] = value
    found = judged(published)
    assert found[name]["verdict"] == "not shown"


def test_measured_claims(published):
    published["measured"]["decomposition"]["D_R test"] = 0.8
    published["measured"]["leakage"]["D_det"] = 0.11
    published["curves"]["D_rand"]["escape_epoch"] = 1
    found = judged(published)
    for name in ("Where robustness is lost", "Robust leakage", "Plateau"):
        assert found[name]["verdict"] == "not shown"
    # Never to leave chance is no plateau that ended.
    published["curves"]["D_rand"]["escape_epoch"] = None
    claim = judged(published)["Plateau"]
    assert claim["verdict"] == "not shown"
    assert claim["numbers"]["escape epoch"]["mean"] is None


def test_what_was_not_run_is_not_judged(published):
    del published["measured"]["transfer"]
    claim = judged(published)["Transfer"]
    assert claim["verdict"] == "not run" and claim["numbers"] == {}
