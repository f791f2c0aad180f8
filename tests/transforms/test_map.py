import numpy as np
import pytest
from keras import ops

import keras_robust as kr
from tests.helpers import batches
from tests.helpers import joined
from tests.helpers import make_cnn
from tests.helpers import mostly_slow


@pytest.fixture(scope="module")
def model():
    return make_cnn()


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(7)
    x = random.random((22, 6, 6, 2), dtype="float32")
    return x, np.arange(22, dtype="int32") % 3


@pytest.mark.parametrize(
    "target", mostly_slow(["random", "deterministic", "other"], "other")
)
@pytest.mark.compiles_much
def test_relabelled_batches_are_those_of_one_call(model, data, target):
    transform = kr.NonRobustifier(
        model, target=target, steps=2, seed=4, batch_size=8
    )
    mapped = transform.map(batches(*data))
    assert len(mapped) == 3
    # Every pass is the same.
    for _ in range(2):
        x, t = joined(mapped)
        expected, targets = transform(*data, verbose=0)
        np.testing.assert_allclose(x, expected, atol=1e-6)
        np.testing.assert_array_equal(t, targets)


def test_details(model, data):
    transform = kr.NonRobustifier(model, steps=2, seed=4, batch_size=8)
    *_, found = zip(
        *transform.map(batches(*data), return_details=True), strict=True
    )
    *_, expected = transform(*data, verbose=0, return_details=True)
    for key, column in expected.items():
        made = np.concatenate([part[key].numpy() for part in found])
        np.testing.assert_allclose(made, column, atol=1e-6, err_msg=key)


@pytest.mark.slow_on_jax
def test_inversions_start_from_the_data_set(model, data):
    """Without a step, what comes out is the start images."""
    x, y = data
    transform = kr.Robustifier(model, steps=0, seed=4, batch_size=8)
    starts, labels = joined(transform.map(batches(x, y)))
    np.testing.assert_array_equal(labels, y)
    rows = [int(np.abs(x - s).sum((1, 2, 3)).argmin()) for s in starts]
    assert sorted(rows) == list(range(22)) and rows != list(range(22))
    np.testing.assert_array_equal(starts, x[rows])
    moved = kr.Robustifier(model, steps=4, step_size=0.2, batch_size=8, seed=4)
    made, _ = joined(moved.map(batches(x, y)))
    expected = moved(x, start=starts, verbose=0)
    np.testing.assert_allclose(made, expected, atol=1e-6)


@pytest.mark.compiles_much
def test_noise_starts_are_those_of_one_call(model, data):
    x, y = data
    transform = kr.Robustifier(
        model, steps=1, start="noise", seed=4, batch_size=8
    )
    made, _ = joined(transform.map(batches(x, y, 5)))
    np.testing.assert_allclose(made, transform(x, verbose=0), atol=1e-6)


def all_transforms(model):
    inversion = kr.Robustifier(
        model, steps=1, start="noise", seed=4, batch_size=8
    )
    return (
        inversion,
        kr.Mixture(inversion, 0.5),
        kr.NonRobustifier(model, steps=1, seed=4, batch_size=8),
        kr.Shortcut(3, seed=4),
    )


@pytest.mark.parametrize(
    "form", mostly_slow(["column", "one_hot", "dictionary"], "one_hot")
)
@pytest.mark.compiles_much
def test_forms_of_labels(model, data, form):
    """All give what labels `(N,)` give: classes as integers `(N,)`."""
    import tensorflow as tf

    x, y = data
    one_hot = np.eye(3, dtype="float32")[y]
    dataset = {
        "column": lambda: batches(x, y[:, None]),
        "one_hot": lambda: batches(x, one_hot),
        "dictionary": lambda: tf.data.Dataset.from_tensor_slices(
            {"image": x, "label": y.astype("int64"), "id": np.arange(22)}
        ).batch(8),
    }[form]()
    for transform in all_transforms(model):
        expected, labels = joined(transform.map(batches(x, y)))
        made, found = joined(transform.map(dataset))
        np.testing.assert_allclose(made, expected, atol=1e-6)
        np.testing.assert_array_equal(found, labels)
        assert found.dtype == "int32" and found.shape == (22,)
        *_, details = next(iter(transform.map(dataset, return_details=True)))
        np.testing.assert_array_equal(details["original_label"], y[:8])


@pytest.mark.slow_on_jax
def test_pixels_of_uint8(model, data):
    """They stand for the whole value range, also as start images."""
    x, y = np.uint8(np.round(255 * data[0])), data[1]
    scaled = x.astype("float32") / 255
    for transform in all_transforms(model):
        made, found = joined(transform.map(batches(x, y)))
        expected, labels = joined(transform.map(batches(scaled, y)))
        np.testing.assert_allclose(made, expected, atol=1e-6)
        np.testing.assert_array_equal(found, labels)
        # A call takes them as well.
        called = (
            transform(x, verbose=0)
            if transform.keeps_labels
            else transform(x, y, verbose=0)[0]
        )
        np.testing.assert_allclose(called, made, atol=1e-6)
        assert called.dtype == "float32"
    starts, _ = joined(
        kr.Robustifier(model, steps=0, seed=4).map(batches(x, y))
    )
    distance = np.abs(starts[:, None] - scaled[None]).max((2, 3, 4))
    assert distance.min(1).max() < 1e-6


def test_data_sets_that_are_refused(model, data):
    """At once, before anything is read, in one line."""
    import tensorflow as tf

    x, y = data
    rows = tf.data.Dataset.from_tensor_slices
    wrong = {
        "not batched": (rows((x, y)), "call `.batch"),
        "one-hot, not batched": (rows((x, np.eye(3)[y])), "call `.batch"),
        "text": (batches(x, y.astype(str)), "labels of dtype string"),
        "images as text": (batches(x.astype(str), y), "images of dtype string"),
        "three parts": (
            batches(x, y).map(lambda x, y: (x, y, y)),
            "of \\(x, y",
        ),
        "arrays": ((x, y), r"must be a tf\.data\.Dataset"),
    }
    for transform in all_transforms(model):
        for what, (dataset, message) in wrong.items():
            with pytest.raises(ValueError, match=message) as error:
                transform.map(dataset)
            assert "\n" not in str(error.value), what


def test_a_data_set_that_can_be_read_only_once(model, data):
    import tensorflow as tf

    items = iter([(data[0][:8], data[1][:8])] * 2)
    dataset = tf.data.Dataset.from_generator(
        lambda: items,
        output_signature=(
            tf.TensorSpec((None, 6, 6, 2)),
            tf.TensorSpec((None,), "int32"),
        ),
    )
    with pytest.raises(Exception, match="read once more.*start='noise'"):
        list(kr.Robustifier(model, steps=0, seed=4).map(dataset))


@pytest.mark.slow_on_jax
def test_the_result_trains_a_model(model, data):
    student = make_cnn()
    student.compile("sgd", "sparse_categorical_crossentropy")
    mapped = kr.NonRobustifier(model, steps=1, seed=4).map(batches(*data))
    student.fit(mapped, epochs=2, verbose=0)
    assert all(np.isfinite(w).all() for w in student.get_weights())


def test_errors_come_out(model, data):
    x, y = data
    transform = kr.NonRobustifier(model, steps=1)
    with pytest.raises(ValueError, match=r"of \(x, y\) batches"):
        transform.map(batches(*data).map(lambda x, y: x))
    with pytest.raises(Exception, match="value_range"):
        list(transform.map(batches(x + 1, y)))
    with pytest.raises(Exception, match="label"):
        list(transform.map(batches(x, y + 9)))


def test_reading_stops_with_the_reader(model, data):
    endless = batches(*data).repeat()
    mapped = kr.NonRobustifier(model, steps=1, seed=0).map(endless)
    x, _ = next(iter(mapped))
    assert ops.convert_to_numpy(x).shape == (8, 6, 6, 2)
