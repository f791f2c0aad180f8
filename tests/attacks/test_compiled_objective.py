"""What `loss="compiled"` increases."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from keras_robust.attacks.compiled_loss import compiled_loss
from keras_robust.attacks.compiled_objective import objective_of
from keras_robust.classifier import Classifier

STEPS, PADDED = 6, 2


def classes(rng):
    return rng.integers(0, 3, (4, STEPS))


def rows(rng):
    return np.eye(3, dtype="float32")[classes(rng)]


def bits(rng):
    return rng.integers(0, 2, (4, STEPS, 3)).astype("float32")


def values_of(model, x, y):
    objective = objective_of(Classifier.of(model), compiled_loss(model))
    inputs = {"y": ops.convert_to_tensor(y)}
    values, _ = objective(inputs, ops.convert_to_tensor(x))
    return ops.convert_to_numpy(values)


@pytest.mark.parametrize(
    ("activation", "loss", "labels"),
    [
        ("softmax", "sparse_categorical_crossentropy", classes),
        ("softmax", "categorical_crossentropy", rows),
        (
            "softmax",
            keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
            rows,
        ),
        ("sigmoid", "binary_crossentropy", bits),
        ("tanh", "hinge", bits),
        ("softmax", "mse", rows),
    ],
)
def test_padded_steps_do_not_count(activation, loss, labels, rng):
    """As in the loss of Keras, which leaves out what is masked."""
    model = keras.Sequential(
        [
            keras.Input((STEPS, 4)),
            layers.Masking(0.0),
            layers.LSTM(5, return_sequences=True),
            layers.Dense(3, activation=activation),
        ]
    )
    model.compile(loss=loss)
    x = rng.normal(size=(4, STEPS, 4)).astype("float32")
    x[:, -PADDED:] = 0
    y, others = labels(rng), labels(rng)
    others[:, :-PADDED] = y[:, :-PADDED]
    found = values_of(model, x, y)
    np.testing.assert_allclose(values_of(model, x, others), found, rtol=1e-6)
    others = labels(rng)
    assert np.abs(values_of(model, x, others) - found).max() > 1e-3
    if loss == "sparse_categorical_crossentropy":
        # The logarithm of a mean over all steps; Keras divides by those that
        # are left.
        expected = model.evaluate(x, y, verbose=0)
        mean = np.exp(found).mean() * STEPS / (STEPS - PADDED)
        assert mean == pytest.approx(expected, rel=1e-4)
