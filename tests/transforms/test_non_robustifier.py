import pickle

import keras
import numpy as np
import pytest
from keras import ops
from scipy.stats import chisquare

import keras_robust as kr
from tests.helpers import norms


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


def next_but_one(y, num_classes, random):
    del random
    return (y + 2) % num_classes


def drawn_even(y, num_classes, random):
    return 2 * random.integers(0, num_classes // 2, y.shape)


def test_targets_by_a_function(source):
    model, x, y = source
    transform = kr.NonRobustifier(
        model, next_but_one, steps=1, seed=3, config_name="next_but_one"
    )
    _, t = transform(x, y, verbose=0)
    np.testing.assert_array_equal(t, (y + 2) % 10)
    assert t.dtype == "int32" and transform.config_name == "next_but_one"
    assert kr.NonRobustifier(model, next_but_one).config_name == "custom"
    assert kr.NonRobustifier(model, "other").config_name == "other"
    # Drawn by the seed, and then the same in batches.
    transform = kr.NonRobustifier(model, drawn_even, steps=1, seed=3)
    _, t = transform(x, y, verbose=0)
    assert set(t) == {0, 2, 4, 6, 8}
    np.testing.assert_array_equal(transform(x, y, verbose=0)[1], t)
    control = kr.Shortcut(10, drawn_even, seed=3, config_name="control")
    np.testing.assert_array_equal(control(x, y)[1], t)
    assert control.config_name == "control"

    def beyond(y, num_classes, random):
        del random
        return y + num_classes

    with pytest.raises(ValueError, match="`target` must lie in 0 ... 9"):
        kr.NonRobustifier(model, beyond, steps=1)(x, y, verbose=0)


def test_targets_by_a_function_travel(source):
    """Through pickle, and through Keras where the function is registered."""
    model, _, y = source
    register = keras.saving.register_keras_serializable("test_targets")
    transform = kr.NonRobustifier(
        model, register(next_but_one), seed=3, config_name="mine"
    )
    restored = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(transform)
    )
    for again in (pickle.loads(pickle.dumps(transform)), restored):
        assert again.config_name == "mine"
        np.testing.assert_array_equal(
            again.draw_targets(y, 10), next_but_one(y, 10, None)
        )
    again = pickle.loads(pickle.dumps(kr.Shortcut(10, "other", seed=1)))
    assert again.get_config() == kr.Shortcut(10, "other", seed=1).get_config()


def test_labels_of_all_forms(source):
    model, x, y = source
    transform = kr.NonRobustifier(model, steps=1, seed=3)
    x_n, t = transform(x, y, verbose=0)
    for labels in (y[:, None], np.eye(10)[y], y.astype(object), y.tolist()):
        again = transform(x, labels, verbose=0)
        np.testing.assert_array_equal(again[1], t)
        np.testing.assert_allclose(again[0], x_n, atol=1e-6)


@pytest.mark.parametrize("value_range", ["auto", (0, 255)])
def test_radius_and_steps_are_shares_of_the_range(source, value_range):
    """Of pixels of 0 to 255: the same as of pixels in [0, 1]."""
    unit, x, y = source
    inputs = keras.Input((8, 8, 1))
    h = keras.layers.Rescaling(1 / 255)(inputs)
    byte = keras.Model(inputs, unit(h))
    options = {"steps": 10, "seed": 3}
    transform = kr.NonRobustifier(byte, value_range=value_range, **options)
    assert transform.epsilon == pytest.approx(127.5)
    assert transform.step_size == pytest.approx(25.5)
    assert transform.value_range == (0.0, 255.0)
    x = np.round(255 * x) / 255
    expected, t = kr.NonRobustifier(unit, **options)(np.float32(x), y)
    for given in (np.float32(255 * x), np.uint8(np.round(255 * x))):
        made, targets = transform(given, y)
        assert made.dtype == "float32"
        np.testing.assert_array_equal(targets, t)
        np.testing.assert_allclose(made, 255 * expected, atol=0.02)
    again = kr.NonRobustifier.from_config(transform.get_config())
    assert (again.epsilon, again.value_range) == (127.5, (0.0, 255.0))
    assert kr.Shortcut(10, value_range=(0, 255)).epsilon == 127.5
    with pytest.raises(ValueError, match="value_range='auto'"):
        kr.Shortcut(10, value_range="auto")


def test_steps_are_a_fifth_of_the_radius(source):
    """As 0.1 is of 0.5 in the paper; a tenth of the range leaves the ball."""
    model, x, y = source
    for norm, epsilon in (("l2", 0.5), ("linf", 8 / 255)):
        transform = kr.NonRobustifier(model, norm=norm, epsilon=epsilon)
        assert transform.step_size == pytest.approx(epsilon / 5)
    radii = np.linspace(0.01, 0.1, len(x)).astype("float32")
    transform = kr.NonRobustifier(
        model, "other", norm="linf", epsilon=radii, steps=1, seed=0
    )
    moved = np.abs(transform(x, y, verbose=0)[0] - x).max((1, 2, 3))
    np.testing.assert_allclose(moved, radii / 5, rtol=1e-3)


def test_a_single_output_is_two_classes(source):
    _, x, y = source
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(1, activation="sigmoid"),
        ]
    )
    # No second class among the labels.
    y = np.zeros(len(y), int)
    _, t = kr.NonRobustifier(model, "deterministic", steps=1)(x, y, verbose=0)
    np.testing.assert_array_equal(t, np.ones(len(y)))
    for labels in (y[:, None], np.eye(2)[y], y > 4):
        again = kr.NonRobustifier(model, "deterministic", steps=1)
        np.testing.assert_array_equal(again(x, labels, verbose=0)[1], t)


@pytest.mark.slow_on_jax
def test_a_changed_model_is_seen(source):
    """Classes and features are those of the layers that there are now."""
    _, x, y = source
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    transform = kr.NonRobustifier(
        model, "deterministic", steps=5, epsilon=4.0, step_size=None
    )
    transform(x, y, verbose=0)
    model.pop()
    model.add(keras.layers.Dense(3))
    x_n, t, details = transform(x, y % 3, verbose=0, return_details=True)
    np.testing.assert_array_equal(t, (y % 3 + 1) % 3)
    says = model.predict(x_n, verbose=0).argmax(-1)
    np.testing.assert_array_equal(details["success"], says == t)
    assert details["success"].mean() > 0.9


def test_a_model_of_two_inputs_is_refused():
    first, second = keras.Input((4, 4, 1), name="a"), keras.Input((3,))
    h = keras.layers.Concatenate()([keras.layers.Flatten()(first), second])
    two = keras.Model([first, second], keras.layers.Dense(3)(h))
    for kind in (kr.NonRobustifier, kr.Robustifier):
        with pytest.raises(ValueError, match=r"one input.*\['a', "):
            kind(two)


def test_errors(source):
    model, x, y = source
    with pytest.raises(ValueError, match="target=an array of shape") as error:
        kr.NonRobustifier(model, target=y)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"target=a list of 2 elements"):
        kr.Shortcut(10, target=["random", "other"])
    with pytest.raises(ValueError, match="target.*Received"):
        kr.NonRobustifier(model, target="next")
    transform = kr.NonRobustifier(model, steps=1)
    with pytest.raises(ValueError, match=r"shape \(N, 8, 8, 1\)"):
        transform(x.repeat(3, -1), y)
    with pytest.raises(ValueError, match="numpy.unique"):
        transform(x, y.astype(str))
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
