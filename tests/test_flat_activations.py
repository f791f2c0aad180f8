"""Activations that hide gradients, and those that only look like it."""

import keras
import numpy as np
import pytest
from adaptive_layers import KWinners
from adaptive_layers import MeanSparse
from keras import layers
from keras import ops

from keras_robust import backend
from keras_robust.classifier import Classifier
from keras_robust.classifier import find_flat_activations
from keras_robust.classifier.flat_activations import PassesFlat


@keras.saving.register_keras_serializable("tests")
class Threshold(layers.Layer):
    """A ReLU whose thresholds differ from unit to unit."""

    def build(self, shape):
        self.least = self.add_weight(
            name="least", shape=shape[1:], initializer="random_normal"
        )

    def call(self, x):
        return ops.maximum(x, self.least)


@keras.saving.register_keras_serializable("tests")
class Block(layers.Layer):
    """Layers with weights that keep the shape."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(6, activation="relu")

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        return self.dense(KWinners(0.2)(x))


def adapted():
    layer = MeanSparse(0.5)
    layer.build((None, 6))
    layer.adapt(np.random.default_rng(0).normal(size=(500, 6)))
    return layer


def winners(x):
    return KWinners(0.2)(x)


def shrink(x):
    return ops.sign(x) * ops.relu(ops.abs(x) - 0.5)


FLAT = {
    "mean sparse": adapted,
    "k winners": KWinners,
    "rounding": lambda: layers.Lambda(ops.round),
    "steps": lambda: layers.Lambda(lambda x: ops.round(x * 4) / 4),
    "sign": lambda: layers.Activation(ops.sign),
    "dead zone": lambda: layers.Lambda(shrink),
    "inside a dense layer": lambda: layers.Dense(7, activation=winners),
    "nested": lambda: keras.Sequential([keras.Input((6,)), KWinners(0.2)]),
}
HONEST = {
    "relu": layers.ReLU,
    "own relu": lambda: layers.Lambda(lambda x: ops.maximum(x, 0.0)),
    "dense relu": lambda: layers.Dense(7, activation="relu"),
    "thresholds": Threshold,
    "leaky": lambda: layers.Lambda(ops.leaky_relu),
    "gelu": lambda: layers.Lambda(ops.gelu),
    "silu": lambda: layers.Lambda(ops.silu),
    "hard swish": lambda: layers.Lambda(ops.hard_swish),
    "relu6": lambda: layers.Lambda(ops.relu6),
    "hard tanh": lambda: layers.Lambda(lambda x: ops.clip(x, -1, 1)),
    "softmax": lambda: layers.Lambda(ops.softmax),
    "dropout": lambda: layers.Dropout(0.5),
    "norm": layers.LayerNormalization,
    "no change": lambda: layers.Lambda(lambda x: x),
    "constant": lambda: layers.Lambda(lambda x: 0 * x),
    "quantization aware": lambda: layers.Lambda(
        lambda x: x + ops.stop_gradient(ops.round(4 * x) / 4 - x)
    ),
    "block": Block,
}


def network(layer):
    inputs = keras.Input((6,))
    h = layer(layers.Identity()(inputs))
    return keras.Model(inputs, layers.Dense(3)(h))


@pytest.fixture
def points(rng):
    return (1.5 * rng.normal(size=(40, 6))).astype("float32")


@pytest.mark.parametrize("name", FLAT)
def test_flat_activations_are_found(name, points):
    found = find_flat_activations(
        Classifier.of(network(FLAT[name]())), points, {}
    )
    assert len(found.pairs) == 1


@pytest.mark.parametrize("name", HONEST)
def test_saturation_is_none(name, points):
    model = network(HONEST[name]())
    assert find_flat_activations(Classifier.of(model), points, {}) is None


def test_max_pooling_that_keeps_the_shape_is_none(rng):
    inputs = keras.Input((6, 6, 2))
    h = layers.MaxPooling2D(3, strides=1, padding="same")(inputs)
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(h)))
    x = rng.normal(size=(20, 6, 6, 2)).astype("float32")
    assert find_flat_activations(Classifier.of(model), x, {}) is None


def test_gradients_that_pass():
    """Of a dead zone: 1 inside it as well; values as they are."""
    x = np.array([[-2.0, -0.4, 0.0, 0.3, 0.6, 3.0]], "float32")
    passes = PassesFlat(layers.Lambda(shrink))
    _, gradient = backend.value_and_gradient(
        lambda z: (ops.sum(passes(z), axis=-1), 0.0), ops.convert_to_tensor(x)
    )
    np.testing.assert_array_equal(ops.convert_to_numpy(gradient), 1)


def test_hidden_graphs_have_none(points):
    class Hidden(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, x):
            return self.dense(ops.round(x))

    model = Hidden()
    model(points)
    classifier = Classifier.of(model, from_logits=True)
    assert find_flat_activations(classifier, points, {}) is None
