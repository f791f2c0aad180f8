import keras
import numpy as np
import pytest
from conftest import norms
from keras import ops
from scipy.stats import chisquare

import keras_robust as kr


@pytest.fixture(scope="module")
def source():
    """A trained linear classifier of digits and its data."""
    (x, y), _ = kr.datasets.load("digits")
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.02),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(x, y, epochs=5, verbose=0)
    return model, x[:100], y[:100]


@pytest.mark.parametrize("target", ["random", "deterministic", "other"])
def test_images_reach_their_targets_inside_the_ball(source, target):
    model, x, y = source
    transform = kr.NonRobustifier(model, target, epsilon=2.0, steps=30, seed=0)
    x_n, t, details = transform(x, y, return_details=True)
    assert x_n.min() >= 0 and x_n.max() <= 1
    length = norms(x_n - x, "l2")
    assert (length <= 2 * (1 + 1e-6)).all()
    np.testing.assert_allclose(details["distance"], length, atol=1e-6)
    np.testing.assert_array_equal(details["original_label"], y)
    says = ops.convert_to_numpy(model(x_n)).argmax(-1)
    np.testing.assert_array_equal(details["success"], says == t)
    assert details["success"].mean() > 0.9
    if target == "deterministic":
        np.testing.assert_array_equal(t, (y + 1) % 10)
    if target == "other":
        assert (t != y).all()


def drawn(source, target, seed=0):
    model, _, _ = source
    y = np.arange(50_000) % 10
    return y, kr.NonRobustifier(model, target, seed=seed).draw_targets(y, 10)


def test_random_targets_are_uniform_over_all_classes(source):
    """AM207 drew from 0 to 8: its last class was never a target."""
    y, t = drawn(source, "random")
    assert set(t) == set(range(10))
    assert chisquare(np.bincount(t)).pvalue > 1e-4
    # t = y with probability 1 / C; standard deviation 0.0013.
    assert (t == y).mean() == pytest.approx(0.1, abs=0.006)


def test_other_targets_are_uniform_over_the_rest(source):
    y, t = drawn(source, "other")
    assert (t != y).all()
    assert chisquare(np.bincount((t - y) % 10)[1:]).pvalue > 1e-4


def test_seed_and_batch_split(source):
    model, x, y = source
    options = {"epsilon": 0.5, "steps": 3, "seed": 1}
    whole = kr.NonRobustifier(model, **options)(x, y)
    split = kr.NonRobustifier(model, **options, batch_size=32)(x, y)
    for ours, theirs in zip(split, whole, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert (drawn(source, "random", 2)[1] != drawn(source, "random")[1]).any()


def test_early_stop_stays_nearer(source):
    model, x, y = source
    moved = {}
    for stops in (False, True):
        made_by = kr.NonRobustifier(model, steps=30, seed=1, early_stop=stops)
        x_n, t, details = made_by(x, y, return_details=True)
        says = ops.convert_to_numpy(model(x_n, training=False)).argmax(-1)
        np.testing.assert_array_equal(says == t, details["success"])
        moved[stops] = details
    assert moved[True]["success"].sum() >= moved[False]["success"].sum()
    assert moved[True]["distance"].mean() < moved[False]["distance"].mean()


def test_data_sets(source):
    model, x, y = source
    transform = kr.NonRobustifier(model, steps=3, seed=1)
    batches = kr.datasets.pipeline(x, y, batch_size=32)
    for ours, theirs in zip(transform(batches), transform(x, y), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_errors(source):
    model, x, y = source
    with pytest.raises(ValueError, match="target.*Received"):
        kr.NonRobustifier(model, target="next")
    transform = kr.NonRobustifier(model, steps=1)
    for arguments in ((x,), (x * 255, y), (x, y + 5), (x, y[:3])):
        with pytest.raises(ValueError, match="Received"):
            transform(*arguments)


def test_configuration(source):
    transform = kr.NonRobustifier(source[0], "other", epsilon=0.3, seed=4)
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(transform)
    )
    assert (again.target, again.epsilon, again.seed) == ("other", 0.3, 4)
    assert again.attack.targeted
