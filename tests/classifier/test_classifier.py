import keras
import numpy as np
import pytest
from keras import ops

import keras_robust as kr
from keras_robust.classifier import Classifier
from keras_robust.classifier import call_frozen
from tests.helpers import make_cnn


def dense(activation=None, units=3):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    outputs = keras.layers.Dense(units, activation=activation)(inputs)
    return keras.Model(inputs, outputs)


def logits_of(model, x, **kwargs):
    classifier = Classifier.of(model, **kwargs)
    return ops.convert_to_numpy(classifier.logits(ops.convert_to_tensor(x)))


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
        Classifier.of(model).check(x)
    assert Classifier.of(model, from_logits=True).check(x) == 3
    logits = logits_of(model, x, from_logits=False)
    np.testing.assert_allclose(
        logits, np.log(ops.convert_to_numpy(model(x))), rtol=1e-4
    )


def test_a_softmax_that_stands_alone_in_a_nested_model(x):
    plain = dense()
    inner = keras.Sequential([keras.Input((3,)), keras.layers.Softmax()])
    model = keras.Sequential([keras.Input((4,)), plain, inner])
    expected = ops.convert_to_numpy(plain(x))
    np.testing.assert_allclose(logits_of(model, x), expected, rtol=1e-5)


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
    classifier = Classifier.of(model)
    classifier.check(x)
    logits = classifier.logits
    del classifier
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
    assert logits is not None


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

    model = Subclassed()
    model(x)
    attack = kr.PGDAttack(epsilon=0.1, steps=2)
    x_adv = attack(model, x, [0, 1, 2, 0, 1])
    assert 0 < np.abs(x_adv - x).max() <= 0.1
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_labels_of_a_model_in_float64(rng):
    """Large logits whose differences float32 does not hold."""
    x = rng.random((50, 4), dtype="float32")
    inputs = keras.Input((4,))
    outputs = keras.layers.Dense(3, dtype="float64")(inputs)
    model = keras.Model(inputs, outputs)
    kernel = rng.normal(size=(4, 3))
    model.set_weights([kernel, np.full(3, 1e9)])
    expected = model.predict(x, verbose=0).argmax(-1)
    found = Classifier.of(model).predict_labels(x)
    np.testing.assert_array_equal(found, expected)
    attack = kr.PGDAttack("linf", 0.0, steps=1, value_range=(0.0, 1.0))
    report = kr.evaluate_robustness(model, (x, expected), attack, verbose=0)
    assert report.robust_accuracy().accuracy == 1.0
    robust = kr.AdversarialModel(model, attack)
    robust.compile(
        "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    logs = robust.evaluate(x, expected, verbose=0, return_dict=True)
    assert logs["robust_accuracy"] == 1.0


def test_the_heads_of_mixed_precision_and_operations(x):
    plain = dense()
    expected = ops.convert_to_numpy(plain(x))
    shown = dense("softmax")
    inputs = keras.Input((4,))
    cast = keras.layers.Activation("linear", dtype="float32")
    models = [
        keras.Model(inputs, cast(shown(inputs))),
        keras.Model(inputs, ops.softmax(plain(inputs))),
        keras.Model(inputs, ops.cast(shown(inputs), "float32")),
        keras.Model(inputs, keras.layers.Reshape((3,))(shown(inputs))),
    ]
    for model in models:
        np.testing.assert_allclose(logits_of(model, x), expected, rtol=1e-5)


def test_a_softmax_of_one_unit_is_named(x):
    with pytest.raises(ValueError, match="softmax of one unit.*sigmoid"):
        Classifier.of(dense("softmax", 1)).check(x)


def test_several_outputs(x):
    inputs = keras.Input((4,))
    first, second = keras.layers.Dense(3), keras.layers.Dense(2)
    outputs = {"digit": first(inputs), "parity": second(inputs)}
    model = keras.Model(inputs, outputs)
    with pytest.raises(ValueError, match="`output`.*digit.*parity"):
        Classifier.of(model).check(x)
    chosen = Classifier.of(model, output="parity")
    assert chosen.check(x) == 2
    expected = model.predict(x, verbose=0)["parity"].argmax(-1)
    np.testing.assert_array_equal(chosen.predict_labels(x), expected)


def two_inputs():
    keras.utils.set_random_seed(0)
    image, meta = (
        keras.Input((4,), name="image"),
        keras.Input((2,), name="meta"),
    )
    h = keras.layers.Concatenate()([image, meta])
    return keras.layers.Dense(3)(h), image, meta


@pytest.mark.parametrize("kind", ["list", "dictionary"])
def test_several_inputs(kind, x, rng):
    outputs, image, meta = two_inputs()
    other = rng.random((5, 2), dtype="float32")
    if kind == "list":
        model, data = keras.Model([image, meta], outputs), [x, other]
    else:
        model = keras.Model({"image": image, "meta": meta}, outputs)
        data = {"image": x, "meta": other}
    with pytest.raises(ValueError, match="`attacked`.*image.*meta"):
        Classifier.of(model)
    classifier = Classifier.of(model, attacked="meta")
    moving, held = classifier.split(data)
    assert moving is other
    assert classifier.check(moving, held) == 3
    expected = model.predict(data, verbose=0)
    np.testing.assert_allclose(
        classifier.predict_logits(moving, held=held), expected, rtol=1e-5
    )
    joined = classifier.join(data, moving + 1)
    assert type(joined) is type(data)
    pair = (joined["image"], joined["meta"]) if kind != "list" else joined
    np.testing.assert_array_equal(pair[0], x)
    np.testing.assert_array_equal(pair[1], other + 1)


@pytest.mark.parametrize(
    "shape, hint",
    [
        ((5,), "x.shape"),
        ((8, 8, 1), "batch axis"),
        ((5, 9, 9, 1), "input of model"),
        ((5, 1, 8, 8), "axis of channels in"),
        ((5, 8, 8, 3), "input of model"),
        ((5, 8, 8), "axis of channels"),
    ],
)
def test_shapes_are_those_of_the_input(shape, hint):
    model = kr.models.small_cnn(input_shape=(8, 8, 1))
    with pytest.raises(ValueError, match=hint):
        Classifier.of(model).check(np.zeros(shape, "float32"))


def test_changes_of_the_model_are_seen(x):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(6, activation="relu"),
            keras.layers.Dense(3),
        ]
    )

    def logits():
        classifier = Classifier.of(model)
        classifier.check(x)
        found = logits_of(model, x)
        own = model(x, training=False)
        np.testing.assert_allclose(
            found, ops.convert_to_numpy(own), rtol=1e-4, atol=1e-5
        )
        np.testing.assert_array_equal(
            classifier.predict_labels(x), found.argmax(-1)
        )
        return found

    before = logits()
    same = Classifier.of(model)._parts
    model.set_weights([2 * w for w in model.get_weights()])
    assert Classifier.of(model)._parts is same
    changed = logits()
    assert abs(before - changed).max() > 0
    model.layers[0].activation = keras.activations.tanh
    activated = logits()
    assert abs(activated - changed).max() > 0
    assert Classifier.of(model)._parts is not same
    model.pop()
    model.add(keras.layers.Dense(5))
    assert logits().shape[-1] == 5


def test_fingerprints_know_the_graph_and_the_options():
    def model(activation):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((4,))
        h = keras.layers.Dense(6, activation=activation)(inputs)
        return keras.Model(inputs, keras.layers.Dense(3)(h))

    relu, again, tanh = model("relu"), model("relu"), model("tanh")
    assert (
        Classifier.of(relu).fingerprint() == Classifier.of(again).fingerprint()
    )
    assert (
        Classifier.of(relu).fingerprint() != Classifier.of(tanh).fingerprint()
    )
    assert (
        Classifier.of(relu, from_logits=True).fingerprint()
        != Classifier.of(relu).fingerprint()
    )
    again.layers[-1].activation = keras.activations.tanh
    assert (
        Classifier.of(relu).fingerprint() != Classifier.of(again).fingerprint()
    )


@pytest.mark.parametrize(
    "front, expected",
    [
        ([keras.layers.Rescaling(1 / 255)], (0, 255)),
        ([keras.layers.Rescaling(1 / 127.5, offset=-1)], (0, 255)),
        ([keras.layers.Rescaling(2.0, offset=-1)], (0, 1)),
        ([], (0, 1)),
        (
            [keras.layers.Dropout(0.1), keras.layers.Rescaling(1 / 255)],
            (0, 255),
        ),
    ],
)
def test_the_range_of_pixels_that_a_model_shows(front, expected):
    model = keras.Sequential([keras.Input((4,)), *front, keras.layers.Dense(3)])
    assert Classifier.of(model).value_range() == expected
    outer = keras.Sequential([keras.Input((4,)), model])
    assert Classifier.of(outer).value_range() == expected


@pytest.mark.parametrize("activation", [None, "softmax", "sigmoid"])
def test_the_only_output_by_its_position(x, activation):
    model = dense(activation)
    expected = logits_of(model, x)
    for output in (0, -1):
        np.testing.assert_array_equal(
            logits_of(model, x, output=output), expected
        )
        assert Classifier.of(model, output=output).logits.known
