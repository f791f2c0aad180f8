"""A clear no, in one line and before anything expensive; and what is taken."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_robust as kr
from keras_robust.attacks.loop_attack import LoopAttack
from tests.helpers import make_linear
from tests.situations.helpers import dense
from tests.situations.helpers import digits
from tests.situations.helpers import network
from tests.situations.helpers import predicted
from tests.situations.helpers import refuse

# Every model is compiled anew.
pytestmark = pytest.mark.slow


def pooled(shape=(8, 8, 1)):
    """A network that could as well run on images of another size."""
    return network(
        layers.Conv2D(4, 3, activation="relu"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(10),
        shape=shape,
    )


def ways(model, x, y, attack=None):
    """An attack, a report and a curve of the data."""
    attack = attack or kr.PGDAttack("l2", 0.5, steps=1)
    options = {"verbose": 0, "probe": False}
    return {
        "attack": lambda: attack(model, x, y, verbose=0),
        "report": lambda: kr.evaluate_robustness(
            model, (x, y), {"pgd": attack}, **options
        ),
        "curve": lambda: kr.robustness_curve(
            model,
            (x, y),
            norm="l2",
            epsilons=[0.5],
            attack=lambda epsilon: attack,
            **options,
        ),
    }


@pytest.fixture
def unused(monkeypatch):
    """Fails where an attack begins before the refusal."""
    monkeypatch.setattr(LoopAttack, "attack", lambda *a, **k: 1 / 0)
    monkeypatch.setattr(kr.PGDAttack, "attack", lambda *a, **k: 1 / 0)


# Shapes.

SHAPES = {
    "another size": (10, 9, 9, 1),
    "smaller": (10, 7, 8, 1),
    "channels first": (10, 1, 8, 8),
    "three channels": (10, 8, 8, 3),
    "one image": (8, 8, 1),
    "a rank too many": (2, 10, 8, 8, 1),
    "flat": (10, 64),
}


@pytest.mark.parametrize("make", [pooled, dense])
@pytest.mark.parametrize("name", SHAPES)
def test_shapes_that_the_input_does_not_have(name, make, unused):
    x = np.random.default_rng(0).random(SHAPES[name], "float32")
    y = np.zeros(len(x) if name != "one image" else 1, int)
    model = make()
    for call in ways(model, x, y).values():
        refuse(call, "8, 8, 1)" if name != "one image" else "batch")


def test_a_size_that_the_input_leaves_open():
    """There another size is right."""
    model = pooled((None, None, 1))
    x = np.random.default_rng(0).random((20, 9, 7, 1), "float32")
    head = model.layers[-1]
    head.bias.assign(
        ops.convert_to_numpy(head.bias) - model.predict(x, verbose=0).mean(0)
    )
    y = predicted(model, x)
    attack = kr.PGDAttack("l2", 0.5, steps=3, early_stop=True)
    report = kr.evaluate_robustness(
        model, (x, y), {"pgd": attack}, probe=False, verbose=0
    )
    found = attack(model, x, y, verbose=0)
    np.testing.assert_array_equal(
        report.correct["pgd"], predicted(model, found) == y
    )
    # The next call may have another one.
    x = np.random.default_rng(0).random((20, 6, 8, 1), "float32")
    assert attack(model, x, y, verbose=0).shape == x.shape


def test_one_image_with_one_label(unused):
    (x, y), _ = digits()
    for call in ways(dense(), x[0], y[:1]).values():
        refuse(call, "batch")
    for call in ways(dense(), x[0], y[0]).values():
        refuse(call, "batch")


def test_numbers_of_examples_that_differ(unused):
    (x, y), _ = digits()
    for call in ways(dense(), x[:10], y[:9]).values():
        refuse(call)


# Text, objects and labels.


@pytest.mark.parametrize(
    "labels",
    [
        lambda y: y.astype(str),
        lambda y: y.astype(bytes),
        lambda y: np.array([f"class {one}" for one in y], object),
        lambda y: [f"class {one}" for one in y],
        lambda y: [None] * len(y),
        lambda y: y + 0.5,
        lambda y: y - 3,
        lambda y: y + 5,
        lambda y: np.full(len(y), np.nan),
        lambda y: np.eye(10)[y] * 0.9 + 0.01,
        lambda y: np.eye(7)[y % 7],
    ],
)
def test_labels_that_are_no_classes(labels, unused):
    (x, y), _ = digits()
    for call in ways(dense(), x[:20], labels(y[:20])).values():
        refuse(call, "y")


def test_labels_as_objects_that_are_numbers():
    """Taken for what they are, or refused; never something else."""
    (x, y), _ = digits()
    x, y = x[:20], y[:20]
    model = dense()
    expected = kr.PGDAttack("l2", 0.5, steps=1)(model, x, y, verbose=0)
    try:
        found = kr.PGDAttack("l2", 0.5, steps=1)(
            model, x, y.astype(object), verbose=0
        )
    except ValueError as error:
        assert "Received" in str(error)
    else:
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "labels",
    [
        lambda y: y[:, None],
        lambda y: y.astype("float64"),
        lambda y: y.astype("uint8"),
        lambda y: np.eye(10)[y],
        lambda y: np.eye(10, dtype=bool)[y],
        lambda y: y.tolist(),
    ],
)
def test_labels_in_other_forms(labels):
    (x, y), _ = digits()
    x, y = x[:40], y[:40]
    model = dense()
    attack = kr.PGDAttack("l2", 0.5, steps=2, early_stop=True)
    report = kr.evaluate_robustness(
        model, (x, labels(y)), {"pgd": attack}, probe=False, verbose=0
    )
    found = attack(model, x, labels(y), verbose=0)
    for key, images in {"clean": x, "pgd": found}.items():
        np.testing.assert_array_equal(
            report.correct[key], predicted(model, images) == y
        )


@pytest.mark.parametrize(
    "words",
    [
        np.array(["a", "b"]),
        np.array([["a"] * 6, ["b"] * 6]),
        np.array([["a"] * 6, ["b"] * 6], object),
        ["a", "b"],
        [["a"] * 6, ["b"] * 6],
    ],
)
def test_text_instead_of_numbers(words, unused):
    model = make_linear(np.eye(6)[:, :3])
    for call in ways(model, words, np.array([0, 1])).values():
        refuse(call)


def test_data_frames():
    """Taken as the numbers that they hold."""
    pandas = pytest.importorskip("pandas")
    model = make_linear(np.random.default_rng(0).normal(size=(6, 3)))
    x = np.random.default_rng(1).random((20, 6), "float32")
    y = predicted(model, x)
    frame, series = pandas.DataFrame(x), pandas.Series(y)
    attack = kr.PGDAttack("l2", 0.3, steps=2, early_stop=True)
    expected = attack(model, x, y, verbose=0)
    found = np.asarray(attack(model, frame, series, verbose=0))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    report = kr.evaluate_robustness(
        model, (frame, series), {"pgd": attack}, probe=False, verbose=0
    )
    np.testing.assert_array_equal(
        report.correct["pgd"], predicted(model, expected) == y
    )


class Frame:
    """What of a data frame matters: columns, and `to_numpy`."""

    def __init__(self, array):
        self.array = array
        self.shape = array.shape
        self.columns = [f"column {n}" for n in range(array.shape[-1])]

    def __len__(self):
        return len(self.array)

    def __iter__(self):
        return iter(self.columns)

    def to_numpy(self):
        return self.array


def test_objects_that_turn_into_arrays():
    model = make_linear(np.random.default_rng(0).normal(size=(6, 3)))
    x = np.random.default_rng(1).random((20, 6), "float32")
    y = predicted(model, x)
    attack = kr.PGDAttack("l2", 0.3, steps=2, early_stop=True)
    report = kr.evaluate_robustness(
        model, (Frame(x), y), {"pgd": attack}, probe=False, verbose=0
    )
    found = attack(model, x, y, verbose=0)
    np.testing.assert_array_equal(
        report.correct["pgd"], predicted(model, found) == y
    )
    words = Frame(np.array([["a"] * 6] * 20, object))
    for call in ways(model, words, y).values():
        refuse(call)


# Data sets.


class Endless(keras.utils.PyDataset):
    @property
    def num_batches(self):
        return None

    def __getitem__(self, index):
        (x, y), _ = digits()
        return x[:32], y[:32]


def tensors(x, y):
    tensorflow = pytest.importorskip("tensorflow")
    return tensorflow.data.Dataset.from_tensor_slices((x, y))


def forever(x, y):
    """As a training loop wants it; a guard ends it after 2000 batches."""
    for _ in range(2000):
        yield x[:32], y[:32]
        yield x[32:64], y[32:64]
    raise AssertionError("still reading after 2000 batches")


ENDLESS = {
    "repeat": lambda x, y: tensors(x, y).batch(32).repeat(),
    "repeat and map": lambda x, y: (
        tensors(x, y).repeat().batch(32).map(lambda a, b: (a, b)).prefetch(1)
    ),
    "shuffled": lambda x, y: tensors(x, y).shuffle(64).repeat(-1).batch(32),
    "PyDataset": lambda x, y: Endless(),
    "generator": forever,
}


@pytest.mark.parametrize("name", ENDLESS)
def test_endless_data(name, unused):
    (x, y), _ = digits()
    data, model = ENDLESS[name](x[:64], y[:64]), dense()
    attack = {"pgd": kr.PGDAttack("l2", 0.5, steps=1)}
    refuse(
        lambda: kr.evaluate_robustness(model, data, attack, verbose=0), "end"
    )
    data = ENDLESS[name](x[:64], y[:64])
    refuse(
        lambda: kr.robustness_curve(
            model, data, norm="l2", epsilons=[0.5], attack="pgd", verbose=0
        ),
        "end",
    )
    data = ENDLESS[name](x[:64], y[:64])
    refuse(
        lambda: kr.transfer_matrix(
            {"a": model},
            {"a": model},
            data=data,
            attack=attack["pgd"],
            verbose=0,
        ),
        "end",
    )


def single_rows(x, y):
    return ((one, label) for one, label in zip(x, y, strict=True))


UNBATCHED = {
    "tf.data": tensors,
    "tf.data of rows": lambda x, y: tensors(x.reshape(len(x), -1), y),
    "generator": single_rows,
    "list": lambda x, y: list(single_rows(x, y)),
}


@pytest.mark.parametrize("name", UNBATCHED)
def test_data_without_batches(name, unused):
    (x, y), _ = digits()
    model = dense()
    if name == "tf.data of rows":
        model = make_linear(np.zeros((64, 10)))
    attack = {"pgd": kr.PGDAttack("l2", 0.5, steps=1)}
    data = UNBATCHED[name](x[:8], y[:8])
    refuse(
        lambda: kr.evaluate_robustness(model, data, attack, verbose=0), "batch"
    )


def test_data_without_labels(unused):
    (x, y), _ = digits()
    attack = {"pgd": kr.PGDAttack("l2", 0.5, steps=1)}
    for data in (x[:8], (x[:8],), None, "digits", [], {"x": x[:8]}):
        refuse(
            lambda data=data: kr.evaluate_robustness(
                dense(), data, attack, verbose=0
            )
        )
    refuse(
        lambda: kr.evaluate_robustness(dense(), x[:8], y[:8], "pgd", verbose=0)
    )
