import keras
import numpy as np
import pytest
from keras import ops

import keras_robust as kr


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
    _, index = kr.Robustifier(model, seed=0).draw_start(x)
    assert len(np.unique(index)) > 0.55 * len(x)
    table = np.zeros((10, 10))
    np.add.at(table, (y, y[index]), 1)
    assert chi2_contingency(table).pvalue > 1e-3


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


def test_errors(model, images):
    x, _ = images
    transform = kr.Robustifier(model, steps=1)
    for arguments in ((x * 255,), (x, x[:3]), (x, 2 * x - 1)):
        with pytest.raises(ValueError, match="Received"):
            transform(*arguments)
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
