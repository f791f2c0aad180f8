"""Attacks as arguments, immutable, and where they cannot work."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_robust as kr
from keras_robust.attacks import auto_attack
from tests.situations.helpers import dense
from tests.situations.helpers import digits
from tests.situations.helpers import fit_head
from tests.situations.helpers import network
from tests.situations.helpers import predicted
from tests.situations.helpers import refuse

# Every model is compiled anew.
pytestmark = pytest.mark.slow

# Attacks as arguments.


@pytest.mark.parametrize("pack", [lambda a: a, lambda a: [a], lambda a: (a,)])
def test_an_attack_or_a_list_of_attacks(pack):
    _, (x, y) = digits()
    model = dense()
    attack = kr.PGDAttack("l2", 0.5, steps=2, early_stop=True)
    report = kr.evaluate_robustness(
        model, (x, y), pack(attack), probe=False, verbose=0
    )
    (name,) = [
        key for key in report.correct if key not in ("clean", "worst case")
    ]
    found = attack(model, x, y, verbose=0)
    np.testing.assert_array_equal(
        report.correct[name], predicted(model, found) == y
    )


def test_a_list_of_attacks_of_one_kind():
    """Each has its own name and number."""
    _, (x, y) = digits()
    model = dense()
    attacks = [
        kr.PGDAttack("l2", epsilon, steps=2, early_stop=True)
        for epsilon in (0.2, 0.5)
    ]
    report = kr.evaluate_robustness(
        model,
        (x, y),
        attacks=[*attacks, "fgsm"],
        norm="linf",
        epsilon=0.05,
        probe=False,
        verbose=0,
    )
    assert len(report.correct) == 5
    left = sorted(
        float((predicted(model, one(model, x, y, verbose=0)) == y).mean())
        for one in attacks
    )
    counted = sorted(report.accuracy[key] for key in report.accuracy)
    for accuracy in left:
        assert min(abs(accuracy - other) for other in counted) < 1e-6


@pytest.mark.parametrize(
    "attacks",
    [kr.PGDAttack, [kr.PGDAttack], {"a": "b"}, 3, None, "best"],
)
def test_what_is_no_attack(attacks):
    _, (x, y) = digits()
    refuse(lambda: kr.evaluate_robustness(dense(), (x, y), attacks, verbose=0))


# Immutability.

MADE = {
    "PGD": lambda: kr.PGDAttack("linf", 0.1),
    "FGSM": lambda: kr.FGSMAttack("linf", 0.1),
    "APGD": lambda: kr.APGDAttack("linf", 0.1),
    "AutoAttack": lambda: kr.AutoAttack("linf", 0.1),
    "Square": lambda: kr.SquareAttack("linf", 0.1),
    "FAB": lambda: kr.FABAttack("linf", 0.1),
    "C&W": lambda: kr.CarliniWagnerL2(),
    "Spatial": lambda: kr.SpatialAttack(),
}


@pytest.mark.parametrize("name", MADE)
def test_attacks_do_not_change(name):
    attack = MADE[name]()
    before = attack.get_config()
    for key in ("epsilon", "batch_size", "steps", "something_new"):
        with pytest.raises(AttributeError, match="replace"):
            setattr(attack, key, 1)
    other = attack.replace(batch_size=7)
    assert type(other) is type(attack) and other.batch_size == 7
    assert attack.get_config() == before
    assert other.get_config() == {**before, "batch_size": 7}
    with pytest.raises(ValueError, match="Received"):
        attack.replace(batch_size=0)
    with pytest.raises((TypeError, ValueError)):
        attack.replace(radius=1)


def test_settings_of_an_attack_are_not_deleted():
    attack = kr.PGDAttack("linf", 0.1)
    with pytest.raises(AttributeError):
        del attack.epsilon
    assert attack.epsilon == 0.1


def test_arrays_of_an_attack_do_not_change():
    epsilon = np.array([0.1, 0.2])
    attack = kr.PGDAttack("linf", epsilon)
    epsilon[0] = 5
    assert attack.epsilon[0] == pytest.approx(0.1)
    with pytest.raises(ValueError):
        attack.epsilon[0] = 5


def test_a_replaced_radius_is_used():
    _, (x, y) = digits()
    model = dense()
    attack = kr.PGDAttack("linf", 0.02, steps=3)
    for epsilon in (0.02, 0.1):
        found = attack.replace(epsilon=epsilon)(model, x, y, verbose=0)
        assert np.abs(found - x).max() == pytest.approx(epsilon, rel=1e-4)


# The first gradient.

FLAT = {
    "rounded": lambda: [layers.Lambda(lambda h: ops.round(h * 4) / 4)],
    "integers": lambda: [
        layers.Lambda(
            lambda h: ops.cast(ops.cast(255 * h, "int32"), "float32") / 255
        )
    ],
    "stopped": lambda: [layers.Lambda(lambda h: ops.stop_gradient(h))],
    "steps": lambda: [layers.Lambda(lambda h: ops.cast(h > 0.5, "float32"))],
}


@pytest.mark.parametrize("name", FLAT)
def test_a_first_gradient_of_zero_is_said(name):
    """In a bare call by a warning, in a report by a flag without probes."""
    _, (x, y) = digits()
    stack = *FLAT[name](), layers.Flatten(), layers.Dense(10)
    model = fit_head(network(*stack))
    attack = kr.PGDAttack("linf", 0.1, steps=2)
    with pytest.warns(UserWarning, match="gradient"):
        found = attack(model, x, y, verbose=0)
    report = kr.evaluate_robustness(
        model, (x, y), {"pgd": attack}, probe=False, verbose=0
    )
    assert any("gradient" in str(flag) for flag in report.flags)
    np.testing.assert_array_equal(
        report.correct["pgd"], predicted(model, found) == y
    )
    curve = kr.robustness_curve(
        model,
        (x, y),
        norm="linf",
        epsilons=[0.1],
        attack=lambda epsilon: attack,
        probe=False,
        verbose=0,
    )
    assert any("gradient" in str(flag) for flag in curve.flags)
    matrix = kr.transfer_matrix(
        {"a": model},
        {"a": model},
        data=(x, y),
        attack=attack,
        targeted=False,
        probe=False,
        verbose=0,
    )
    assert any("gradient" in str(flag) for flag in matrix.flags)


def test_a_good_model_is_not_warned_of():
    _, (x, y) = digits()
    model = dense()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        kr.PGDAttack("linf", 0.1, steps=2)(model, x, y, verbose=0)
    report = kr.evaluate_robustness(
        model, (x, y), kr.PGDAttack("linf", 0.1), probe=False, verbose=0
    )
    assert not report.flags


# AutoAttack where Square cannot go.


@pytest.mark.parametrize("shape", [(8, 8), (64,), (2, 1, 1)])
def test_auto_attack_without_images(shape, monkeypatch):
    """It says so before it starts, and what applies runs."""
    stack = layers.Flatten(), layers.Dense(16, "relu"), layers.Dense(5)
    model = network(*stack, shape=shape)
    x = np.random.default_rng(0).random((20, *shape), "float32")
    head = model.layers[-1]
    head.bias.assign(
        ops.convert_to_numpy(head.bias) - model.predict(x, verbose=0).mean(0)
    )
    y = predicted(model, x)
    attack = kr.AutoAttack("linf", 0.05, steps=3, queries=4, targets=2, seed=0)
    searched = []
    search = auto_attack.search

    def note(part, *args, **kwargs):
        searched.append(part.name)
        return search(part, *args, **kwargs)

    monkeypatch.setattr(auto_attack, "search", note)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        with pytest.raises(UserWarning, match="(?i)square"):
            attack(model, x, y, verbose=0)
    assert not searched
    with pytest.warns(UserWarning, match="(?i)square"):
        found = attack(model, x, y, verbose=0)
    assert len(searched) >= 3
    assert np.abs(found - x).max() <= 0.05 * (1 + 1e-5)
    report = kr.evaluate_robustness(
        model, (x, y), {"auto": attack}, probe=False, verbose=0
    )
    assert any("square" in str(flag).lower() for flag in report.flags)
    np.testing.assert_array_equal(
        report.correct["auto"], predicted(model, found) == y
    )


# XLA without a kernel.


@pytest.mark.parametrize("interpolation", ["nearest", "bicubic", "bilinear"])
def test_a_layer_without_a_kernel(interpolation):
    """Falls back, or says which layer."""
    if keras.backend.backend() == "torch":
        pytest.skip("torch.compile is no XLA, and takes longer than a test")
    _, (x, y) = digits()
    stack = [layers.Resizing(16, 16, interpolation=interpolation, name="wide")]
    model = network(*stack, layers.Flatten(), layers.Dense(10))
    fit_head(model)
    attack = kr.PGDAttack("linf", 0.1, steps=2, jit_compile=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = attack(model, x, y, verbose=0)
    except ValueError as error:
        assert "wide" in str(error) and "Received" in str(error)
    else:
        expected = kr.PGDAttack("linf", 0.1, steps=2, jit_compile=False)
        np.testing.assert_allclose(
            found, expected(model, x, y, verbose=0), atol=1e-4
        )


def test_rotations_by_xla():
    if keras.backend.backend() == "torch":
        pytest.skip("torch.compile is no XLA, and takes longer than a test")
    _, (x, y) = digits()
    model = dense()
    found = kr.SpatialAttack(30, 1, 3, 1, jit_compile=True)(
        model, x, y, verbose=0
    )
    expected = kr.SpatialAttack(30, 1, 3, 1, jit_compile=False)(
        model, x, y, verbose=0
    )
    np.testing.assert_allclose(found, expected, atol=1e-4)
