"""Models that change between two attacks: every change is seen.

The second attack with the same object must be a fresh attack on a fresh copy.
"""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_robust as kr
from keras_robust.classifier import Classifier
from tests.situations.helpers import DIGITS
from tests.situations.helpers import check_report
from tests.situations.helpers import dense_network
from tests.situations.helpers import digits
from tests.situations.helpers import fit_head
from tests.situations.helpers import labels_of
from tests.situations.helpers import network
from tests.situations.helpers import outputs_of
from tests.situations.helpers import predicted
from tests.situations.helpers import reloaded

# Every model is compiled anew.
pytestmark = pytest.mark.slow


@keras.saving.register_keras_serializable("situations")
class Shift(layers.Layer):
    """A layer whose `call` reads plain attributes."""

    def __init__(self, by=0.0, **kwargs):
        super().__init__(**kwargs)
        self.by = by

    def call(self, h):
        return h + self.by * ops.square(h)

    def get_config(self):
        return {**super().get_config(), "by": self.by}


def changeable():
    """A network with something of everything that can be changed in place."""
    model = network(
        layers.Rescaling(2.0, -0.5),
        layers.Flatten(),
        layers.Dense(32),
        layers.BatchNormalization(),
        layers.LeakyReLU(negative_slope=0.1),
        Shift(0.1),
        layers.Dense(24),
        layers.Activation("relu"),
        layers.Dropout(0.5),
        layers.Dense(10),
    )
    return fit_head(model)


def layer_of(model, kind, number=0):
    return [one for one in model.layers if isinstance(one, kind)][number]


def pop_and_add(model):
    model.pop()
    model.add(layers.Dense(12, name="new_head"))
    fit_head(model, classes=12)


def add(model):
    model.add(layers.Dense(10, name="behind"))


def add_norm(model):
    model.add(layers.BatchNormalization(name="behind"))
    random = np.random.default_rng(1)
    model.layers[-1].set_weights(
        [random.uniform(0.2, 2.0, 10) for _ in range(4)]
    )


def lora(model):
    layer = layer_of(model, layers.Dense, 1)
    layer.enable_lora(2)
    random = np.random.default_rng(2)
    shape = tuple(layer.lora_kernel_b.shape)
    layer.lora_kernel_b.assign(random.normal(size=shape))


def set_weights(model):
    random = np.random.default_rng(3)
    layer = layer_of(model, layers.Dense)
    layer.set_weights([random.normal(size=w.shape) for w in layer.weights])


def assign_one(model):
    bias = layer_of(model, layers.Dense, -1).bias
    bias.assign(bias + ops.convert_to_tensor(np.arange(10.0), "float32"))


def statistics(model):
    layer_of(model, layers.BatchNormalization).moving_mean.assign(
        np.linspace(-2, 2, 32)
    )


def fit(model):
    (x, y), _ = digits()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss)
    model.fit(x[:64], y[:64], epochs=2, batch_size=32, verbose=0)


def quantize(mode):
    return lambda model: model.quantize(mode)


def change(kind, name, value, number=0):
    """Sets an attribute of a layer."""
    return lambda model: setattr(layer_of(model, kind, number), name, value)


CHANGES = {
    "set_weights": set_weights,
    "assign one variable": assign_one,
    "statistics": statistics,
    "fit": fit,
    "pop": lambda model: model.pop(),
    "pop and add": pop_and_add,
    "add": add,
    "add a norm": add_norm,
    "int8": quantize("int8"),
    "int4": quantize("int4"),
    "int8 of one layer": lambda model: layer_of(model, layers.Dense).quantize(
        "int8"
    ),
    "lora": lora,
    "activation of a dense layer": change(
        layers.Dense, "activation", keras.activations.tanh
    ),
    "activation of the head": change(
        layers.Dense, "activation", keras.activations.softmax, -1
    ),
    "activation": change(
        layers.Activation, "activation", keras.activations.sigmoid
    ),
    "dtype policy": change(layers.Dense, "dtype_policy", "mixed_bfloat16"),
    "frozen norm": change(layers.BatchNormalization, "trainable", False),
    "epsilon of the norm": change(layers.BatchNormalization, "epsilon", 2.0),
    "scale": change(layers.Rescaling, "scale", -1.0),
    "offset": change(layers.Rescaling, "offset", 0.5),
    "slope": change(layers.LeakyReLU, "negative_slope", 0.9),
    "attribute of ones own": change(Shift, "by", -0.9),
    "dropout": change(layers.Dropout, "rate", 0.9),
    "model frozen": lambda model: setattr(model, "trainable", False),
}
# Of these the model's function is the same as before.
UNCHANGED = ("frozen norm", "dropout", "model frozen")
# Attacks climb logits, so another activation behind them changes nothing.
SAME_ATTACK = (*UNCHANGED, "activation of the head")
# Rounded to few bits, where another order of sums may round otherwise.
COARSE = ("dtype policy", "int8", "int4", "int8 of one layer")


@pytest.mark.slow_on_jax
@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_model_is_attacked_as_it_is_now(name, tmp_path):
    """The second attack is that of a fresh attack on a fresh copy."""
    _, (x, _) = digits()
    model = changeable()
    attack = kr.PGDAttack("l2", 0.5, steps=3, early_stop=True)
    clean = outputs_of(model, x)
    before = attack(model, x, clean.argmax(-1), verbose=0)
    CHANGES[name](model)
    copy = reloaded(model, tmp_path)
    moved = outputs_of(copy, x)
    y = predicted(copy, x)
    same = moved.shape == clean.shape and np.allclose(moved, clean, atol=1e-3)
    assert same == (name in UNCHANGED)
    after = attack(model, x, y, verbose=0)
    fresh = kr.PGDAttack("l2", 0.5, steps=3, early_stop=True)
    expected = fresh(copy, x, y, verbose=0)
    if name in SAME_ATTACK:
        np.testing.assert_allclose(after, before, atol=1e-5)
    else:
        assert np.abs(after - before).max() > 1e-3
    tolerance = 0.02 if name in COARSE else 1e-4
    assert np.abs(after - expected).mean() <= tolerance * 0.1
    if name not in COARSE:
        np.testing.assert_allclose(after, expected, atol=tolerance)
    report = kr.evaluate_robustness(
        model, (x, y), {"pgd": attack}, probe=False, verbose=0
    )
    for key, images in {"clean": x, "pgd": after}.items():
        np.testing.assert_array_equal(
            report.correct[key], predicted(copy, images) == y
        )


@pytest.mark.parametrize("name", ["activation", "int8", "pop and add"])
def test_a_changed_model_inside_another_one(name, tmp_path):
    """The change is made in a nested model, which the outer one only calls."""
    _, (x, y) = digits()
    inner = changeable()
    inputs = keras.Input(DIGITS)
    model = keras.Model(inputs, inner(inputs))
    attack = kr.PGDAttack("l2", 0.5, steps=3, early_stop=True)
    before = attack(model, x, y, verbose=0)
    CHANGES[name](inner)
    copy = reloaded(model, tmp_path)
    assert np.abs(outputs_of(copy, x) - outputs_of(model, x)).max() < 1e-3
    after = attack(model, x, y, verbose=0)
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_array_equal(
        kr.evaluate_robustness(
            model, (x, y), {"pgd": attack}, probe=False, verbose=0
        ).correct["pgd"],
        predicted(copy, after) == y,
    )


def test_changed_and_changed_back():
    """The first answer comes back with the first model."""
    _, (x, y) = digits()
    model = dense_network()
    attack = kr.PGDAttack("l2", 0.5, steps=2)
    layer = model.layers[1]
    first = attack(model, x, y, verbose=0)
    layer.activation = keras.activations.tanh
    second = attack(model, x, y, verbose=0)
    layer.activation = keras.activations.relu
    third = attack(model, x, y, verbose=0)
    np.testing.assert_allclose(third, first, atol=1e-5)
    assert np.abs(second - first).max() > 1e-3


def test_statistics_adapted_again():
    """`Normalization.adapt` after the first use of the model."""
    (x, y), (test_x, test_y) = digits()
    norm = layers.Normalization(axis=-1, mean=None)
    stack = layers.Flatten(), layers.Dense(64, "relu"), layers.Dense(10)
    model = network(norm, *stack)
    norm.adapt(x)
    fit_head(model)
    attack = kr.PGDAttack("l2", 0.5, steps=3, early_stop=True)
    first = attack(model, test_x, test_y, verbose=0)
    norm.adapt(4 * x - 1)
    fit_head(model)
    second = attack(model, test_x, test_y, verbose=0)
    assert np.abs(first - second).max() > 1e-3
    check_report(model, test_x, test_y, attack, labels_of)


class Tuned(keras.Model):
    """A subclass whose `call` reads a plain attribute of the model."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.negative = False

    def call(self, x):
        return self.inner(1 - x if self.negative else x)


def test_an_attribute_of_a_subclassed_model():
    _, (x, y) = digits()
    inner = dense_network()
    model = Tuned(inner)
    model(x[:1])
    attack = kr.PGDAttack("l2", 0.5, steps=2)
    attack(model, 1 - x, y, verbose=0)
    model.negative = True
    turned = 1 - x
    found = attack(model, turned, y, verbose=0)
    # The same problem, mirrored.
    expected = 1 - attack(inner, 1 - turned, y, verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    report = kr.evaluate_robustness(
        model, (turned, y), {"pgd": attack}, probe=False, verbose=0
    )
    right = labels_of(inner, x) == y
    np.testing.assert_array_equal(report.correct["clean"], right)


def test_use_does_not_drop_what_was_compiled():
    """What does not change the function leaves what was made for it."""
    (x, y), _ = digits()
    model = dense_network()
    model.compile("sgd", "sparse_categorical_crossentropy")
    kr.PGDAttack("l2", 0.5, steps=1)(model, x[:8], y[:8], verbose=0)
    first = Classifier.of(model).cached("a mark", object)
    model.predict(x[:8], verbose=0)
    model.evaluate(x[:8], y[:8], verbose=0)
    model(x[:8], training=True)
    model.set_weights([2 * weight for weight in model.get_weights()])
    assert Classifier.of(model).cached("a mark", object) is first
