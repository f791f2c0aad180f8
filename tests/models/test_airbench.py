import keras
import numpy as np
import pytest
from keras import ops
from scipy import special

from keras_robust import backend
from keras_robust import models
from keras_robust.classifier import Classifier
from keras_robust.classifier.rewriting import rewrite
from keras_robust.layers import PatchWhitening


def small(**options):
    """The network at its smallest, five classes.

    As narrow as its input, it starts with identities only.
    """
    return models.airbench((4, 4, 4), 5, (9, 9, 3), **options)


@pytest.fixture
def images(rng):
    x = rng.random((20, 9, 9, 3))
    x[..., 1:] += x[..., :-1]
    return (x / 2).astype("float32")


def parameters(channels, widths, classes):
    """Trainable numbers, counted by hand."""
    total, before = channels, channels
    for width in widths:
        total += 9 * before * width + 9 * width * width + 2 * width
        before = width
    return total + classes * widths[-1]


def trainable(model):
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


@pytest.mark.slow_on_jax
def test_shapes_and_parameters_of_the_default():
    model = models.airbench()
    assert trainable(model) == parameters(24, (64, 128, 128), 10) == 568_728
    assert model.get_layer("representation").output.shape == (None, 128)
    assert model.output_shape == (None, 10)
    assert model.get_layer("whitening").output.shape == (None, 31, 31, 24)


def test_shapes_and_parameters_of_a_small_one():
    model = small()
    assert trainable(model) == parameters(24, (4, 4, 4), 5)
    assert model.get_layer("representation").output.shape == (None, 4)
    assert model.output_shape == (None, 5)


def test_batch_norm_keeps_six_tenths_and_has_no_scale():
    norms = [
        layer
        for layer in small().layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    assert len(norms) == 6
    assert {(n.momentum, n.scale, n.center) for n in norms} == {
        (0.6, False, True)
    }


def gelu(x):
    return x * (1 + special.erf(x / np.sqrt(2))) / 2


def pool(x):
    """The largest of 2x2 pixels."""
    n, size, _, channels = x.shape
    return x.reshape(n, size // 2, 2, size // 2, 2, channels).max((2, 4))


@pytest.mark.slow_on_jax
def test_it_starts_with_patches_that_pass_through(images):
    """Four of its channels come to the end, each as it is."""
    model = small(mean=None, scale=0.5)
    models.adapt_whitening(model, images)
    spread = np.sqrt(1 + 1e-5)
    h = gelu(ops.convert_to_numpy(model.get_layer("whitening")(images)))
    for _ in range(3):
        h = gelu(pool(h) / spread)
        h = gelu(h / spread)
    view = models.representation_view(model)
    found = ops.convert_to_numpy(view(images))
    assert h.shape[:3] == (20, 1, 1)
    np.testing.assert_allclose(
        found, 0.5 * h[:, 0, 0, :4], rtol=1e-4, atol=1e-6
    )


def test_the_last_pooling():
    """An average of the pixels is less than their maximum."""
    found = {}
    for pooling in ("max", "average"):
        keras.utils.set_random_seed(0)
        model = models.airbench((4, 4, 4), 5, (24, 24, 3), pooling=pooling)
        place = model.get_layer("representation").input
        before = next(
            layer.input
            for layer in reversed(model.layers)
            if isinstance(
                layer,
                (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D),
            )
        )
        view = keras.Model(model.inputs, [before, place])
        rng = np.random.default_rng(0)
        x = rng.random((2, 24, 24, 3)).astype("float32")
        pixels, taken = map(ops.convert_to_numpy, view(x))
        assert pixels.shape == (2, 2, 2, 4)
        reduced = (
            pixels.max((1, 2)) if pooling == "max" else pixels.mean((1, 2))
        )
        np.testing.assert_allclose(
            9 * taken[:, 0, 0], reduced, rtol=1e-5, atol=1e-7
        )
        found[pooling] = taken
    assert (found["average"] < found["max"]).all()
    with pytest.raises(ValueError, match="pooling='mean'"):
        models.airbench(pooling="mean")


@pytest.mark.compiles_much
def test_logits_are_scaled(images):
    plain, scaled = small(scale=1.0), small(scale=1 / 9)
    scaled.set_weights(plain.get_weights())
    np.testing.assert_allclose(
        9 * ops.convert_to_numpy(scaled(images)),
        ops.convert_to_numpy(plain(images)),
        rtol=1e-4,
        atol=1e-5,
    )


def test_the_representation_gives_the_logits(images):
    model = small()
    found = models.representation_view(model)
    named = models.representation_view(model, "representation")
    features = ops.convert_to_numpy(named(images))
    np.testing.assert_array_equal(ops.convert_to_numpy(found(images)), features)
    (kernel,) = model.get_layer("logits").get_weights()
    np.testing.assert_allclose(
        features @ kernel, ops.convert_to_numpy(model(images)), atol=1e-5
    )


def test_adapt_whitening_sees_normalized_images(images):
    mean, std = (0.2, 0.4, 0.6), (0.5, 0.25, 0.125)
    model = small(mean=mean, std=std)
    models.adapt_whitening(model, iter([images[:7], images[7:]]))
    layer = PatchWhitening()
    layer.adapt((images - np.array(mean)) / np.array(std))
    kernel = ops.convert_to_numpy(layer.kernel)
    found = ops.convert_to_numpy(model.get_layer("whitening").kernel)
    np.testing.assert_allclose(found, kernel, atol=1e-3 * abs(kernel).max())
    # Without normalization the layer reads the images themselves.
    bare = small(mean=None)
    models.adapt_whitening(bare, images)
    layer.adapt(images)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(bare.get_layer("whitening").kernel),
        ops.convert_to_numpy(layer.kernel),
    )


@pytest.mark.slow_on_jax
def test_without_whitening_one_kernel_more_is_trained(images):
    model = small(whitening=False)
    models.adapt_whitening(model, images)
    (kernel, _) = model.get_layer("unwhitened").get_weights()
    with_it = small()
    assert kernel.shape == with_it.get_layer("whitening").kernel.shape
    assert model.count_params() == with_it.count_params()
    assert (
        len(model.trainable_variables) == len(with_it.trainable_variables) + 1
    )


@pytest.mark.slow_on_jax
def test_weight_decay_is_l2_in_the_loss():
    for whitening in (True, False):
        model = small(weight_decay=2e-3, whitening=whitening)
        squares = sum(
            np.square(ops.convert_to_numpy(v)).sum()
            for v in model.trainable_variables
        )
        penalty = float(ops.convert_to_numpy(sum(model.losses)))
        assert penalty == pytest.approx(1e-3 * squares, rel=1e-4)


@pytest.mark.slow_on_jax
def test_training_leaves_the_whitening_alone(images):
    model = small()
    models.adapt_whitening(model, images)
    layer = model.get_layer("whitening")
    kernel, bias = (ops.convert_to_numpy(v) for v in (layer.kernel, layer.bias))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1.0), loss)
    model.fit(images, np.arange(20) % 5, epochs=1, verbose=0)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer.kernel), kernel)
    assert (ops.convert_to_numpy(layer.bias) != bias).any()


def trained(model, rng):
    """Kernels, statistics and offsets that are nobody's defaults."""
    for variable in model.variables:
        name = variable.path.rpartition("/")[-1]
        value = rng.normal(size=variable.shape)
        if name in ("moving_mean", "beta") or "conv2d" in variable.path:
            variable.assign(value * 0.5)
        elif name == "moving_variance":
            variable.assign(0.1 + value**2)
    return model


def test_every_batch_norm_is_folded(images, rng, monkeypatch):
    model = trained(small(), rng)
    models.adapt_whitening(model, images)
    expected = ops.convert_to_numpy(model(images, training=False))
    twin = rewrite(model)
    assert len(twin.pairs) == 6 and twin.pure
    monkeypatch.setattr(keras.layers.BatchNormalization, "call", None)
    for weights in (None, twin.weights()):
        found = ops.convert_to_numpy(
            twin([ops.convert_to_tensor(images)], weights)
        )
        np.testing.assert_allclose(
            found, expected, atol=1e-5 * abs(expected).max()
        )


def test_classifier_finds_logits(images, rng):
    model = trained(small(), rng)
    classifier = Classifier.of(model)
    # Small logits of an untrained network pass for probabilities elsewhere.
    assert classifier.logits.known
    assert not classifier.logits.gives_probabilities
    assert classifier.logits.is_rewritten == backend.folds_batch_norm
    found = ops.convert_to_numpy(
        classifier.logits(ops.convert_to_tensor(images))
    )
    expected = ops.convert_to_numpy(model(images, training=False))
    np.testing.assert_allclose(found, expected, atol=1e-5 * abs(expected).max())
    assert classifier.num_classes == 5


@pytest.fixture
def mixed_bfloat16():
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy("float32")


@pytest.mark.slow_on_jax
def test_mixed_precision_stays_what_it_is(images, rng, mixed_bfloat16):
    model = trained(small(), rng)
    models.adapt_whitening(model, images)
    twin = rewrite(model)
    assert len(twin.pairs) == 6
    values = twin.values([ops.convert_to_tensor(images)], keep=True)
    kept = 0
    for layer in model.layers:
        dtype = keras.backend.standardize_dtype(values[id(layer.output)].dtype)
        assert dtype == layer.output.dtype, layer.name
        kept += dtype == "bfloat16"
    # All from the normalization to the last pooling.
    assert kept == len(model.layers) - 4
    logits = ops.convert_to_numpy(values[id(model.output)])
    assert logits.dtype == "float32"
    expected = ops.convert_to_numpy(model(images, training=False))
    assert abs(logits - expected).max() < 5e-2 * abs(expected).max()


@pytest.mark.slow_on_jax
def test_save_and_load(tmp_path, images):
    model = small()
    models.adapt_whitening(model, images)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.get_layer("whitening").is_adapted
    np.testing.assert_array_equal(
        ops.convert_to_numpy(again(images)), ops.convert_to_numpy(model(images))
    )


def test_errors():
    with pytest.raises(ValueError, match="widths.*Received"):
        models.airbench((4, 4))
    with pytest.raises(ValueError, match="input_shape.*Received"):
        models.airbench(input_shape=(8, 8, 3))
