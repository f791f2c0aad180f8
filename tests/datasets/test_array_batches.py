"""Batches of arrays, where TensorFlow is not installed."""

import keras
import numpy as np
import pytest

import keras_robust as kr
from keras_robust.datasets import pipelines
from keras_robust.datasets import sources
from keras_robust.datasets.array_batches import ArrayBatches
from keras_robust.datasets.tf_data import map_images


@pytest.fixture
def data(rng):
    # A bright pixel that no shift by 2 loses, on a side of its own.
    x = np.zeros((60, 12, 12, 1), "float32")
    x[:, 6, 3] = np.linspace(0.1, 1, 60)[:, None]
    return x, np.arange(60) % 10


@pytest.fixture
def without_tensorflow(monkeypatch):
    monkeypatch.setattr(pipelines, "can_be_imported", lambda: False)
    monkeypatch.setattr(sources, "is_installed", lambda package: False)


def epoch(batches):
    """All images and labels of one epoch, as `fit` reads them."""
    parts = [batches[index] for index in range(len(batches))]
    batches.on_epoch_end()
    return (np.concatenate(part) for part in zip(*parts, strict=True))


def spots(images):
    return [tuple(np.argwhere(image[..., 0])[0]) for image in images]


def test_plain_batches_keep_order(data, without_tensorflow):
    x, y = data
    batches = kr.datasets.pipeline(x, y, batch_size=25)
    assert isinstance(batches, keras.utils.PyDataset)
    assert [len(labels) for _, labels in batches] == [25, 25, 10]
    images, labels = epoch(batches)
    np.testing.assert_array_equal(images, x)
    np.testing.assert_array_equal(labels, y)
    dropped = ArrayBatches(x, y, batch_size=25, drop_remainder=True)
    assert len(dropped) == 2


def test_shuffle_is_new_each_epoch_and_keeps_pairs(data):
    x, y = data
    batches = ArrayBatches(x, y, 16, shuffle=True, seed=1)
    first, labels = epoch(batches)
    second, _ = epoch(batches)
    assert (first != second).any() and (first != x).any()
    order = np.argsort(first[:, 6, 3, 0])
    np.testing.assert_array_equal(first[order], x)
    np.testing.assert_array_equal(labels[order], y)


def test_each_loop_over_the_batches_is_an_epoch(data):
    x, y = data
    options = {"shuffle": True, "padding": 2, "flip": True, "seed": 0}
    batches = ArrayBatches(x, y, 16, **options)
    loops = [np.concatenate([images for images, _ in batches])]
    for _ in batches:
        # What is left early is an epoch too.
        break
    loops.append(np.concatenate([images for images, _ in batches]))
    again = ArrayBatches(x, y, 16, **options)
    first, _, third = (next(epoch(again)) for _ in range(3))
    np.testing.assert_array_equal(loops[0], first)
    np.testing.assert_array_equal(loops[1], third)
    assert (first != third).any()


def test_shifts_and_flips_are_per_example_and_repeat_by_seed(data):
    x, y = data

    def epochs(seed):
        batches = ArrayBatches(x, y, 20, padding=2, flip=True, seed=seed)
        return [list(epoch(batches))[0] for _ in range(2)]

    first, second = epochs(0)
    rows, columns = zip(*spots(first), strict=True)
    assert set(rows) == {4, 5, 6, 7, 8}
    # Columns 1 to 5, or mirrored 6 to 10: flips are per example too.
    assert set(columns) == set(range(1, 11))
    # Each pixel is that of its image, moved.
    np.testing.assert_array_equal(first.max((1, 2, 3)), x.max((1, 2, 3)))
    assert (first != second).any()
    for ours, theirs in zip(epochs(0), (first, second), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert (epochs(1)[0] != first).any()


@pytest.mark.parametrize("fill_mode", ["constant", "reflect", "wrap"])
@pytest.mark.compiles_much
def test_paddings_are_those_of_the_layer(rng, fill_mode):
    x = rng.random((200, 6, 6, 2)).astype("float32")
    batches = ArrayBatches(
        x, np.arange(200), 200, padding=2, seed=3, fill_mode=fill_mode
    )
    images, _ = epoch(batches)
    layer = kr.layers.PadAndCrop(2, seed=0, fill_mode=fill_mode)
    # All 25 shifts of an image, of each of which the layer makes one in 25.
    for number in range(3):
        many = np.repeat(x[number : number + 1], 600, axis=0)
        made = keras.ops.convert_to_numpy(layer(many, training=True))
        distances = np.abs(made - images[number]).max((1, 2, 3))
        assert distances.min() < 1e-6


def test_alternating_flips_show_both_sides_in_two_epochs(data):
    x, y = data
    batches = ArrayBatches(x, y, 16, flip="alternating", shuffle=True, seed=0)
    seen = []
    for _ in range(3):
        images, _ = epoch(batches)
        order = np.argsort(images.max((1, 2, 3)))
        seen.append(np.array(spots(images[order]))[:, 1])
    assert set(seen[0]) == {3, 8}
    np.testing.assert_array_equal(seen[0] + seen[1], np.full(60, 11))
    np.testing.assert_array_equal(seen[0], seen[2])


def test_channels_first(data, monkeypatch):
    x, y = data
    options = {"padding": 2, "flip": True, "seed": 0}
    last, _ = epoch(ArrayBatches(x, y, 20, **options))
    monkeypatch.setattr(
        keras.config, "image_data_format", lambda: "channels_first"
    )
    first, _ = epoch(ArrayBatches(x.transpose(0, 3, 1, 2), y, 20, **options))
    np.testing.assert_array_equal(first.transpose(0, 2, 3, 1), last)


def test_images_changed_by_a_function(data):
    x, y = data
    batches = ArrayBatches(x, y, 20, seed=0)
    changed = map_images(batches, lambda images: 1 - images)
    images, _ = epoch(changed)
    np.testing.assert_array_equal(images, 1 - x)
    plain, _ = epoch(batches)
    np.testing.assert_array_equal(plain, x)


def test_fit_learns_from_them(data, without_tensorflow):
    x, _ = data
    y = (np.arange(60) >= 30).astype("int32")
    model = keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            keras.layers.GlobalMaxPooling2D(),
            keras.layers.Dense(2),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.1), loss, metrics=["accuracy"])
    batches = kr.datasets.pipeline(
        x, y, 20, shuffle=True, augment=True, padding=1, seed=0
    )
    history = model.fit(batches, epochs=15, verbose=0)
    assert history.history["accuracy"][-1] > 0.9


def test_keras_reads_each_image_once_in_an_epoch():
    """More batches than Keras's threads would read ahead."""
    x = np.arange(60, dtype="float32").reshape(60, 1, 1, 1)
    ones = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    model = keras.Sequential(
        [keras.Input((1, 1, 1)), keras.layers.Flatten(), ones]
    )
    batches = ArrayBatches(x, np.zeros(60), 2, shuffle=True, seed=0)
    sgd = keras.optimizers.SGD(0.0)
    model.compile(sgd, "mae", metrics=["mse"])
    found = model.evaluate(batches, verbose=0, return_dict=True)
    # The mean of all images, whatever their order.
    np.testing.assert_allclose(found["loss"], x.mean(), rtol=1e-5)
    model.compile(sgd, "mae", metrics=["mse"])
    history = model.fit(batches, epochs=3, shuffle=False, verbose=0).history
    np.testing.assert_allclose(history["loss"], [x.mean()] * 3, rtol=1e-5)


@pytest.mark.parametrize(
    "x, y, message",
    [
        (np.zeros((3, 4, 4, 1)), None, "two arrays"),
        (np.zeros((3, 4, 4, 1)), np.zeros(2), "one length"),
        (np.zeros((3, 4, 4)), np.zeros(3), r"\(3, 4, 4\)"),
    ],
)
def test_what_is_refused(x, y, message):
    with pytest.raises(ValueError, match=message):
        ArrayBatches(x, y, padding=1)


@pytest.mark.parametrize(
    "name, channels", [("cifar10", 3), ("fashion_mnist", 1)]
)
def test_images_that_keras_downloads(
    name, channels, rng, monkeypatch, without_tensorflow
):
    x = rng.integers(0, 256, (5, 8, 8, channels)).astype("uint8")
    y = np.array([[3], [1], [0], [9], [2]], "uint8")
    of_keras = (x, y) if channels == 3 else (x[..., 0], y[:, 0])
    module = getattr(keras.datasets, name)
    monkeypatch.setattr(module, "load_data", lambda: (of_keras, of_keras))
    data = kr.datasets.load(name)
    for images, labels in (data.train, data.test):
        assert images.dtype == "float32" and labels.dtype == "int32"
        np.testing.assert_allclose(images, x / 255, rtol=1e-6)
        np.testing.assert_array_equal(labels, y[:, 0])
    assert len(data.class_names) == 10
