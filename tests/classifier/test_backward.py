"""Backward pass differentiable approximation (BPDA)."""

import pickle

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_robust as kr
from keras_robust import backend
from keras_robust.classifier import Backward
from keras_robust.classifier import Classifier
from tests.helpers import exact_accuracy
from tests.helpers import make_cnn
from tests.helpers import make_linear


def rounded(z):
    return ops.round(z * 1000) / 1000


@keras.saving.register_keras_serializable("tests")
def doubled(z):
    return 2 * z


def behind(layer, model, shape):
    inputs = keras.Input(shape)
    return keras.Model(inputs, model(layer(inputs)))


def opened(layer, weights, last=None):
    """`layer`, then logits `x W`, in one graph."""
    inputs = keras.Input((len(weights),))
    dense = layers.Dense(weights.shape[1], activation=last, use_bias=False)
    model = keras.Model(inputs, dense(layer(inputs)))
    dense.set_weights([weights])
    return model


def gradient_of(model, x, column=0, **options):
    """Values and gradient of a logit, compiled as attacks compile it."""
    classifier = Classifier.of(model, **options)
    found = backend.compile(
        lambda x: backend.value_and_gradient(
            lambda x: (classifier.logits(x)[:, column], 0.0), x
        ),
        classifier.variables,
    )(ops.convert_to_tensor(x))
    (values, _), gradient = found
    return ops.convert_to_numpy(values), ops.convert_to_numpy(gradient)


@pytest.fixture
def weights(rng):
    return rng.normal(size=(5, 3)).astype("float32")


@pytest.fixture
def points(rng):
    return rng.random((4, 5)).astype("float32")


def test_straight_through_has_the_values_and_the_identity_as_gradient(points):
    function = kr.layers.straight_through(lambda z: ops.round(1e4 * z))

    def call(x):
        return ops.sum(function(x), axis=-1), function(x)

    (_, values), gradient = backend.value_and_gradient(
        call, ops.convert_to_tensor(points)
    )
    exact = ops.convert_to_numpy(ops.round(1e4 * ops.convert_to_tensor(points)))
    np.testing.assert_array_equal(ops.convert_to_numpy(values), exact)
    np.testing.assert_array_equal(ops.convert_to_numpy(gradient), 1)


def test_straight_through_inside_a_model(points):
    inputs = keras.Input((5,))
    rounding = layers.Lambda(kr.layers.straight_through(ops.round))
    model = keras.Model(inputs, layers.Dense(3)(rounding(inputs)))
    kernel = model.get_weights()[0]
    _, gradient = gradient_of(model, points, from_logits=True)
    np.testing.assert_allclose(gradient, [kernel[:, 0]] * 4, rtol=1e-6)


@pytest.mark.parametrize(
    ("backward", "factor"),
    [
        ({"rounding": "straight_through"}, 1),
        ({"rounding": doubled}, 2),
        ({layers.Lambda: doubled}, 2),
        ({"rounding": layers.Rescaling(3.0)}, 3),
        ({"dense": doubled, "rounding": doubled}, None),
        (None, 0),
    ],
)
def test_values_stay_and_gradients_are_those_of_the_replacement(
    weights, points, backward, factor
):
    model = opened(layers.Lambda(rounded, name="rounding"), weights)
    if factor is None:
        dense = model.layers[-1].name
        backward = {dense: lambda z: 5 * z[:, :3], "rounding": doubled}
        expected = np.tile([10.0, 0, 0, 0, 0], (4, 1))
    else:
        expected = np.tile(factor * weights[:, 0], (4, 1))
    if factor == 1:
        # A layer itself as the key.
        backward = {model.get_layer("rounding"): "straight_through"}
    own, _ = gradient_of(model, points)
    backward = Backward.of(backward)
    values, gradient = gradient_of(model, points, backward=backward)
    np.testing.assert_array_equal(values, own)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)


ATTACKS = {
    "pgd": lambda **o: kr.PGDAttack(epsilon=0.3, steps=10, **o),
    "fgsm": lambda **o: kr.FGSMAttack("l2", epsilon=0.3, **o),
    "apgd": lambda **o: kr.APGDAttack(epsilon=0.3, steps=10, seed=0, **o),
    "fab": lambda **o: kr.FABAttack(epsilon=0.3, steps=10, **o),
    "ddn": lambda **o: kr.DDNAttack(epsilon=0.3, steps=40, **o),
    "fmn": lambda **o: kr.FMNAttack("l2", epsilon=0.3, steps=40, **o),
    "carlini-wagner": lambda **o: kr.CarliniWagnerL2(
        epsilon=0.3, steps=30, search_steps=3, **o
    ),
    "autoattack": lambda **o: kr.AutoAttack(
        "l2", epsilon=0.3, steps=5, queries=2, seed=0, **o
    ),
}


@pytest.mark.slow_on_jax
@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_reach_what_they_reach_without_the_rounding(
    linear_problem, name
):
    """Rounding to thousandths hides all gradients, and nearly nothing else."""
    plain, x, y = linear_problem
    model = behind(layers.Lambda(rounded, name="rounding"), plain, x.shape[1:])
    attack = ATTACKS[name](backward={"rounding": "straight_through"})
    found = attack(model, x, y, verbose=0)
    right = model.predict(found, verbose=0).argmax(-1) == y
    exact = exact_accuracy(plain, x, y, "l2", 0.3)
    assert 0.2 < exact < 0.8
    assert exact - 0.02 <= right.mean() <= exact + 0.05


def test_sigma_zero_takes_it_too(linear_problem):
    plain, x, y = linear_problem
    model = behind(layers.Lambda(rounded, name="rounding"), plain, x.shape[1:])
    options = {"steps": 30, "backward": {"rounding": "straight_through"}}
    found = kr.SigmaZeroAttack(**options)(model, x, y, verbose=0)
    right = model.predict(found, verbose=0).argmax(-1) == y
    assert right.mean() < 0.1
    with pytest.raises(TypeError, match="backward"):
        kr.SquareAttack(backward="straight_through")


def test_layers_without_gradient_that_are_known(weights, points):
    makers = (
        layers.Lambda(ops.round),
        layers.Activation(ops.sign),
        ops.floor,
        layers.Discretization([0.2, 0.5, 0.8]),
    )
    for layer in makers:
        model = opened(layer, weights)
        _, gradient = gradient_of(
            model, points, backward=Backward.of("straight_through")
        )
        np.testing.assert_allclose(gradient, [weights[:, 0]] * 4, rtol=1e-6)


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.compiles_much
def test_layers_of_nested_models(linear_problem, depth):
    plain, x, y = linear_problem
    model = behind(layers.Lambda(rounded, name="rounding"), plain, x.shape[1:])
    for _ in range(depth):
        model = behind(layers.Identity(), model, x.shape[1:])
    attack = kr.PGDAttack(backward={"rounding": "straight_through"})
    found = attack.replace(epsilon=0.1)(model, x, y, verbose=0)
    reached = kr.PGDAttack(epsilon=0.1)(plain, x, y, verbose=0)
    np.testing.assert_allclose(found, reached, atol=1e-5)
    # A nested model can be replaced as a whole.
    inner = model.layers[-1]
    attack = kr.PGDAttack(epsilon=0.1, backward={inner: plain})
    found = attack(model, x, y, verbose=0)
    np.testing.assert_allclose(found, reached, atol=1e-5)


def test_weights_of_a_replacement_are_read_at_every_call(weights, points):
    """JAX would keep those of the first call as constants."""
    model = opened(layers.Lambda(rounded, name="rounding"), weights)
    dense = layers.Dense(5, use_bias=False)
    attack = kr.PGDAttack(
        epsilon=0.1, step_size=0.01, steps=1, backward={"rounding": dense}
    )
    y = np.zeros(4, int)
    attack(model, points, y, verbose=0)
    assert dense.built
    for seed in (0, 1):
        kernel = np.random.default_rng(seed).normal(size=(5, 5))
        dense.set_weights([kernel])
        moved = attack(model, points, y, verbose=0) - points
        expected = _ascent(points, weights, kernel)
        np.testing.assert_allclose(moved, 0.01 * expected, atol=1e-5)


def _ascent(points, weights, kernel):
    """The direction in which the log-odds of label 0 rise."""
    logits = np.round(points, 3) @ weights
    others = np.exp(logits[:, 1:])
    share = others / others.sum(-1, keepdims=True)
    slope = share @ weights[:, 1:].T - weights[:, 0]
    slope = slope @ kernel.T
    return slope / np.linalg.norm(slope, axis=-1, keepdims=True)


@pytest.mark.compiles_much
def test_attacks_that_differ_share_nothing(weights, points):
    model = opened(layers.Lambda(rounded, name="rounding"), weights)
    y = np.zeros(4, int)
    attack = kr.PGDAttack(epsilon=0.1, backward={"rounding": doubled})
    twice = attack(model, points, y, verbose=0)
    away = attack.replace(backward={"rounding": lambda z: -z})
    against = away(model, points, y, verbose=0)
    assert np.abs(twice - against).max() > 0.05
    again = attack(model, points, y, verbose=0)
    np.testing.assert_array_equal(twice, again)
    with pytest.warns(UserWarning, match="exactly zero"):
        unmoved = attack.replace(backward=None)(model, points, y, verbose=0)
    np.testing.assert_array_equal(unmoved, points)


def test_batch_norm_that_is_replaced_is_not_folded(cnn_data):
    model, (x, _) = make_cnn(), cnn_data
    norm = next(
        layer
        for layer in model.layers
        if isinstance(layer, layers.BatchNormalization)
    )
    own, slope = gradient_of(model, x)
    before = [np.array(value) for value in model.get_weights()]
    backward = Backward.of({norm: lambda z: 0.0 * z})
    values, gradient = gradient_of(model, x, backward=backward)
    np.testing.assert_allclose(values, own, rtol=1e-4, atol=1e-5)
    assert np.abs(slope).max() > 1e-3
    np.testing.assert_array_equal(gradient, 0)
    for value, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, old)


def test_a_last_layer_with_its_softmax(weights, points):
    """It is differentiated as given: its softmax is no longer left out."""
    model = opened(layers.Identity(), weights, last="softmax")
    dense = model.layers[-1]
    backward = Backward.of({dense: lambda z: z[:, :3]})
    values, gradient = gradient_of(model, points, backward=backward)
    probabilities = model.predict(points, verbose=0)
    np.testing.assert_allclose(values, np.log(probabilities[:, 0]), rtol=1e-4)
    expected = np.zeros((4, 5))
    expected[:, 0] = 1 / probabilities[:, 0]
    np.testing.assert_allclose(gradient, expected, rtol=1e-4)
    # Another layer is replaced without touching it.
    backward = Backward.of({layers.Identity: doubled})
    _, gradient = gradient_of(model, points, backward=backward)
    np.testing.assert_allclose(gradient, [2 * weights[:, 0]] * 4, rtol=1e-5)


def test_straight_through_of_a_weighted_layer_is_that_of_its_activation(
    weights, points
):
    inputs = keras.Input((5,))
    step = layers.Dense(3, activation=lambda z: ops.round(4 * z), name="step")
    model = keras.Model(inputs, layers.Dense(2)(step(inputs)))
    step.set_weights([weights, np.zeros(3)])
    second = model.layers[-1].get_weights()[0]
    backward = Backward.of({"step": "straight_through"})
    _, gradient = gradient_of(model, points, backward=backward)
    expected = weights @ second[:, 0]
    np.testing.assert_allclose(gradient, [expected] * 4, rtol=1e-4)


@keras.saving.register_keras_serializable("tests")
class Noise(layers.Layer):
    """Noise that is as large as the signal, from Keras's own generator."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seeds = keras.random.SeedGenerator(0)

    def call(self, x):
        noise = keras.random.normal(ops.shape(x), 0, 1.0, seed=self.seeds)
        return x * (1 + noise)


@pytest.mark.slow_on_jax
def test_with_expectation_over_transformation():
    """The pair of adaptive attacks: the mean of random replaced gradients."""
    weights = np.asarray([[1.0, -1.0], [0.5, -0.5], [-2.0, 2.0]], "float32")
    inputs = keras.Input((3,))
    h = Noise()(layers.Lambda(rounded, name="rounding")(inputs))
    model = keras.Model(inputs, layers.Dense(2, use_bias=False)(h))
    model.set_weights([weights, *model.get_weights()[1:]])
    x, y = np.full((40, 3), 0.5, "float32"), np.zeros(40, int)

    def cosine(**options):
        attack = kr.PGDAttack(
            epsilon=0.1, step_size=0.1, steps=1, seed=0, **options
        )
        step = (attack(model, x, y, verbose=0) - x) / 0.1
        ideal = (weights[:, 1] - weights[:, 0]) / (2 * np.sqrt(5.25))
        return float((step @ ideal).mean())

    backward = {"rounding": "straight_through"}
    many, one = cosine(backward=backward, eot=100), cosine(backward=backward)
    # The gradient of one draw is off by as much as the noise, the mean of a
    # hundred by a tenth of it.
    assert many > 0.98 > 0.9 > one
    with pytest.warns(UserWarning, match="exactly zero"):
        assert cosine(eot=4) == 0


def test_configurations(weights):
    attack = kr.PGDAttack(backward={"a": doubled, layers.ReLU: layers.Dense(3)})
    saved = keras.saving.serialize_keras_object(
        kr.APGDAttack(backward={"a": doubled, layers.ReLU: "straight_through"})
    )
    restored = keras.saving.deserialize_keras_object(saved)
    expected = Backward.of({"a": doubled, layers.ReLU: "straight_through"})
    assert restored.backward == expected
    copied = pickle.loads(pickle.dumps(restored))
    assert copied.backward == expected
    assert attack.replace(steps=2).backward == attack.backward
    assert attack.replace(backward=None).backward is None
    assert hash(restored.backward) == hash(expected)
    with pytest.raises(AttributeError, match="does not change"):
        attack.backward = None
    with pytest.raises(AttributeError):
        attack.backward.pairs = ()
    # A layer's weights are in no configuration.
    unnamed = kr.PGDAttack(backward={"a": lambda z: z})
    built = layers.Dense(3)
    built.build((None, 5))
    weighted = kr.PGDAttack(backward={"a": built})
    for lost, words in ((unnamed, "registered"), (weighted, "weights")):
        saved = keras.saving.serialize_keras_object(lost)
        with pytest.raises(ValueError, match=words):
            keras.saving.deserialize_keras_object(saved)


@pytest.mark.slow_on_jax
@pytest.mark.compiles_much
def test_states_of_evaluations_depend_on_it(weights, points, tmp_path):
    model = opened(layers.Lambda(rounded, name="rounding"), weights)
    y = model.predict(points, verbose=0).argmax(-1)

    def evaluate(backward):
        attack = kr.PGDAttack("l2", 5.0, steps=5, backward=backward)
        return kr.evaluate_robustness(
            model,
            (points, y),
            {"pgd": attack},
            probe=False,
            verbose=0,
            state_path=tmp_path,
        ).accuracy["pgd"]

    def folders():
        return len(list(tmp_path.iterdir()))

    assert evaluate(None) == 1 and folders() == 1
    assert evaluate({"rounding": "straight_through"}) < 1 and folders() == 2
    assert evaluate({"rounding": lambda z: z * 1.0}) < 1 and folders() == 3
    assert evaluate({"rounding": lambda z: z * 2.0}) < 1 and folders() == 4
    dense = layers.Dense(5, kernel_initializer="identity")
    dense.build((None, 5))
    evaluate({"rounding": dense})
    assert folders() == 5
    evaluate({"rounding": dense})
    assert folders() == 5
    dense.set_weights([2 * np.eye(5), np.zeros(5)])
    evaluate({"rounding": dense})
    assert folders() == 6


class Hidden(keras.Model):
    def __init__(self):
        super().__init__()
        self.rounding = layers.Lambda(rounded, name="rounding")
        self.dense = layers.Dense(3)

    def call(self, x):
        return self.dense(self.rounding(x))


@keras.saving.register_keras_serializable("tests")
class Outer(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = layers.Lambda(rounded, name="rounding")

    def call(self, x):
        return self.inner(x)


@pytest.mark.parametrize(
    ("backward", "words"),
    [
        ("identity", "straight_through"),
        ({}, "must be"),
        ({"rounding": "identity"}, "callable"),
        ({"rounding": layers.ReLU}, "callable"),
        ({3: doubled}, "its name"),
        ({"roundin": doubled}, "one of the layers"),
        ({layers.LSTM: doubled}, "class LSTM"),
        ({layers.Dense: "other"}, "callable"),
        ({layers.Flatten: "straight_through"}, "keep the shape"),
        ({layers.Concatenate: doubled}, "one input and output"),
        ({"rounding": lambda z: z[:, :2]}, "'rounding'"),
        ({"rounding": lambda z: ops.cast(z, "int32")}, "floats"),
        ("straight_through", "known to have no gradient"),
    ],
)
def test_refusals(backward, words):
    inputs = keras.Input((5, 1))
    h = layers.Lambda(rounded, name="rounding")(inputs)
    h = layers.Concatenate()([h, inputs])
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(h)))
    x, y = np.full((2, 5, 1), 0.5, "float32"), np.zeros(2, int)
    with pytest.raises(ValueError, match=words):
        kr.PGDAttack(backward=backward)(model, x, y, verbose=0)


def test_hidden_layers_are_refused(weights, points):
    y = np.zeros(4, int)
    hidden = Hidden()
    hidden(ops.convert_to_tensor(points))
    attack = kr.PGDAttack(
        from_logits=True, backward={"rounding": "straight_through"}
    )
    with pytest.raises(ValueError, match="Hidden, whose graph is hidden"):
        attack(hidden, points, y, verbose=0)
    model = opened(Outer(name="outer"), weights)
    with pytest.raises(ValueError, match="'rounding' inside 'outer'"):
        attack(model, points, y, verbose=0)
    outer = attack.replace(backward={"outer": "straight_through"})
    assert np.abs(outer(model, points, y, verbose=0) - points).max() > 0.1
    with pytest.raises(ValueError, match="loss of labels and logits"):
        kr.PGDAttack(loss="compiled", backward="straight_through")
    with pytest.raises(ValueError, match="own gradients"):
        kr.AdversarialModel(model, attack=outer)


@pytest.mark.compiles_much
def test_integers_fixed_batches_and_other_inputs(weights, rng):
    """Whole pixels in batches of three, and a second input that is held."""
    image = keras.Input((5,), batch_size=3, dtype="uint8", name="image")
    other = keras.Input((5,), batch_size=3, name="other")
    h = layers.Rescaling(1 / 255)(image)
    h = layers.Lambda(rounded, name="rounding")(h)
    h = layers.Add()([h, other])
    model = keras.Model([image, other], layers.Dense(3, use_bias=False)(h))
    model.set_weights([weights])
    x = rng.integers(50, 200, (7, 5)).astype("uint8")
    held = rng.random((7, 5)).astype("float32")
    y = model.predict([x[:6], held[:6]], batch_size=3, verbose=0).argmax(-1)
    y = np.append(y, 0)
    attack = kr.PGDAttack(
        "linf",
        20,
        value_range=(0, 255),
        attacked="image",
        backward={"rounding": "straight_through"},
    )
    found, kept = attack(model, [x, held], y, verbose=0)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(kept, held)
    moved = found.astype(int) - x
    assert np.abs(moved).max() == 20


def test_a_linear_model_of_two_classes_stays_what_it_was(weights, points):
    """Without `backward` nothing is different."""
    model = make_linear(weights)
    plain = Classifier.of(model)
    assert Classifier.of(model, backward=None).logits is plain.logits
    assert Classifier.of(model).fingerprint() == plain.fingerprint()
    backward = Backward.of({layers.Dense: lambda z: z[:, :3]})
    other = Classifier.of(model, backward=backward)
    assert other.logits is not plain.logits
    assert other.fingerprint() == plain.fingerprint()
    again = Classifier.of(plain, backward=backward)
    assert again.logits is other.logits
