"""Networks, data and checks that the situations share."""

import functools

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_robust as kr
from keras_robust.classifier import Classifier

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


def balance(model, x):
    """Moves the last bias so that several classes occur."""
    head = model
    while isinstance(head, keras.Model):
        head = head.layers[-1]
    mean = outputs_of(model, x).mean(0)
    head.bias.assign(ops.convert_to_numpy(head.bias) - mean)


def check(model, x, epsilon=0.5):
    """The attacks' logits and the report are what the model says."""
    balance(model, x)
    check_search(model, x)
    attack = kr.PGDAttack("l2", epsilon, steps=4, early_stop=True)
    check_report(model, x, labels_of(model, x), attack)


BYTE = (0.0, 255.0)


def attack_of(norm="linf", epsilon=12 / 255, **options):
    return kr.PGDAttack(norm, epsilon, steps=5, early_stop=True, **options)


def unit_network():
    """A network of pixels in [0, 1]."""
    return fit_head(
        network(
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10),
        )
    )


def behind(*first, dtype=None):
    """The same network behind preprocessing of its own."""
    inputs = h = keras.Input((8, 8, 1), dtype=dtype)
    for layer in first:
        h = layer(h)
    return keras.Model(inputs, unit_network()(h))


def byte_network(dtype=None):
    return behind(layers.Rescaling(1 / 255), dtype=dtype)


def doubts(result):
    """Flags that doubt whether the radius was meant."""
    return [str(f) for f in result.flags if "radius" in f.name]


def refuse(call, *words):
    """The call raises a ValueError of one line that holds the words."""
    with pytest.raises(ValueError) as caught:
        call()
    message = str(caught.value)
    assert "Received" in message and len(message.splitlines()) == 1, message
    assert len(message) < 500, message
    for word in words:
        assert word.lower() in message.lower(), message


def dense(activation="relu", end=None, scale=10.0):
    model = network(
        layers.Flatten(),
        layers.Dense(64, activation="relu"),
        layers.Dense(10),
    )
    fit_head(model, scale=scale)
    model.layers[-2].activation = keras.activations.get(activation)
    model.layers[-1].activation = keras.activations.get(end)
    return model


def pgd(epsilon=0.5, **options):
    return kr.PGDAttack("l2", epsilon, steps=3, early_stop=True, **options)
