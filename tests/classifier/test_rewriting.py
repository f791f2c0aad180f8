import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_robust as kr
from keras_robust.classifier import Classifier
from keras_robust.classifier import FrozenModel
from keras_robust.classifier.rewriting import rewrite


def randomize(model, seed=0):
    """Weights and statistics that are nobody's defaults."""
    random = np.random.default_rng(seed)
    for variable in model.variables:
        if "seed" in variable.name:
            continue
        value = random.normal(size=variable.shape, scale=0.5)
        if "variance" in variable.name or "gamma" in variable.name:
            value = np.abs(value) + 0.1
        variable.assign(value)
    return model


def plain(norm_options=None, **options):
    inputs = keras.Input((8, 8, 3))
    h = layers.Rescaling(2.0, -1.0)(inputs)
    h = layers.Conv2D(4, 3, padding="same", **options)(h)
    h = layers.BatchNormalization(**(norm_options or {}))(h)
    h = layers.Dropout(0.5)(layers.ReLU()(h))
    h = layers.Flatten()(h)
    h = layers.BatchNormalization()(layers.Dense(6)(h))
    return keras.Model(inputs, layers.Dense(3)(ops.relu(h)))


def sequential():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, strides=2, use_bias=False),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )


NETWORKS = {
    "plain": plain,
    "no scale": lambda: plain({"scale": False}, use_bias=False),
    "no center": lambda: plain({"center": False}, dilation_rate=2),
    "sequential": sequential,
    "behind a layer": lambda: keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Rescaling(0.5), sequential()]
    ),
    "resnet": lambda: kr.models.cifar_resnet(8, 4, 3, (8, 8, 3)),
    "bottleneck": lambda: kr.models.resnet50(3, (8, 8, 3), width=2),
    "bfloat16": lambda: plain(dtype="mixed_bfloat16"),
}


# Convolutions with BatchNorm in each, where these are not two.
PAIRS = {"sequential": 1, "behind a layer": 1, "resnet": 7, "bottleneck": 53}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=[pytest.mark.slow_on_jax]
            * (name in ("resnet", "bottleneck")),
        )
        for name in NETWORKS
    ],
)
def test_same_outputs_without_batch_norm(name, rng):
    model = randomize(NETWORKS[name]())
    twin = rewrite(model)
    x = ops.convert_to_tensor(rng.random((5, 8, 8, 3)), "float32")
    expected = ops.convert_to_numpy(model(x, training=False))
    tolerance = 2e-2 if name == "bfloat16" else 1e-5
    for weights in (None, twin.weights()):
        found = ops.convert_to_numpy(twin([x], weights))
        assert abs(expected - found).max() < tolerance * abs(expected).max()
    assert len(twin.pairs) == PAIRS.get(name, 2)


def test_weights_are_read_at_every_call(rng):
    model = randomize(sequential())
    twin = rewrite(model)
    x = rng.random((5, 8, 8, 3)).astype("float32")
    before = ops.convert_to_numpy(twin([x]))
    randomize(model, seed=1)
    after = ops.convert_to_numpy(twin([x]))
    expected = ops.convert_to_numpy(model(x, training=False))
    assert abs(before - after).max() > 0.1
    np.testing.assert_allclose(after, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow_on_jax
def test_other_readers_of_a_convolution_keep_it(rng):
    inputs = keras.Input((8, 8, 3))
    raw = layers.Conv2D(3, 3, padding="same")(inputs)
    h = layers.BatchNormalization()(raw) + raw
    second = layers.Conv2D(3, 3, padding="same")(h)
    h = layers.BatchNormalization()(second)
    outputs = layers.Dense(3)(layers.Flatten()(h))
    model = randomize(keras.Model(inputs, outputs))
    x = rng.random((5, 8, 8, 3)).astype("float32")
    expected = ops.convert_to_numpy(model(x, training=False))
    twin = rewrite(model)
    (folded_one,) = [layer for layer, _ in twin.pairs]
    assert folded_one.output is second
    found = ops.convert_to_numpy(twin([x]))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    # Nor is it folded away where its own output is wanted.
    view = rewrite(keras.Model(inputs, raw))
    np.testing.assert_allclose(
        ops.convert_to_numpy(view([x])),
        ops.convert_to_numpy(keras.Model(inputs, raw)(x)),
        atol=1e-5,
    )


def test_what_cannot_be_folded_is_left_alone():
    inputs = keras.Input((8, 8, 3))
    for layer, norm in (
        (layers.Conv2D(3, 3, activation="relu"), layers.BatchNormalization()),
        (layers.Conv2D(3, 3), layers.BatchNormalization(axis=1)),
        (layers.DepthwiseConv2D(3), layers.BatchNormalization()),
    ):
        assert not rewrite(keras.Model(inputs, norm(layer(inputs)))).pairs


def own_outputs(model, x):
    return ops.convert_to_numpy(model(x, training=False))


def test_shared_layers_constants_and_several_inputs(rng):
    inputs, other = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    shared = layers.Conv2D(3, 3, padding="same")
    norm = layers.BatchNormalization()
    x = rng.random((5, 8, 8, 3)).astype("float32")
    twice = randomize(keras.Model(inputs, norm(shared(shared(inputs)))))
    found = ops.convert_to_numpy(rewrite(twice)([x]))
    np.testing.assert_allclose(found, own_outputs(twice, x), atol=1e-4)
    # One kernel stands for two calls, so it is not folded into either.
    assert not rewrite(twice).pairs
    scaled = keras.Model(inputs, norm(inputs) * 2.0)
    found = ops.convert_to_numpy(rewrite(scaled)([x]))
    np.testing.assert_allclose(found, own_outputs(scaled, x), atol=1e-5)
    two = keras.Model([inputs, other], layers.Subtract()([inputs, other]))
    found = ops.convert_to_numpy(rewrite(two)([x, 2 * x]))
    np.testing.assert_allclose(found, -x, atol=1e-6)


class Doubling(layers.Layer):
    """A layer whose call takes a number."""

    def call(self, x, factor=2.0):
        return x * factor


def test_arguments_of_calls_are_kept(rng):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, Doubling()(Doubling()(inputs, factor=3.0)))
    x = rng.random((5, 4)).astype("float32")
    found = ops.convert_to_numpy(rewrite(model)([x]))
    np.testing.assert_allclose(found, 6 * x, rtol=1e-6)


def test_a_causal_convolution_is_not_folded(rng):
    model = keras.Sequential(
        [
            keras.Input((8, 3)),
            layers.Conv1D(4, 3, padding="causal"),
            layers.BatchNormalization(),
        ]
    )
    twin = rewrite(randomize(model))
    x = rng.random((5, 8, 3)).astype("float32")
    assert not twin.pairs
    found = ops.convert_to_numpy(twin([x]))
    np.testing.assert_allclose(found, own_outputs(model, x), atol=1e-4)


def test_layers_that_are_not_plain_are_not_folded():
    model = randomize(plain())
    assert len(rewrite(model).pairs) == 2
    dense = [x for x in model.layers if isinstance(x, layers.Dense)][0]
    dense.enable_lora(2)
    assert len(rewrite(model).pairs) == 1


@pytest.mark.slow_on_jax
def test_what_is_not_rewritten():
    inputs = keras.Input((8,), dtype="int32")
    masked = layers.Embedding(5, 3, mask_zero=True)(inputs)
    assert rewrite(keras.Model(inputs, layers.LSTM(4)(masked))) is None

    class Own(keras.Model):
        def call(self, x):
            return x

    model = Own()
    model(np.zeros((1, 8, 8, 3), "float32"))
    assert rewrite(model) is None


def test_a_wrong_rewriting_is_given_up_and_named(rng, monkeypatch):
    from keras_robust.classifier import folding

    right = folding.folded_weights

    def wrong(layer, norm):
        kernel, bias = right(layer, norm)
        return kernel, bias + (1.0 if isinstance(layer, layers.Dense) else 0)

    model = randomize(plain())
    frozen = FrozenModel(model)
    if not frozen.is_rewritten:
        pytest.skip("Nothing is folded on this backend: XLA does it.")
    x = rng.random((5, 8, 8, 3)).astype("float32")
    assert frozen.verify(x)
    monkeypatch.setattr(folding, "folded_weights", wrong)
    norm = [
        layer.name
        for layer in model.layers
        if isinstance(layer, layers.BatchNormalization)
    ][-1]
    with pytest.warns(UserWarning, match=f"first at layer '{norm}'"):
        assert not frozen.verify(x)
    found = ops.convert_to_numpy(frozen(ops.convert_to_tensor(x)))
    np.testing.assert_allclose(found, own_outputs(model, x), atol=1e-5)


def test_layers_with_a_state_are_called_in_inference_mode(rng):
    @keras.saving.register_keras_serializable("tests")
    class Scale(layers.Layer):
        def build(self, shape):
            self.scale = self.add_weight(shape=shape[-1:], initializer="ones")

        def call(self, x, training=None):
            return x * self.scale * (2.0 if training else 1.0)

    model = keras.Sequential([keras.Input((8,)), Scale(), layers.Dense(3)])
    twin = rewrite(model)
    assert not twin.pure
    x = ops.convert_to_tensor(rng.random((5, 8)), "float32")
    np.testing.assert_allclose(
        ops.convert_to_numpy(twin([x])),
        ops.convert_to_numpy(model(x, training=False)),
        atol=1e-6,
    )


def test_work_is_shared_inside_prepared_only(rng):
    model = randomize(sequential())
    frozen = FrozenModel(model)
    x = ops.convert_to_tensor(rng.random((5, 8, 8, 3)), "float32")
    before = ops.convert_to_numpy(frozen(x))
    with frozen.cached_weights():
        np.testing.assert_allclose(
            ops.convert_to_numpy(frozen(x)), before, atol=1e-6
        )
        randomize(model, seed=1)
    expected = ops.convert_to_numpy(model(x, training=False))
    found = ops.convert_to_numpy(frozen(x))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_the_model_itself_stays_as_it_was(rng):
    model = randomize(plain())
    before = model.get_weights()
    output = model.layers[-1].output
    rewrite(model)([rng.random((2, 8, 8, 3)).astype("float32")])
    assert model.layers[-1].output is output
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def pooled(*pools, **options):
    """A convolution, pools, BatchNorm; without scale unless asked for."""
    h = inputs = keras.Input((8, 8, 3))
    for layer in (layers.Conv2D(4, 3), *pools):
        h = layer(h)
    h = layers.BatchNormalization(**{"scale": False, **options})(h)
    return randomize(keras.Model(inputs, h))


POOLS = {
    "max": lambda: (layers.MaxPooling2D(),),
    "padded": lambda: (layers.MaxPooling2D(3, 2, padding="same"),),
    "two": lambda: (layers.MaxPooling2D(2, 1), layers.MaxPooling2D()),
}


@pytest.mark.parametrize("name", POOLS)
def test_batch_norm_without_scale_folds_through_max_pooling(
    name, rng, monkeypatch
):
    model = pooled(*POOLS[name]())
    x = rng.normal(size=(5, 8, 8, 3)).astype("float32")
    expected = own_outputs(model, x)
    twin = rewrite(model)
    assert len(twin.pairs) == 1 and twin.pure
    monkeypatch.setattr(layers.BatchNormalization, "call", None)
    for weights in (None, twin.weights()):
        found = ops.convert_to_numpy(twin([ops.convert_to_tensor(x)], weights))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


# A maximum turns into a minimum where gamma is negative.
NOT_THROUGH = {
    "scale": lambda: pooled(layers.MaxPooling2D(), scale=True),
    "average": lambda: pooled(layers.AveragePooling2D(2)),
    "relu": lambda: pooled(layers.MaxPooling2D(), layers.ReLU()),
    "dtype": lambda: pooled(layers.MaxPooling2D(dtype="bfloat16")),
    "axis": lambda: pooled(layers.MaxPooling2D(), axis=1),
}


@pytest.mark.parametrize("name", NOT_THROUGH)
def test_what_does_not_fold_through_pooling(name, rng):
    model = NOT_THROUGH[name]()
    norm = model.layers[-1]
    if norm.scale:
        norm.gamma.assign(np.array([-1.0, 0.5, -2.0, 1.0]))
    twin = rewrite(model)
    assert not twin.pairs
    x = rng.normal(size=(5, 8, 8, 3)).astype("float32")
    found = ops.convert_to_numpy(twin([ops.convert_to_tensor(x)]))
    expected = own_outputs(model, x)
    rounding = 2**-8 if name == "dtype" else 1e-5
    assert abs(found - expected).max() <= rounding * abs(expected).max()


@pytest.mark.slow_on_jax
def test_other_readers_on_the_way_keep_pooling_as_it_is(rng):
    inputs = keras.Input((8, 8, 3))
    x = rng.normal(size=(5, 8, 8, 3)).astype("float32")
    raw = layers.Conv2D(4, 3, padding="same")(inputs)
    pool = layers.MaxPooling2D()
    h = pool(raw)
    normal = layers.BatchNormalization(scale=False)(h)
    for outputs in (normal + h, normal + pool(raw * 2.0)):
        model = randomize(keras.Model(inputs, outputs))
        twin = rewrite(model)
        assert not twin.pairs
        found = ops.convert_to_numpy(twin([x]))
        np.testing.assert_allclose(found, own_outputs(model, x), atol=1e-4)
    # A pool that is called elsewhere too is run in both places.
    second = layers.Conv2D(4, 3, padding="same")(normal)
    last = pool(layers.BatchNormalization()(second))
    model = randomize(keras.Model(inputs, last))
    twin = rewrite(model)
    assert len(twin.pairs) == 2
    found = ops.convert_to_numpy(twin([x]))
    np.testing.assert_allclose(found, own_outputs(model, x), atol=1e-4)


def test_pooling_is_not_named_for_what_the_norm_does_wrong(rng, monkeypatch):
    from keras_robust.classifier import folding

    model = pooled(layers.MaxPooling2D())
    frozen = FrozenModel(model)
    if not frozen.is_rewritten:
        pytest.skip("Nothing is folded on this backend: XLA does it.")
    x = rng.random((5, 8, 8, 3)).astype("float32")
    assert frozen.verify(x)
    right = folding.folded_weights

    def wrong(layer, norm):
        kernel, bias = right(layer, norm)
        return kernel, bias + 1.0

    monkeypatch.setattr(folding, "folded_weights", wrong)
    name = model.layers[-1].name
    with pytest.warns(UserWarning, match=f"first at layer '{name}'"):
        assert not frozen.verify(x)


def test_a_subclass_as_a_layer(rng):
    """It shows no graph of its own, so it is called as it is."""

    class Block(keras.Model):
        def __init__(self):
            super().__init__()
            self.convolution = keras.layers.Conv2D(3, 3)
            self.norm = keras.layers.BatchNormalization()

        def call(self, h, training=False):
            return self.norm(self.convolution(h), training=training)

    inputs = keras.Input((6, 6, 1))
    h = keras.layers.Flatten()(Block()(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3)(h))
    x = rng.random((4, 6, 6, 1), dtype="float32")
    classifier = Classifier.of(model)
    classifier.check(x)
    np.testing.assert_allclose(
        ops.convert_to_numpy(classifier.logits(ops.convert_to_tensor(x))),
        ops.convert_to_numpy(model(ops.convert_to_tensor(x), training=False)),
        rtol=1e-5,
        atol=1e-6,
    )
