"""Images of whole numbers: what counts is found on the grid, in the ball."""

import keras
import numpy as np
import pytest

import keras_robust as kr
from keras_robust.attacks.grid import rounded_to_grid
from tests.helpers import norms

BYTE = (0, 255)


def make_waves(dtype="uint8"):
    """A network whose decision boundaries are a few whole numbers away."""
    random = np.random.default_rng(0)
    weights = random.normal(0, 0.3, (4, 24))
    weights -= weights.mean(0)
    inputs = keras.Input((4,), dtype=dtype)
    h = keras.layers.Rescaling(0.1)(inputs)
    h = keras.layers.Dense(24, activation="tanh")(h)
    model = keras.Model(inputs, keras.layers.Dense(4)(h))
    bias = random.normal(0, 2, 24) - 12.75 * weights.sum(0)
    model.set_weights([weights, bias, random.normal(size=(24, 4)), np.zeros(4)])
    x = random.integers(0, 256, (100, 4)).astype("uint8")
    return model, x, model.predict(x, verbose=0).argmax(-1)


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_rounding_leaves_the_length(norm):
    """Rounding all towards the image would shorten them by a fifth."""
    random = np.random.default_rng(0)
    images = np.full((3, 3072), 128.0, "float32")
    step = random.normal(size=images.shape)
    epsilon = np.array([40.0, 127.5, 300.0], "float32")
    if norm == "l1":
        epsilon *= 60
    step *= (epsilon / norms(step, norm))[:, None]
    attack = kr.PGDAttack(norm, epsilon, value_range=BYTE)
    rows = np.array([2, 1])
    found = rounded_to_grid(attack, images, (images + step)[rows], 1.0, rows)
    moved = found.astype("float64") - images[rows]
    np.testing.assert_array_equal(moved, np.round(moved))
    assert (np.abs(moved - step[rows]) < 1).all()
    share = norms(moved, norm) / epsilon[rows]
    assert (share <= 1 + 1e-6).all() and (share > 0.98).all()
    short = norms(np.trunc(step[rows]), norm) / epsilon[rows]
    assert (short < 0.93).all()


@pytest.mark.parametrize("scaling", [None, "byte"])
@pytest.mark.parametrize("kind", [kr.PGDAttack, kr.HopSkipJumpAttack])
def test_a_box_between_whole_numbers(kind, scaling):
    """Ends of the box that are no whole numbers do not move what is inside."""
    model, x, y = make_waves()
    unit = 1.0 if scaling is None else 1 / 255
    x = np.clip(x, 20, 230)[:8]
    y = model.predict(x, verbose=0).argmax(-1)
    images = x if scaling is None else (x * unit).astype("float32")
    box = 19.5 * unit, 230.5 * unit
    attack = kind("linf", 8 * unit, value_range=box, seed=0)
    classifier = kr.Classifier.of(model, scaling=scaling)
    found = np.asarray(attack(classifier, images, y), "float64") / unit
    np.testing.assert_allclose(found, np.round(found), atol=1e-4)
    assert 0 < np.abs(found - x).max() <= 8 + 1e-4
    assert found.min() >= 19.5 and found.max() <= 230.5


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_parts_attack_what_rounding_leaves(norm):
    """What an earlier part broke between whole numbers alone is attacked on."""
    model, x, y = make_waves()
    attack = kr.AutoAttack(
        norm, 2.1, value_range=BYTE, steps=20, queries=1, targets=3, seed=0
    )
    with pytest.warns(UserWarning, match="leaves out"):
        found = attack.run(model, x, y, verbose=0, scored=True)
    broken = model.predict(found["x"], verbose=0).argmax(-1) != y
    assert 0.05 < broken.mean() < 0.6
    np.testing.assert_array_equal(found["success"], broken)
    np.testing.assert_array_equal(found["broken_by"] > 0, broken)


@pytest.mark.compiles_much
def test_a_first_success_that_rounding_undoes():
    """The attack goes on; it stopped there, with fewer found."""
    random = np.random.default_rng(1)
    inputs = keras.Input((1000,), dtype="uint8")
    h = keras.layers.Rescaling(1 / 255)(inputs)
    h = keras.layers.Dense(8, activation="tanh")(h)
    model = keras.Model(inputs, keras.layers.Dense(4)(h))
    weights = random.normal(0, 0.095, (1000, 8))
    bias = -weights.sum(0) / 2
    model.set_weights([weights, bias, random.normal(size=(8, 4)), np.zeros(4)])
    x = random.integers(0, 256, (100, 1000)).astype("uint8")
    y = model.predict(x, verbose=0).argmax(-1)
    found = {}
    for early in (False, True):
        attack = kr.APGDAttack(
            "l2", 16, steps=20, seed=0, value_range=BYTE, early_stop=early
        )
        result = attack.run(model, x, y, verbose=0, scored=True)
        found[early] = result["success"]
        broken = model.predict(result["x"], verbose=0).argmax(-1) != y
        np.testing.assert_array_equal(result["success"], broken)
    assert 0.1 < found[False].mean() < 0.8
    assert found[True][found[False]].all()


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_nearest_whole_numbers(norm):
    """Minimum-norm attacks find as near as without the grid, to rounding."""
    model, x, y = make_waves()
    real, _, _ = make_waves("float32")
    attack = kr.FMNAttack(norm, steps=40, value_range=BYTE)
    found = {
        name: kr.minimum_distance(
            each, (images, y), attack, probe=False, verbose=0
        ).distances
        for name, each, images in (
            ("whole", model, x),
            ("real", real, x.astype("float32")),
        )
    }
    assert np.isfinite(found["real"]).mean() > 0.8
    assert np.isfinite(found["whole"]).mean() > 0.8
    # Half a step in each of four features.
    rounding = {"l2": 1.0, "linf": 0.5}[norm]
    near = found["whole"] <= found["real"] + rounding + 1
    assert near.mean() > 0.8


@pytest.mark.parametrize(
    "attack",
    [
        kr.FABAttack("linf", steps=10, value_range=BYTE),
        kr.FABAttack("linf", 9, steps=10, value_range=BYTE, early_stop=True),
        kr.FMNAttack("l2", steps=30, value_range=BYTE),
        kr.FMNAttack("linf", steps=30, value_range=BYTE),
        kr.DDNAttack(steps=30, value_range=BYTE),
    ],
    ids=lambda attack: f"{attack.name} {attack.norm} {attack.epsilon}",
)
def test_a_nearest_point_that_rounding_undoes(attack):
    """A point of the grid further out is found, and reported as it is."""
    random = np.random.default_rng(0)
    weights = random.normal(size=(30, 2))
    inputs = keras.Input((30,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    model.set_weights([weights, -128 * weights.sum(0)])
    x = random.integers(100, 156, (200, 30)).astype("uint8")
    y = model.predict(x, verbose=0).argmax(-1)
    # Within reach of eight steps of every feature.
    normal = weights[:, 0] - weights[:, 1]
    near = np.abs((x - 128.0) @ normal) < 8 * np.abs(normal).sum()
    x, y = x[near], y[near]
    assert len(x) > 100
    result = attack.run(model, x, y, verbose=0, scored=True)
    broken = model.predict(result["x"], verbose=0).argmax(-1) != y
    assert broken.all()
    assert result["success"].all()
    moved = result["x"].astype("float64") - x
    if attack.norm == "linf":
        assert np.abs(moved).max() <= 9
    np.testing.assert_allclose(-result["loss"], norms(moved, attack.norm))
