"""Radii and boxes: shares of the range, one row of the input, doubtful."""

import numpy as np
import pytest
from keras import layers

import keras_robust as kr
from keras_robust.classifier import Classifier
from tests.helpers import make_linear
from tests.situations.helpers import BYTE
from tests.situations.helpers import attack_of
from tests.situations.helpers import behind
from tests.situations.helpers import byte_network
from tests.situations.helpers import digits
from tests.situations.helpers import doubts
from tests.situations.helpers import predicted
from tests.situations.helpers import unit_network

# Every model is compiled anew.
pytestmark = pytest.mark.slow

# Default radii.

DEFAULTS = {
    "FGSM": (kr.FGSMAttack, {}, 8 / 255),
    "PGD": (kr.PGDAttack, {}, 0.5),
    "APGD": (kr.APGDAttack, {"steps": 5, "seed": 0}, None),
    "Square": (kr.SquareAttack, {"queries": 20, "seed": 0}, None),
    "AutoAttack": (kr.AutoAttack, {}, 8 / 255),
}


@pytest.mark.parametrize("box", [BYTE, (-1.0, 1.0)])
@pytest.mark.parametrize("name", DEFAULTS)
def test_default_radii_are_shares_of_the_range(name, box):
    kind, options, share = DEFAULTS[name]
    model = Classifier.of(unit_network())
    unit = kind(**options).resolve(model).epsilon
    assert share is None or unit == pytest.approx(share)
    wide = kind(value_range=box, **options).resolve(model).epsilon
    assert wide == pytest.approx(unit * (box[1] - box[0]))


@pytest.mark.parametrize("name", ["FGSM", "PGD", "APGD"])
def test_default_attacks_are_the_same_in_other_units(name):
    """In units of 1/256, which rounding does not see."""
    _, (x, y) = digits()
    kind, options, _ = DEFAULTS[name]
    found = kind(**options)(unit_network(), x, y, verbose=0)
    wide = kind(value_range=(0.0, 256.0), **options)
    model = behind(layers.Rescaling(1 / 256))
    wide_found = wide(model, 256 * x, y, verbose=0)
    assert np.abs(found - x).max() > 8 / 255 - 1e-6
    np.testing.assert_allclose(wide_found / 256, found, atol=1e-5)


def test_defaults_on_bytes_raise_no_doubt():
    _, (x, y) = digits()
    attacks = {
        "fgsm": kr.FGSMAttack(value_range=BYTE),
        "pgd": kr.PGDAttack(value_range=BYTE, steps=3),
    }
    report = kr.evaluate_robustness(
        byte_network(), (255 * x, y), attacks, probe=False, verbose=0
    )
    unit = kr.evaluate_robustness(
        unit_network(),
        (x, y),
        attacks={"fgsm": kr.FGSMAttack(), "pgd": kr.PGDAttack(steps=3)},
        probe=False,
        verbose=0,
    )
    for key, accuracy in unit.accuracy.items():
        assert report.accuracy[key] == pytest.approx(accuracy, abs=0.04)
    assert not doubts(report) and not doubts(unit)


# Radii that were hardly meant.

DOUBTFUL = {
    "bytes on [0, 1]": ("linf", 8.0, (0.0, 1.0)),
    "half the box": ("linf", 0.5, (0.0, 1.0)),
    "shares on bytes": ("linf", 8 / 255, BYTE),
    "half the box of bytes": ("linf", 128.0, BYTE),
    "hardly anything": ("linf", 1e-4, (0.0, 1.0)),
    "hardly anything of L2": ("l2", 1e-5, (0.0, 1.0)),
    "L2 beyond the box": ("l2", 100.0, (0.0, 1.0)),
    "shares on symmetric pixels": ("linf", 1e-3, (-1.0, 1.0)),
}
SENSIBLE = {
    "8/255": ("linf", 8 / 255, (0.0, 1.0)),
    "bytes": ("linf", 8.0, BYTE),
    "half": ("l2", 0.5, (0.0, 1.0)),
    "a third": ("linf", 0.3, (0.0, 1.0)),
    "no box": ("linf", 8.0, (-np.inf, np.inf)),
}


@pytest.mark.parametrize("name", [*DOUBTFUL, *SENSIBLE])
def test_radii_that_were_hardly_meant(name):
    norm, epsilon, box = {**DOUBTFUL, **SENSIBLE}[name]
    _, (x, y) = digits()
    model = byte_network() if box == BYTE else unit_network()
    x = (x * box[1]).astype("float32")[:20] if box == BYTE else x[:20]
    attack = kr.PGDAttack(norm, epsilon, steps=1, value_range=box)
    report = kr.evaluate_robustness(
        model, (x, y[:20]), {"pgd": attack}, probe=False, verbose=0
    )
    assert bool(doubts(report)) == (name in DOUBTFUL), report.flags


def test_a_curve_doubts_its_radii_too():
    _, (x, y) = digits()
    curves = [
        kr.robustness_curve(
            unit_network(),
            (x[:20], y[:20]),
            norm="linf",
            epsilons=radii,
            attack=lambda epsilon: kr.PGDAttack("linf", epsilon, steps=1),
            probe=False,
            verbose=0,
        )
        for radii in ([0.05, 8.0], [0.02, 0.05])
    ]
    assert doubts(curves[0]) and not doubts(curves[1])


# One radius and one range for each feature.


def table():
    """A linear model of features, and rows of very different features."""
    random = np.random.default_rng(0)
    weights = random.normal(size=(6, 2)) / np.geomspace(0.1, 100, 6)[:, None]
    sizes = np.geomspace(0.1, 100, 6).astype("float32")
    x = (random.uniform(-1, 1, (40, 6)) * sizes).astype("float32")
    model = make_linear(weights)
    y = predicted(model, x)
    assert 0.2 < y.mean() < 0.8
    return model, x, y, sizes


def worst(model, x, y, epsilon, low, high):
    """The worst point of box and radii: the corner against the weights."""
    weights = model.get_weights()[0]
    slope = (weights[:, 1] - weights[:, 0])[None]
    direction = np.sign(slope) * np.where(y == 1, -1, 1)[:, None]
    return np.clip(x + epsilon * direction, low, high)


@pytest.mark.parametrize("kind", ["pgd", "fgsm"])
def test_one_radius_for_each_feature(kind):
    model, x, y, sizes = table()
    epsilon = 0.2 * sizes[None]
    epsilon[0, 2] = 0
    low, high = -1.05 * sizes, 1.05 * sizes
    options = {"epsilon": epsilon, "value_range": (low, high)}
    attack = {
        "pgd": lambda: kr.PGDAttack("linf", steps=4, **options),
        "fgsm": lambda: kr.FGSMAttack("linf", **options),
    }[kind]()
    expected = worst(model, x, y, epsilon, low, high)
    found = attack(model, x, y, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found[:, 2], x[:, 2])
    report = kr.evaluate_robustness(
        model, (x, y), {"it": attack}, probe=False, verbose=0
    )
    right = predicted(model, expected) == y
    np.testing.assert_array_equal(report.correct["it"], right)
    assert 0.05 < right.mean() < 0.95
    assert not doubts(report)


def test_one_range_for_each_feature_and_one_radius():
    model, x, y, sizes = table()
    low, high = -sizes, sizes
    attack = kr.PGDAttack("linf", 0.05, steps=4, value_range=(low, high))
    found = attack(model, x, y, verbose=0)
    expected = worst(model, x, y, 0.05, low, high)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="value_range.*Received"):
        attack(model, 2 * x, y, verbose=0)


def test_a_row_of_an_image():
    """A frame that may move more than the middle."""
    _, (x, y) = digits()
    model = unit_network()
    epsilon = np.full((1, 8, 8, 1), 0.2, "float32")
    epsilon[:, 2:6, 2:6] = 0.01
    attack = attack_of(epsilon=epsilon)
    found = attack(model, x, y, verbose=0)
    assert (np.abs(found - x) <= epsilon * (1 + 1e-5) + 1e-7).all()
    assert np.abs(found - x)[:, 0].max() > 0.05
    report = kr.evaluate_robustness(
        model, (x, y), {"pgd": attack}, probe=False, verbose=0
    )
    np.testing.assert_array_equal(
        report.correct["pgd"], predicted(model, found) == y
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda sizes: kr.PGDAttack(
            "linf", 0.2 * sizes[None, :3], value_range=(-200, 200)
        ),
        lambda sizes: kr.PGDAttack(
            "l2", 0.2 * sizes[None], value_range=(-200, 200)
        ),
        lambda sizes: kr.PGDAttack(
            "linf", -0.2 * sizes[None], value_range=(-200, 200)
        ),
        lambda sizes: kr.PGDAttack("linf", 0.1, value_range=(sizes, -sizes)),
        lambda sizes: kr.PGDAttack(
            "linf", 0.1, value_range=(-2 * sizes[:4], 2 * sizes[:4])
        ),
    ],
)
def test_a_row_that_does_not_fit(make):
    model, x, y, sizes = table()
    with pytest.raises(ValueError, match="Received"):
        make(sizes)(model, x, y, verbose=0)


def test_no_box():
    """A table that was standardized outside has no natural range."""
    model, x, y, _ = table()
    box = (-np.inf, np.inf)
    attack = kr.PGDAttack("linf", 0.3, steps=4, value_range=box)
    found = attack(model, x, y, verbose=0)
    expected = worst(model, x, y, 0.3, *box)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    report = kr.evaluate_robustness(
        model, (x, y), {"pgd": attack}, probe=False, verbose=0
    )
    np.testing.assert_array_equal(
        report.correct["pgd"], predicted(model, expected) == y
    )
