"""Models as users change and store them: the number is the model's own.

Every right-hand side is the model's own answer, from `model.predict` of a
reloaded copy or from a plain call in inference mode.
"""

import functools

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_robust as kr
from keras_robust.classifier import Classifier

# Every model is compiled anew.
pytestmark = pytest.mark.slow

DIGITS = (8, 8, 1)


@functools.cache
def digits():
    """`(x, y)` to fit on and `(x, y)` to attack, few of each."""
    (x, y), (test_x, test_y) = kr.datasets.load("digits")
    return (x[:500], y[:500]), (test_x[:60], test_y[:60])


def network(*stack, shape=DIGITS, seed=0):
    """A Sequential model with weights that do not depend on the backend."""
    return settle(keras.Sequential([keras.Input(shape), *stack]), seed)


def fit_head(model, x=None, y=None, classes=10, scale=10.0):
    """Fits the last layer by least squares: a classifier without `fit`.

    The layers before keep the weights they have.
    """
    if x is None:
        x, y = digits()[0]
    head = model.layers[-1]
    inputs = model.inputs[0] if len(model.inputs) == 1 else model.inputs
    view = keras.Model(inputs, head.input)
    h = ops.convert_to_numpy(view(x, training=False)).astype("float64")
    h = np.concatenate([h, np.ones((len(h), 1))], axis=1)
    squares = h.T @ h + 0.1 * np.eye(h.shape[1])
    weights = np.linalg.solve(squares, h.T @ np.eye(classes)[y]) * scale
    head.set_weights([weights[:-1], weights[-1]])
    return model


def settle(model, seed=0):
    """Weights and statistics of no one's defaults, on all backends alike."""
    random = np.random.default_rng(seed)
    for variable in model.variables:
        shape = tuple(variable.shape)
        if "seed" in variable.path:
            continue
        if "variance" in variable.path or "gamma" in variable.path:
            value = random.uniform(0.5, 1.5, shape)
        elif len(shape) < 2:
            value = random.normal(size=shape) * 0.1
        else:
            value = random.normal(size=shape) * (2 / np.prod(shape[:-1])) ** 0.5
        variable.assign(value)
    return model


def outputs_of(model, x):
    """What the model says, called as Keras calls it in inference mode."""
    outputs = model(ops.convert_to_tensor(x), training=False)
    return ops.convert_to_numpy(ops.cast(outputs, "float32"))


def labels_of(model, x):
    """The labels that the model says."""
    return outputs_of(model, x).argmax(-1)


def predicted(model, x):
    """The labels by `model.predict`."""
    return model.predict(x, verbose=0).argmax(-1)


def check_search(model, x, **options):
    """The logits that attacks climb are those of the model, to rounding."""
    classifier = Classifier.of(model, **options)
    found = classifier.logits(ops.convert_to_tensor(x))
    outputs = outputs_of(model, x)
    np.testing.assert_allclose(
        ops.convert_to_numpy(found),
        outputs,
        rtol=1e-4,
        atol=1e-4 * np.abs(outputs).max(),
    )


def check_report(model, x, y, attack=None, labels=predicted, drop=0.1):
    """The report says what the model says about images and attacked images.

    Args:
        model: A classifier, right on more than half of the images.
        x: Images.
        y: True labels.
        attack: `None` for a few steps of PGD.
        labels: Function of model and images to labels.
        drop: By how much the attack must lower the accuracy.

    Returns:
        The report.
    """
    attack = attack or kr.PGDAttack("l2", 0.5, steps=3, early_stop=True)
    report = kr.evaluate_robustness(
        model, (x, y), {"pgd": attack}, probe=False, verbose=0
    )
    attacked = attack(model, x, y, verbose=0)
    clean, robust = (labels(model, images) == y for images in (x, attacked))
    np.testing.assert_array_equal(report.correct["clean"], clean)
    np.testing.assert_array_equal(report.correct["pgd"], robust)
    assert clean.mean() > 0.5
    assert robust.mean() <= clean.mean() - drop
    order = {"l2": 2, "linf": np.inf}[attack.norm]
    step = np.linalg.norm((attacked - x).reshape(len(x), -1), order, axis=-1)
    assert step.max() <= attack.epsilon * (1 + 1e-5)
    return report


def reloaded(model, folder):
    """The model as it comes back from disk."""
    path = folder / "model.keras"
    model.save(path)
    return keras.saving.load_model(path)


def dense_network(activation="relu"):
    """Two dense layers, fitted."""
    return fit_head(
        network(
            layers.Flatten(),
            layers.Dense(64, activation=activation),
            layers.Dense(10),
        )
    )


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
