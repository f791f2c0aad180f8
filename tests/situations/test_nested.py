"""Subclasses of layers and models, models in models, layers called twice."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from tests.helpers import mostly_slow
from tests.situations.helpers import check
from tests.situations.helpers import network
from tests.situations.helpers import settle

# Every model is compiled anew.
pytestmark = pytest.mark.slow


class Dense2(layers.Dense):
    def call(self, inputs, training=None):
        return 2 * super().call(inputs, training=training) - 1


class Standardized(layers.Conv2D):
    """Weight standardization."""

    def call(self, inputs):
        kernel = self.kernel - ops.mean(self.kernel, axis=(0, 1, 2))
        return ops.nn.conv(inputs, kernel / (1 + ops.std(kernel)))


class Halved(layers.BatchNormalization):
    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=training, mask=mask) / 2 + inputs


class Threshold(layers.ReLU):
    def call(self, inputs):
        return ops.relu(inputs - 0.3)


class Skip(layers.Dropout):
    """Does something in inference as well."""

    def call(self, inputs, training=None):
        return super().call(inputs, training=training) * 0.3 - inputs**2


class Sorted(layers.Flatten):
    def call(self, inputs):
        return ops.sort(super().call(inputs), axis=-1)


class Scaled(layers.Rescaling):
    def call(self, inputs):
        return super().call(inputs) ** 2


class Noisy(layers.GaussianNoise):
    """Of this one nothing random is left in inference."""

    def call(self, inputs, training=None):
        return ops.tanh(inputs)


SUBCLASSES = {
    "dense": lambda: [layers.Flatten(), Dense2(16), layers.ReLU()],
    "dense and norm": lambda: [
        layers.Flatten(),
        Dense2(16),
        layers.BatchNormalization(),
        layers.ReLU(),
    ],
    "convolution": lambda: [
        Standardized(6, 3),
        layers.BatchNormalization(),
        layers.ReLU(),
    ],
    "norm": lambda: [layers.Conv2D(6, 3), Halved(), layers.ReLU()],
    "relu": lambda: [layers.Conv2D(6, 3), Threshold()],
    "dropout": lambda: [layers.Conv2D(6, 3), Skip(0.5)],
    "flatten": lambda: [Sorted()],
    "rescaling": lambda: [Scaled(2.0, -1.0), layers.Conv2D(6, 3, 2)],
    "noise": lambda: [layers.Conv2D(6, 3), Noisy(0.5)],
}


@pytest.mark.parametrize(
    "name", mostly_slow(SUBCLASSES, "dense and norm", "norm")
)
def test_subclasses_with_their_own_call(name):
    stack = *SUBCLASSES[name](), layers.Flatten(), layers.Dense(3)
    x = np.random.default_rng(0).random((24, 8, 8, 2), "float32")
    check(network(*stack, shape=(8, 8, 2)), x, epsilon=1.0)


class Mirrored(keras.Model):
    """A functional model whose `call` does something before."""

    def call(self, inputs, training=None, mask=None):
        return super().call(1 - inputs, training=training, mask=mask)


class Twice(keras.Sequential):
    def call(self, inputs, training=None, mask=None):
        return 2 * super().call(inputs, training=training, mask=mask) - 1


def body(outputs=3, shape=(8, 8, 2)):
    return network(
        layers.Conv2D(4, 3),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Flatten(),
        layers.Dense(outputs),
        shape=shape,
    )


def mirrored():
    inner = body()
    return Mirrored(inner.inputs[0], inner.outputs[0])


def doubled():
    return settle(Twice([keras.Input((8, 8, 2)), *body().layers]))


def nested_subclass():
    return network(layers.Rescaling(0.5), mirrored(), shape=(8, 8, 2))


def twice_nested():
    """Inside the inner one of two models."""
    inner = network(layers.Rescaling(2.0, -1.0), body(8), shape=(8, 8, 2))
    return network(inner, layers.ReLU(), layers.Dense(3), shape=(8, 8, 2))


def shared_model():
    """One nested model, called on two images."""
    inner, inputs = body(8), keras.Input((8, 8, 2))
    turned = inner(ops.flip(inputs, axis=1))
    h = layers.Concatenate()([inner(inputs), turned])
    return settle(keras.Model(inputs, layers.Dense(3)(h)))


def two_nested_models():
    inputs = keras.Input((8, 8, 2))
    h = layers.Subtract()([body(8)(inputs), body(8)(1 - inputs)])
    return settle(keras.Model(inputs, layers.Dense(3)(h)))


def shared_layer():
    inputs, layer = keras.Input((8, 8, 2)), layers.Dense(16, "tanh")
    h = layer(layer(layers.Dense(16)(layers.Flatten()(inputs))))
    return settle(keras.Model(inputs, layers.Dense(3)(h)))


def part_of_another():
    """A view that ends in the middle of a model, with a new head."""
    model = body()
    h = model.layers[-2].output
    return settle(keras.Model(model.inputs[0], layers.Dense(4)(h)), 3)


def called_again():
    """All layers of a model that was built before, on another Input."""
    inputs = h = keras.Input((8, 8, 2))
    for layer in body().layers:
        h = layer(h)
    return keras.Model(inputs, h)


def behind_a_lambda():
    inputs = keras.Input((8, 8, 2))
    h = layers.Lambda(lambda h: ops.flip(h, axis=1) ** 2)(inputs)
    return keras.Model(inputs, body()(h))


NESTED = [
    *(mirrored, doubled, nested_subclass, twice_nested, shared_model),
    *(two_nested_models, shared_layer, part_of_another, called_again),
    behind_a_lambda,
]


@pytest.mark.parametrize("make", mostly_slow(NESTED, mirrored, shared_model))
def test_models_in_models(make):
    x = np.random.default_rng(0).random((24, 8, 8, 2), "float32")
    check(make(), x, epsilon=1.0)
