"""Code of a user's own may read anything: the number is what it gives now."""

import collections
import dataclasses

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_robust as kr
from keras_robust.classifier import Classifier
from keras_robust.classifier.freshness import runs_user_code

ATTACK = kr.PGDAttack("linf", 0.03, steps=1)


def network(*last):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((6,)), layers.Dense(5), *last])


def images(count=16):
    return np.random.default_rng(0).random((count, 6), dtype="float32")


def own_labels(model, x):
    outputs = model(ops.convert_to_tensor(x), training=False)
    return ops.convert_to_numpy(outputs).argmax(-1)


@dataclasses.dataclass(slots=True)
class Slots:
    value: float


class Settings:
    value = 1.0


class Times(layers.Layer):
    """Multiplies by a number that it finds in an unusual place."""

    shared = 1.0

    def __init__(self, place, **kwargs):
        super().__init__(**kwargs)
        self.place = place
        self.sign_constraint = 1.0
        self.history = [1.0]
        self.slots = Slots(1.0)
        self.line = collections.deque([1.0])
        self.large = np.ones((200, 200))

    def call(self, h):
        return h * PLACES[self.place][0](self)


PLACES = {
    "name of Keras's": (
        lambda layer: layer.sign_constraint,
        lambda layer: setattr(layer, "sign_constraint", -1.0),
    ),
    "history": (
        lambda layer: layer.history[0],
        lambda layer: layer.history.__setitem__(0, -1.0),
    ),
    "slots": (
        lambda layer: layer.slots.value,
        lambda layer: setattr(layer.slots, "value", -1.0),
    ),
    "deque": (
        lambda layer: layer.line[0],
        lambda layer: layer.line.__setitem__(0, -1.0),
    ),
    "large array": (
        lambda layer: float(layer.large[5, 5]),
        lambda layer: layer.large.__setitem__((5, 5), -1.0),
    ),
    "another class": (
        lambda layer: Settings.value,
        lambda layer: setattr(Settings, "value", -1.0),
    ),
    "its class": (
        lambda layer: Times.shared,
        lambda layer: setattr(Times, "shared", -1.0),
    ),
}


# One by default on every backend, two where compiling is quick.
SLOW = ((), pytest.mark.slow_on_jax, pytest.mark.slow)


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(place, marks=SLOW[min(number, 2)])
        for number, place in enumerate(PLACES)
    ],
)
@pytest.mark.compiles_much
def test_what_a_layer_reads_may_change(place):
    x, layer = images(), Times(place)
    model = network(layer)
    kr.evaluate_robustness(
        model, (x, own_labels(model, x)), {"pgd": ATTACK}, verbose=0
    )
    PLACES[place][1](layer)
    y = own_labels(model, x)
    report = kr.evaluate_robustness(
        model, (x, y), {"pgd": ATTACK}, probe=False, verbose=0
    )
    assert report.accuracy["clean"] == 1.0
    moved = ATTACK(model, x, y, verbose=0)
    np.testing.assert_array_equal(
        report.correct["pgd"], own_labels(model, moved) == y
    )


def test_what_a_lambda_reads_may_change():
    """A dictionary, and a variable that no layer owns."""
    x, box, factor = images(), {"factor": 1.0}, keras.Variable(1.0)
    model = network(
        layers.Lambda(lambda h: h * box["factor"]),
        layers.Lambda(lambda h: h * factor),
    )
    classifier = Classifier.of(model)

    def answers():
        classifier.check(x)
        return classifier.predict_labels(x)

    np.testing.assert_array_equal(answers(), own_labels(model, x))
    box["factor"] = -1.0
    np.testing.assert_array_equal(answers(), own_labels(model, x))
    factor.assign(-1.0)
    np.testing.assert_array_equal(answers(), own_labels(model, x))


def test_representations_are_those_of_now():
    x, box = images(), {"factor": 1.0}
    model = network(layers.Lambda(lambda h: h * box["factor"]), layers.Dense(3))
    invert = kr.Robustifier(model, steps=0, layer=model.layers[1].name)
    for factor in (1.0, 3.0):
        box["factor"] = factor
        _, details = invert(
            x, start=x[::-1].copy(), verbose=0, return_details=True
        )
        view = keras.Model(model.inputs, model.layers[1].output)
        one, other = (
            ops.convert_to_numpy(view(ops.convert_to_tensor(part)))
            for part in (x, x[::-1].copy())
        )
        np.testing.assert_allclose(
            details["distance_before"],
            np.linalg.norm(one - other, axis=1),
            rtol=1e-4,
        )


class NumPyNoise(layers.Layer):
    def call(self, h):
        noise = np.random.normal(size=5).astype("float32")
        return h + ops.convert_to_tensor(noise)


class Alternating(layers.Layer):
    sign = 1.0

    def call(self, h):
        Alternating.sign *= -1.0
        return h * Alternating.sign


class GlobalNoise(layers.Layer):
    def call(self, h):
        return h + keras.random.normal(ops.shape(h))


@pytest.mark.parametrize("layer", [NumPyNoise, Alternating, GlobalNoise])
def test_randomness_that_keras_does_not_know(layer):
    if layer is GlobalNoise and keras.backend.backend() == "jax":
        pytest.skip("Keras refuses it in compiled functions of JAX.")
    x = images()
    model = network(layer())
    classifier = Classifier.of(model)
    classifier.check(x)
    assert classifier.is_randomized(x)
    report = kr.evaluate_robustness(
        model, (x, own_labels(model, x)), {"pgd": ATTACK}, verbose=0
    )
    assert "randomized" in {flag.name for flag in report.flags}


@pytest.mark.slow_on_jax
def test_nan_is_not_randomness():
    x = images()
    model = network(layers.Lambda(lambda h: ops.log(h)))
    assert not Classifier.of(model).is_randomized(x)
    report = kr.evaluate_robustness(
        model, (x, np.zeros(16, int)), {"pgd": ATTACK}, verbose=0
    )
    names = {flag.name for flag in report.flags}
    assert "nan outputs" in names and "randomized" not in names


def test_calling_twice_leaves_the_variables():
    """Also those that a layer of one's own changes in inference."""

    class Counting(layers.Layer):
        def build(self, shape):
            self.calls = self.add_weight(
                shape=(), initializer="zeros", trainable=False
            )

        def call(self, h):
            self.calls.assign(self.calls + 1)
            return h

    x = images()
    model = network(Counting())
    before = float(ops.convert_to_numpy(model.layers[-1].calls))
    assert not Classifier.of(model).is_randomized(x)
    assert float(ops.convert_to_numpy(model.layers[-1].calls)) == before


@pytest.mark.slow_on_jax
def test_models_of_keras_alone_are_not_looked_at():
    own = network(layers.Activation(lambda h: h * 2))
    assert runs_user_code(own)
    assert runs_user_code(network(Times("history")))
    assert runs_user_code(network(layers.Dense(3, activation=lambda h: h)))
    wrapped = layers.TimeDistributed(Times("history"))
    assert runs_user_code(network(layers.Reshape((5, 1)), wrapped))
    for model in (
        kr.models.small_cnn(),
        kr.models.cifar_resnet(8),
        network(layers.BatchNormalization(), layers.Dense(3, "gelu")),
        network(layers.ReLU(), layers.Dense(2, kernel_regularizer="l2")),
    ):
        assert not runs_user_code(model)


def test_arguments_that_a_call_needs():
    class Tempered(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(4)

        def call(self, h, temperature):
            return self.dense(h) / temperature

    model, x = Tempered(), images()
    model(x, temperature=2.0)
    with pytest.raises(ValueError, match="alone.*Received.*temperature"):
        ATTACK(model, x, np.zeros(16, int), verbose=0)
