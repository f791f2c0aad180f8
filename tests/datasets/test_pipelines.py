import keras
import numpy as np
import pytest

import keras_robust as kr


@pytest.fixture
def data(rng):
    # A bright pixel that no shift by 2 loses, on a side of its own.
    x = np.zeros((60, 12, 12, 1), "float32")
    x[:, 6, 3] = np.linspace(0.1, 1, 60)[:, None]
    return x, np.arange(60) % 10


def arrays(dataset):
    batches = list(dataset.as_numpy_iterator())
    return (np.concatenate(part) for part in zip(*batches, strict=True))


def test_plain_batches_keep_order(data):
    x, y = data
    dataset = kr.datasets.pipeline(x, y, batch_size=25)
    assert [len(labels) for _, labels in dataset] == [25, 25, 10]
    images, labels = arrays(dataset)
    np.testing.assert_array_equal(images, x)
    np.testing.assert_array_equal(labels, y)


def test_shuffle_is_new_each_epoch_and_keeps_pairs(data):
    x, y = data
    dataset = kr.datasets.pipeline(x, y, 16, shuffle=True, seed=1)
    first, labels = arrays(dataset)
    second, _ = arrays(dataset)
    assert (first != second).any() and (first != x).any()
    order = np.argsort(first[:, 6, 3, 0])
    np.testing.assert_array_equal(first[order], x)
    np.testing.assert_array_equal(labels[order], y)


def test_augmentation_is_per_example_and_repeats_by_seed(data):
    x, y = data

    def epochs(seed):
        dataset = kr.datasets.pipeline(
            x, y, 20, augment=True, padding=2, shuffle=True, seed=seed
        )
        return [list(arrays(dataset))[0] for _ in range(2)]

    first, second = epochs(0)
    spots = {tuple(np.argwhere(image[..., 0])[0]) for image in first}
    rows, columns = zip(*spots, strict=True)
    assert set(rows) == {4, 5, 6, 7, 8}
    # Columns 1 to 5, or mirrored 6 to 10: flips are per example too.
    assert set(columns) == set(range(1, 11))
    assert len({len(np.argwhere(image)) for image in first}) == 1
    assert (first != second).any()
    for ours, theirs in zip(epochs(0), (first, second), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert (epochs(1)[0] != first).any()


def test_no_flip(data):
    x, y = data
    dataset = kr.datasets.pipeline(
        x, y, 20, augment=True, padding=2, flip=False
    )
    images, _ = arrays(dataset)
    assert np.argwhere(images[..., 0])[:, 2].max() <= 5


@pytest.mark.parametrize("seed", [0, None])
def test_two_epochs_of_alternating_flips_hold_both_sides(data, seed):
    x, y = data
    # Who is who is told by its label.
    y = np.arange(len(x))
    dataset = kr.datasets.pipeline(
        x,
        y,
        16,
        shuffle=True,
        augment=True,
        padding=0,
        flip="alternating",
        seed=seed,
    )
    assert len(dataset) == 4
    epochs = []
    for _ in range(4):
        images, labels = arrays(dataset)
        assert sorted(labels) == list(y)
        epochs.append(images[np.argsort(labels)])
    mirrored = x[:, :, ::-1]
    for one, other in zip(epochs[:-1], epochs[1:], strict=True):
        np.testing.assert_array_equal(one[:, :, ::-1], other)
    first = (epochs[0] == mirrored).all((1, 2, 3))
    assert ((epochs[0] == x).all((1, 2, 3)) != first).all()
    assert 10 < first.sum() < 50
    network = keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ]
    )
    network.compile("sgd", "mse")
    network.fit(dataset, epochs=2, verbose=0)


def test_reflection_brings_in_no_zeros():
    images, _ = arrays(
        kr.datasets.pipeline(
            np.ones((30, 6, 6, 1), "float32"),
            np.zeros(30),
            augment=True,
            fill_mode="reflect",
        )
    )
    np.testing.assert_array_equal(images, 1)


def test_data_set_in_and_remainder(data):
    import tensorflow as tf

    source = tf.data.Dataset.from_tensor_slices(data)
    dataset = kr.datasets.pipeline(source, batch_size=25, drop_remainder=True)
    assert [len(labels) for _, labels in dataset] == [25, 25]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flip": "alternate"}, "`flip` must .* Did you mean 'alternating'"),
        ({"flip": "False"}, "`flip` must be True, False"),
        ({"flip": None}, "`flip` must be True, False"),
        ({"fill_mode": "reflection"}, "`fill_mode` must .* mean 'reflect'"),
        ({"fill_mode": "mirror", "padding": 0}, "`fill_mode` must"),
        ({"padding": None}, "`padding` must be an integer"),
        ({"padding": 2.5}, "`padding` must be an integer"),
        ({"batch_size": 0}, "`batch_size` must be an integer"),
        ({"seed": 0.5}, "`seed` must be an integer"),
    ],
)
@pytest.mark.parametrize("augment", [False, True])
def test_wrong_arguments(data, changes, message, augment):
    x, y = data
    with pytest.raises(ValueError, match=message):
        kr.datasets.pipeline(x, y, augment=augment, **changes)


@pytest.mark.parametrize("flip", [True, "alternating"])
def test_augmentation_needs_single_images_with_channels(data, flip):
    import tensorflow as tf

    x, y = data
    options = {"augment": True, "flip": flip}
    # A shift would take rows of one image into the next.
    with pytest.raises(ValueError, match=r"x\[..., None\].*\(12, 12\)"):
        kr.datasets.pipeline(x[..., 0], y, **options)
    batched = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    with pytest.raises(ValueError, match="not in batches"):
        kr.datasets.pipeline(batched, **options)
    unlabelled = tf.data.Dataset.from_tensor_slices(x)
    with pytest.raises(ValueError, match="must be of .image, label."):
        kr.datasets.pipeline(unlabelled, **options)


def test_images_come_with_labels(data):
    x, y = data
    with pytest.raises(ValueError, match="two arrays .* y=None"):
        kr.datasets.pipeline(x)
    with pytest.raises(ValueError, match="60 images and 59 labels"):
        kr.datasets.pipeline(x, y[1:])


@pytest.mark.parametrize("flip", [True, "alternating"])
def test_flips_are_left_to_right_in_any_data_format(data, flip):
    x, y = data
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    try:
        dataset = kr.datasets.pipeline(
            x.transpose(0, 3, 1, 2),
            y,
            augment=True,
            padding=0,
            flip=flip,
            seed=np.int64(0),
        )
        images, _ = arrays(dataset)
    finally:
        keras.config.set_image_data_format(before)
    rows, columns = np.argwhere(images[:, 0])[:, 1:].T
    assert set(rows) == {6} and set(columns) == {3, 8}


def test_shifts_and_flips_are_independent():
    """One seed for both layers must not tie the one to the other."""
    x = np.zeros((600, 9, 9, 1), "float32")
    # The middle is brightest, its right neighbour half as bright.
    x[:, 4, 4], x[:, 4, 5] = 1.0, 0.5
    batches = kr.datasets.pipeline(
        x,
        np.zeros(600, "int32"),
        batch_size=600,
        augment=True,
        padding=2,
        seed=0,
    )
    ((images, _),) = list(batches)
    rows = np.asarray(images)[..., 0].reshape(600, 81)
    down, right = np.divmod(rows.argmax(-1), 9)
    flipped = np.isclose(rows, 0.5).argmax(-1) % 9 < right
    for shift in (down < 4, down > 4, right < 4, right > 4):
        assert 0.3 < flipped[shift].mean() < 0.7


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_pixels_keep_their_precision(policy, rng):
    x = rng.random((8, 6, 6, 1), dtype="float32")
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        dataset = kr.datasets.pipeline(
            x, np.arange(8), augment=True, padding=1, seed=0
        )
    finally:
        keras.config.set_dtype_policy(before)
    images, _ = arrays(dataset)
    assert images.dtype == "float32"
    # Every pixel is one of the image, or of the padding.
    assert set(np.unique(images)) <= {0.0, *np.unique(x)}
