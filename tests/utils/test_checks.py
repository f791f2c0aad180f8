import keras
import numpy as np
import pytest

import keras_robust as kr
from keras_robust.utils import array_checks
from tests.helpers import make_cnn

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


def test_columns_without_a_width_are_named():
    low, high = np.zeros(1000), np.ones(1000)
    high[[3, 7]] = 0, -1
    with pytest.raises(ValueError, match="2 of 1000 features: 3, 7") as error:
        kr.PGDAttack("linf", 0.1, value_range=(low, high))
    assert "`mask`" in str(error.value) and len(str(error.value)) < 600


@pytest.mark.parametrize("name", ["epsilon", "step_size", "momentum"])
def test_no_array_is_printed_whole(name):
    with pytest.raises(ValueError, match="Received") as error:
        kr.PGDAttack("linf", **{name: np.full((28, 28), -1.0)})
    assert len(str(error.value)) < 300
    row = np.arange(1, 785).reshape(28, 28, 1)
    with pytest.raises(ValueError, match="no one width") as error:
        kr.PGDAttack("linf", value_range=(0 * row, row))
    assert len(str(error.value)) < 400


def test_features_outside_the_range_are_named():
    attack = kr.PGDAttack("l2", 0.1, value_range=(np.zeros(2), np.ones(2)))
    x = np.array([[0.5, 2.0], [0.5, 0.5]], "float32")
    with pytest.raises(ValueError, match="1 examples outside, in 1 of 2 feat"):
        attack(table_model(), x, [0, 1])


def table_model():
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])


@pytest.mark.parametrize("value_range", [(0, 1), "auto"])
def test_tables_need_ranges_of_columns(value_range):
    model, y = table_model(), [0, 1]
    x = np.array([[3.0, -2.0], [1e4, 0.5]], "float32")
    attack = kr.PGDAttack("l2", 0.1, steps=1, value_range=value_range)
    advice = r"for a table pass .* value_range=\(x.min\(axis=0\)"
    with pytest.raises(ValueError, match=advice):
        attack(model, x, y)
    with pytest.raises(ValueError, match=advice):
        kr.evaluate_robustness(model, (x, y), attack, verbose=0)
    robust = kr.AdversarialModel(model, attack)
    robust.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match=advice):
        robust.fit(x, np.array(y), verbose=0)
    columns = x.min(axis=0), x.max(axis=0)
    attack.replace(value_range=columns)(model, x, y, verbose=0)


def test_ranges_of_columns_in_double_precision(rng):
    """Rounded to float32, a range may leave out the input that it is of."""
    x, y = rng.normal(size=(60, 2)), np.arange(60) % 3
    columns = x.min(axis=0), x.max(axis=0)
    rounded = np.float32(columns)
    assert (rounded[0] > columns[0]).any() or (rounded[1] < columns[1]).any()
    attack = kr.PGDAttack(
        "linf", 0.1, steps=2, value_range=columns, mask=np.array([1.0, 0.0])
    )
    model = table_model()
    tensor = keras.ops.convert_to_tensor(x, "float64")
    for given in (x, tensor):
        attacked = attack(model, given, y, verbose=0)
        # Tensors of JAX are of float32.
        before, after = map(keras.ops.convert_to_numpy, (given, attacked))
        assert before.dtype == after.dtype
        assert 0 < np.abs(after - before)[:, 0].max() <= 0.1 * (1 + 2e-6)
        np.testing.assert_array_equal(after[:, 1], before[:, 1])
    report = kr.evaluate_robustness(model, (x, y), attack, verbose=0)
    assert not report.flags
    outside = x.copy()
    outside[0, 0] = columns[1][0] * 1.0001
    with pytest.raises(ValueError, match="1 examples outside, in 1 of 2 feat"):
        attack(model, outside, y, verbose=0)


def test_fractions_for_an_integer_input_name_the_cure():
    with pytest.raises(ValueError, match=r"value_range=\(0, 255\).*Received"):
        array_checks.check_whole(np.array([[0.25, 1.0]]), 1.0)
    with pytest.raises(ValueError, match="cut off the rest. Received"):
        array_checks.check_whole(np.array([[0.25, 7.0]]), 1.0)
