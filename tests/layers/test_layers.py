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


def shifts_of(images, padding, mode="constant"):
    """The shift of each image, found by comparing with all of them."""
    size = images.shape[1]
    x = np.arange(1, 1 + size * size, dtype="float32").reshape(size, size)
    padded = np.pad(x, padding, mode=mode)
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


@pytest.mark.parametrize(
    "padding", [pytest.param(1, marks=pytest.mark.slow_on_jax), 4]
)
@pytest.mark.compiles_much
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


@pytest.mark.slow_on_jax
def test_pad_and_crop_reflects():
    """Keras's reflection repeats the edge: NumPy's "symmetric"."""
    x = np.arange(1, 37, dtype="float32").reshape(1, 6, 6, 1)
    x = np.tile(x, (50, 1, 1, 1))
    layer = layers.PadAndCrop(2, seed=0, fill_mode="reflect")
    images = ops.convert_to_numpy(layer(x, training=True))
    shifts = shifts_of(images, 2, mode="symmetric")
    assert set(np.ravel(shifts)) == set(range(5))


def test_pad_and_crop_configuration():
    layer = layers.PadAndCrop(3, seed=5, fill_mode="reflect")
    again = reload(layer)
    assert again.get_config() == layer.get_config()
    assert (again.padding, again.seed) == (3, 5)
    assert again.fill_mode == "reflect"
    with pytest.raises(ValueError, match="padding.*Received"):
        layers.PadAndCrop(-1)


@pytest.mark.compiles_much
def test_pad_and_crop_is_compiled_on_jax():
    """Keras would run each operation of a step of such a model by itself."""
    inputs = keras.Input((6, 6, 1))
    h = layers.PadAndCrop(2, seed=0)(inputs)
    model = keras.Model(inputs, keras.layers.GlobalMaxPooling2D()(h))
    model.compile(loss="mse")
    assert model.jit_compile == (keras.backend.backend() == "jax")
    x = np.arange(1, 73, dtype="float32").reshape(2, 6, 6, 1)
    drawn, traced = (layers.PadAndCrop(2, seed=0) for _ in range(2))
    compiled = backend.compile(
        lambda inputs: traced(inputs["x"], training=True), traced.variables
    )
    np.testing.assert_array_equal(
        ops.convert_to_numpy(compiled({"x": ops.convert_to_tensor(x)})),
        ops.convert_to_numpy(drawn(x, training=True)),
    )


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


@pytest.mark.parametrize(
    "convolution, shape, size",
    [
        (keras.layers.Conv1D, (2, 6, 3), 3),
        (keras.layers.Conv2D, (2, 6, 5, 3), (3, 1)),
        (keras.layers.Conv2D, (2, 6, 5, 3), 2),
        (keras.layers.Conv2D, (2, 6, 5, 3), 4),
        (keras.layers.Conv3D, (2, 4, 3, 5, 3), 3),
    ],
)
def test_dirac_passes_its_input_through(convolution, shape, size, rng):
    x = rng.random(shape, dtype="float32")
    for filters in (2, 7):
        layer = convolution(
            filters,
            size,
            padding="same",
            kernel_initializer=layers.Dirac("ones"),
        )
        y = ops.convert_to_numpy(layer(x))
        count = min(filters, 3)
        np.testing.assert_allclose(y[..., :count], x[..., :count], rtol=1e-6)
    # The others are of the base, here sums over what a kernel sees.
    middle = tuple((n - 1) // 2 for n in shape[1:-1])
    assert (y[(0, *middle)][3:] > x[(0, *middle)].sum()).all()


def test_dirac_leaves_the_other_filters_to_its_base():
    """PyTorch's default is uniform in 1 / sqrt(fan_in), here 1/6."""
    kernel = ops.convert_to_numpy(layers.Dirac()((3, 3, 4, 2004)))[..., 4:]
    assert 0.99 / 6 < abs(kernel).max() <= 1 / 6 + 1e-6
    # A uniform variable on +-b has variance b^2 / 3; 72,000 draws.
    assert kernel.var() == pytest.approx(1 / 36 / 3, rel=0.02)
    ones = ops.convert_to_numpy(layers.Dirac("ones")((3, 3, 4, 6)))
    assert (ones[..., 4:] == 1).all()
    assert ones[..., :4].sum() == 4


def test_dirac_configuration():
    first = layers.Dirac(keras.initializers.Constant(0.3))
    again = reload(first)
    assert again.get_config() == first.get_config()
    np.testing.assert_array_equal(
        ops.convert_to_numpy(again((3, 3, 2, 5))),
        ops.convert_to_numpy(first((3, 3, 2, 5))),
    )
    half = layers.Dirac("ones")((3, 2, 5), dtype="bfloat16")
    assert keras.backend.standardize_dtype(half.dtype) == "bfloat16"
    with pytest.raises(ValueError, match="shape.*Received"):
        first((3, 4))
