import copy

import pytest

from keras_robust.study.replication.claims import CLAIMS
from keras_robust.study.replication.claims import Levels
from keras_robust.study.replication.claims import claims_of
from keras_robust.study.replication.recipes import RECIPES
from keras_robust.study.replication.running import judge
from keras_robust.study.replication.tables import number
from keras_robust.study.replication.tables import reading_text
from keras_robust.study.replication.training_sets import MODELS
from keras_robust.study.replication.verdicts import find_reading
from keras_robust.study.replication.verdicts import mean_and_deviation
from keras_robust.study.replication.verdicts import tally
from keras_robust.study.replication.verdicts import verdicts

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
                "0.25": {
                    "D_R train": 0.7733,
                    "D_R test": 0.6249,
                    "test": 0.4827,
                },
            },
            "leakage": {"chance": 0.1, "D_rand": 0.235, "D_det": 0.0681},
            "transfer": {
                "names": ["a", "b", "c", "d", "e"],
                "correlation": {"untargeted": 0.979},
            },
        },
    }


def judged(*runs, dataset="cifar10", **options):
    found = verdicts(
        CLAIMS,
        dict(enumerate(runs)),
        (0.25, 0.5),
        dataset=dataset,
        **options,
    )
    return {claim["name"]: claim for claim in found}


def standard(clean, *attacked):
    """A run of a standard model, attacked at L2 0.25, 0.5, 1."""
    l2, linf = (
        {f"pgd-{name}": 0.01 * attacked[i] for i, name in enumerate(names)}
        for names in (("l2-0.25", "l2-0.5", "l2-1"), ("linf-a", "linf-b"))
    )
    accuracy = {"clean": 0.01 * clean, **l2, **linf, "pgd-linf-0.0314": 0}
    return {"evaluation": {"standard": {"accuracy": accuracy}}}


def test_the_published_figures_show_every_claim(published):
    for claim in judged(published).values():
        assert claim["verdict"] == "shown", claim


def test_a_claim_must_hold_in_every_seed(published):
    other = copy.deepcopy(published)
    # As standard, and 19 points.
    other["evaluation"]["D_R"]["accuracy"]["pgd-l2-0.25"] = 0.0449 + 0.19
    claim = judged(published, other)["Robust features"]
    assert claim["verdict"] == "same direction, smaller"
    assert claim["seeds"] == 1
    # One seed in the other direction.
    opposite = copy.deepcopy(other)
    opposite["evaluation"]["D_R"]["accuracy"]["pgd-l2-0.25"] = 0.04
    claims = judged(published, other, opposite)
    assert claims["Robust features"]["verdict"] == "not shown"
    number = claim["numbers"]["D_R, attacked"]
    assert number["mean"] == pytest.approx((48.2 + 23.49) / 2)
    assert number["deviation"] == pytest.approx(17.47, abs=0.01)


@pytest.mark.parametrize(
    ("name", "model", "attack", "value"),
    [
        ("Price of robustness", "adversarial", "clean", 0.96),
        ("Adversarial training", "adversarial", "pgd-l2-0.25", 0.04),
        ("Robust features", "D_R", "pgd-l2-0.25", 0.04),
        ("Robust features in L-infinity", "D_R", "pgd-linf-0.00931", 0.11),
        ("Non-robust features", "D_NR", "clean", 0.12),
        ("Non-robust features", "D_NR", "pgd-l2-0.25", 0.08),
        ("Random targets", "D_rand", "clean", 0.12),
        ("Random targets", "D_rand", "pgd-l2-0.25", 0.6),
        ("The AM207 report's gap", "D_rand", "clean", 0.24),
        ("Shifted targets", "D_det", "y + 1", 0.44),
        ("Shifted targets, robust source", "D_det_robust", "clean", 0.66),
        ("Random targets, robust source", "D_rand_robust", "clean", 0.84),
        ("Beyond shortcuts", "D_other_shortcut", "clean", 0.68),
    ],
)
def test_what_does_not_show_a_claim(published, name, model, attack, value):
    published["evaluation"][model]["accuracy"][attack] = value
    found = judged(published)
    assert found[name]["verdict"] == "not shown"


@pytest.mark.parametrize(
    ("name", "model", "attack", "value"),
    [
        ("Adversarial training", "adversarial", "pgd-l2-0.25", 0.24),
        ("Robust features", "D_R", "pgd-l2-0.25", 0.05),
        ("Non-robust features", "D_NR", "clean", 0.29),
        ("Random targets", "D_rand", "clean", 0.24),
        ("Random targets", "D_rand", "pgd-l2-0.25", 0.06),
        ("The AM207 report's gap", "D_rand", "clean", 0.63),
        ("Random targets, robust source", "D_rand_robust", "clean", 0.8),
    ],
)
def test_what_is_smaller_than_a_claim(published, name, model, attack, value):
    published["evaluation"][model]["accuracy"][attack] = value
    claim = judged(published)[name]
    assert claim["verdict"] == "same direction, smaller"
    assert claim["numbers"] and claim["direction"]


def test_attacked_figures_are_read_where_half_is_lost():
    radii = (0.25, 0.5, 1.0)
    # As on digits: 75.8 is more than half of 91.5.
    reading = find_reading({0: standard(91.5, 75.8, 40.3, 2)}, radii)
    assert (reading.radius, reading.l2) == (0.5, "pgd-l2-0.5")
    # The L-infinity radius of equal volume, not the usual one.
    assert reading.linf == "pgd-linf-b"
    reading = find_reading({0: standard(95.25, 4.49, 0, 0)}, radii)
    assert (reading.radius, reading.linf) == (0.25, "pgd-linf-a")
    # Half is not less than half.
    assert find_reading({0: standard(80, 70, 40, 0)}, radii).radius == 1
    assert find_reading({0: standard(80, 70, 50, 40)}, radii) is None


def test_all_seeds_are_read_at_one_radius():
    """The seeds of results/digits, of which one keeps more than half."""
    runs = {
        0: standard(91.5, 75.8, 40.3, 0),
        1: standard(93.0, 74.9, 41.7, 0),
        2: standard(90.4, 77.7, 49.0, 0),
    }
    assert find_reading(runs, (0.25, 0.5, 1.0)).radius == 0.5
    assert find_reading({2: runs[2]}, (0.25, 0.5, 1.0)).radius == 1


def test_the_reading_decides_a_claim(published):
    for model, attacked in (("standard", 40.3), ("adversarial", 70.1)):
        accuracy = published["evaluation"][model]["accuracy"]
        accuracy.update({"clean": 0.91, "pgd-l2-0.25": 0.8})
        accuracy["pgd-l2-0.5"] = attacked / 100
    claim = judged(published)["Adversarial training"]
    assert claim["verdict"] == "shown"
    assert claim["numbers"]["standard, attacked"]["mean"] == 40.3


def test_without_a_radius_attacked_figures_decide_nothing(published):
    published["evaluation"]["standard"]["accuracy"]["pgd-l2-0.25"] = 0.9
    found = judged(published)
    for name in ("Adversarial training", "Where robustness is lost"):
        assert found[name]["verdict"] == "cannot be decided"
        assert "keeps half of its clean accuracy" in found[name]["reason"]
    assert found["Price of robustness"]["verdict"] == "shown"


def test_a_standard_model_that_gets_nothing_right_decides_nothing(published):
    accuracy = published["evaluation"]["standard"]["accuracy"]
    accuracy.update(dict.fromkeys(accuracy, 0.0))
    claim = judged(published)["Robust features"]
    assert claim["verdict"] == "cannot be decided"
    assert "gets no test image right" in claim["reason"]
    results = {"read_at": None, "runs": {0: published}, "recipe": {}}
    text = reading_text(results)
    assert "cannot be decided: the standard model gets no test" in text


def test_what_a_recipe_cannot_decide_is_not_judged(published):
    reasons = {"Plateau": "too easy", "Shifted targets": "too few pixels"}
    published["curves"]["D_rand"]["escape_epoch"] = 1
    found = judged(published, undecidable=reasons)
    # However its numbers come out, which are told.
    for name, reason in reasons.items():
        assert found[name]["verdict"] == "cannot be decided"
        assert found[name]["reason"] == reason and found[name]["numbers"]


def test_recipes_name_claims():
    names = {claim.name for claim in CLAIMS}
    for recipe in RECIPES.values():
        assert set(recipe.undecidable) <= names
    assert RECIPES["digits", "cpu"].undecidable
    for (_, preset), recipe in RECIPES.items():
        assert recipe.too_small == (preset == "smoke")


def test_claims_about_cifar10_on_cifar10_only(published):
    gap = "The AM207 report's gap"
    assert gap in judged(published)
    others = judged(published, dataset="digits")
    assert gap not in others and len(others) == len(CLAIMS) - 1


def test_what_is_too_small_is_not_judged(published):
    recipe = {"radii": (0.25, 0.5), "dataset": "digits", "undecidable": {}}
    found = judge({0: published}, {**recipe, "too_small": True})
    assert found["claims"] == []
    found = judge({0: published}, {**recipe, "too_small": False})
    assert len(found["claims"]) == len(CLAIMS) - 1
    assert found["read_at"] == {
        "radius": 0.25,
        "l2": "pgd-l2-0.25",
        "linf": "pgd-linf-0.00931",
    }


def test_tally():
    claims = [{"verdict": "shown"}] * 3 + [{"verdict": "not shown"}]
    assert tally(claims) == "3 of 4 claims shown; 1 not shown"
    claims += [
        {"verdict": verdict}
        for verdict in (
            "not run",
            "same direction, smaller",
            "cannot be decided",
        )
    ]
    assert tally(claims) == (
        "3 of 6 claims shown; 1 same direction, smaller; 1 not shown; "
        "1 cannot be decided; 1 not run"
    )


def test_measured_claims(published):
    published["measured"]["decomposition"]["0.25"]["D_R test"] = 0.8
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


@pytest.mark.parametrize(
    ("epochs", "text"),
    [
        ([3], "3"),
        ([2, 4], "3 ± 1.4"),
        ([3, None], "3 (1 of 2 seeds)"),
        ([None, 2, 3], "2.5 ± 0.71 (2 of 3 seeds)"),
        ([None], "never"),
        ([None, None], "never"),
    ],
)
def test_epochs_of_the_seeds_that_left_chance(published, epochs, text):
    runs = [copy.deepcopy(published) for _ in epochs]
    for run, epoch in zip(runs, epochs, strict=True):
        run["curves"]["D_rand"]["escape_epoch"] = epoch
    claim = judged(*runs)["Plateau"]
    numbers = claim["numbers"]
    assert number(numbers["escape epoch"], "escape epoch") == text
    # Others are known in all seeds, and have no more than they had.
    assert set(numbers["epochs"]) == {"mean", "deviation"}
    assert (claim["verdict"] == "shown") == (None not in epochs)


@pytest.mark.parametrize(
    ("targeted", "text"),
    [([None], "not known"), ([0.75, None], "0.75 (1 of 2 seeds)")],
)
def test_a_correlation_that_is_not_defined(published, targeted, text):
    runs = [copy.deepcopy(published) for _ in targeted]
    for run, value in zip(runs, targeted, strict=True):
        run["measured"]["transfer"]["correlation"]["targeted"] = value
    claim = judged(*runs)["Transfer"]
    assert claim["verdict"] == "shown"
    assert number(claim["numbers"]["targeted"], "targeted") == text


def test_what_is_not_finite_is_left_out():
    missing = {"mean": None, "deviation": None}
    assert mean_and_deviation([float("nan")] * 2) == missing
    assert mean_and_deviation([1.0, float("nan"), 3.0]) == {
        "mean": 2.0,
        "deviation": pytest.approx(2**0.5),
        "known": 2,
        "seeds": 3,
    }


def test_what_was_not_run_is_not_judged(published):
    del published["measured"]["transfer"]
    claim = judged(published, undecidable={"Transfer": "x"})["Transfer"]
    assert claim["verdict"] == "not run" and claim["numbers"] == {}
    assert claim["reason"] == ""


def test_transfer_may_be_smaller(published):
    published["measured"]["transfer"]["correlation"]["untargeted"] = 0.5
    claim = judged(published)["Transfer"]
    assert claim["verdict"] == "same direction, smaller"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        # Two points are on a line, whatever was learned.
        ({"names": ["a", "b"], "correlation": {"untargeted": 1.0}}, "two"),
        ({"correlation": {"untargeted": None}}, "all networks are fooled"),
    ],
)
def test_a_correlation_of_nothing_decides_nothing(published, changes, reason):
    published["measured"]["transfer"].update(changes)
    claim = judged(published)["Transfer"]
    assert claim["verdict"] == "cannot be decided"
    assert claim["reason"].startswith(reason) and claim["numbers"] == {}


def test_levels_for_any_number_of_classes():
    """As far between chance and 100 % as for ten classes."""
    ten = {claim.name: claim for claim in claims_of(10)}
    assert list(ten) == [claim.name for claim in CLAIMS]
    assert ten["Non-robust features"].rule.startswith("clean at least 30 %")
    level = Levels(100).at(30)
    assert (level - 1) / 99 == pytest.approx((30 - 10) / 90)
    hundred = {claim.name: claim for claim in claims_of(100)}
    numbers = {"D_rand, clean": 18.0, "D_rand, attacked": 0.0}
    assert hundred["Random targets"].holds(numbers)
    assert not ten["Random targets"].holds(numbers)
    # Chance is 1 %, so 4.5 % is learned.
    small = {"D_rand, clean": 4.5, "D_rand, attacked": 0.0}
    assert hundred["Random targets"].direction(small)
    assert not ten["Random targets"].direction(small)


def test_two_classes(published):
    recipe = {"radii": (0.25, 0.5), "dataset": "own data", "classes": 2}
    found = judge({0: published}, recipe)["claims"]
    undecided = {c["name"]: c for c in found if c["reason"]}
    assert "half of the labels" in undecided["Random targets"]["reason"]
    assert "Shifted targets" not in undecided


def test_a_set_of_ones_own_has_a_claim(published):
    recipe = {
        "radii": (0.25, 0.5),
        "dataset": "own data",
        "own_sets": [
            {"name": "D_low", "base": "D_low", "control": False},
            {"name": "D_nine", "base": "D_nine", "control": False},
            {"name": "D_nine_shortcut", "base": "D_nine", "control": True},
        ],
    }
    for name, clean in (
        ("D_low", 0.2),
        ("D_nine", 0.5),
        ("D_nine_shortcut", 0),
    ):
        published["evaluation"][name] = {"accuracy": {"clean": clean}}
    verdict = {
        claim["name"]: claim["verdict"]
        for claim in judge({0: published}, recipe)["claims"]
    }
    assert verdict["D_low teaches"] == "shown"
    assert verdict["D_nine beyond its control"] == "shown"
    assert "D_nine_shortcut teaches" not in verdict
    control = published["evaluation"]["D_nine_shortcut"]["accuracy"]
    control["clean"] = 0.6
    claims = judge({0: published}, recipe)["claims"]
    (claim,) = [c for c in claims if c["name"] == "D_nine beyond its control"]
    assert claim["verdict"] == "same direction, smaller"


def test_what_was_left_out_cannot_be_decided(published):
    del published["evaluation"]["D_NR"]
    claim = judged(published)["Non-robust features"]
    assert claim["verdict"] == "not run"
    reasons = {"D_NR": "the set D_NR was left out of this study"}
    claim = judged(published, left_out=reasons)["Non-robust features"]
    assert claim["verdict"] == "cannot be decided"
    assert claim["reason"] == reasons["D_NR"]


def test_a_network_of_ones_own_has_no_plateau(published):
    del published["curves"]["D_rand"]
    claim = judged(published)["Plateau"]
    assert claim["verdict"] == "cannot be decided"
    assert "not trained here" in claim["reason"]
