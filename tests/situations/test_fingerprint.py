"""Fingerprints: another function another one, from disk the same one."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from keras_robust.classifier import Classifier
from tests.situations.helpers import dense
from tests.situations.helpers import digits
from tests.situations.helpers import network
from tests.situations.helpers import pgd
from tests.situations.test_state import CHANGES

# Every model is compiled anew.
pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "name",
    [
        *("activation", "last activation", "constant", "wiring"),
        *("quantization", "precision", "weights"),
    ],
)
def test_a_fingerprint_knows_the_function(name, tmp_path):
    """Another function, another fingerprint; from disk, the same one."""
    models = [made["model"] for made in CHANGES[name]()]
    first, second = (Classifier.of(one).fingerprint() for one in models)
    assert first != second
    for number, model in enumerate(models):
        path = tmp_path / f"{number}.keras"
        model.save(path)
        copy = keras.saving.load_model(path)
        assert Classifier.of(copy).fingerprint() == (first, second)[number]


class Factor:
    """Something callable that is no function."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, h):
        return h * self.factor


def of_source(text):
    """A class as a notebook makes it anew: the same name, other code."""
    names = {"layers": layers, "ops": ops}
    exec(text, names)
    return names["Mine"]


def closure(factor):
    def multiply(h):
        return h * factor

    return layers.Lambda(multiply)


def default(factor):
    def multiply(h, by=factor):
        return h * by

    return layers.Lambda(multiply)


def helper(text):
    return of_source(
        f"def change(h):\n    return {text}\n"
        "class Mine(layers.Layer):\n"
        "    def call(self, h):\n"
        "        return change(h)\n"
    )()


def inherited(text):
    return of_source(
        "class Base(layers.Layer):\n"
        f"    def change(self, h):\n        return {text}\n"
        "    def call(self, h):\n        return self.change(h)\n"
        "class Mine(Base):\n    pass\n"
    )()


FUNCTIONS = {
    "lambda": lambda: (
        layers.Lambda(lambda h: h * 2.0),
        layers.Lambda(lambda h: h * 3.0),
    ),
    "operation of a lambda": lambda: (
        layers.Lambda(lambda h: ops.sin(h)),
        layers.Lambda(lambda h: ops.cos(h)),
    ),
    "closure": lambda: (closure(2.0), closure(3.0)),
    "default": lambda: (default(2.0), default(3.0)),
    "callable": lambda: (
        layers.Lambda(Factor(2.0)),
        layers.Lambda(Factor(3.0)),
    ),
    "arguments": lambda: (
        layers.Lambda(lambda h, by: h * by, arguments={"by": 2.0}),
        layers.Lambda(lambda h, by: h * by, arguments={"by": 3.0}),
    ),
    "class": lambda: tuple(
        of_source(
            "class Mine(layers.Layer):\n"
            f"    def call(self, h):\n        return h * {factor}\n"
        )()
        for factor in (2.0, 3.0)
    ),
    "function that call uses": lambda: (helper("h * 2.0"), helper("h * 3.0")),
    "inherited method": lambda: (inherited("h * 2.0"), inherited("h * 3.0")),
    "activation": lambda: (
        layers.Activation(lambda h: h * 2.0),
        layers.Activation(lambda h: h * 3.0),
    ),
    "class attribute": lambda: tuple(
        of_source(
            "class Mine(layers.Layer):\n"
            f"    factor = {factor}\n"
            "    def call(self, h):\n        return h * self.factor\n"
        )()
        for factor in (2.0, 3.0)
    ),
    "array": lambda: tuple(
        Held(np.full((8, 8, 1), factor, "float32")) for factor in (2.0, 3.0)
    ),
    "tensor": lambda: tuple(
        Held(ops.full((8, 8, 1), factor)) for factor in (2.0, 3.0)
    ),
}


class Held(layers.Layer):
    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, h):
        return h * self.factor


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_fingerprint_knows_functions(name):
    """Code and constants of a user's own functions are part of the model."""
    models = [
        network(layer, layers.Flatten(), layers.Dense(3))
        for layer in FUNCTIONS[name]()
    ]
    _, (x, _) = digits()
    outputs = [model.predict(x, verbose=0) for model in models]
    assert np.abs(outputs[0] - outputs[1]).max() > 0.01
    first, second = (Classifier.of(one).fingerprint() for one in models)
    assert first != second


def test_a_fingerprint_is_the_same_for_the_same_code():
    """Names of layers are counted up from model to model; code is not."""
    for name in ("lambda", "closure", "class", "inherited method", "array"):
        first, second = (
            Classifier.of(
                network(FUNCTIONS[name]()[0], layers.Flatten(), layers.Dense(3))
            ).fingerprint()
            for _ in range(2)
        )
        assert first == second, name


def test_use_does_not_change_a_fingerprint(tmp_path):
    """Nor does saving, a prediction or a training step without effect."""
    (x, y), _ = digits()
    model = dense()
    before = Classifier.of(model).fingerprint()
    model.predict(x[:8], verbose=0)
    model(x[:8], training=True)
    pgd()(model, x[:8], y[:8], verbose=0)
    model.save(tmp_path / "model.keras")
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    model.fit(x[:8], y[:8], verbose=0)
    model.evaluate(x[:8], y[:8], verbose=0)
    assert Classifier.of(model).fingerprint() == before


def test_a_fingerprint_knows_the_options():
    model = dense(end="softmax")
    found = {
        Classifier.of(model, **options).fingerprint()
        for options in (
            {},
            {"from_logits": True},
            {"from_logits": False},
            {"scaling": "byte"},
            {"scaling": "symmetric"},
        )
    }
    assert len(found) == 5
    assert Classifier.of(model).fingerprint() in found
