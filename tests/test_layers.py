import keras
import numpy as np
import pytest
from keras import ops

from keras_robust import backend
from keras_robust import layers


def reload(layer):
    return keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(layer)
    )


def test_fake_relu_passes_the_gradient_of_the_identity():
    x = ops.convert_to_tensor(np.array([[-2.0, 0.0, 3.0]], "float32"))
    layer = layers.FakeReLU()
    (_, outputs), gradient = backend.value_and_gradient(
        lambda x: (ops.sum(layer(x), axis=-1), layer(x)), x
    )
    if backend.name == "torch":
        outputs = outputs.detach()
    assert ops.convert_to_numpy(outputs).tolist() == [[0, 0, 3]]
    assert ops.convert_to_numpy(gradient).tolist() == [[1, 1, 1]]
    assert isinstance(reload(layer), layers.FakeReLU)


def shifts_of(images, padding):
    """The shift of each image, found by comparing with all of them."""
    size = images.shape[1]
    x = np.arange(1, 1 + size * size, dtype="float32").reshape(size, size)
    padded = np.pad(x, padding)
    found = []
    for image in images[..., 0]:
        matches = [
            (dy, dx)
            for dy in range(2 * padding + 1)
            for dx in range(2 * padding + 1)
            if np.array_equal(padded[dy : dy + size, dx : dx + size], image)
        ]
        assert len(matches) == 1
        found.append(matches[0])
    return found


@pytest.mark.parametrize("padding", [1, 4])
def test_pad_and_crop_draws_whole_shifts_per_example(padding):
    size = 10
    x = np.arange(1, 1 + size * size, dtype="float32")
    x = np.tile(x.reshape(1, size, size, 1), (400, 1, 1, 1))
    layer = layers.PadAndCrop(padding, seed=0)
    first = ops.convert_to_numpy(layer(x, training=True))
    shifts = shifts_of(first, padding)
    assert set(np.ravel(shifts)) == set(range(2 * padding + 1))
    counts = np.bincount(np.ravel(shifts))
    # Uniform: 800 draws over 2 padding + 1 values, within 5 deviations.
    mean = 800 / (2 * padding + 1)
    assert np.abs(counts - mean).max() < 5 * np.sqrt(mean)
    second = ops.convert_to_numpy(layer(x, training=True))
    assert shifts_of(second, padding) != shifts
    again = ops.convert_to_numpy(layers.PadAndCrop(padding, seed=0)(x))
    np.testing.assert_array_equal(again, first)
    still = ops.convert_to_numpy(layer(x, training=False))
    np.testing.assert_array_equal(still, x)


def test_pad_and_crop_configuration():
    layer = layers.PadAndCrop(3, seed=5)
    again = reload(layer)
    assert again.get_config() == layer.get_config()
    assert (again.padding, again.seed) == (3, 5)
    with pytest.raises(ValueError, match="padding.*Received"):
        layers.PadAndCrop(-1)


@pytest.mark.parametrize(
    "options, shape",
    [
        ({"filters": 4}, (2, 8, 8, 4)),
        ({"filters": 8, "strides": 2}, (2, 4, 4, 8)),
        ({"filters": 8, "strides": 2, "shortcut": "projection"}, (2, 4, 4, 8)),
        (
            {"filters": 2, "bottleneck": True, "shortcut": "projection"},
            (2, 8, 8, 8),
        ),
    ],
)
def test_residual_block_shapes_and_configuration(options, shape, rng):
    layer = layers.ResidualBlock(**options)
    x = rng.random((2, 8, 8, 4), dtype="float32")
    y = layer(x)
    assert tuple(y.shape) == shape == layer.compute_output_shape(x.shape)
    again = reload(layer)
    again.set_weights(layer.get_weights())
    np.testing.assert_allclose(
        ops.convert_to_numpy(again(x)), ops.convert_to_numpy(y), rtol=1e-5
    )


def test_residual_block_without_its_branch_is_its_shortcut(rng):
    """With scale 0 in the last BatchNorm only the shortcut is left."""
    x = rng.random((2, 8, 8, 4), dtype="float32")
    layer = layers.ResidualBlock(8, strides=2)
    layer.build(x.shape)
    layer.branch[-1].gamma.assign(np.zeros(8))
    y = ops.convert_to_numpy(layer(x))
    np.testing.assert_allclose(y[..., 2:6], x[:, ::2, ::2])
    assert not y[..., :2].any() and not y[..., 6:].any()


def test_residual_block_errors():
    with pytest.raises(ValueError, match="shortcut.*Received"):
        layers.ResidualBlock(4, shortcut="none")
    with pytest.raises(ValueError, match="activation.*Received"):
        layers.ResidualBlock(4, activation="gelu")
