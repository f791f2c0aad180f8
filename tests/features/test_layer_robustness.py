import keras
import numpy as np
import pytest

import keras_robust as kr
from keras_robust.features import layer_robustness


def linear_layer(weights):
    inputs = keras.Input((2, 2, 1))
    h = keras.layers.Dense(weights.shape[1])(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2)(h))
    model.layers[2].set_weights([weights, np.zeros(weights.shape[1])])
    return model


@pytest.fixture
def data(rng):
    x = rng.uniform(0.3, 0.7, (200, 2, 2, 1)).astype("float32")
    return x, np.arange(200) % 2


@pytest.mark.slow_on_jax
def test_a_linear_layer_moves_by_its_largest_singular_value(data):
    random = np.random.default_rng(1)
    weights = random.normal(size=(4, 3)).astype("float32")
    attack = kr.PGDAttack(epsilon=0.1, steps=40, step_size=0.05, seed=0)
    found = layer_robustness(linear_layer(weights), data, attack, verbose=0)
    f = data[0].reshape(200, 4) @ weights
    apart = np.linalg.norm(f[:, None] - f[None], axis=-1)
    expected = 0.1 * np.linalg.svd(weights)[1][0] / apart.sum() * 200 * 199
    # The pairs are a sample of all.
    assert found == pytest.approx(expected, rel=0.1)


def test_what_the_attack_cannot_move_is_robust(data):
    model = linear_layer(np.eye(4, dtype="float32"))
    nothing = kr.PGDAttack(epsilon=0.0, steps=3, seed=0)
    assert layer_robustness(model, data, nothing, verbose=0) < 1e-5
    small, large = (
        layer_robustness(
            model, data, kr.PGDAttack(epsilon=e, steps=10, seed=0), verbose=0
        )
        for e in (0.05, 0.1)
    )
    assert large == pytest.approx(2 * small, rel=0.02)


def test_one_image_is_refused(data):
    model = linear_layer(np.eye(4, dtype="float32"))
    with pytest.raises(ValueError, match="two images.*Received: 1"):
        layer_robustness(
            model, (data[0][:1], data[1][:1]), kr.PGDAttack(), verbose=0
        )
