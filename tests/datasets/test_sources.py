import numpy as np
import pytest

import keras_robust as kr


def test_digits():
    data = kr.datasets.load("digits")
    (x, y), (x_test, y_test) = data
    assert x.shape == (1442, 8, 8, 1) and x_test.shape == (355, 8, 8, 1)
    assert x.dtype == x_test.dtype == np.float32
    assert y.dtype == np.int32 and len(data.class_names) == 10
    assert x.min() == 0 and x.max() == 1
    # The test set is a fifth of every class.
    shares = np.bincount(y_test) / (np.bincount(y) + np.bincount(y_test))
    assert ((shares > 0.19) & (shares <= 0.2)).all()
    again = kr.datasets.load("digits")
    np.testing.assert_array_equal(again.test[0], x_test)


def test_sets_of_tfds_in_their_shapes():
    import tensorflow_datasets as tfds

    for name, shape in (
        ("cifar10", (32, 32, 3)),
        ("fashion_mnist", (28, 28, 1)),
    ):
        with tfds.testing.mock_data(num_examples=5):
            data = kr.datasets.load(name)
        for x, y in data:
            assert x.shape == (5, *shape) and x.dtype == np.float32
            assert x.min() >= 0 and x.max() <= 1
            assert y.shape == (5,) and y.dtype == np.int32
        assert len(data.class_names) == 10


@pytest.mark.slow
def test_cifar10_itself():
    """The real one, where it is prepared."""
    try:
        data = kr.datasets.load("cifar10")
    except FileNotFoundError:
        pytest.skip("cifar10 is not prepared in TFDS_DATA_DIR")
    train, test = data
    assert train[0].shape == (50_000, 32, 32, 3)
    assert test[0].shape == (10_000, 32, 32, 3)
    assert (np.bincount(train[1]) == 5000).all()
    from keras_robust.models.parts import CIFAR_MEAN
    from keras_robust.models.parts import CIFAR_STD

    pixels = train[0][::10].astype("float64")
    np.testing.assert_allclose(pixels.mean((0, 1, 2)), CIFAR_MEAN, atol=4e-3)
    np.testing.assert_allclose(pixels.std((0, 1, 2)), CIFAR_STD, atol=4e-3)
    assert data.class_names[9] == "truck"


def test_missing_set_says_how_to_prepare_it(tmp_path, monkeypatch):
    from keras_robust.datasets.tfds import load_tfds

    with pytest.raises(FileNotFoundError, match="TFDS_DATA_DIR") as error:
        load_tfds("cifar10", data_dir=tmp_path, download=False)
    assert "tfds.load('cifar10')" in str(error.value)


def test_unknown_name():
    with pytest.raises(ValueError, match="name.*Received"):
        kr.datasets.load("mnist1000")


def test_published_images_by_name():
    import tensorflow_datasets as tfds

    with tfds.testing.mock_data(num_examples=7):
        x, y = kr.corruptions.load_cifar10_c("fog", 3)
    assert x.shape == (7, 32, 32, 3) and x.dtype == np.float32
    assert 0 <= x.min() and 1 / 255 < x.max() <= 1
    assert y.shape == (7,) and y.dtype == np.int32
    for wrong in (("fogg", 3), ("fog", 6), ("fog", 0)):
        with pytest.raises(ValueError, match="Received"):
            kr.corruptions.load_cifar10_c(*wrong)
