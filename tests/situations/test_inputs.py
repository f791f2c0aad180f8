"""Ranges, integers, radii and boxes: what the pixels are and may become.

The right-hand sides are `model.predict`, closed forms of linear models, and
the same problem in other units.
"""

import keras
import numpy as np
import pytest
from keras import layers

import keras_robust as kr
from keras_robust.classifier import Classifier
from tests.situations.helpers import BYTE
from tests.situations.helpers import attack_of
from tests.situations.helpers import behind
from tests.situations.helpers import byte_network
from tests.situations.helpers import check_report
from tests.situations.helpers import digits
from tests.situations.helpers import doubts
from tests.situations.helpers import network
from tests.situations.helpers import predicted
from tests.situations.helpers import unit_network

# Every model is compiled anew.
pytestmark = pytest.mark.slow

# Integers.


@pytest.mark.parametrize("kind", ["array of floats", "same dtype"])
@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_a_model_with_an_integer_input(dtype, kind):
    """Images move by whole numbers, and the attack is as strong as ever."""
    _, (x, y) = digits()
    model = byte_network(dtype)
    x = np.rint(255 * x).astype("float32" if kind[0] == "a" else dtype)
    attack = kr.PGDAttack(
        "linf",
        12,
        steps=20,
        random_start=True,
        keep_best=True,
        early_stop=True,
        seed=0,
        value_range=BYTE,
    )
    found = attack(model, x, y, verbose=0)
    assert found.dtype == x.dtype and isinstance(found, np.ndarray)
    step = found.astype(float) - x
    assert 1 <= np.abs(step).max() <= 12
    np.testing.assert_array_equal(step, np.rint(step))
    assert found.min() >= 0 and found.max() <= 255
    check_integer_report(model, x, y, attack, found)


def check_integer_report(model, x, y, attack, found):
    report = kr.evaluate_robustness(
        model, (x, y), {"pgd": attack}, probe=False, verbose=0
    )
    right = {
        key: predicted(model, images) == y
        for key, images in {"clean": x, "pgd": found}.items()
    }
    for key, rows in right.items():
        np.testing.assert_array_equal(report.correct[key], rows)
    # The model of real numbers, attacked in real numbers.
    real = byte_network()
    floats = x.astype("float32")
    attacked = attack(real, floats, y, verbose=0)
    left = (predicted(real, attacked) == y).mean()
    assert right["pgd"].mean() == pytest.approx(left, abs=0.1)
    assert right["pgd"].mean() < right["clean"].mean() - 0.2


def test_bytes_for_a_model_of_real_numbers():
    """Images of dtype uint8 stay uint8, and are as wrong as reported."""
    _, (x, y) = digits()
    model = byte_network()
    x = np.rint(255 * x).astype("uint8")
    attack = attack_of(epsilon=12, value_range=BYTE)
    found = attack(model, x, y, verbose=0)
    assert found.dtype == "uint8"
    step = found.astype(int) - x
    assert 1 <= np.abs(step).max() <= 12
    check_integer_report(model, x, y, attack, found)


def test_a_radius_between_two_integers():
    """A ball of radius 12.7 around whole numbers is the one of radius 12."""
    _, (x, y) = digits()
    model = byte_network("uint8")
    x = np.rint(255 * x).astype("uint8")
    left = []
    for norm, epsilon in (("linf", 12), ("linf", 12.7), ("l2", 90.3)):
        attack = kr.PGDAttack(
            norm,
            epsilon,
            steps=20,
            early_stop=True,
            value_range=BYTE,
        )
        found = attack(model, x, y, verbose=0)
        step = found.astype(float) - x
        order = {"linf": np.inf, "l2": 2}[norm]
        length = np.linalg.norm(step.reshape(len(x), -1), order, axis=-1)
        assert 1 <= length.max() <= epsilon
        np.testing.assert_array_equal(step, np.rint(step))
        left.append((predicted(model, found) == y).mean())
    assert left[1] <= left[0] + 0.02


@pytest.mark.slow_on_jax
def test_training_a_model_with_an_integer_input():
    """What `evaluate` logs is the model's accuracy on attacked images."""
    (x, y), (test_x, test_y) = digits()
    model = byte_network("uint8")
    attack = kr.PGDAttack("linf", 12, steps=3, value_range=BYTE)
    robust = kr.AdversarialModel(model, attack)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    robust.compile(keras.optimizers.SGD(1e-5), loss)
    x, test_x = (np.rint(255 * a).astype("uint8") for a in (x, test_x))
    robust.fit(x[:64], y[:64], verbose=0)
    logged = robust.evaluate(test_x, test_y, verbose=0, return_dict=True)
    attacked = attack(model, test_x, test_y, verbose=0)
    right = (predicted(model, attacked) == test_y).mean()
    assert logged["robust_accuracy"] == pytest.approx(right, abs=0.07)
    assert right < (predicted(model, test_x) == test_y).mean() - 0.2


@pytest.mark.slow_on_jax
def test_a_curve_of_a_model_with_an_integer_input():
    _, (x, y) = digits()
    model = byte_network("uint8")
    x = np.rint(255 * x).astype("uint8")
    curve = kr.robustness_curve(
        model,
        (x, y),
        norm="linf",
        epsilons=[6, 12],
        attack=lambda epsilon: attack_of(epsilon=epsilon, value_range=BYTE),
        probe=False,
        verbose=0,
    )
    right = predicted(model, x) == y
    np.testing.assert_array_equal(curve.correct[0], right)
    for rows, epsilon in zip(curve.correct[1:], (6, 12), strict=True):
        attack = attack_of(epsilon=epsilon, value_range=BYTE)
        right &= predicted(model, attack(model, x, y, verbose=0)) == y
        np.testing.assert_array_equal(rows, right)
    assert curve.accuracy[2] < curve.accuracy[0] - 0.2
    assert not doubts(curve)


# Scaling.

SCALINGS = {"byte": (255.0, 0.0), "symmetric": (2.0, -1.0), "unit": (1.0, 0.0)}


@pytest.mark.parametrize("kind", ["float32", "uint8"])
@pytest.mark.parametrize("scaling", SCALINGS)
def test_scaling_is_the_model_behind_a_layer(scaling, kind):
    """Radii are shares of the range, whatever pixels the model wants."""
    _, (x, y) = digits()
    x = np.rint(255 * x).astype("uint8")
    unit = x.astype("float32") / 255
    scale, offset = SCALINGS[scaling]
    model = behind(layers.Rescaling(1 / scale, -offset / scale))
    images = x if kind == "uint8" else unit
    report = kr.evaluate_robustness(
        model,
        (images, y),
        attacks={"pgd": attack_of()},
        scaling=scaling,
        probe=False,
        verbose=0,
    )
    right = predicted(model, unit * scale + offset) == y
    np.testing.assert_array_equal(report.correct["clean"], right)
    plain = unit_network()
    attacked = attack_of()(plain, unit, y, verbose=0)
    left = (predicted(plain, attacked) == y).mean()
    assert report.accuracy["pgd"] == pytest.approx(left, abs=0.04)
    assert left < right.mean() - 0.2


def test_standardized_pixels():
    _, (x, y) = digits()
    mean, std = float(x.mean()), float(x.std())
    model = behind(layers.Rescaling(std, mean))
    report = kr.evaluate_robustness(
        model,
        (x, y),
        attacks={"pgd": attack_of()},
        scaling="standardized",
        probe=False,
        verbose=0,
    )
    right = predicted(model, (x - mean) / std) == y
    np.testing.assert_array_equal(report.correct["clean"], right)
    plain = unit_network()
    attacked = attack_of()(plain, x, y, verbose=0)
    left = (predicted(plain, attacked) == y).mean()
    assert report.accuracy["pgd"] == pytest.approx(left, abs=0.04)


def test_an_unknown_scaling():
    _, (x, y) = digits()
    with pytest.raises(ValueError, match="`scaling`.*byte.*Received"):
        kr.evaluate_robustness(
            unit_network(),
            (x, y),
            attacks={"pgd": attack_of()},
            scaling="bytes",
            verbose=0,
        )


@pytest.mark.parametrize("name", ["pgd", "fgsm", "apgd"])
def test_attacks_by_name_in_bytes(name):
    """By scaling and by range they are the attack on [0, 1]."""
    _, (x, y) = digits()
    x = np.rint(255 * x[:40]).astype("float32")
    y = y[:40]
    model, options = byte_network(), {"probe": False, "verbose": 0}
    ranged = kr.evaluate_robustness(
        model,
        (x, y),
        attacks=name,
        norm="linf",
        epsilon=12,
        value_range=BYTE,
        from_logits=True,
        **options,
    )
    scaled = kr.evaluate_robustness(
        model,
        (x / 255, y),
        attacks=name,
        norm="linf",
        epsilon=12 / 255,
        scaling="byte",
        **options,
    )
    unit = kr.evaluate_robustness(
        unit_network(),
        (x / 255, y),
        attacks=name,
        norm="linf",
        epsilon=12 / 255,
        **options,
    )
    for report in (ranged, scaled):
        np.testing.assert_array_equal(
            report.correct["clean"], predicted(model, x) == y
        )
        assert report.accuracy[name] == pytest.approx(
            unit.accuracy[name], abs=0.051
        )
        assert not doubts(report)


# The range that the model shows.


def test_the_range_is_found_from_rescaling():
    _, (x, y) = digits()
    for scale, offset in ((1 / 255, 0.0), (1 / 127.5, -1.0)):
        model = behind(layers.Rescaling(scale, offset))
        attack = attack_of(epsilon=12, value_range="auto")
        resolved = attack.resolve(Classifier.of(model))
        assert tuple(resolved.value_range) == BYTE
        images = (255 * x).astype("float32")
        found = attack(model, images, y, verbose=0)
        explicit = attack_of(epsilon=12, value_range=BYTE)
        np.testing.assert_allclose(
            found, explicit(model, images, y, verbose=0), atol=1e-3
        )


@pytest.mark.parametrize("where", ["nested", "second", "sequential", "none"])
def test_where_the_rescaling_may_stand(where):
    """In a nested model, behind a cast or a crop, or nowhere."""
    if where == "none":
        model, expected = unit_network(), (0.0, 1.0)
    else:
        expected = BYTE
        first = layers.Rescaling(1 / 255)
        model = {
            "nested": lambda: behind(
                keras.Sequential([keras.Input((8, 8, 1)), first])
            ),
            "second": lambda: behind(layers.Resizing(8, 8), first),
            "sequential": lambda: network(first, *unit_network().layers),
        }[where]()
    attack = kr.PGDAttack("linf", value_range="auto")
    resolved = attack.resolve(Classifier.of(model))
    assert tuple(resolved.value_range) == expected


def test_the_range_by_name_and_of_bytes():
    _, (x, y) = digits()
    model = byte_network("uint8")
    x = np.rint(255 * x).astype("uint8")
    report = kr.evaluate_robustness(
        model,
        (x, y),
        attacks="pgd",
        norm="linf",
        epsilon=12,
        value_range="auto",
        probe=False,
        verbose=0,
    )
    assert report.accuracy["pgd"] < report.accuracy["clean"] - 0.2
    np.testing.assert_array_equal(
        report.correct["clean"], predicted(model, x) == y
    )


def test_reports_of_bytes_are_the_models_own():
    _, (x, y) = digits()
    x = np.rint(255 * x).astype("float32")
    attack = attack_of(epsilon=12, value_range=BYTE)
    check_report(byte_network(), x, y, attack)
