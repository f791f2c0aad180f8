import keras
import numpy as np
import pytest
from conftest import make_cnn

import keras_robust as kr

X = np.full((4, 6, 6, 2), 0.5, "float32")
Y = np.array([0, 1, 2, 0])


def changed(value):
    x = X.copy()
    x[1, 2, 3, 0] = value
    return x


@pytest.mark.parametrize(
    "x, y, message",
    [
        (changed(np.nan), Y, "NaN"),
        (changed(np.inf), Y, "NaN or infinity"),
        (changed(1.01), Y, "value_range"),
        (changed(-0.01), Y, "value_range"),
        (X * 255, Y, "normalization"),
        ((X * 255).astype("uint8"), Y, "uint8"),
        (X.astype("float16"), Y, "float16"),
        (X[:, 0, 0, 0], Y, "rank >= 2"),
        (X, Y + 1, "0 ... 2"),
        (X, Y - 1, "0 ... 2"),
        (X, Y[:3], r"shape \(4,\)"),
        (X, Y[None], "shape"),
        (X, Y + 0.5, "whole numbers"),
        (X, np.full((4, 3), 1 / 3), "one-hot"),
    ],
)
def test_bad_inputs(cnn, x, y, message):
    with pytest.raises(ValueError, match=message) as error:
        kr.PGDAttack(steps=1)(cnn, x, y)
    assert "Received" in str(error.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"epsilon": -1},
        {"epsilon": np.nan},
        {"epsilon": "8/255"},
        {"epsilon": np.ones((2, 2))},
        {"step_size": -0.1},
        {"steps": -1},
        {"steps": 2.5},
        {"restarts": 0},
        {"restarts": 2},
        {"norm": "l3"},
        {"loss": "hinge"},
        {"batch_size": 0},
        {"value_range": (1, 0)},
        {"value_range": 1},
    ],
)
def test_bad_arguments(arguments):
    name = next(iter(arguments))
    with pytest.raises(ValueError, match=f"{name}.*(\n.*)*Received"):
        kr.PGDAttack(**arguments)


def test_epsilon_of_the_wrong_length(cnn):
    with pytest.raises(ValueError, match=r"\(4,\).*Received"):
        kr.PGDAttack(epsilon=[0.1, 0.2])(cnn, X, Y)


def test_mask_of_the_wrong_shape(cnn):
    with pytest.raises(ValueError, match="mask.*Received"):
        kr.PGDAttack(mask=np.ones((5, 5)))(cnn, X, Y)


def test_unbuilt_model():
    model = keras.Sequential([keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="built.*Received"):
        kr.PGDAttack()(model, X, Y)
    with pytest.raises(ValueError, match="keras.Model.*Received"):
        kr.PGDAttack()(lambda x: x, X, Y)


def test_output_of_the_wrong_rank():
    inputs = keras.Input((6, 6, 2))
    model = keras.Model(inputs, keras.layers.Conv2D(3, 1)(inputs))
    with pytest.raises(ValueError, match=r"\(N, C\).*Received"):
        kr.PGDAttack()(model, X, Y)


def test_labels_may_be_columns_or_one_hot(cnn):
    attack = kr.PGDAttack(epsilon=0.5, steps=2)
    expected = attack(cnn, X, Y)
    for labels in (Y[:, None], np.eye(3)[Y], Y.astype("float32"), list(Y)):
        np.testing.assert_array_equal(attack(cnn, X, labels), expected)


def test_no_examples():
    model = make_cnn()
    assert kr.PGDAttack()(model, X[:0], Y[:0]).shape == (0, 6, 6, 2)
