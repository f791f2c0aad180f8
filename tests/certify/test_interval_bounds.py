import json

import keras
import numpy as np
import pytest

import keras_robust as kr
from keras_robust.certify.interval_network import IntervalNetwork
from tests.helpers import exact_accuracy
from tests.helpers import make_cnn


def bounds(model, data, epsilon, **options):
    return kr.certify.interval_bounds(
        model, data, epsilon, **{"verbose": 0, **options}
    )


def randomize(model, seed=0, scale=0.4):
    """Weights of both signs, also of BatchNorm, and variances above 0."""
    random = np.random.default_rng(seed)
    for variable in model.variables:
        if "seed" in variable.path:
            continue
        value = random.normal(size=variable.shape, scale=scale)
        if "variance" in variable.path:
            value = np.abs(value) + 0.1
        variable.assign(value)
    return model


def layers_of(kind):
    """A stack of layers from `(6, 6, 2)` or `(6, 4)` to features."""
    layers = keras.layers
    return {
        "dense": [layers.Flatten(), layers.Dense(7, activation="relu")],
        "activations": [
            layers.Conv2D(3, 3, activation="tanh"),
            layers.Conv2D(3, 2, activation="elu"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Conv2D(3, 1, activation="sigmoid"),
            layers.ELU(),
            layers.Activation("softplus"),
            layers.ReLU(max_value=1.0),
        ],
        "one minimum": [
            layers.Conv2D(3, 3, activation="gelu"),
            layers.Conv2D(3, 2, activation="silu"),
            layers.Activation("mish"),
            layers.Conv2D(3, 1, activation="hard_silu"),
        ],
        "separable": [
            layers.SeparableConv2D(4, 2, depth_multiplier=2, padding="same"),
            layers.Activation("tanh"),
            layers.SeparableConv2D(3, 3, strides=2, use_bias=False),
            layers.Reshape((4, 3)),
            layers.SeparableConv1D(3, 2, activation="relu"),
            layers.DepthwiseConv1D(2),
        ],
        "volumes": [
            layers.Reshape((6, 6, 2, 1)),
            layers.Conv3D(3, 2, activation="relu"),
            layers.ZeroPadding3D(1),
            layers.MaxPooling3D(2),
            layers.AveragePooling3D((2, 2, 1), strides=1),
            layers.GlobalAveragePooling3D(),
        ],
        "convolutions": [
            layers.Conv2D(4, 3, strides=2, padding="same", groups=2),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.DepthwiseConv2D(2, depth_multiplier=2, activation="relu"),
            layers.BatchNormalization(center=False),
        ],
        "dilated": [layers.Conv2D(3, 2, dilation_rate=2, use_bias=False)],
        "pooling": [
            layers.ZeroPadding2D(1),
            layers.MaxPooling2D(2, padding="same"),
            layers.Conv2D(4, 2, activation="relu"),
            layers.AveragePooling2D(2, strides=1, padding="same"),
            layers.Cropping2D(1),
            layers.GlobalAveragePooling2D(),
        ],
        "scaled": [
            layers.Rescaling(-2.0, offset=0.3),
            layers.Normalization(mean=[0.2, 0.4], variance=[0.5, 2.0]),
            layers.Dropout(0.5),
            layers.Conv2D(3, 3),
            layers.GlobalMaxPooling2D(),
        ],
        "sequences": [
            layers.Reshape((12, 6)),
            layers.Conv1D(4, 3, padding="causal", dilation_rate=2),
            layers.BatchNormalization(scale=False),
            layers.ReLU(),
            layers.Permute((2, 1)),
            layers.MaxPooling1D(2),
            layers.AveragePooling1D(2),
        ],
        "ours": [
            kr.layers.PatchWhitening(),
            kr.layers.ResidualBlock(26, strides=2),
            kr.layers.ResidualBlock(4, shortcut="projection"),
            kr.layers.ResidualBlock(2, bottleneck=True, activation="fake_relu"),
        ],
    }[kind]


def make_stack(kind):
    inputs = h = keras.Input((6, 6, 2))
    for layer in layers_of(kind):
        h = layer(h)
    if len(h.shape) > 2:
        h = keras.layers.Flatten()(h)
    return randomize(keras.Model(inputs, keras.layers.Dense(3)(h)))


def attacked(model, x, radius):
    """Points of a box that lower each logit as far as PGD can."""
    classes = model.output_shape[-1]
    copies = np.repeat(x[None], classes, 0)
    attack = kr.PGDAttack(
        "linf",
        radius,
        step_size=radius / 2,
        steps=5,
        value_range=(-np.inf, np.inf),
    )
    moved = attack(model, copies, np.arange(classes), verbose=0)
    return np.clip(moved, x - radius, x + radius)


def check_by_sampling(model, x, radius, samples=300, classifier=None):
    """No point of the box leaves the bounds; some come near."""
    random = np.random.default_rng(1)
    network = IntervalNetwork(model)
    y = np.arange(len(x)) % network.classifier.num_classes
    lower, upper, margins = (
        keras.ops.convert_to_numpy(part)
        for part in (
            *network.logits(x - radius, x + radius),
            network.margins(x - radius, x + radius, y),
        )
    )
    assert (lower <= upper).all()
    for i in range(len(x)):
        noise = random.uniform(-1, 1, (samples, *x.shape[1:]))
        noise[: samples // 2] = np.sign(noise[: samples // 2])
        points = (x[i] + radius * noise).astype("float32")
        points = np.clip(points, x[i] - radius, x[i] + radius)
        points = np.concatenate([points, attacked(model, x[i], radius)])
        logits = network.classifier.predict_logits(points)
        assert (logits >= lower[i]).all() and (logits <= upper[i]).all()
        own = logits[:, y[i], None] - logits
        assert (own >= margins[i]).all()
    return lower, upper, margins


@pytest.mark.parametrize(
    "kind",
    [
        "dense",
        "activations",
        "one minimum",
        "separable",
        "volumes",
        "convolutions",
        "dilated",
        "pooling",
        "scaled",
        "sequences",
        pytest.param("ours", marks=pytest.mark.slow_on_jax),
    ],
)
@pytest.mark.compiles_much
def test_bounds_hold_for_samples(kind, cnn_data):
    model, x = make_stack(kind), cnn_data[0][:3]
    lower, upper, margins = check_by_sampling(model, x, 0.05)
    # At radius 0 they are the logits, up to rounding errors.
    network = IntervalNetwork(model)
    ends = network.logits(x, x)
    logits = network.classifier.predict_logits(x)
    low, high = map(keras.ops.convert_to_numpy, ends)
    assert (low <= logits).all() and (logits <= high).all()
    np.testing.assert_allclose((low + high) / 2, logits, rtol=0.02, atol=1e-2)
    if kind != "ours":
        # Rounding errors of ten convolutions add up as the ball does.
        assert (high - low <= 2e-3 * np.abs(logits).max()).all()
    assert (upper - lower).max() > 1e-3
    # Merged with the last layer, differences are never looser.
    y = np.arange(3)
    loose = lower[np.arange(3), y, None] - upper
    loose[np.arange(3), y] = 0
    assert (margins >= loose - 1e-3).all()


def test_one_linear_layer_is_exact(linear_problem):
    model, x, y = linear_problem
    weights = model.get_weights()[0]
    w = (weights[:, 1] - weights[:, 0]) * np.where(y == 1, 1, -1)[:, None]
    flat = x.reshape(60, -1)
    for epsilon in (0.0, 0.03, 0.5):
        found = bounds(model, (x, y), epsilon)
        low = np.maximum(flat - epsilon, 0)
        high = np.minimum(flat + epsilon, 1)
        exact = np.where(w > 0, w * low, w * high).sum(-1)
        assert (found.margins <= exact).all()
        np.testing.assert_allclose(found.margins, exact, atol=2e-4)
        assert found.accuracy["certified"] == exact_accuracy(
            model, x, y, "linf", epsilon
        )
        np.testing.assert_array_equal(found.certified, exact > 0)
    # Where the box is left out, that of the closed form is too.
    found = bounds(model, (x, y), 0.5, value_range=(-5, 5))
    exact = (w * flat).sum(-1) - 0.5 * np.abs(w).sum(-1)
    np.testing.assert_allclose(found.margins, exact, atol=2e-4)


@pytest.mark.compiles_much
def test_two_layers_by_hand():
    """|W| on the radius, ends through the ReLU, the last layer merged."""
    inputs = keras.Input((2,))
    h = keras.layers.Dense(2, activation="relu")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2)(h))
    first, second = [[1.0, -1.0], [2.0, 1.0]], [[1.0, 2.0], [3.0, 1.0]]
    model.set_weights([np.array(p) for p in (first, [0, 0.5], second, [0, 1])])
    network = IntervalNetwork(model)
    x = np.array([[0.5, 0.25]], "float32")
    lower, upper = map(
        keras.ops.convert_to_numpy, network.logits(x - 0.125, x + 0.125)
    )
    # h1 in [1 - 3/8, 1 + 3/8], h2 in [1/4 - 1/4, 1/4 + 1/4].
    np.testing.assert_allclose(lower, [[5 / 8, 9 / 4]], atol=1e-4)
    np.testing.assert_allclose(upper, [[11 / 8 + 1.5, 11 / 4 + 1.5]], atol=1e-4)
    # z1 - z0 = h1 - 2 h2 + 1.
    margins = network.margins(x - 0.125, x + 0.125, np.array([1]))
    margins = keras.ops.convert_to_numpy(margins)
    np.testing.assert_allclose(margins, [[5 / 8 - 1 + 1, 0]], atol=1e-4)
    worst = network.worst_case_logits(x - 0.125, x + 0.125, np.array([1]))
    worst = keras.ops.convert_to_numpy(worst)
    np.testing.assert_allclose(worst, [[-5 / 8, 0]], atol=1e-4)


def trained(rng):
    """A small network that is right on its data with some margin."""
    keras.utils.set_random_seed(0)
    x = rng.random((60, 4, 4, 1), dtype="float32")
    y = (x[:, :2].mean((1, 2, 3)) > x[:, 2:].mean((1, 2, 3))).astype("int32")
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            keras.layers.Conv2D(4, 2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(2),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.03), loss)
    model.fit(x, y, epochs=40, batch_size=60, verbose=0)
    return model, x, y


@pytest.mark.slow_on_jax
@pytest.mark.compiles_much
def test_no_attack_inside_a_certified_ball(rng):
    model, x, y = trained(rng)
    shares = []
    for epsilon in (0.0, 0.01, 0.05):
        found = bounds(model, (x, y), epsilon)
        shares.append(found.accuracy["certified"])
        attacks = {
            "pgd": kr.PGDAttack(
                norm="linf",
                epsilon=epsilon,
                steps=10,
                random_start=True,
                restarts=2,
                seed=0,
            ),
            "apgd": kr.APGDAttack(
                norm="linf", epsilon=epsilon, steps=20, seed=0
            ),
        }
        report = kr.evaluate_robustness(
            model, (x, y), attacks, verbose=0, probe=False
        )
        assert not (found.certified & ~report.correct["worst case"]).any()
        assert shares[-1] <= report.accuracy["worst case"]
        np.testing.assert_array_equal(found.correct, report.correct["clean"])
    assert shares[0] == found.accuracy["clean"]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > shares[1] > shares[-1]


@pytest.mark.slow_on_jax
def test_softmax_sigmoid_and_one_unit(cnn_data):
    x, y = cnn_data[0], cnn_data[1] % 2
    plain = make_cnn(classes=3)
    softmax = make_cnn(classes=3, activation="softmax")
    first = bounds(plain, (x, y), 0.02)
    found = bounds(softmax, (x, y), 0.02)
    np.testing.assert_allclose(found.margins, first.margins, atol=1e-5)
    one = make_cnn(classes=1, activation="sigmoid")
    kernel, bias = one.get_weights()[-2:]
    two = make_cnn(classes=2)
    weights = two.get_weights()
    weights[-2] = np.concatenate([0 * kernel, kernel], 1)
    weights[-1] = np.concatenate([0 * bias, bias])
    two.set_weights(weights)
    first, found = (bounds(m, (x, y), 0.02) for m in (two, one))
    np.testing.assert_allclose(found.margins, first.margins, atol=1e-5)
    assert 0 < first.accuracy["certified"] < 1


def sigmoids(kernel, bias):
    kernel = np.array([kernel], "float32")
    inputs = keras.Input((1,))
    dense = keras.layers.Dense(kernel.shape[1], activation="sigmoid")
    model = keras.Model(inputs, dense(inputs))
    dense.set_weights([kernel, np.array(bias, "float32")])
    return model


@pytest.mark.parametrize("logit", [1.0, 15.7, 16.2, 16.5, 30.0, 90.0])
def test_confident_sigmoids(logit):
    """Rounded probabilities are no sign of a wrong rule."""
    x, y = np.array([[0.5]], "float32"), np.array([1])
    one = bounds(sigmoids([1], [logit - 0.5]), (x, y), 1e-3)
    np.testing.assert_allclose(one.margins, logit - 1e-3, rtol=1e-4)
    three = sigmoids([0, 1, 0], [0, logit - 0.5, -1])
    several = bounds(three, (x, y), 1e-3)
    np.testing.assert_allclose(several.margins, logit - 1e-3, rtol=1e-4)
    assert one.certified.all() and several.certified.all()


@pytest.mark.parametrize("sign", [1, -1])
def test_no_certificate_where_sigmoids_tie(sign):
    """Logits 100 and 125.5 differ; their sigmoids are both 1, others both 0."""
    slopes, offsets = [100, 125], [0, 0.5 if sign > 0 else 0]
    if sign < 0:
        slopes, offsets = [-125, -110], [-1, 0]
    model = sigmoids(slopes, offsets)
    x, y = np.array([[0.01]], "float32"), np.array([1])
    assert bounds(model, (x, y), 0.01).certified.all()
    wide = bounds(model, (x, y), 1.0)
    # What the certificate would be about, and what the model answers.
    assert model.predict(np.ones((1, 1)), verbose=0).argmax(-1) == 0
    assert wide.accuracy == {"clean": 1.0, "certified": 0.0}


@pytest.mark.slow_on_jax
def test_nested_merged_and_several_inputs(cnn_data, rng):
    layers = keras.layers
    x = cnn_data[0][:5]
    inner_input = keras.Input((6, 6, 2))
    inner = keras.Sequential(
        [layers.Conv2D(2, 3, padding="same"), layers.ReLU()]
    )
    h = layers.Concatenate()([inner(inner_input), inner_input])
    block = keras.Model(inner_input, h)
    image, meta = keras.Input((6, 6, 2), name="image"), keras.Input((3,))
    h = block(image / 2.0 + 1.0)
    h = layers.Add()([layers.Conv2D(3, 1)(h), layers.Conv2D(3, 1)(h)])
    h = layers.Maximum()([h, layers.Subtract()([h, layers.ReLU()(h)])])
    h = keras.ops.relu(h - 0.1)
    h = layers.Average()([h, 0.5 * h])
    side = layers.Dense(4, activation="gelu")(meta)
    h = layers.Concatenate()([layers.Flatten()(h), side])
    model = randomize(
        keras.Model([image, meta], {"a": layers.Dense(3)(h), "b": side})
    )
    held = rng.random((5, 3), dtype="float32")
    options = {"attacked": "image", "output": "a"}
    network = IntervalNetwork(model, **options)
    found = network.logits(x - 0.1, x + 0.1, {"#1": held})
    lower, upper = map(keras.ops.convert_to_numpy, found)
    for _ in range(50):
        points = x + rng.uniform(-0.1, 0.1, x.shape).astype("float32")
        logits = network.classifier.predict_logits(points, held={"#1": held})
        assert (lower <= logits).all() and (logits <= upper).all()
    y = logits.argmax(-1)
    result = bounds(model, ([x, held], y), 0.001, **options)
    assert result.accuracy == {"clean": 1.0, "certified": 1.0}


def test_units_of_pixels(linear_problem):
    model, x, y = linear_problem
    stored = np.round(255 * x).astype("uint8")
    unit = bounds(model, (stored / np.float32(255), y), 0.03)
    inputs = keras.Input((4, 4, 1))
    h = keras.layers.Rescaling(1 / 255)(inputs)
    byte = keras.Model(inputs, model(h))
    for found in (
        bounds(byte, (stored, y), 0.03 * 255, value_range=(0, 255)),
        bounds(byte, (stored, y), 0.03 * 255, value_range="auto"),
        bounds(byte, (stored, y), 0.03, scaling="byte"),
    ):
        np.testing.assert_allclose(found.margins, unit.margins, atol=1e-4)
    # A radius for each example, or for each feature.
    each = bounds(model, (x, y), np.full(60, 0.03))
    row = bounds(model, (x, y), np.full((4, 4, 1), 0.03))
    np.testing.assert_array_equal(each.margins, row.margins)
    zero = bounds(model, (x, y), np.zeros((4, 4, 1)))
    assert (zero.margins > each.margins).all()


@pytest.mark.compiles_much
def test_channels_first(cnn_data):
    layers = keras.layers
    first = {"data_format": "channels_first"}
    inputs = h = keras.Input((2, 6, 6))
    # TensorFlow convolves channels first on GPUs only.
    if keras.backend.backend() != "tensorflow":
        h = layers.Conv2D(3, 3, **first)(h)
        h = layers.DepthwiseConv2D(2, activation="relu", **first)(h)
    h = layers.BatchNormalization(axis=1)(h)
    h = layers.AveragePooling2D(2, **first)(h)
    h = layers.GlobalMaxPooling2D(**first)(h)
    model = randomize(keras.Model(inputs, layers.Dense(3)(h)))
    check_by_sampling(model, cnn_data[0][:3].transpose(0, 3, 1, 2), 0.05)


@keras.saving.register_keras_serializable("tests")
class OwnLayer(keras.layers.ReLU):
    pass


@pytest.mark.parametrize("width", [1e-3, 0.5, 8.0])
@pytest.mark.compiles_much
def test_activations_with_one_minimum(width):
    """Bounds are the extremes on a fine grid, in intervals of all places."""
    ops = keras.ops
    functions = {ops.gelu: ops.gelu, ops.silu: ops.silu}
    for name in ("gelu", "silu", "mish", "hard_silu"):
        layer = keras.layers.Activation(name)
        functions[layer] = layer.activation
    middles = np.linspace(-7, 4, 45)[:, None]
    grid = np.linspace(-width, width, 2001) + middles
    for symbolic, function in functions.items():
        inputs = keras.Input((1,))
        model = keras.Model(inputs, symbolic(inputs))
        network = IntervalNetwork(model, from_logits=True)
        low, high = (
            ops.convert_to_numpy(part)[:, 1]
            for part in network.logits(middles - width, middles + width)
        )
        points = ops.convert_to_tensor(grid, "float32")
        values = ops.convert_to_numpy(function(points))
        assert (low <= values.min(1)).all() and (values.max(1) <= high).all()
        np.testing.assert_allclose(low, values.min(1), atol=1e-4)
        np.testing.assert_allclose(high, values.max(1), atol=1e-4)


def test_unknown_layers_are_refused_by_name(cnn_data):
    layers = keras.layers
    x, y = cnn_data
    for layer, message in (
        (layers.LayerNormalization(name="odd"), "'odd'.*LayerNormalization"),
        (OwnLayer(name="odd"), "'odd' of type OwnLayer"),
        (layers.ELU(alpha=-0.5, name="odd"), "alpha.*'odd'"),
        (layers.Activation("softmax", name="odd"), "'softmax'.*'odd'"),
        (layers.Conv2D(2, 1, activation="tanh_shrink", name="odd"), "tanh"),
        (layers.Lambda(lambda x: -x, name="odd"), "'odd'.*Lambda"),
        (layers.ReLU(dtype="mixed_float16", name="odd"), "'odd'.*float16"),
    ):
        inputs = keras.Input((6, 6, 2))
        h = layers.Flatten()(layer(inputs))
        model = keras.Model(inputs, layers.Dense(3, dtype="float32")(h))
        with pytest.raises(ValueError, match=message):
            bounds(model, (x, y), 0.1)
    inputs = keras.Input((6, 6, 2))
    h = layers.Flatten()(keras.ops.sin(inputs))
    with pytest.raises(ValueError, match="Sin"):
        bounds(keras.Model(inputs, layers.Dense(3)(h)), (x, y), 0.1)

    class Hidden(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, x):
            return self.dense(keras.ops.reshape(x, (-1, 72)))

    model = Hidden()
    model(x)
    with pytest.raises(ValueError, match="functional or sequential"):
        bounds(model, (x, y), 0.1, from_logits=True)


def test_a_layer_that_does_something_else_is_found(cnn_data, monkeypatch):
    x, y = cnn_data
    model = make_stack("dense")
    found = bounds(model, (x, y), 0.0)
    assert found.accuracy["clean"] == found.accuracy["certified"]
    dense, call = keras.layers.Dense, keras.layers.Dense.call

    def negative(self, x, training=None):
        return -call(self, x, training=training)

    monkeypatch.setattr(dense, "call", negative)
    with pytest.raises(ValueError, match="within their interval bounds"):
        bounds(make_stack("dense"), (x, y), 0.0)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"epsilon": -1}, "epsilon"),
        ({"epsilon": np.zeros(7)}, "epsilon"),
        ({"batch_size": 0}, "batch_size"),
        ({"value_range": (0, 0.1)}, "value_range"),
        ({"value_range": (1, 0)}, "value_range"),
    ],
)
def test_refusals(linear_problem, options, message):
    model, x, y = linear_problem
    with pytest.raises(ValueError, match=message):
        bounds(model, (x, y), **{"epsilon": 0.1, **options})


@pytest.mark.slow_on_jax
def test_batches_and_fixed_batch_sizes(varied):
    model, x, y = varied
    whole = bounds(model, (x, y), 0.01)
    for batch_size in (1, 7):
        found = bounds(model, (x, y), 0.01, batch_size=batch_size)
        np.testing.assert_allclose(found.margins, whole.margins, atol=1e-5)
    one = bounds(model, (x[:1], y[:1]), 0.01)
    np.testing.assert_allclose(one.margins, whole.margins[:1], atol=1e-5)
    fixed = keras.Input(batch_shape=(10, 6, 6, 2))
    found = bounds(keras.Model(fixed, model(fixed)), (x, y), 0.01)
    np.testing.assert_allclose(found.margins, whole.margins, atol=1e-5)


def test_result_as_table_json_and_figure(linear_problem, tmp_path):
    model, x, y = linear_problem
    found = bounds(model, (x, y), 0.03)
    table = found.table()
    assert list(table.columns[0].cells) == ["clean", "certified"]
    numbers = json.loads(found.to_json(tmp_path / "result.json"))
    assert numbers["accuracy"] == found.accuracy
    assert numbers["certified"] == found.certified.tolist()
    assert numbers["provenance"]["epsilon"] == 0.03
    low, high = found.intervals["certified"]
    assert low < found.accuracy["certified"] < high
    found.plot(tmp_path / "margins.png")


def test_bounds_that_overflow():
    """Nothing is known then, which is worse than any number."""
    inputs = keras.Input((1,))
    h = keras.layers.Dense(2, activation="exponential")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2)(h))
    model.set_weights(
        [np.array([[100, 0]]), np.zeros(2), np.array([[-1, 1], [0, 1]])]
        + [np.zeros(2)]
    )
    data = np.full((2, 1), 0.01, "float32"), np.ones(2, "int32")
    found = bounds(model, data, np.array([1.0, 0.001]))
    assert found.margins[0] == -np.inf and found.margins[1] > 0
    np.testing.assert_array_equal(found.certified, [False, True])
    line = found.draw().axes[0].lines[0]
    np.testing.assert_array_equal(line.get_xdata()[0], found.margins[1])


def test_rounding_errors_are_inside_the_bounds():
    """Sums that cancel: float32 is off by more than the ball is wide."""
    random = np.random.default_rng(0)
    d = 4096
    weights = random.normal(size=(d, 1)) * 1000
    inputs = keras.Input((d,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    both = np.concatenate([weights, -weights], 1)
    model.set_weights([both, np.zeros(2)])
    x = random.random((50, d)).astype("float32")
    kernel = model.get_weights()[0].astype("float64")
    network = IntervalNetwork(model)
    lower, upper = map(keras.ops.convert_to_numpy, network.logits(x, x))
    exact = x.astype("float64") @ kernel
    assert (lower <= exact).all() and (exact <= upper).all()
    own = network.classifier.predict_logits(x)
    assert (own != exact).any()
    # Within a few times the largest error that can be.
    size = np.abs(x.astype("float64")) @ np.abs(kernel)
    assert (upper - lower <= 10 * d * 2.0**-24 * size).all()


def test_rescaling_of_channels_that_come_first():
    layers = keras.layers
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    try:
        # As many columns as channels: either axis would broadcast.
        model = keras.Sequential(
            [
                keras.Input((2, 3, 2)),
                layers.Rescaling([0.5, -2.0], [0.1, 0.2]),
                layers.Flatten(),
                layers.Dense(3),
            ]
        )
        randomize(model)
        x = np.random.default_rng(0).random((9, 2, 3, 2)).astype("float32")
        network = IntervalNetwork(model, from_logits=True)
        low, high = map(keras.ops.convert_to_numpy, network.logits(x, x))
        logits = model.predict(x, verbose=0)
    finally:
        keras.config.set_image_data_format(before)
    assert (low <= logits).all() and (logits <= high).all()
    assert (high - low).max() < 1e-4
