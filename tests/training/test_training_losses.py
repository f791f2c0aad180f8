"""The compiled loss per example, and what attacks on it climb."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_robust as kr
from keras_robust import backend
from keras_robust.attacks.compiled_loss import CompiledLoss
from keras_robust.attacks.compiled_loss import compiled_loss
from keras_robust.attacks.compiled_loss import labels_of
from keras_robust.attacks.compiled_loss import per_example
from keras_robust.attacks.compiled_objective import objective_of
from keras_robust.classifier import Classifier
from tests.helpers import mostly_slow

L = keras.losses


def rows_of_probabilities(random, *shape):
    rows = random.random(shape) + 0.1
    return (rows / rows.sum(-1, keepdims=True)).astype("float32")


def cases():
    random = np.random.default_rng(0)
    p, soft = (rows_of_probabilities(random, 6, 4) for _ in range(2))
    z = random.normal(size=(6, 4)).astype("float32")
    y = random.integers(0, 4, 6)
    bits = random.integers(0, 2, (6, 4)).astype("float32")
    pixels = rows_of_probabilities(random, 6, 3, 2, 4)
    classes = random.integers(0, 4, (6, 3, 2))
    one = random.random((6, 1)).astype("float32")
    logits = {"from_logits": True}
    return {
        "sparse": (L.SparseCategoricalCrossentropy(), y, p),
        "sparse logits": (L.SparseCategoricalCrossentropy(**logits), y, z),
        "string": ("sparse_categorical_crossentropy", y[:, None], p),
        "smoothed": (L.CategoricalCrossentropy(label_smoothing=0.2), soft, p),
        "soft": (L.CategoricalCrossentropy(**logits), soft, z),
        "bits": (L.BinaryCrossentropy(label_smoothing=0.1), bits, p),
        "bit": ("binary_crossentropy", bits[:, 0], one),
        "focal": (L.CategoricalFocalCrossentropy(), np.eye(4)[y], p),
        "hinge": (L.Hinge(), 2 * bits - 1, z),
        "hinge of bits": (L.SquaredHinge(), bits, z),
        "squares": ("mse", z + 1, p),
        "squares of numbers": ("mse", z[:, 0], one),
        "huber": (L.Huber(0.3), z, p),
        "pixels": (L.SparseCategoricalCrossentropy(), classes, pixels),
        "ignored pixels": (
            L.SparseCategoricalCrossentropy(ignore_class=2),
            np.where(classes == 2, 1, classes),
            pixels,
        ),
        "function": (lambda y, p: ops.abs(y - p), z, p),
    }


CASES = cases()


@pytest.mark.parametrize("name", CASES)
def test_per_example_is_the_loss_of_one_example(name):
    loss, y, outputs = CASES[name]
    own = loss
    if not isinstance(loss, L.Loss):
        function = L.get(loss) if isinstance(loss, str) else loss
        model = keras.Model()
        model.compile(optimizer=None, loss=function)

        def own(y, p):
            return model.compute_loss(y=y, y_pred=p)

    function = L.get(loss) if isinstance(loss, str) else loss
    values = ops.convert_to_numpy(per_example(function)(y, outputs))
    assert values.shape == (6,)
    for i in range(6):
        one = ops.convert_to_tensor(y[i : i + 1])
        expected = own(one, ops.convert_to_tensor(outputs[i : i + 1]))
        expected = ops.convert_to_numpy(expected)
        assert values[i] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("reduction", ["sum", "none", "mean", None])
def test_reductions(reduction):
    _, y, p = CASES["pixels"]
    loss = L.SparseCategoricalCrossentropy(reduction=reduction)
    mean = L.SparseCategoricalCrossentropy(reduction="none")(y, p)
    mean = ops.convert_to_numpy(mean)
    values = ops.convert_to_numpy(per_example(loss)(y, p))
    reduce = np.mean if reduction == "mean" else np.sum
    np.testing.assert_allclose(values, reduce(mean, (1, 2)), rtol=1e-5)
    assert loss.reduction == reduction


def test_a_loss_of_the_whole_batch():
    _, y, p = CASES["squares"]
    values = per_example(lambda y, p: ops.mean((y - p) ** 2))(y, p)
    expected = np.full(6, ((y - p) ** 2).mean())
    np.testing.assert_allclose(ops.convert_to_numpy(values), expected, 1e-5)


def test_labels_of():
    assert labels_of(L.SparseCategoricalCrossentropy()) == "classes"
    assert labels_of(L.get("kl_divergence")) == "rows"
    assert labels_of(L.get("mse")) == "values"
    assert labels_of(L.Hinge()) == "signs"
    assert labels_of(L.get("binary_crossentropy")) == "bits"
    assert labels_of(lambda y, p: p) is None

    class Own(L.Loss):
        def call(self, y_true, y_pred):
            return y_pred

    assert labels_of(Own()) is None


def two_outputs():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,))
    digit = layers.Dense(3, activation="softmax", name="digit")(inputs)
    size = layers.Dense(1, name="size")(inputs)
    return inputs, digit, size


@pytest.mark.parametrize(
    "form", mostly_slow(["list", "dict", "named list"], "dict")
)
@pytest.mark.compiles_much
def test_several_outputs(form):
    """The sum over the batch is what Keras trains on."""
    inputs, digit, size = two_outputs()
    random = np.random.default_rng(1)
    x = random.random((6, 5)).astype("float32")
    labels = random.integers(0, 3, 6), random.random((6, 1)).astype("float32")
    losses = [L.SparseCategoricalCrossentropy(), L.Huber(reduction="sum")]
    weights = [0.3, 2.0]
    names = ["digit", "size"]
    if form == "list":
        model = keras.Model(inputs, [digit, size])
        y, loss, loss_weights = list(labels), losses, weights
    else:
        outputs = {"digit": digit, "size": size}
        model = keras.Model(
            inputs, outputs if form == "dict" else [digit, size]
        )
        y = dict(zip(names, labels, strict=True))
        if form == "named list":
            y = list(labels)
        loss = dict(zip(names, losses, strict=True))
        loss_weights = dict(zip(names, weights, strict=True))
    model.compile("sgd", loss, loss_weights=loss_weights)
    ours = compiled_loss(model)
    values = ops.convert_to_numpy(ours(y, model(x)))
    expected = model.evaluate(x, y, batch_size=6, verbose=0, return_dict=True)
    assert values.mean() == pytest.approx(expected["loss"], rel=1e-5)
    only = ours.only("size")
    values = ops.convert_to_numpy(only(y, model(x)))
    assert values.sum() == pytest.approx(2 * expected["size_loss"], rel=1e-5)
    with pytest.raises(ValueError, match="output.*Received"):
        ours.only("colour")


def test_an_output_without_a_loss():
    inputs, digit, size = two_outputs()
    model = keras.Model(inputs, [digit, size])
    x = np.random.default_rng(1).random((6, 5)).astype("float32")
    y = np.arange(6) % 3
    model.compile("sgd", ["sparse_categorical_crossentropy", None])
    (part,) = compiled_loss(model).parts
    assert part.key == "digit"
    values = compiled_loss(model)([y], model(x))
    expected = L.SparseCategoricalCrossentropy()(y, model(x)[0])
    np.testing.assert_allclose(
        ops.convert_to_numpy(values).mean(),
        ops.convert_to_numpy(expected),
        rtol=1e-5,
    )


@pytest.mark.parametrize("loss", ["cross_entropy", "compiled", "own"])
def test_labels_for_outputs_with_a_loss_alone(loss):
    """Each output is attacked with its own labels, in lists of both lengths."""
    inputs = keras.Input((5,))
    names = ("first", "second", "third")
    outputs = [layers.Dense(3, name=name)(inputs) for name in names]
    model = keras.Model(inputs, outputs)
    random = np.random.default_rng(1)
    x = random.random((6, 5)).astype("float32")
    sparse = L.SparseCategoricalCrossentropy(from_logits=True)
    y = {name: random.integers(0, 3, 6) for name in names}
    attack = kr.PGDAttack("linf", 0.1, steps=2, value_range=(0.0, 1.0))
    own = attack.replace(loss=sparse if loss == "own" else loss)
    for name in ("second", "third"):
        expected = attack.replace(output=name)(model, x, y[name])
        robust = kr.AdversarialModel(model, own, output=name)
        robust.compile("sgd", [None, sparse, sparse])
        for given in ([y["second"], y["third"]], list(y.values()), y):
            tensors = keras.tree.map_structure(ops.convert_to_tensor, given)
            found = robust.perturb(ops.convert_to_tensor(x), tensors)
            np.testing.assert_allclose(
                ops.convert_to_numpy(found), expected, atol=1e-6
            )
        if loss == "compiled":
            chosen = own.replace(output=name)
            found = chosen(robust, x, [y["second"], y["third"]])
            np.testing.assert_allclose(found, expected, atol=1e-6)
    with pytest.raises(ValueError, match="`y` must hold labels.*1 arrays"):
        robust.perturb(ops.convert_to_tensor(x), [y["first"]])


def test_without_a_loss():
    model = keras.Model(*two_outputs()[:2])
    with pytest.raises(ValueError, match="compiled.*Received"):
        compiled_loss(model)
    with pytest.raises(ValueError, match="loss.*Received"):
        CompiledLoss(["mse", "mse"])
    with pytest.raises(ValueError, match="loss_weights.*Received"):
        CompiledLoss("mse", {"other": 1.0}, ["a", "b"])


def two_heads(order, form, width, flips):
    """A model with heads of 4 and of `width` numbers, in an order."""
    inputs = h = keras.Input((4, 4, 1))
    if flips:
        h = layers.RandomFlip(seed=0)(h)
    h = layers.Flatten()(h)
    random = np.random.default_rng(0)
    heads = {}
    for name, units in {"a": 4, "b": width}.items():
        layer = layers.Dense(units, name=name)
        heads[name] = layer(h)
        layer.set_weights([random.normal(size=(16, units)), np.zeros(units)])
    if form == "dict":
        return keras.Model(inputs, {name: heads[name] for name in order})
    return keras.Model(inputs, [heads[name] for name in order])


HEADS = {
    # Structure, numbers in the second head, loss of the attack, RandomFlip.
    "a number": ("list", 1, "cross_entropy", False),
    "two of classes": ("dict", 4, "compiled", True),
    "one without a loss": ("list", 4, "cross_entropy", True),
}


@pytest.mark.slow_on_jax
@pytest.mark.parametrize("name", HEADS)
@pytest.mark.compiles_much
def test_several_outputs_in_any_order(name):
    """Training raises the weighted sum of the losses that there are."""
    form, width, attack_loss, flips = HEADS[name]
    random = np.random.default_rng(1)
    x = random.random((12, 4, 4, 1)).astype("float32")
    y = {"a": random.integers(0, 4, 12), "b": random.integers(0, 4, 12)}
    loss = {"a": L.SparseCategoricalCrossentropy(from_logits=True)}
    if width == 1:
        loss["b"] = "mse"
        y["b"] = y["b"].astype("float32")
    elif name != "one without a loss":
        loss["b"] = loss["a"]
    attack = kr.PGDAttack(
        "linf", 0.1, steps=2, random_start=False, loss=attack_loss
    )
    found = []
    for order in (["a", "b"], ["b", "a"]):
        model = two_heads(order, form, width, flips)
        robust = kr.AdversarialModel(model, attack)
        given, labels = loss, y
        if form == "list":
            given = [loss.get(key) for key in order]
            labels = [y[key] for key in order]
        robust.compile(keras.optimizers.SGD(0.0), given)
        logs = robust.evaluate(x, labels, verbose=0, return_dict=True)
        assert logs["robust_loss"] > logs["loss"] + 0.1
        assert ("robust_accuracy" in logs) == (name == "one without a loss")
        trained = robust.train_on_batch(x, labels, return_dict=True)
        found.append([logs["loss"], logs["robust_loss"], trained["loss"]])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4)


@pytest.mark.compiles_much
def test_lists_for_a_dictionary_of_outputs():
    """Keras reads lists, and we positions, in the order of the keys."""
    random = np.random.default_rng(1)
    x = random.random((12, 4, 4, 1)).astype("float32")
    y = {key: random.integers(0, 4, 12) for key in "ab"}
    model = two_heads(["b", "a"], "dict", 4, False)
    sparse = L.SparseCategoricalCrossentropy(from_logits=True)
    other = L.SparseCategoricalCrossentropy(from_logits=True, name="other")
    attack = kr.PGDAttack("linf", 0.0, steps=1, loss="compiled")
    robust = kr.AdversarialModel(model, attack)
    robust.compile(
        keras.optimizers.SGD(0.0),
        [sparse, other],
        loss_weights=[1.0, 50.0],
        metrics=[
            ["accuracy"],
            [keras.metrics.SparseTopKCategoricalAccuracy(2)],
        ],
    )
    logs = robust.evaluate(x, y, verbose=0, return_dict=True)
    loss = robust.compiled_loss_by_example
    assert [(part.key, part.weight) for part in loss.parts] == [
        ("a", 1.0),
        ("b", 50.0),
    ]
    values = ops.convert_to_numpy(loss(y, model(x)))
    assert values.mean() == pytest.approx(logs["loss"], rel=1e-5)
    for name in ("a_accuracy", "b_sparse_top_k_categorical_accuracy"):
        assert logs[f"robust_{name}"] == pytest.approx(logs[name], abs=1e-6)
    moved = kr.PGDAttack("linf", 0.1, steps=1)
    for place, key in enumerate("ab"):
        first, second = (
            moved.replace(output=chosen)(model, x, y[key])
            for chosen in (place, key)
        )
        np.testing.assert_array_equal(first, second)


def head(width, activation, shape=(5,)):
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [keras.Input(shape), layers.Dense(width, activation=activation)]
    )


def objective_cases():
    random = np.random.default_rng(2)
    y = random.integers(0, 4, 6)
    bits = random.integers(0, 2, (6, 4)).astype("float32")
    soft = rows_of_probabilities(random, 6, 4)
    smooth = {"label_smoothing": 0.1}
    logits = {"from_logits": True}
    return {
        "bits": (4, "sigmoid", "binary_crossentropy", bits),
        "smoothed bits": (4, "sigmoid", L.BinaryCrossentropy(**smooth), bits),
        "bits logits": (4, None, L.BinaryCrossentropy(**logits), bits),
        "soft": (4, "softmax", "categorical_crossentropy", soft),
        "soft smoothed": (
            *(4, "softmax", L.CategoricalCrossentropy(**smooth)),
            np.eye(4)[y],
        ),
        "squares": (4, "sigmoid", "mse", soft),
        "relu": (1, "relu", "mae", soft[:, :1]),
        "divergence": (4, "softmax", L.KLDivergence(), soft),
        "numbers": (1, None, "mse", soft[:, 0]),
        "wrong logits": (
            *(4, "softmax", L.CategoricalCrossentropy(**logits)),
            soft,
        ),
    }


OBJECTIVES = objective_cases()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objective_is_the_compiled_loss(name):
    width, activation, loss, y = OBJECTIVES[name]
    model = head(width, activation)
    model.compile("sgd", loss)
    x = np.random.default_rng(3).random((6, 5)).astype("float32")
    objective = objective_of(Classifier.of(model), compiled_loss(model))
    values, success = objective({"y": ops.convert_to_tensor(y)}, x)
    total = model.evaluate(x, y, batch_size=6, verbose=0)
    own = ops.convert_to_numpy(values)
    own = np.exp(own) if "bits" in name else own
    assert own.mean() == pytest.approx(total, rel=1e-4)
    assert not ops.convert_to_numpy(success).any()
    down = objective_of(Classifier.of(model), compiled_loss(model), True)
    np.testing.assert_allclose(
        ops.convert_to_numpy(down({"y": ops.convert_to_tensor(y)}, x)[0]),
        -ops.convert_to_numpy(values),
        rtol=1e-6,
    )


@pytest.mark.slow_on_jax
def test_pixels_are_the_compiled_loss():
    random = np.random.default_rng(4)
    x = random.random((3, 4, 4, 5)).astype("float32")
    for shape, width, activation, loss, y in (
        (
            *((4, 4, 5), 3, "softmax", "sparse_categorical_crossentropy"),
            random.integers(0, 3, (3, 4, 4)),
        ),
        (
            *((4, 4, 5), 3, "softmax", "categorical_crossentropy"),
            rows_of_probabilities(random, 3, 4, 4, 3),
        ),
        (
            *((4, 4, 5), 1, "sigmoid", "binary_crossentropy"),
            random.integers(0, 2, (3, 4, 4, 1)).astype("float32"),
        ),
    ):
        model = head(width, activation, shape)
        model.compile("sgd", loss)
        objective = objective_of(Classifier.of(model), compiled_loss(model))
        values, _ = objective({"y": ops.convert_to_tensor(y)}, x)
        total = model.evaluate(x, y, verbose=0)
        own = np.exp(ops.convert_to_numpy(values))
        assert own.mean() == pytest.approx(total, rel=1e-4)


def test_objective_of_several_outputs():
    """Not logarithms: they would change the shares of the outputs."""
    inputs, digit, size = two_outputs()
    model = keras.Model(inputs, [digit, size])
    random = np.random.default_rng(1)
    x = random.random((6, 5)).astype("float32")
    y = [random.integers(0, 3, 6), random.random((6, 1)).astype("float32")]
    model.compile("sgd", ["sparse_categorical_crossentropy", "mse"], [0.3, 2.0])
    objective = objective_of(Classifier.of(model), compiled_loss(model))
    given = {"y": [ops.convert_to_tensor(part) for part in y]}
    values = ops.convert_to_numpy(objective(given, x)[0])
    expected = model.evaluate(x, y, batch_size=6, verbose=0)[0]
    assert values.mean() == pytest.approx(expected, rel=1e-4)
    one = Classifier.of(model, output="size")
    objective = objective_of(one, compiled_loss(model))
    values = ops.convert_to_numpy(objective(given, x)[0])
    squares = (model.predict(x, verbose=0)[1] - y[1]) ** 2
    np.testing.assert_allclose(values, 2 * squares[:, 0], rtol=1e-4)


def confident(width, activation, shape=(5,), factor=100.0):
    model = head(width, activation, shape)
    weights = model.get_weights()
    model.set_weights([factor * weight for weight in weights])
    return model


@pytest.mark.parametrize(
    "case",
    [
        "bits",
        pytest.param("one bit", marks=pytest.mark.slow_on_jax),
        pytest.param("pixels", marks=pytest.mark.slow_on_jax),
        "hinge",
        pytest.param("one-hot", marks=pytest.mark.slow_on_jax),
    ],
)
@pytest.mark.compiles_much
def test_confident_models_have_a_gradient(case):
    """Keras's own losses are flat there, in every backend."""
    random = np.random.default_rng(5)
    shape = (2, 2, 5) if case == "pixels" else (5,)
    x = (random.random((8, *shape)) + 0.5).astype("float32")
    if case == "hinge":
        model, loss = confident(1, None), "hinge"
        y = np.sign(model.predict(x, verbose=0))
    elif case == "pixels":
        model = confident(3, "softmax", shape)
        loss = "sparse_categorical_crossentropy"
        y = model.predict(x, verbose=0).argmax(-1)
    elif case == "one-hot":
        model, loss = confident(3, "softmax"), "categorical_crossentropy"
        y = np.eye(3)[model.predict(x, verbose=0).argmax(-1)]
    else:
        model = confident(4 if case == "bits" else 1, "sigmoid")
        loss = "binary_crossentropy"
        y = np.round(model.predict(x, verbose=0))
    model.compile("sgd", loss)
    objective = objective_of(Classifier.of(model), compiled_loss(model))
    inputs = {"y": ops.convert_to_tensor(y)}
    _, gradient = backend.value_and_gradient(
        lambda x: objective(inputs, x), ops.convert_to_tensor(x)
    )
    gradient = np.abs(ops.convert_to_numpy(gradient)).reshape(8, -1)
    assert (gradient.max(-1) > 0).all()


def test_an_integer_input_has_a_gradient():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,), dtype="uint8")
    h = layers.Rescaling(1 / 255)(inputs)
    model = keras.Model(inputs, layers.Dense(1)(h))
    model.compile("sgd", "mse")
    objective = objective_of(Classifier.of(model), compiled_loss(model))
    x = np.random.default_rng(0).integers(0, 256, (4, 5)).astype("float32")
    given = {"y": ops.zeros((4, 1))}
    (values, _), gradient = backend.value_and_gradient(
        lambda x: objective(given, x), ops.convert_to_tensor(x)
    )
    kernel = model.get_weights()[0][:, 0]
    outputs = model.predict(x.astype("uint8"), verbose=0)
    np.testing.assert_allclose(
        ops.convert_to_numpy(values), outputs[:, 0] ** 2, rtol=1e-4
    )
    expected = 2 * outputs * kernel / 255
    np.testing.assert_allclose(
        ops.convert_to_numpy(gradient), expected, rtol=1e-4
    )


@pytest.mark.parametrize(
    "metrics", [["accuracy"], {"a": "accuracy", "c": "accuracy"}, [[], [], []]]
)
@pytest.mark.parametrize("argument", ["metrics", "weighted_metrics"])
def test_metrics_that_do_not_fit_the_outputs(argument, metrics):
    inputs = keras.Input((4,))
    outputs = [keras.layers.Dense(3, name=name)(inputs) for name in "ab"]
    robust = kr.AdversarialModel(
        keras.Model(inputs, outputs), kr.PGDAttack("l2", 0.1)
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    message = rf"Argument `{argument}` of compile must .* \['a', 'b'\]"
    with pytest.raises(ValueError, match=message) as error:
        robust.compile("sgd", loss, **{argument: metrics})
    assert "RobustMetric" not in str(error.value)
    assert "\n" not in str(error.value)
    robust.compile("sgd", loss, **{argument: {"a": ["accuracy"]}})


@pytest.mark.parametrize("empty", [None, []])
def test_an_output_without_metrics(empty):
    x = np.random.default_rng(0).random((8, 4)).astype("float32")
    inputs = keras.Input((4,))
    outputs = [keras.layers.Dense(1, name=name)(inputs) for name in "ab"]
    robust = kr.AdversarialModel(
        keras.Model(inputs, outputs), kr.PGDAttack("l2", 0.0, steps=1)
    )
    robust.compile("sgd", "mse", metrics=[empty, "mae"])
    y = [x[:, :1], x[:, 1:2]]
    logs = robust.evaluate(x, y, verbose=0, return_dict=True)
    assert logs["robust_b_mae"] == pytest.approx(logs["b_mae"], rel=1e-5)
    assert "robust_a_mae" not in logs


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_probabilities_are_no_logits(activation):
    """Softmax applied twice trains on another loss, without a word."""
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, activation=activation)]
    )
    robust = kr.AdversarialModel(model, kr.PGDAttack(epsilon=0.1, steps=1))
    of_logits = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    with pytest.raises(ValueError, match=f"{activation}.*from_logits=True"):
        robust.compile("sgd", of_logits)
    robust.compile("sgd", keras.losses.SparseCategoricalCrossentropy())
    plain = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    robust = kr.AdversarialModel(plain, kr.PGDAttack(epsilon=0.1, steps=1))
    robust.compile("sgd", of_logits)
