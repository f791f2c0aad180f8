import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_robust as kr
from keras_robust.models.folded import folded


def randomize(model, seed=0):
    """Weights and statistics that are nobody's defaults."""
    random = np.random.default_rng(seed)
    for variable in model.variables:
        if "seed" in variable.name:
            continue
        value = random.normal(size=variable.shape, scale=0.5)
        if "variance" in variable.name or "gamma" in variable.name:
            value = np.abs(value) + 0.1
        variable.assign(value)
    return model


def plain(norm_options=None, **options):
    inputs = keras.Input((8, 8, 3))
    h = layers.Rescaling(2.0, -1.0)(inputs)
    h = layers.Conv2D(4, 3, padding="same", **options)(h)
    h = layers.BatchNormalization(**(norm_options or {}))(h)
    h = layers.Dropout(0.5)(layers.ReLU()(h))
    h = layers.Flatten()(h)
    h = layers.BatchNormalization()(layers.Dense(6)(h))
    return keras.Model(inputs, layers.Dense(3)(ops.relu(h)))


def sequential():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, strides=2, use_bias=False),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )


NETWORKS = {
    "plain": plain,
    "no scale": lambda: plain({"scale": False}, use_bias=False),
    "no center": lambda: plain({"center": False}, dilation_rate=2),
    "sequential": sequential,
    "behind a layer": lambda: keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Rescaling(0.5), sequential()]
    ),
    "resnet": lambda: kr.models.cifar_resnet(8, 4, 3, (8, 8, 3)),
    "bottleneck": lambda: kr.models.resnet50(3, (8, 8, 3), width=2),
    "bfloat16": lambda: plain(dtype="mixed_bfloat16"),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_same_outputs_without_batch_norm(name, rng):
    model = randomize(NETWORKS[name]())
    twin = folded(model)
    x = rng.random((5, 8, 8, 3)).astype("float32")
    expected, found = (
        ops.convert_to_numpy(m(x, training=False)) for m in (model, twin)
    )
    tolerance = 2e-2 if name == "bfloat16" else 1e-5
    assert abs(expected - found).max() < tolerance * abs(expected).max()
    assert not twin.variables


def test_weights_are_read_at_every_call(rng):
    model = randomize(sequential())
    twin = folded(model)
    x = rng.random((5, 8, 8, 3)).astype("float32")
    before = ops.convert_to_numpy(twin(x, training=False))
    randomize(model, seed=1)
    after = ops.convert_to_numpy(twin(x, training=False))
    expected = ops.convert_to_numpy(model(x, training=False))
    assert abs(before - after).max() > 0.1
    np.testing.assert_allclose(after, expected, rtol=1e-4, atol=1e-4)


def test_other_readers_of_a_convolution_keep_it(rng):
    inputs = keras.Input((8, 8, 3))
    raw = layers.Conv2D(3, 3, padding="same")(inputs)
    h = layers.BatchNormalization()(raw) + raw
    second = layers.Conv2D(3, 3, padding="same")(h)
    h = layers.BatchNormalization()(second)
    outputs = layers.Dense(3)(layers.Flatten()(h))
    model = randomize(keras.Model(inputs, outputs))
    x = rng.random((5, 8, 8, 3)).astype("float32")
    expected = ops.convert_to_numpy(model(x, training=False))
    found = ops.convert_to_numpy(folded(model)(x, training=False))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    # The model's own output counts as a reader too.
    view = keras.Model(inputs, [raw, layers.BatchNormalization()(raw)])
    assert folded(view) is None


def test_what_cannot_be_folded_is_left_alone():
    inputs = keras.Input((8, 8, 3))
    shared = layers.Conv2D(3, 3, padding="same")
    norm = layers.BatchNormalization()
    twice = keras.Model(inputs, norm(shared(shared(inputs))))
    assert folded(twice) is None
    activated = layers.Conv2D(3, 3, activation="relu")(inputs)
    activated = layers.BatchNormalization()(activated)
    assert folded(keras.Model(inputs, activated)) is None
    across = layers.Conv2D(3, 3)(inputs)
    across = layers.BatchNormalization(axis=1)(across)
    assert folded(keras.Model(inputs, across)) is None

    class Own(keras.Model):
        def call(self, x):
            return x

    model = Own()
    model(np.zeros((1, 8, 8, 3), "float32"))
    assert folded(model) is None


def test_the_model_itself_stays_as_it_was(rng):
    model = randomize(plain())
    before = model.get_weights()
    output = model.layers[-1].output
    folded(model)(rng.random((2, 8, 8, 3)).astype("float32"), training=False)
    assert model.layers[-1].output is output
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
