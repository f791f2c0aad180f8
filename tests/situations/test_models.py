"""Models as users change and store them: the number is the model's own.

Every right-hand side is the model's own answer, from `model.predict` of a
reloaded copy or from a plain call in inference mode.
"""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_robust as kr
from tests.situations.helpers import DIGITS
from tests.situations.helpers import check_report
from tests.situations.helpers import check_search
from tests.situations.helpers import dense_network
from tests.situations.helpers import digits
from tests.situations.helpers import fit_head
from tests.situations.helpers import network
from tests.situations.helpers import outputs_of
from tests.situations.helpers import predicted

# Every model is compiled anew.
pytestmark = pytest.mark.slow

# Quantization.


def spread(model):
    """The same function, of units of very different sizes.

    What rounding to integers does to a model shows in its units of extreme
    size: another function is then far off.
    """
    first, bias, second, last = model.get_weights()
    sizes = np.geomspace(0.05, 20, len(bias))
    model.set_weights(
        [first * sizes, bias * sizes, second / sizes[:, None], last]
    )
    return model


@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
def test_a_quantized_model_is_reported_as_it_is(mode):
    _, (x, y) = digits()
    model = dense_network()
    exact = outputs_of(model, x)
    if mode == "int8":
        model = spread(model)
    model.quantize(mode)
    assert np.abs(outputs_of(model, x) - exact).max() > 0.01
    check_search(model, x)
    check_report(model, x, y)


@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_a_quantized_model_with_batch_normalization(mode):
    """Nothing may be folded into a quantized layer."""
    _, (x, _) = digits()
    model = network(
        layers.Flatten(),
        layers.Dense(16),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Dense(3),
        layers.BatchNormalization(),
    )
    model.quantize(mode)
    check_search(model, x)
    check_report(model, x, predicted(model, x))


@keras.saving.register_keras_serializable("situations")
class Swish(layers.Layer):
    """A layer of a user's own, with a factor."""

    def __init__(self, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, h):
        return h * ops.sigmoid(self.factor * h)

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


@pytest.mark.parametrize("mode", ["int8", "float8"])
def test_quantized_around_a_layer_of_ones_own(mode):
    _, (x, y) = digits()
    model = fit_head(
        network(
            layers.Conv2D(8, 3, strides=2),
            Swish(3.0),
            layers.Flatten(),
            layers.Dense(32, activation="relu"),
            layers.Dense(10),
        )
    )
    model.quantize(mode)
    check_search(model, x)
    check_report(model, x, y)


def test_a_quantized_layer_in_a_nested_model():
    _, (x, y) = digits()
    inner = dense_network()
    inputs = keras.Input(DIGITS)
    model = keras.Model(inputs, inner(layers.Rescaling(1.0)(inputs)))
    inner.layers[-1].quantize("int8")
    check_search(model, x)
    check_report(model, x, y)


# Precision.


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision(policy):
    """Rounded logits may tie, so two images may be counted otherwise."""
    _, (x, y) = digits()
    stack = [layers.Conv2D(8, 3, strides=2, dtype=policy)]
    stack += [layers.BatchNormalization(dtype=policy), layers.ReLU()]
    stack += [layers.Flatten(), layers.Dense(10, dtype="float32")]
    model = fit_head(network(*stack))
    attack = kr.PGDAttack("l2", 0.5, steps=3, early_stop=True)
    report = kr.evaluate_robustness(
        model, (x, y), {"pgd": attack}, probe=False, verbose=0
    )
    attacked = attack(model, x, y, verbose=0)
    for key, images in {"clean": x, "pgd": attacked}.items():
        right = (predicted(model, images) == y).mean()
        assert report.accuracy[key] == pytest.approx(right, abs=2.5 / 60)
    assert report.accuracy["pgd"] < report.accuracy["clean"] - 0.1


def test_double_precision():
    if keras.backend.backend() == "jax":
        pytest.skip("JAX has no float64 unless a global option says so")
    _, (x, y) = digits()
    stack = layers.Flatten(), layers.Dense(64, "relu", dtype="float64")
    model = fit_head(network(*stack, layers.Dense(10, dtype="float64")))
    assert str(model.compute_dtype) != "float16"
    check_search(model, x)
    check_report(model, x, y)


def test_a_layer_in_another_precision_than_the_rest():
    _, (x, y) = digits()
    stack = [layers.Flatten(), layers.Dense(64, "relu", dtype="bfloat16")]
    model = fit_head(network(*stack, layers.Dense(10, dtype="float32")))
    attack = kr.PGDAttack("l2", 0.5, steps=3, early_stop=True)
    report = kr.evaluate_robustness(
        model, (x, y), {"pgd": attack}, probe=False, verbose=0
    )
    attacked = attack(model, x, y, verbose=0)
    for key, images in {"clean": x, "pgd": attacked}.items():
        right = (predicted(model, images) == y).mean()
        assert report.accuracy[key] == pytest.approx(right, abs=2.5 / 60)
