import keras
import numpy as np
import pytest
from keras import ops

from keras_robust import layers


@pytest.fixture
def images(rng):
    """Images whose neighbouring pixels and channels go together."""
    x = rng.normal(size=(40, 7, 6, 3))
    x[:, 1:] += 0.8 * x[:, :-1]
    x[..., 1:] -= 0.5 * x[..., :-1]
    return (0.3 * x + 0.2).astype("float32")


def patches_of(images, size):
    """Patches one by one, `(patches, size * size * C)`."""
    _, height, width, _ = images.shape
    return np.array(
        [
            image[i : i + size, j : j + size].ravel()
            for image in images.astype("float64")
            for i in range(height - size + 1)
            for j in range(width - size + 1)
        ]
    )


@pytest.mark.parametrize("size, filters", [(2, None), (2, 10), (3, 6)])
def test_kernel_against_a_decomposition_of_the_patches(images, size, filters):
    layer = layers.PatchWhitening(filters, kernel_size=size, epsilon=1e-2)
    layer.adapt(images)
    kernel = ops.convert_to_numpy(layer.kernel)
    half = (filters or 2 * size * size * 3) // 2
    assert kernel.shape == (size, size, 3, 2 * half)
    patches = patches_of(images, size)
    # The right singular vectors are the axes.
    centered = patches - patches.mean(0)
    _, singular, axes = np.linalg.svd(centered, full_matrices=False)
    variances = singular**2 / len(patches)
    expected = axes[:half] / np.sqrt(variances[:half, None] + 1e-2)
    found = kernel.reshape(-1, 2 * half).T
    np.testing.assert_array_equal(found[half:], -found[:half])
    signs = np.sign((expected * found[:half]).sum(-1, keepdims=True))
    np.testing.assert_allclose(found[:half], signs * expected, atol=2e-5)


def test_outputs_are_white(images):
    epsilon = 1e-6
    layer = layers.PatchWhitening(epsilon=epsilon)
    layer.adapt(images)
    assert layer.compute_output_shape(images.shape) == (40, 6, 5, 24)
    outputs = ops.convert_to_numpy(layer(images))
    assert outputs.shape == (40, 6, 5, 24)
    covariance = np.cov(outputs[..., :12].reshape(-1, 12).T, bias=True)
    np.testing.assert_allclose(covariance, np.eye(12), atol=1e-3)


def test_outputs_are_the_kernel_on_patches_plus_the_bias(images, rng):
    layer = layers.PatchWhitening()
    layer.adapt(images)
    bias = rng.normal(size=24).astype("float32")
    layer.bias.assign(bias)
    kernel = ops.convert_to_numpy(layer.kernel).reshape(12, 24)
    expected = patches_of(images, 2) @ kernel + bias
    found = ops.convert_to_numpy(layer(images)).reshape(-1, 24)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_before_adapt_it_gives_patches_and_their_negatives(images):
    layer = layers.PatchWhitening()
    assert not layer.is_adapted
    found = ops.convert_to_numpy(layer(images)).reshape(-1, 24)
    patches = patches_of(images, 2)
    expected = np.concatenate([patches, -patches], axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert not layer.is_adapted
    layer.adapt(images)
    assert layer.is_adapted


def sources(images):
    import tensorflow as tf

    labels = np.zeros(len(images))
    data = tf.data.Dataset.from_tensor_slices((images, labels))
    return {
        "tensor": ops.convert_to_tensor(images),
        "float64": images.astype("float64"),
        "batches": [images[:25], images[25:]],
        "generator": ((x, 0) for x in (images[:1], images[1:])),
        "tf.data": data.batch(16),
    }


def test_every_source_gives_the_same_kernel(images):
    layer = layers.PatchWhitening()
    layer.adapt(images)
    expected = ops.convert_to_numpy(layer.kernel)
    for name, source in sources(images).items():
        other = layers.PatchWhitening()
        other.adapt(source)
        np.testing.assert_allclose(
            ops.convert_to_numpy(other.kernel),
            expected,
            atol=1e-4,
            err_msg=name,
        )


@pytest.mark.parametrize("in_batches", [False, True])
def test_the_first_images_count(in_batches, rng):
    images = rng.normal(size=(5_003, 2, 2, 1))
    images[5_000:] = np.nan
    layer = layers.PatchWhitening()
    layer.adapt([images[:3_000], images[3_000:]] if in_batches else images)
    half = ops.convert_to_numpy(layer.kernel).reshape(4, 8)[:, :4]
    covariance = np.cov(images[:5_000].reshape(-1, 4).T, bias=True)
    np.testing.assert_allclose(
        half @ half.T,
        np.linalg.inv(covariance + 5e-4 * np.eye(4)),
        atol=1e-4,
    )


def test_integers_are_not_rounded(rng):
    images = rng.integers(0, 256, (30, 4, 4, 1)).astype("uint8")
    ours, other = layers.PatchWhitening(), layers.PatchWhitening()
    ours.adapt(images)
    other.adapt(images.astype("float64"))
    assert ours.is_adapted
    np.testing.assert_array_equal(
        ops.convert_to_numpy(ours.kernel), ops.convert_to_numpy(other.kernel)
    )


def test_constant_images_stay_finite():
    layer = layers.PatchWhitening(epsilon=1e-4)
    layer.adapt(np.full((3, 4, 4, 1), 0.5))
    kernel = ops.convert_to_numpy(layer.kernel).reshape(4, 8)
    np.testing.assert_allclose(np.linalg.norm(kernel, axis=0), 100, rtol=1e-4)


def test_save_and_load(tmp_path, images):
    inputs = keras.Input((7, 6, 3))
    layer = layers.PatchWhitening(8, epsilon=0.1, bias_regularizer="l2")
    layer.adapt(images)
    model = keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    loaded = again.layers[-1]
    assert loaded.get_config() == layer.get_config()
    assert (loaded.filters, loaded.epsilon, loaded.is_adapted) == (8, 0.1, True)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(loaded.kernel), ops.convert_to_numpy(layer.kernel)
    )
    # A copy by weights is adapted too.
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    assert clone.layers[-1].is_adapted


def test_the_bias_is_trained_and_the_kernel_is_not():
    layer = layers.PatchWhitening()
    layer.build((None, 7, 6, 3))
    assert [v.name for v in layer.trainable_variables] == ["bias"]
    assert [v.name for v in layer.non_trainable_variables] == ["kernel"]


def test_mixed_precision(images):
    layer = layers.PatchWhitening(dtype="mixed_bfloat16")
    layer.adapt(images)
    assert keras.backend.standardize_dtype(layer.kernel.dtype) == "float32"
    outputs = layer(images)
    assert keras.backend.standardize_dtype(outputs.dtype) == "bfloat16"


@pytest.mark.parametrize(
    "options, name",
    [
        ({"filters": 3}, "filters"),
        ({"filters": 0}, "filters"),
        ({"kernel_size": 0}, "kernel_size"),
        ({"kernel_size": 1.5}, "kernel_size"),
        ({"epsilon": 0.0}, "epsilon"),
    ],
)
def test_arguments(options, name):
    with pytest.raises(ValueError, match=f"{name}.*Received"):
        layers.PatchWhitening(**options)


def test_more_filters_than_axes():
    with pytest.raises(ValueError, match="filters.*24.*Received"):
        layers.PatchWhitening(26).build((None, 7, 6, 3))


@pytest.mark.parametrize(
    "images",
    [
        3,
        [],
        np.zeros((0, 4, 4, 1)),
        np.zeros((4, 4, 1)),
        np.zeros((5, 1, 4, 1)),
        np.full((5, 4, 4, 1), np.nan),
        [np.zeros((5, 4, 4, 1)), np.zeros((5, 4, 4, 3))],
    ],
)
def test_images_that_cannot_be_whitened(images):
    with pytest.raises(ValueError, match="images.*Received"):
        layers.PatchWhitening().adapt(images)
