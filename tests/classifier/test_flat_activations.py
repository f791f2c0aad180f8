"""Activations that hide gradients, and those that only look like it."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops
from scipy import stats

import keras_robust as kr
from keras_robust import backend
from keras_robust.classifier import Backward
from keras_robust.classifier import Classifier
from keras_robust.classifier import find_flat_activations
from keras_robust.classifier.through_flat import ThroughFlat
from keras_robust.evaluation import flat_activations
from keras_robust.evaluation.data import Examples
from keras_robust.evaluation.flat_activations import chance_of
from tests.classifier.adaptive_layers import KWinners
from tests.classifier.adaptive_layers import MeanSparse


@keras.saving.register_keras_serializable("tests")
class Threshold(layers.Layer):
    """A ReLU whose thresholds differ from unit to unit."""

    def build(self, shape):
        self.least = self.add_weight(
            name="least", shape=shape[1:], initializer="random_normal"
        )

    def call(self, x):
        return ops.maximum(x, self.least)


@keras.saving.register_keras_serializable("tests")
class Block(layers.Layer):
    """Layers with weights that keep the shape."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(6, activation="relu")

    def build(self, shape):
        self.dense.build(shape)

    def call(self, x):
        return self.dense(KWinners(0.2)(x))


def adapted():
    layer = MeanSparse(0.5)
    layer.build((None, 6))
    layer.adapt(np.random.default_rng(0).normal(size=(500, 6)))
    return layer


def winners(x):
    return KWinners(0.2)(x)


def shrink(x):
    return ops.sign(x) * ops.relu(ops.abs(x) - 0.5)


FLAT = {
    "mean sparse": adapted,
    "k winners": KWinners,
    "rounding": lambda: layers.Lambda(ops.round),
    "steps": lambda: layers.Lambda(lambda x: ops.round(x * 4) / 4),
    "sign": lambda: layers.Activation(ops.sign),
    "dead zone": lambda: layers.Lambda(shrink),
    "inside a dense layer": lambda: layers.Dense(7, activation=winners),
    "nested": lambda: keras.Sequential([keras.Input((6,)), KWinners(0.2)]),
}
HONEST = {
    "relu": layers.ReLU,
    "own relu": lambda: layers.Lambda(lambda x: ops.maximum(x, 0.0)),
    "dense relu": lambda: layers.Dense(7, activation="relu"),
    "thresholds": Threshold,
    "leaky": lambda: layers.Lambda(ops.leaky_relu),
    "gelu": lambda: layers.Lambda(ops.gelu),
    "silu": lambda: layers.Lambda(ops.silu),
    "hard swish": lambda: layers.Lambda(ops.hard_swish),
    "relu6": lambda: layers.Lambda(ops.relu6),
    "hard tanh": lambda: layers.Lambda(lambda x: ops.clip(x, -1, 1)),
    "softmax": lambda: layers.Lambda(ops.softmax),
    "dropout": lambda: layers.Dropout(0.5),
    "norm": layers.LayerNormalization,
    "no change": lambda: layers.Lambda(lambda x: x),
    "constant": lambda: layers.Lambda(lambda x: 0 * x),
    "quantization aware": lambda: layers.Lambda(
        lambda x: x + ops.stop_gradient(ops.round(4 * x) / 4 - x)
    ),
    "block": Block,
}


def network(layer):
    inputs = keras.Input((6,))
    h = layer(layers.Identity()(inputs))
    return keras.Model(inputs, layers.Dense(3)(h))


@pytest.fixture
def points(rng):
    return (1.5 * rng.normal(size=(40, 6))).astype("float32")


@pytest.mark.parametrize("name", FLAT)
def test_flat_activations_are_found(name, points):
    found = find_flat_activations(
        Classifier.of(network(FLAT[name]())), points, {}
    )
    assert len(found.pairs) == 1


@pytest.mark.parametrize("name", HONEST)
def test_saturation_is_none(name, points):
    model = network(HONEST[name]())
    assert find_flat_activations(Classifier.of(model), points, {}) is None


def test_max_pooling_that_keeps_the_shape_is_none(rng):
    inputs = keras.Input((6, 6, 2))
    h = layers.MaxPooling2D(3, strides=1, padding="same")(inputs)
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(h)))
    x = rng.normal(size=(20, 6, 6, 2)).astype("float32")
    assert find_flat_activations(Classifier.of(model), x, {}) is None


def test_gradients_that_pass():
    """Of a dead zone: 1 inside it as well; values as they are."""
    x = np.array([[-2.0, -0.4, 0.0, 0.3, 0.6, 3.0]], "float32")
    passes = ThroughFlat(layers.Lambda(shrink))
    _, gradient = backend.value_and_gradient(
        lambda z: (ops.sum(passes(z), axis=-1), 0.0), ops.convert_to_tensor(x)
    )
    np.testing.assert_array_equal(ops.convert_to_numpy(gradient), 1)


def test_hidden_graphs_have_none(points):
    class Hidden(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, x):
            return self.dense(ops.round(x))

    model = Hidden()
    model(points)
    classifier = Classifier.of(model, from_logits=True)
    assert find_flat_activations(classifier, points, {}) is None


@pytest.fixture
def dead_zone():
    """A model with a dead zone, images that only it protects, and labels.

    Of 16 features four carry the class, far from the zone; the others lie
    inside it, and would outweigh the four beyond its edges. Of two images, by
    which the zone can be seen, all features are outside.
    """
    layer = MeanSparse(1.0, name="sparse")
    inputs = keras.Input((16,))
    model = keras.Model(inputs, layers.Dense(2)(layer(inputs)))
    layer.mean.assign(np.full(16, 0.5))
    layer.deviation.assign(np.full(16, 0.2))
    weights = np.stack([-np.ones(16), np.ones(16)], -1)
    model.layers[-1].set_weights([weights, np.array([8.0, -8.0])])
    random = np.random.default_rng(0)
    x = random.uniform(0.48, 0.52, (22, 16)).astype("float32")
    y = np.arange(22) % 2
    x[20:] = np.where(y, 0.8, 0.2)[20:, None]
    x[:, :4] = y[:, None]
    return model, x, y


def flags_of(model, x, y, **attack):
    attacks = {"pgd": kr.PGDAttack("linf", loss="margin", **attack)}
    report = kr.evaluate_robustness(model, (x, y), attacks, verbose=0)
    found = {flag.name: flag for flag in report.flags}
    return report.accuracy["pgd"], found.get("flat activations hide gradients")


@pytest.mark.compiles_much
def test_an_evaluation_says_so(dead_zone):
    model, x, y = dead_zone
    accuracy, flag = flags_of(model, x, y, epsilon=0.25)
    assert accuracy == 1
    assert flag.evidence["layers"] == "sparse"
    # A random start leads out of the zone here and there: those fall first.
    assert flag.evidence["survivors"] > 14
    assert flag.evidence["broken"] == flag.evidence["survivors"] - 2
    assert flag.evidence["by the model's own gradients"] < 8
    # As the flag recommends.
    attack = kr.PGDAttack(
        "linf",
        epsilon=0.25,
        loss="margin",
        backward={"sparse": "through_flat"},
    )
    found = model.predict(attack(model, x, y, verbose=0), verbose=0)
    assert (found.argmax(-1) == y).sum() == 2


def test_what_an_attack_passes_already_is_no_reason_for_a_flag(dead_zone):
    """The experiments follow the gradients that the attack follows."""
    model, x, y = dead_zone
    flat = {"sparse": "through_flat"}
    accuracy, flag = flags_of(model, x, y, epsilon=0.25, backward=flat)
    assert accuracy == 2 / 22 and flag is None


@pytest.mark.compiles_much
def test_another_mapping_does_not_hide_flat_activations(dead_zone):
    """Of a layer that rounds, in front of the one that is flat."""
    model, x, y = dead_zone
    inputs = keras.Input((16,))
    rounding = layers.Lambda(lambda z: ops.round(100 * z) / 100, name="round")
    behind = keras.Model(inputs, model(rounding(inputs)))
    backward = {"round": "straight_through"}
    accuracy, flag = flags_of(behind, x, y, epsilon=0.25, backward=backward)
    assert accuracy == 1 and flag.evidence["layers"] == "sparse"
    assert flag.evidence["broken"] == flag.evidence["survivors"] - 2


@pytest.mark.compiles_much
def test_of_many_survivors_those_nearest_to_a_boundary_are_attacked(dead_zone):
    """Most of them come after 520 that are far from zone and boundary."""
    model, x, y = dead_zone
    labels = np.arange(520) % 2
    far = np.repeat(np.where(labels, 0.99, 0.01)[:, None], 16, axis=1)
    x = np.concatenate([x[:2], far, x[2:]]).astype("float32")
    y = np.concatenate([y[:2], labels, y[2:]])
    accuracy, flag = flags_of(model, x, y, epsilon=0.25)
    assert accuracy == 1
    assert flag.evidence["survivors"] > 492 and flag.evidence["broken"] > 12


@pytest.mark.on_one_backend
def test_the_sign_test_is_that_of_scipy():
    for successes, trials in ((0, 0), (3, 3), (4, 6), (5, 6), (60, 90)):
        expected = 1.0
        if trials:
            expected = stats.binomtest(
                successes, trials, alternative="greater"
            ).pvalue
        assert chance_of(successes, trials) == pytest.approx(expected)


@pytest.mark.on_one_backend
@pytest.mark.parametrize(
    ("gained", "lost", "raised"),
    [
        (4, 0, False),
        (5, 0, True),
        (6, 1, False),
        (7, 1, True),
        (8, 4, False),
        (12, 7, False),
        (15, 6, True),
    ],
)
def test_more_must_fall_than_by_chance(
    dead_zone, monkeypatch, gained, lost, raised
):
    model, x, y = dead_zone
    survivors = Examples.of(Classifier.of(model), x, y)

    def broken(examples, attack):
        numbers = np.arange(len(examples.y))
        if attack.seed == 0:
            return numbers < 0
        if attack.backward is None:
            return numbers >= len(numbers) - lost
        return numbers < gained

    monkeypatch.setattr(flat_activations, "_is_broken", broken)
    flag = flat_activations.flat_activations(
        survivors,
        kr.APGDAttack("linf", 0.1, seed=0),
        Backward.of({"sparse": "through_flat"}),
    )
    assert (flag is not None) == raised


def test_no_flag_where_the_ball_ends_inside_the_zone(dead_zone):
    accuracy, flag = flags_of(*dead_zone, epsilon=0.04)
    assert accuracy == 1 and flag is None


def test_through_flat_keeps_the_gradient_where_there_is_one():
    """Of a layer that triples, and is flat at negative entries."""
    function = layers.Lambda(lambda x: 3 * ops.relu(x), name="tripled")
    inputs = keras.Input((4,))
    dense = layers.Dense(2, use_bias=False)
    model = keras.Model(inputs, dense(function(inputs)))
    weights = np.arange(8.0).reshape(4, 2) + 1
    dense.set_weights([weights])
    x = np.array([[0.5, -0.5, 2.0, -3.0]], "float32")
    backward = Backward.of({"tripled": "through_flat"})
    logits = Classifier.of(model, backward=backward).logits
    _, gradient = backend.value_and_gradient(
        lambda z: (logits(z)[:, 1], 0.0), ops.convert_to_tensor(x)
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(gradient)[0],
        weights[:, 1] * [3, 1, 3, 1],
        rtol=1e-6,
    )
    saved = Backward.of({"tripled": "through_flat"}).get_config()
    assert Backward.from_config(saved).pairs == backward.pairs


MODELS = {
    "mlp": lambda: kr.models.mlp((8, 8, 1)),
    "small cnn": lambda: kr.models.small_cnn((8, 8, 1), filters=(8, 8)),
    "resnet": lambda: kr.models.cifar_resnet(
        8, 4, input_shape=(8, 8, 1), mean=None, std=None
    ),
    "resnet9": lambda: kr.models.resnet9(
        4, input_shape=(8, 8, 1), mean=None, std=None
    ),
    "airbench": lambda: kr.models.airbench(
        (4, 4, 4), input_shape=(9, 9, 1), mean=None, std=None
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_of_this_package_are_honest(name, rng):
    model = MODELS[name]()
    x = rng.uniform(size=(16, *model.input_shape[1:])).astype("float32")
    assert find_flat_activations(Classifier.of(model), x, {}) is None
