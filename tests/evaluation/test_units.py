"""Images, models and radii in different units are flagged or refused."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_robust as kr


def network(scale=1 / 255, dtype="float32"):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((6, 6, 1), dtype=dtype),
            layers.Rescaling(scale),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )


@pytest.fixture(scope="module")
def pixels():
    random = np.random.default_rng(0)
    return random.integers(0, 256, (24, 6, 6, 1)).astype("float32")


def labels(model, x):
    return model.predict(x, verbose=0).argmax(-1)


def flags(model, x, y, attack, **options):
    report = kr.evaluate_robustness(
        model, (x, y), {"pgd": attack}, probe=False, verbose=0, **options
    )
    return {flag.name for flag in report.flags}


@pytest.mark.slow_on_jax
def test_bytes_are_not_flagged(pixels):
    model = network()
    y = labels(model, pixels)
    attack = kr.PGDAttack("linf", 8.0, steps=1, value_range=(0, 255))
    assert flags(model, pixels, y, attack) == set()
    unit = kr.PGDAttack("linf", 8 / 255, steps=1)
    assert flags(model, pixels / 255, y, unit, scaling="byte") == set()


@pytest.mark.compiles_much
def test_a_model_of_bytes_that_gets_the_unit_interval(pixels):
    model = network()
    y = labels(model, pixels)
    attack = kr.PGDAttack("linf", 8 / 255, steps=1)
    assert "range" in flags(model, pixels / 255, y, attack)
    assert "range" in flags(model, pixels / 255, y, attack, scaling="unit")
    bytes_attack = kr.PGDAttack("linf", 8.0, steps=1, value_range=(0, 255))
    assert "range" in flags(model, pixels / 255, y, bytes_attack)


@pytest.mark.slow_on_jax
def test_pixels_of_0_to_16(pixels):
    """As scikit-learn's digits are stored."""
    x = np.round(pixels / 255 * 16)
    model = network(1 / 16)
    y = labels(model, x)
    with pytest.raises(ValueError, match=r"value_range=\(0, 16\)"):
        flags(model, x, y, kr.PGDAttack("linf", 0.5, steps=1))
    own = kr.PGDAttack("linf", 0.5, steps=1, value_range=(0, 16))
    assert flags(model, x, y, own) == set()
    wrong = own.replace(value_range=(0, 255))
    assert "range" in flags(model, x, y, wrong)


@pytest.mark.slow_on_jax
def test_a_radius_between_two_integers(pixels):
    model = network(dtype="uint8")
    x = pixels.astype("uint8")
    y = labels(model, x)
    attack = kr.PGDAttack("linf", 0.3, steps=1, value_range=(0, 255))
    assert "radius" in flags(model, x, y, attack)
    with pytest.warns(UserWarning, match="nothing can move"):
        attack(model, x, y, verbose=0)
    assert flags(model, x, y, attack.replace(epsilon=8.0)) == set()


@pytest.mark.slow_on_jax
def test_a_refused_evaluation_leaves_no_trace(pixels):
    """A model of integers, and images that are none."""
    model = network(dtype="uint8")
    x = pixels.astype("uint8")
    y = labels(model, x)
    attack = kr.PGDAttack("linf", 16.0, steps=2, value_range=(0, 255))
    with pytest.raises(ValueError, match="whole numbers"):
        kr.evaluate_robustness(
            model, (pixels * 0.999, y), {"pgd": attack}, verbose=0
        )
    with pytest.raises(ValueError, match="whole numbers"):
        attack(model, pixels * 0.999, y, verbose=0)
    moved = attack(model, x, y, verbose=0)
    assert np.abs(moved.astype(int) - x.astype(int)).max() == 16
    # And what cannot be proven on such images is not given up.
    kr.evaluate_robustness(
        model,
        (pixels / 255, y),
        {"pgd": kr.PGDAttack("linf", 16 / 255, steps=2)},
        scaling="byte",
        probe=False,
        verbose=0,
    )
    again = attack(model, x, y, verbose=0)
    np.testing.assert_array_equal(again, moved)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "the labels"),
        (np.full(24, 0.25), "regression"),
        (np.ones((24, 3)), "several labels at once"),
    ],
)
def test_labels_that_are_no_classes_have_another_way(pixels, y, message):
    attack = kr.PGDAttack("linf", 8.0, steps=1, value_range=(0, 255))
    with pytest.raises(ValueError, match=message):
        attack(network(), pixels, y, verbose=0)


def test_flags_are_printed(pixels, capsys):
    model = network()
    report = kr.evaluate_robustness(
        model,
        (pixels / 255, labels(model, pixels)),
        {"pgd": kr.PGDAttack("linf", 8 / 255, steps=1)},
        probe=False,
        verbose=0,
    )
    report.table()
    assert "range" in capsys.readouterr().out


def test_scaling_of_pixels_in_neither_unit(rng):
    model = network(scale=1.0)
    x, y = rng.random((8, 6, 6, 1)), np.zeros(8, int)
    attack = kr.FGSMAttack(epsilon=0.1)
    for images in (16 * x, (16 * x).astype("int64"), (x > 0.5).astype("uint8")):
        with pytest.raises(ValueError, match="0 to 255"):
            kr.evaluate_robustness(
                model, (images, y), attack, scaling="unit", verbose=0
            )
