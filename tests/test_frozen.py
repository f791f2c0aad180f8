import keras
import numpy as np
import pytest
from conftest import make_cnn
from keras import ops

from keras_robust.attacks.frozen import FrozenLogits
from keras_robust.attacks.frozen import call_frozen


def dense(activation=None, units=3):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    outputs = keras.layers.Dense(units, activation=activation)(inputs)
    return keras.Model(inputs, outputs)


def logits_of(model, x, **kwargs):
    frozen = FrozenLogits(model, **kwargs)
    return ops.convert_to_numpy(frozen(ops.convert_to_tensor(x)))


@pytest.fixture
def x(rng):
    return rng.random((5, 4), dtype="float32")


def endings():
    """Models that end in a softmax, each in another way."""
    plain = dense()
    shown = dense("softmax")
    layer = keras.Model(plain.inputs, keras.layers.Softmax()(plain.outputs[0]))
    activation = keras.Sequential(
        [keras.Input((4,)), plain, keras.layers.Activation("softmax")]
    )
    nested = keras.Sequential(
        [keras.Input((4,)), keras.layers.Rescaling(1.0), shown]
    )
    return plain, [shown, layer, activation, nested]


def test_softmax_is_left_out(x):
    plain, models = endings()
    for model in models:
        model.get_layer(index=-1)
        expected = ops.convert_to_numpy(plain(x))
        probabilities = ops.convert_to_numpy(model(x))
        np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-5)
        np.testing.assert_allclose(logits_of(model, x), expected, rtol=1e-5)
        # And the model is as it was.
        np.testing.assert_array_equal(
            ops.convert_to_numpy(model(x)), probabilities
        )


def test_sigmoid_of_one_output_becomes_two_logits(x):
    plain, sigmoid = dense(None, 1), dense("sigmoid", 1)
    sigmoid.set_weights(plain.get_weights())
    logits = logits_of(sigmoid, x)
    assert not logits[:, 0].any()
    np.testing.assert_allclose(
        logits[:, 1:], ops.convert_to_numpy(plain(x)), rtol=1e-5
    )


def lambda_softmax():
    plain = dense()
    return keras.Model(
        plain.inputs, keras.layers.Lambda(ops.softmax)(plain.outputs[0])
    )


def test_hidden_probabilities_are_refused(x):
    model = lambda_softmax()
    with pytest.raises(ValueError, match="from_logits.*Received"):
        FrozenLogits(model).check(logits_of(model, x))
    said = FrozenLogits(model, from_logits=True)
    assert said.check(logits_of(model, x)) == 3
    logits = logits_of(model, x, from_logits=False)
    np.testing.assert_allclose(
        logits, np.log(ops.convert_to_numpy(model(x))), rtol=1e-4
    )


def test_softmax_out_of_reach():
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Softmax()])
    model = keras.Sequential([keras.Input((4,)), inner])
    with pytest.raises(ValueError, match="nested"):
        FrozenLogits(model)


def test_inference_mode_inside_a_training_call(x, rng):
    """A model called inside another one's call inherits training=True."""

    class Outer(keras.layers.Layer):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def call(self, images, training=None):
            return call_frozen(self.model, images)

    model = make_cnn()
    images = rng.random((9, 6, 6, 2), dtype="float32")
    before = model.get_weights()
    inside = Outer(model)(images, training=True)
    np.testing.assert_allclose(
        ops.convert_to_numpy(inside),
        ops.convert_to_numpy(model(images, training=False)),
        rtol=1e-5,
    )
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_the_model_is_not_kept_alive(x):
    import gc
    import weakref

    model = dense("softmax")
    frozen = FrozenLogits(model)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
    assert frozen is not None


class Subclassed(keras.Model):
    """A model whose call knows nothing of `training`, nor of its layers."""

    def __init__(self):
        super().__init__()
        self.norm = keras.layers.BatchNormalization()
        self.dense = keras.layers.Dense(3)

    def call(self, inputs):
        return self.dense(self.norm(inputs))


def test_subclassed_models_can_be_attacked_and_collected(x):
    import gc
    import weakref

    import keras_robust as kr

    model = Subclassed()
    model(x)
    attack = kr.PGDAttack(epsilon=0.1, steps=2)
    x_adv = attack(model, x, [0, 1, 2, 0, 1])
    assert 0 < np.abs(x_adv - x).max() <= 0.1
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
