import keras
import numpy as np
import pytest
from keras import ops

import keras_robust as kr
from tests.helpers import mostly_slow


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return kr.models.small_cnn(filters=(8, 16))


@pytest.fixture(scope="module")
def images():
    (x, y), _ = kr.datasets.load("digits")
    return x[:40], y[:40]


def represent(model, x):
    view = kr.models.representation_view(model)
    return ops.convert_to_numpy(view(x, training=False))


def distances(model, a, b):
    difference = represent(model, a) - represent(model, b)
    return np.linalg.norm(difference, axis=-1)


def test_representations_meet_inside_the_box(model, images):
    x, _ = images
    transform = kr.Robustifier(model, steps=60, seed=0)
    x_r, details = transform(x, return_details=True)
    assert x_r.shape == x.shape and x_r.dtype == x.dtype
    assert x_r.min() >= 0 and x_r.max() <= 1
    start = x[details["start_index"]]
    np.testing.assert_allclose(
        details["distance_before"], distances(model, start, x), atol=1e-4
    )
    np.testing.assert_allclose(
        details["distance_after"], distances(model, x_r, x), atol=1e-4
    )
    assert details["distance_after"].mean() < 0.3 * np.mean(
        details["distance_before"]
    )


def test_steps_have_the_stated_length(model, images):
    x, _ = images
    start = np.full_like(x, 0.5)
    x_r = kr.Robustifier(model, step_size=0.05, steps=1)(x, start)
    moved = np.linalg.norm((x_r - start).reshape(len(x), -1), axis=1)
    np.testing.assert_allclose(moved, 0.05, rtol=1e-4)


def test_matched_images_stay(model, images):
    """Distance zero has no gradient, and must not give NaN."""
    x, _ = images
    np.testing.assert_array_equal(kr.Robustifier(model, steps=3)(x, x), x)


def test_starts_are_drawn_per_example_and_independently_of_the_label():
    from scipy.stats import chi2_contingency

    (x, y), _ = kr.datasets.load("digits")
    model = kr.models.small_cnn(filters=(4,))
    index = kr.Robustifier(model, seed=0).draw_index(len(x))
    assert len(np.unique(index)) > 0.55 * len(x)
    table = np.zeros((10, 10))
    np.add.at(table, (y, y[index]), 1)
    assert chi2_contingency(table).pvalue > 1e-3


@pytest.mark.compiles_much
def test_seed_and_batch_split(model, images):
    x, _ = images
    options = {"steps": 5, "seed": 3}
    whole = kr.Robustifier(model, **options)(x)
    split = kr.Robustifier(model, **options, batch_size=16)(x)
    np.testing.assert_allclose(split, whole, atol=1e-5)
    other = kr.Robustifier(model, steps=5, seed=4)(x)
    assert np.abs(other - whole).max() > 0.1


def test_polyak_steps_end_closer_than_steps_of_one_length(model, images):
    x, _ = images
    left = {}
    for optimizer in ("gradient_descent", "polyak"):
        made_by = kr.Robustifier(model, optimizer=optimizer, steps=60, seed=0)
        x_r, details = made_by(x, return_details=True)
        assert x_r.min() >= 0 and x_r.max() <= 1
        left[optimizer] = details["distance_after"].mean()
    assert left["polyak"] < left["gradient_descent"] / 2
    with pytest.raises(ValueError, match="optimizer.*Received"):
        kr.Robustifier(model, optimizer="adam")


def test_one_polyak_step_of_a_linear_representation(rng):
    """`m = min(0.1 r / ||grad r||, step_size)` along minus the gradient."""
    weights = rng.normal(size=(6, 4)).astype("float32")
    inputs = keras.Input((6,))
    h = keras.layers.Dense(4, use_bias=False)(inputs)
    linear = keras.Model(inputs, keras.layers.Dense(2)(h))
    linear.layers[1].set_weights([weights])
    x, start = rng.uniform(0.4, 0.6, (2, 3, 6)).astype("float32")
    difference = (start - x) @ weights
    r = np.linalg.norm(difference, axis=-1, keepdims=True)
    gradient = difference @ weights.T / r
    size = np.linalg.norm(gradient, axis=-1, keepdims=True)
    for most in (10.0, 1e-3):
        length = np.minimum(0.1 * r / size, most)
        expected = start - length * gradient / size
        moved = kr.Robustifier(
            linear, optimizer="polyak", steps=1, step_size=most
        )(x, start)
        np.testing.assert_allclose(moved, expected, atol=1e-6)


def test_noise_start(model, images):
    x, _ = images
    transform = kr.Robustifier(model, start="noise", steps=0, seed=0)
    noise = transform(x)
    assert abs(noise.mean() - 0.5) < 0.01
    assert 0.08 < noise.std() < 0.12


def test_data_sets_and_adversarial_models(model, images):
    x, y = images
    robust = kr.AdversarialModel(model, kr.PGDAttack())
    expected = kr.Robustifier(model, steps=3, seed=0)(x)
    x_r, labels = kr.Robustifier(robust, steps=3, seed=0)(
        kr.datasets.pipeline(x, y, batch_size=16)
    )
    np.testing.assert_allclose(x_r, expected, atol=1e-5)
    np.testing.assert_array_equal(labels, y)


@pytest.mark.compiles_much
def test_another_layer_and_fake_relu(model, images):
    x, _ = images
    start = np.full_like(x, 0.5)
    options = {"steps": 2}
    plain = kr.Robustifier(model, **options)(x, start)
    logits = kr.Robustifier(model, **options, layer="logits")(x, start)
    fake = kr.Robustifier(model, **options, fake_relu=True)(x, start)
    assert np.abs(logits - plain).max() > 1e-3
    assert np.abs(fake - plain).max() > 1e-3


def test_fake_relu_follows_later_training(images):
    x, _ = images
    model = kr.models.small_cnn(filters=(8,))
    transform = kr.Robustifier(model, steps=2, fake_relu=True)
    start = np.full_like(x, 0.5)
    model.set_weights([w + 0.1 for w in model.get_weights()])
    late = kr.Robustifier(model, steps=2, fake_relu=True)(x, start)
    np.testing.assert_allclose(transform(x, start), late, atol=1e-6)


def gated():
    """A network with a squeeze-and-excitation gate, without pooled features.

    Its last `Dense` layer belongs to the gate; a convolution classifies.
    """
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8, 1))
    h = keras.layers.Conv2D(8, 3)(inputs)
    h = keras.layers.ReLU(name="features")(h)
    gate = keras.layers.GlobalAveragePooling2D()(h)
    gate = keras.layers.Dense(4)(gate)
    gate = keras.layers.ReLU(name="gate")(gate)
    gate = keras.layers.Dense(8, activation="sigmoid")(gate)
    gate = keras.layers.Reshape((1, 1, 8))(gate)
    gated = keras.layers.Multiply(name="gated")([h, gate])
    h = keras.layers.Conv2D(10, 1)(gated)
    h = keras.layers.GlobalAveragePooling2D()(h)
    return keras.Model(inputs, h), keras.Model(inputs, gated)


@pytest.mark.compiles_much
def test_the_representation_is_what_the_classifying_layer_reads(images):
    x, _ = images
    model, view = gated()
    start = np.full_like(x, 0.5)
    transform = kr.Robustifier(model, steps=20)
    x_r, details = transform(x, start, return_details=True)
    for when, made in (("before", start), ("after", x_r)):
        apart = view.predict(made, verbose=0) - view.predict(x, verbose=0)
        apart = np.linalg.norm(apart.reshape(len(x), -1), axis=1)
        found = details[f"distance_{when}"]
        np.testing.assert_allclose(found, apart, rtol=1e-4)
    assert (details["distance_after"] < details["distance_before"]).all()
    named = kr.Robustifier(model, steps=20, layer="gated")(x, start)
    np.testing.assert_allclose(x_r, named, atol=1e-6)


def test_fake_relu_is_not_that_of_a_gate(images):
    x, _ = images
    model, _ = gated()
    copy = kr.models.fake_relu_copy(model)
    kinds = {layer.name: type(layer).__name__ for layer in copy.layers}
    assert (kinds["features"], kinds["gate"]) == ("FakeReLU", "ReLU")
    np.testing.assert_allclose(
        copy.predict(x, verbose=0), model.predict(x, verbose=0), atol=1e-6
    )


@pytest.mark.compiles_much
def test_a_changed_model_is_seen(images):
    """The representation of the layers that there are now."""
    x, _ = images
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(6, activation="tanh", name="first"),
            keras.layers.Dense(10),
        ]
    )
    transform = kr.Robustifier(model, steps=3)
    start = np.full_like(x, 0.5)
    before = transform(x, start)
    np.testing.assert_allclose(
        before, kr.Robustifier(model, steps=3, layer="first")(x, start)
    )
    model.pop()
    model.add(keras.layers.Dense(5, activation="tanh", name="second"))
    model.add(keras.layers.Dense(2))
    expected = kr.Robustifier(model, steps=3, layer="second")(x, start)
    np.testing.assert_allclose(transform(x, start), expected, atol=1e-6)
    assert np.abs(expected - before).max() > 1e-3
    assert transform.count_classes(x) == 2


def scaled_pair():
    """A network of pixels in [0, 1], and the same of pixels of 0 to 255."""
    keras.utils.set_random_seed(2)
    body = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(16, activation="tanh"),
            keras.layers.Dense(10),
        ]
    )
    inputs = keras.Input((8, 8, 1))
    h = keras.layers.Rescaling(1 / 255)(inputs)
    for layer in body.layers:
        h = layer(h)
    return body, keras.Model(inputs, h)


@pytest.mark.parametrize("value_range", ["auto", (0, 255)])
def test_steps_are_a_share_of_the_range(images, value_range):
    x = np.round(255 * images[0]) / 255
    unit, byte = scaled_pair()
    options = {"steps": 5, "seed": 3}
    transform = kr.Robustifier(byte, value_range=value_range, **options)
    assert transform.step_size == pytest.approx(25.5)
    assert transform.value_range == (0.0, 255.0)
    expected = kr.Robustifier(unit, **options)(np.float32(x))
    for given in (np.float32(255 * x), np.uint8(np.round(255 * x))):
        made = transform(given)
        assert made.dtype == "float32"
        np.testing.assert_allclose(made, 255 * expected, atol=0.02)
    again = kr.Robustifier.from_config(transform.get_config())
    assert again.step_size == transform.step_size


@pytest.mark.parametrize(
    "scaling",
    mostly_slow(["byte", ("standardized", 0.4, 0.5), "symmetric"], "byte"),
)
@pytest.mark.compiles_much
def test_images_in_the_unit_range_for_models_of_other_pixels(images, scaling):
    """Step and box are those of the images; the model gets its own pixels."""
    x, y = images
    scale, offset = {
        "byte": (255.0, 0.0),
        "symmetric": (2.0, -1.0),
    }.get(scaling, (2.0, -0.8))
    keras.utils.set_random_seed(5)
    plain = kr.models.small_cnn((8, 8, 1), filters=(4,))
    inputs = keras.Input((8, 8, 1))
    h = keras.layers.Rescaling(1 / scale, -offset / scale)(inputs)
    model = keras.Model(inputs, plain(h))
    options = {"steps": 3, "seed": 3}
    expected = kr.Robustifier(plain, **options)(x)
    transform = kr.Robustifier(model, scaling=scaling, **options)
    np.testing.assert_allclose(transform(x), expected, atol=1e-4)
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(transform)
    )
    # A configuration has no weights.
    again.model.set_weights(model.get_weights())
    np.testing.assert_allclose(again(x), expected, atol=1e-4)
    expected, t = kr.NonRobustifier(plain, **options)(x, y)
    made, targets = kr.NonRobustifier(model, scaling=scaling, **options)(x, y)
    np.testing.assert_allclose(made, expected, atol=1e-4)
    np.testing.assert_array_equal(targets, t)
    for kind in (kr.Robustifier, kr.NonRobustifier):
        with pytest.raises(ValueError, match="`value_range` must be"):
            kind(model, scaling=scaling, value_range=(0, 255))
        with pytest.raises(ValueError, match="scaling"):
            kind(model, scaling="bytes")


@pytest.mark.slow_on_jax
def test_an_integer_input(images):
    """The network sees whole numbers, so whole numbers are made."""
    x = np.uint8(np.round(255 * images[0]))
    unit, _ = scaled_pair()
    inputs = keras.Input((8, 8, 1), dtype="uint8")
    h = keras.layers.Rescaling(1 / 255)(inputs)
    flat, hidden, last = unit.layers
    view = keras.Model(inputs, hidden(flat(h)))
    model = keras.Model(inputs, last(view.output))
    transform = kr.Robustifier(model, steps=30, value_range="auto", seed=1)
    made, details = transform(x, return_details=True)
    np.testing.assert_array_equal(made, np.round(made))
    assert made.min() >= 0 and made.max() <= 255
    apart = view.predict(np.uint8(made), verbose=0) - view.predict(x, verbose=0)
    found = details["distance_after"]
    np.testing.assert_allclose(found, np.linalg.norm(apart, axis=1), atol=1e-4)
    assert found.mean() < 0.5 * details["distance_before"].mean()
    unit = kr.Robustifier(model, steps=30, scaling="byte", seed=1)
    # But for halves, whose rounding depends on the last bit.
    assert (np.abs(255 * unit(x) - made) < 1e-3).mean() > 0.98
    with pytest.raises(ValueError, match="whole numbers"):
        transform(images[0] * 200 + 0.3)


def test_a_fixed_batch_size(images):
    x, _ = images
    inputs = keras.Input(batch_shape=(16, 8, 8, 1))
    h = keras.ops.reshape(inputs, (16, 64))
    model = keras.Model(inputs, keras.layers.Dense(3)(h))
    made = kr.Robustifier(model, steps=200, seed=1)(x)
    # The representation is the image.
    np.testing.assert_allclose(made, x, atol=0.1)


def test_one_of_several_outputs(images):
    x, _ = images
    keras.utils.set_random_seed(3)
    inputs = keras.Input((8, 8, 1))
    flat = keras.layers.Flatten()(inputs)
    first, second = (
        keras.layers.Dense(4, activation="tanh", name=name)(flat)
        for name in ("a", "b")
    )
    outputs = {
        "first": keras.layers.Dense(3)(first),
        "second": keras.layers.Dense(5)(second),
    }
    model = keras.Model(inputs, outputs)
    start = np.full_like(x, 0.5)
    options = {"steps": 2, "output": "second"}
    transform = kr.Robustifier(model, **options)
    named = kr.Robustifier(model, **options, layer="b")
    np.testing.assert_allclose(transform(x, start), named(x, start), atol=1e-6)
    assert transform.count_classes(x) == 5
    with pytest.raises(ValueError, match="`output` must choose.*'second'"):
        kr.Robustifier(model)
    with pytest.raises(ValueError, match="output='third'"):
        kr.Robustifier(model, output="third")


def test_errors(model, images):
    x, _ = images
    transform = kr.Robustifier(model, steps=1)
    for arguments in ((x * 255,), (x, x[:3]), (x, 2 * x - 1)):
        with pytest.raises(ValueError, match="Received"):
            transform(*arguments)
    with pytest.raises(ValueError, match="optimizer=an array of shape"):
        kr.Robustifier(model, optimizer=np.zeros(3))
    for wrong, message in (
        (x[0], "batch axis"),
        (x.repeat(3, -1), r"shape \(N, 8, 8, 1\)"),
        (x[:, :7], r"shape \(N, 8, 8, 1\)"),
    ):
        with pytest.raises(ValueError, match=message):
            transform(wrong)
    unbounded = (-np.inf, np.inf)
    for options in ({}, {"step_size": 1.0, "start": "noise"}):
        with pytest.raises(ValueError, match="value_range"):
            kr.Robustifier(model, value_range=unbounded, **options)
    with pytest.raises(ValueError, match="x.*must hold numbers"):
        transform(np.array(["a", "b"]))
    with pytest.raises(ValueError, match="start.*Received"):
        kr.Robustifier(model, start="zeros")
    with pytest.raises(ValueError, match="layer.*Received"):
        kr.Robustifier(model, layer="nowhere")


def test_configuration(model):
    transform = kr.Robustifier(
        model, steps=7, start="noise", seed=1, optimizer="polyak"
    )
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(transform)
    )
    assert (again.steps, again.start, again.seed) == (7, "noise", 1)
    assert again.optimizer == "polyak"
    assert again.model.count_params() == model.count_params()
