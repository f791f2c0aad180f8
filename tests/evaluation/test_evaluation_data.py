"""Data in every form that users have, and a clear no to the rest."""

import itertools

import keras
import numpy as np
import pytest

import keras_robust as kr
from keras_robust.datasets import arrays
from keras_robust.datasets.arrays import is_dataset
from keras_robust.datasets.arrays import read_data
from keras_robust.datasets.arrays import to_arrays
from tests.helpers import make_linear

COUNT = 24


@pytest.fixture(scope="module")
def pair():
    random = np.random.default_rng(0)
    x = random.random((COUNT, 4, 4, 1), dtype="float32")
    return x, random.integers(0, 3, COUNT)


def batched(x, y, size=10):
    return [
        (x[start : start + size], y[start : start + size])
        for start in range(0, len(x), size)
    ]


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y, count=3):
        super().__init__()
        self.x, self.y, self.count = x, y, count

    @property
    def num_batches(self):
        return self.count

    def __getitem__(self, number):
        return batched(self.x, self.y)[number % 3]


class Untold(Batches):
    @property
    def num_batches(self):
        raise NotImplementedError


def tensors(x, y):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((x, y))


def images(x, y):
    import tensorflow as tf

    # As `tfds.load` gives them.
    parts = {"image": x, "label": y, "id": np.arange(len(y))}
    return tf.data.Dataset.from_tensor_slices(parts)


def loader(x, y):
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(y))
    return torch.utils.data.DataLoader(data, batch_size=10)


def weighted(x, y):
    return [(*batch, np.ones(len(batch[1]))) for batch in batched(x, y)]


SOURCES = {
    "arrays": lambda x, y: (x, y),
    "arrays and weights": lambda x, y: (x, y, np.ones(len(y))),
    "tensors": lambda x, y: (
        keras.ops.convert_to_tensor(x),
        keras.ops.convert_to_tensor(y),
    ),
    "lists of numbers": lambda x, y: (x.tolist(), y.tolist()),
    "lists of rows": lambda x, y: (list(x), list(y)),
    "object labels": lambda x, y: (x, y.astype(object)),
    "dictionary": lambda x, y: {"image": x, "label": y},
    "tf.data": lambda x, y: tensors(x, y).batch(10),
    "tf.data, repeated": lambda x, y: tensors(x, y).batch(10).repeat().take(3),
    "tfds dictionaries": lambda x, y: images(x, y).batch(10),
    "list of batches": batched,
    "generator": lambda x, y: (batch for batch in batched(x, y)),
    "weights": weighted,
    "PyDataset": Batches,
    "DataLoader": loader,
}


@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_gives_the_same_arrays(pair, kind):
    x, y = pair
    source = SOURCES[kind](x, y)
    found_x, found_y = read_data(source)
    np.testing.assert_allclose(found_x, x, rtol=1e-6)
    np.testing.assert_array_equal(found_y, y)
    assert found_y.dtype.kind in "if"


class Frame:
    """What a data frame is to us: columns to iterate, and `to_numpy`."""

    def __init__(self, values):
        self.values = np.asarray(values)

    def __iter__(self):
        return iter("abc")

    def __len__(self):
        return len(self.values)

    @property
    def shape(self):
        return self.values.shape

    def to_numpy(self):
        return self.values


def test_data_frames():
    values = np.random.default_rng(0).random((5, 3))
    x, y = read_data((Frame(values), Frame([0, 1, 2, 1, 0])))
    np.testing.assert_array_equal(x, values)
    np.testing.assert_array_equal(y, [0, 1, 2, 1, 0])
    assert not is_dataset(Frame(values))
    # Columns of different kinds come as objects.
    mixed = np.array([[1, True], [2, False]], object)
    x, _ = read_data((Frame(mixed), Frame([0, 1])))
    np.testing.assert_array_equal(x, [[1, 1], [2, 0]])
    missing = Frame(np.array([[1, None], [2, 3]], object))
    with pytest.raises(ValueError, match="`x` must hold numbers"):
        read_data((missing, Frame([0, 1])))


def test_what_is_a_data_set(pair):
    x, y = pair
    for source in (
        *(x, x.tolist(), list(x), (x, y), [x, y], ([x, x], y), ((x, x), y)),
        *({"image": x, "label": y}, ({"a": x, "b": x}, y), "digits", [], None),
        ([x, x], [y, y]),
    ):
        assert not is_dataset(source)
    for source in (
        *(batched(x, y), tuple(batched(x, y)), iter(batched(x, y))),
        *(
            Batches(x, y),
            [((x, x), y), ((x, x), y)],
            [{"image": x, "label": y}],
        ),
    ):
        assert is_dataset(source)


def test_several_inputs(pair):
    x, y = pair
    flat = x.reshape(COUNT, -1)
    for structure in ([x, flat], (x, flat), {"image": x, "meta": flat}):
        parts = keras.tree.flatten(structure)

        def rows(part, structure=structure):
            return keras.tree.map_structure(lambda v: v[part], structure)

        halves = [(rows(np.s_[:9]), y[:9]), (rows(np.s_[9:]), y[9:])]
        for source in ((structure, y), halves, iter(halves)):
            found, labels = read_data(source)
            assert isinstance(found, dict) == isinstance(structure, dict)
            for one, part in zip(keras.tree.flatten(found), parts, strict=True):
                np.testing.assert_array_equal(one, part)
            np.testing.assert_array_equal(labels, y)


def test_a_list_of_as_many_inputs_as_examples(pair):
    x, y = pair
    two = [x[:2], x[2:4]]
    found, _ = read_data((two, y[:2]), several=True)
    assert [part.shape for part in found] == [(2, 4, 4, 1)] * 2
    found, _ = read_data((two, y[:2]), several=False)
    assert found.shape == (2, 2, 4, 4, 1)


def endless(x, y):
    while True:
        yield from batched(x, y)


def shuffled(x, y):
    random = np.random.default_rng(0)
    while True:
        rows = random.permutation(len(x))
        yield x[rows], y[rows]


def unbatched(x, y):
    return (pair for pair in zip(x, y, strict=True))


REFUSED = {
    "tf.data, endless": (
        lambda x, y: tensors(x, y).batch(10).repeat(),
        r"must end after one pass.*\.take.*endless.*repeat",
    ),
    "PyDataset, endless": (
        lambda x, y: Batches(x, y, count=None),
        "must end.*num_batches=None",
    ),
    "PyDataset, untold": (Untold, "must end.*no `num_batches`"),
    "generator, endless": (endless, "must end.*3 batches again and again"),
    "generator, shuffled": (shuffled, "must end.*without an end"),
    "tf.data, not batched": (tensors, r"call `\.batch\(128\)`"),
    "tf.data, not batched, one-hot": (
        lambda x, y: tensors(x, np.eye(3)[y]),
        r"call `\.batch\(128\)`.*\(4, 4, 1\).*\(3,\)",
    ),
    "tfds, not batched": (images, r"call `\.batch\(128\)`"),
    "generator, not batched": (unbatched, r"call `\.batch\(128\)`"),
    "labels as text": (
        lambda x, y: (x, y.astype(str)),
        r"`y` must hold numbers; number the classes.*Received: y.dtype=<U21",
    ),
    "labels of objects": (
        lambda x, y: (x, np.array(["cat"] * COUNT, object)),
        "`y` must hold numbers; number the classes.*'cat'",
    ),
    "text in batches": (
        lambda x, y: batched(x, y.astype(str)),
        "`y` must hold numbers; number the classes",
    ),
    "images as text": (
        lambda x, y: (np.array(["a"] * COUNT), y),
        "`x` must hold numbers. Received: x.dtype=<U1",
    ),
    "rows of different lengths": (
        lambda x, y: ([[0.1], [0.2, 0.3]], [0, 1]),
        "`x` must hold numbers, in rows of one shape.*list of 2 elements",
    ),
    "images of different sizes": (
        lambda x, y: [*batched(x, y), (x[:4, :3], y[:4])],
        "same shape of an example",
    ),
    "inputs alone": (lambda x, y: x, "must be a pair.*shape .24, 4, 4, 1"),
    "a name": (lambda x, y: "digits", "must be a pair.*'digits'"),
    "a function": (lambda x, y: endless, "must be a pair.*function"),
    "a frame alone": (
        lambda x, y: Frame([[1.0]]),
        "must be a pair.*Frame",
    ),
    "batches of inputs": (
        lambda x, y: iter([x[:4], x[4:]]),
        r"must give batches \(x, y\).*an array of shape",
    ),
    "other dictionaries": (
        lambda x, y: iter([{"features": x, "label": y}]),
        "'image' and 'label'.*'features'",
    ),
    "nothing": (lambda x, y: iter([]), "must have batches"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_clear_no(pair, kind, monkeypatch):
    make, message = REFUSED[kind]
    monkeypatch.setattr(arrays, "MAX_EXAMPLES", 5000)
    source = make(*pair)
    with pytest.raises(ValueError, match=message) as caught:
        read_data(source)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_a_limit_of_bytes(pair, monkeypatch):
    monkeypatch.setattr(arrays, "MAX_BYTES", 50_000)
    with pytest.raises(ValueError, match="without an end"):
        to_arrays(shuffled(*pair))


def test_batches_that_repeat_and_end_are_taken(pair):
    x, y = pair
    first = (x[:1], y[:1])
    found, labels = to_arrays(iter([first] * 5))
    assert len(found) == len(labels) == 5
    long = itertools.chain(batched(x, y, 1), batched(x, y, 1))
    assert len(to_arrays(long)[0]) == 2 * COUNT


def test_batches_in_the_same_arrays(pair):
    """A generator may fill the same memory for every batch."""
    x, y = pair

    def batches():
        images, labels = np.empty_like(x[:1]), np.empty_like(y[:1])
        for row in range(len(x)):
            images[:], labels[:] = x[row], y[row]
            yield images, labels

    found = to_arrays(batches())
    np.testing.assert_array_equal(found[0], x)
    np.testing.assert_array_equal(found[1], y)


def test_the_first_batch_is_looked_at_before_the_rest(pair):
    x, y = pair
    read = []

    def batches():
        for batch in batched(np.repeat(x, 3, -1), y):
            read.append(batch)
            yield batch

    model = make_linear(np.eye(16, 3), shape=(4, 4, 1))
    with pytest.raises(ValueError, match=r"\(N, 4, 4, 1\).*Received"):
        kr.evaluate_robustness(model, batches(), kr.PGDAttack(), verbose=0)
    assert len(read) == 1


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda x, y: (x[0], y[:1]), r"batch axis: x\[None\]"),
        (lambda x, y: (np.repeat(x, 3, -1), y), r"shape \(N, 4, 4, 1\)"),
        (lambda x, y: (x[..., 0], y), r"shape \(N, 4, 4, 1\)"),
        (lambda x, y: (x, y[:3]), "labels of shape"),
        (lambda x, y: (x, y + 5), "0 ... 2, the classes"),
        (lambda x, y: (x[:0], y[:0]), "must hold examples"),
        (lambda x, y: (x - 1, y), "value_range"),
    ],
)
def test_data_that_do_not_fit_the_model(pair, change, message, monkeypatch):
    x, y = pair
    model = make_linear(np.eye(16, 3), shape=(4, 4, 1))
    # Before anything is attacked.
    monkeypatch.setattr(kr.PGDAttack, "run", lambda *a, **k: 1 / 0)
    with pytest.raises(ValueError, match=message):
        kr.evaluate_robustness(model, change(x, y), kr.PGDAttack(), verbose=0)
