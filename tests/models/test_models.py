import keras
import numpy as np
import pytest
from keras import ops

import keras_robust as kr
from keras_robust import models


def trainable(model):
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


@pytest.mark.parametrize(
    "depth, width, parameters", [(20, 16, 269_722), (56, 16, 853_018)]
)
@pytest.mark.compiles_much
def test_parameters_of_he_et_al(depth, width, parameters):
    """Their Table 6 says 0.27 M and 0.85 M."""
    assert trainable(models.cifar_resnet(depth, width)) == parameters


@pytest.mark.slow_on_jax
def test_wide_network_and_representation():
    model = models.cifar_resnet(depth=20, width=64)
    assert model.get_layer("representation").output.shape == (None, 256)
    assert model.output_shape == (None, 10)


@pytest.mark.slow_on_jax
def test_parameters_of_resnet50():
    """23,520,842 is torch's count for the same network."""
    model = models.resnet50()
    assert trainable(model) == 23_520_842
    assert model.get_layer("representation").output.shape == (None, 2048)


@pytest.mark.slow_on_jax
def test_resnet9():
    """6.57 M parameters, as Page's network has without its last scaling."""
    model = models.resnet9()
    assert trainable(model) == pytest.approx(6.57e6, rel=0.01)
    assert model.get_layer("representation").output.shape == (None, 512)
    assert model.output_shape == (None, 10)


def test_weight_decay_is_l2_in_the_loss():
    """The gradient of the penalty is weight_decay times the weight."""
    model = models.small_cnn(weight_decay=5e-4)
    squares = sum(
        float(ops.sum(ops.square(v.value))) for v in model.trainable_variables
    )
    penalty = float(sum(model.losses))
    assert penalty == pytest.approx(5e-4 / 2 * squares, rel=1e-4)


@pytest.mark.slow_on_jax
def test_normalization_is_inside(rng):
    x = rng.random((2, 8, 8, 3), dtype="float32")
    plain = models.small_cnn((8, 8, 3), mean=None)
    scaled = models.small_cnn((8, 8, 3), mean=(0.5,) * 3, std=(0.25,) * 3)
    scaled.set_weights(plain.get_weights())
    np.testing.assert_allclose(
        ops.convert_to_numpy(scaled(x)),
        ops.convert_to_numpy(plain((x - 0.5) / 0.25)),
        rtol=1e-4,
        atol=1e-5,
    )


def test_batch_norm_has_the_papers_constants():
    for layer in models.small_cnn().layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            assert (layer.momentum, layer.epsilon) == (0.9, 1e-5)


def test_depth_must_fit():
    with pytest.raises(ValueError, match="depth.*Received"):
        models.cifar_resnet(depth=18)


@pytest.mark.slow_on_jax
def test_save_and_load(tmp_path, rng):
    model = models.cifar_resnet(8, 4, input_shape=(8, 8, 3))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    x = rng.random((2, 8, 8, 3), dtype="float32")
    np.testing.assert_array_equal(
        ops.convert_to_numpy(again(x)), ops.convert_to_numpy(model(x))
    )


def test_representation_is_found(rng):
    x = rng.random((2, 8, 8, 1), dtype="float32")
    model = models.small_cnn()
    named = models.representation_view(model, "representation")
    found = models.representation_view(model)
    outer = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Rescaling(1.0), model]
    )
    nested = models.representation_view(outer)
    for view in (found, nested):
        np.testing.assert_allclose(
            ops.convert_to_numpy(view(x)),
            ops.convert_to_numpy(named(x)),
            rtol=1e-5,
        )
    dense = model.get_layer("logits")
    np.testing.assert_allclose(
        ops.convert_to_numpy(dense(found(x))),
        ops.convert_to_numpy(model(x)),
        rtol=1e-4,
        atol=1e-5,
    )


def test_representation_errors():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.ReLU()(inputs))
    with pytest.raises(ValueError, match="Dense.*Received"):
        models.representation_view(model)
    with pytest.raises(ValueError, match="layer.*Received"):
        models.representation_view(models.small_cnn(), "nowhere")


@pytest.mark.parametrize(
    "make",
    [
        models.small_cnn,
        pytest.param(
            lambda: models.cifar_resnet(8, 4, input_shape=(8, 8, 1), mean=None),
            marks=pytest.mark.slow_on_jax,
        ),
    ],
)
@pytest.mark.compiles_much
def test_fake_relu_copy(make, rng):
    model = make()
    copy = models.fake_relu_copy(model)
    x = rng.random((3, 8, 8, 1), dtype="float32")
    np.testing.assert_allclose(
        ops.convert_to_numpy(copy(x)), ops.convert_to_numpy(model(x)), rtol=1e-5
    )
    # Same outputs, other gradients.
    attack = kr.PGDAttack(epsilon=0.5, steps=1)
    step = np.abs(attack(copy, x, [0, 1, 2]) - attack(model, x, [0, 1, 2]))
    assert step.max() > 1e-4


def fake_relu_problem(last):
    layers = keras.layers
    keras.utils.set_random_seed(0)
    parts = [layers.Flatten(), layers.Dense(9), layers.ReLU(), layers.Dense(9)]
    return keras.Sequential(
        [keras.Input((4, 4, 1)), *parts, last, layers.Dense(3)]
    )


@pytest.mark.parametrize(
    "last",
    [
        lambda: keras.layers.Dense(9, activation="relu"),
        lambda: keras.layers.Activation("relu"),
        lambda: keras.layers.ReLU(max_value=0.1),
        lambda: keras.layers.ReLU(negative_slope=0.5),
    ],
    ids=["dense", "activation", "max", "slope"],
)
def test_fake_relu_copy_of_any_relu_layer(last, rng):
    """The same outputs, and a gradient that passes the last ReLU."""
    model = fake_relu_problem(last())
    copy = models.fake_relu_copy(model)
    x = 5 * rng.random((8, 4, 4, 1), dtype="float32")
    np.testing.assert_allclose(
        ops.convert_to_numpy(copy(x)), ops.convert_to_numpy(model(x)), atol=1e-5
    )
    # Behind the ReLU that comes first: linear in its outputs.
    first = keras.Model(model.inputs, model.layers[2].output)
    values = ops.convert_to_numpy(first(x))
    kernels = [w for w in copy.get_weights()[2:] if w.ndim == 2]
    slope = np.linalg.multi_dot(kernels)[:, 0]
    rest = keras.Sequential([keras.Input((9,)), *copy.layers[3:]])
    attack = kr.PGDAttack(
        "l2",
        epsilon=1.0,
        step_size=1.0,
        steps=1,
        value_range=(-np.inf, np.inf),
        loss=lambda y, logits: logits[:, 0],
        from_logits=True,
    )
    moved = attack(rest, values, np.zeros(8, "int32"), verbose=0) - values
    expected = np.broadcast_to(slope / np.linalg.norm(slope), moved.shape)
    np.testing.assert_allclose(moved, expected, atol=1e-4)


def test_fake_relu_copy_refuses_a_hidden_last_relu():
    layers = keras.layers
    nested = keras.Sequential(
        [keras.Input((9,)), layers.Dense(9), layers.ReLU()]
    )
    with pytest.raises(ValueError, match="nested model.*Received"):
        models.fake_relu_copy(fake_relu_problem(nested))
    inputs = keras.Input((9,))
    h = ops.relu(layers.Dense(9)(layers.ReLU()(inputs)))
    with pytest.raises(ValueError, match="keras.ops.*Received"):
        models.fake_relu_copy(keras.Model(inputs, layers.Dense(3)(h)))
