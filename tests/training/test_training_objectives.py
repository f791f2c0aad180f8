"""Losses and steps of training objectives against NumPy in float64."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_robust as kr
from keras_robust import backend
from keras_robust.attacks.compiled_loss import per_example
from keras_robust.classifier.head import as_logits
from keras_robust.objectives.ikl import weighted_squares
from tests.helpers import Hidden
from tests.helpers import make_linear
from tests.training import objective_reference as reference

CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
OBJECTIVES = {
    "trades": (kr.objectives.TRADES(beta=3.0), {"beta": 3.0}),
    "mart": (kr.objectives.MART(beta=4.0), {"beta": 4.0}),
    "ikl": (
        kr.objectives.IKL(squares_weight=2.0, cross_entropy_weight=3.0),
        {"squares": 2.0, "soft": 3.0},
    ),
    "logit_pairing": (
        kr.objectives.LogitPairing(weight=0.7, clean_weight=0.2),
        {"weight": 0.7, "clean_weight": 0.2},
    ),
    "mixed": (kr.objectives.Mixed(clean_weight=0.3), {"clean_weight": 0.3}),
}
NAMES = list(OBJECTIVES)


def make(name):
    """An objective, and the whole loss of its reference."""
    objective, settings = OBJECTIVES[name]
    function = getattr(reference, name)

    def expected(y, clean, attacked, fixed=None):
        more = {"fixed": fixed} if name == "ikl" else {}
        return function(y, clean, attacked, **settings, **more)

    return objective, expected


def array(tensor):
    return np.asarray(ops.convert_to_numpy(tensor))


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    x = random.uniform(0.2, 0.8, (12, 5)).astype("float32")
    return x, random.integers(0, 3, 12).astype("int32")


def linear(activation=None, units=3, seed=1):
    random = np.random.default_rng(seed)
    inputs = keras.Input((5,))
    outputs = layers.Dense(units, activation=activation)(inputs)
    model = keras.Model(inputs, outputs)
    model.set_weights(
        [random.normal(size=(5, units)), random.normal(size=units)]
    )
    return model


def adversarial(model, objective, loss=CROSS_ENTROPY, lr=0.1, **options):
    compile_options = {
        name: options.pop(name)
        for name in ("loss_weights", "metrics", "optimizer")
        if name in options
    }
    attack = options.pop("attack", kr.PGDAttack("linf", 0.1, steps=2, seed=0))
    robust = kr.AdversarialModel(model, attack, objective=objective, **options)
    optimizer = compile_options.pop("optimizer", keras.optimizers.SGD(lr))
    robust.compile(optimizer, loss, **compile_options)
    return robust


def perturbed(robust, x, y):
    """What the next training step will train on."""
    state = array(robust._seed_generator.state)
    moved = array(
        robust.perturb(ops.convert_to_tensor(x), ops.convert_to_tensor(y))
    )
    robust._seed_generator.state.assign(state)
    return moved.astype("float64")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [1.0, 8.0])
def test_losses_and_gradients_of_logits(name, scale):
    random = np.random.default_rng(2)
    clean = scale * random.normal(size=(6, 4))
    attacked = clean + random.normal(size=(6, 4))
    # The reference reads what the objective reads.
    clean, attacked = (
        part.astype("float32").astype("float64") for part in (clean, attacked)
    )
    y = np.arange(6) % 4
    objective, expected = make(name)
    holder = layers.Layer()
    objective.build(4, holder.add_weight)
    entropy = per_example(CROSS_ENTROPY)

    def values(logits):
        parts = [
            objective.clean_weight * entropy(y, logits[0]),
            objective.attacked_weight * entropy(y, logits[1]),
        ]
        own = objective.loss(ops.convert_to_tensor(y), *logits)
        return sum(parts) + (0.0 if own is None else own)

    tensors = [
        ops.convert_to_tensor(part, "float32") for part in (clean, attacked)
    ]
    found = array(values(tensors))
    np.testing.assert_allclose(
        found, expected(y, clean, attacked), rtol=2e-6, atol=2e-6
    )
    gradients = backend.gradients(lambda z: ops.sum(values(z)), tensors)
    by_clean = reference.derivative(
        lambda z: expected(y, z, attacked, fixed=clean).sum(), clean
    )
    by_attacked = reference.derivative(
        lambda z: expected(y, clean, z).sum(), attacked
    )
    for gradient, other in zip(gradients, (by_clean, by_attacked), strict=True):
        np.testing.assert_allclose(array(gradient), other, rtol=1e-5, atol=2e-6)


@pytest.mark.compiles_much
def test_saturated_logits_have_finite_losses():
    y = ops.convert_to_tensor(np.array([0, 1, 2]))
    clean = ops.convert_to_tensor(200.0 * np.eye(3, dtype="float32"))
    wrong = ops.convert_to_tensor(200.0 * np.eye(3, dtype="float32")[[1, 2, 0]])
    for name in ("trades", "mart", "logit_pairing"):
        objective, _ = make(name)
        for attacked in (clean, wrong):
            found = objective.loss(y, clean, attacked)
            gradients = backend.gradients(
                lambda z, o=objective: ops.sum(o.loss(y, z[0], z[1])),
                [clean, attacked],
            )
            for values in (found, *gradients):
                assert np.isfinite(array(values)).all()


@pytest.mark.compiles_much
def test_weighted_squares_and_soft_labels_are_the_divergence():
    """Theorem 1 of the paper on IKL: equal gradients."""
    random = np.random.default_rng(3)
    logits = [
        ops.convert_to_tensor(random.normal(size=(5, 4)), "float32")
        for _ in range(2)
    ]

    def divergence(z):
        p = ops.softmax(z[0])
        return ops.sum(p * (ops.log_softmax(z[0]) - ops.log_softmax(z[1])))

    def decoupled(z):
        fixed = [ops.stop_gradient(part) for part in z]
        squares = weighted_squares(ops.softmax(fixed[0]), z[0] - fixed[1])
        soft = ops.softmax(fixed[0]) * ops.log_softmax(z[1])
        return ops.sum(squares) / 4 - ops.sum(soft)

    for found, expected in zip(
        backend.gradients(decoupled, logits),
        backend.gradients(divergence, logits),
        strict=True,
    ):
        np.testing.assert_allclose(array(found), array(expected), atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.compiles_much
def test_a_step_is_sgd_on_the_weighted_loss(data, name):
    x, y = data
    weights = np.linspace(0.5, 2.0, len(x)).astype("float32")
    objective, expected = make(name)
    model = linear()
    robust = adversarial(model, objective)
    kernel, bias = (part.astype("float64") for part in model.get_weights())
    moved = perturbed(robust, x, y)
    clean = x.astype("float64")
    fixed = clean @ kernel + bias

    def loss(kernel):
        values = expected(
            y, clean @ kernel + bias, moved @ kernel + bias, fixed=fixed
        )
        return (weights * values).mean()

    logs = robust.train_on_batch(x, y, sample_weight=weights, return_dict=True)
    assert float(array(logs["loss"])) == pytest.approx(loss(kernel), rel=1e-5)
    step = 0.1 * reference.derivative(loss, kernel)
    assert np.abs(step).max() > 1e-3
    np.testing.assert_allclose(model.get_weights()[0], kernel - step, atol=2e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.compiles_much
def test_attack_of_trades_ascends_the_divergence(data, norm):
    """From noise of a thousandth, by projected steps; here in NumPy."""
    x, y = data
    model = linear()
    attack = kr.PGDAttack(norm, 0.2, step_size=0.08, steps=4, seed=0)
    robust = adversarial(model, kr.objectives.TRADES(), attack=attack)
    start = perturbed(
        adversarial(
            model, kr.objectives.TRADES(), attack=attack.replace(steps=0)
        ),
        x,
        y,
    )
    noise = start - x
    assert 0.0007 < noise.std() < 0.0013
    kernel, bias = (part.astype("float64") for part in model.get_weights())
    p = reference.probabilities(x @ kernel + bias)
    moved = start
    for _ in range(4):
        q = reference.probabilities(moved @ kernel + bias)
        gradient = (q - p) @ kernel.T
        if norm == "linf":
            delta = np.clip(moved + 0.08 * np.sign(gradient) - x, -0.2, 0.2)
        else:
            size = np.linalg.norm(gradient, axis=-1, keepdims=True)
            delta = moved + 0.08 * gradient / size - x
            size = np.linalg.norm(delta, axis=-1, keepdims=True)
            delta = delta * np.minimum(1, 0.2 / size)
        moved = np.clip(x + delta, 0, 1)
    # Close to the clean image the float32 gradient has few digits.
    np.testing.assert_allclose(perturbed(robust, x, y), moved, atol=5e-5)
    # Another loss of the attack is kept, and a random start too.
    own = adversarial(
        model,
        kr.objectives.TRADES(),
        attack=attack.replace(loss="compiled"),
    )
    plain = adversarial(model, "adversarial", attack=attack)
    np.testing.assert_allclose(
        perturbed(own, x, y), perturbed(plain, x, y), atol=1e-6
    )
    wide = attack.replace(random_start=True, steps=0)
    wide = adversarial(model, kr.objectives.TRADES(), attack=wide)
    assert np.abs(perturbed(wide, x, y) - x).mean() > 0.03


def test_one_step_attacks_ascend_the_divergence_too(data):
    x, y = data
    for attack in (kr.FGSMAttack("linf", 0.1), kr.NFGSMAttack("linf", 0.1)):
        robust = adversarial(linear(), kr.objectives.TRADES(), attack=attack)
        history = robust.fit(x, y, epochs=2, verbose=0, shuffle=False).history
        assert np.isfinite(history["loss"]).all()
        assert np.abs(perturbed(robust, x, y) - x).mean() > 0.05


def one_hot(y):
    return np.eye(3, dtype="float32")[y]


FORMS = {
    "softmax": (
        linear("softmax"),
        keras.losses.SparseCategoricalCrossentropy(),
        lambda y: y,
    ),
    "one-hot": (
        linear(),
        keras.losses.CategoricalCrossentropy(from_logits=True),
        one_hot,
    ),
    "one-hot softmax": (linear("softmax"), "categorical_crossentropy", one_hot),
    "column": (linear(), CROSS_ENTROPY, lambda y: y[:, None]),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.compiles_much
def test_labels_and_heads_of_all_forms(data, name):
    x, y = data
    objective, expected = make(name)
    kernel, bias = (part.astype("float64") for part in linear().get_weights())
    for form, (model, loss, labels) in FORMS.items():
        robust = adversarial(model, objective, loss, lr=0.0)
        moved = perturbed(robust, x, labels(y))
        logits = x @ kernel + bias, moved @ kernel + bias
        if "softmax" in form:
            # What can be seen of the logits, up to a number for each image.
            logits = [reference.log_softmax(z) for z in logits]
        wanted = expected(y, *logits).mean()
        found = robust.fit(x, labels(y), verbose=0, shuffle=False).history[
            "loss"
        ][0]
        assert found == pytest.approx(wanted, rel=1e-4), form


@pytest.mark.parametrize("name", [name for name in NAMES if name != "ikl"])
@pytest.mark.compiles_much
def test_hidden_graphs(data, name):
    x, y = data
    losses = []
    for model in (linear(), Hidden(linear())):
        model(x[:1])
        objective, _ = make(name)
        robust = adversarial(model, objective, CROSS_ENTROPY, lr=0.0)
        history = robust.fit(x, y, verbose=0, shuffle=False).history
        losses.append(history["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("activation", [None, "sigmoid"])
@pytest.mark.compiles_much
def test_one_output_for_two_classes(data, name, activation):
    x, y = data[0], data[1] % 2
    objective, expected = make(name)
    model = linear(activation, units=1)
    loss = keras.losses.BinaryCrossentropy(from_logits=activation is None)
    robust = adversarial(model, objective, loss, lr=0.0)
    moved = perturbed(robust, x, y)
    kernel, bias = (part.astype("float64") for part in model.get_weights())

    def logits(points):
        z = points @ kernel + bias
        return np.concatenate([0 * z, z], -1)

    if name == "logit_pairing" and activation == "sigmoid":
        # Of a probability the two logits are [log(1 - p), log p].
        def expected(y, clean, attacked):
            parts = [reference.log_softmax(z) for z in (clean, attacked)]
            return make(name)[1](y, *parts)

    wanted = expected(y, logits(x.astype("float64")), logits(moved)).mean()
    found = robust.fit(x, y, verbose=0, shuffle=False).history["loss"][0]
    assert found == pytest.approx(wanted, rel=1e-4)


def test_a_probability_that_rounds_to_one_is_no_certainty():
    """Between logits of 16 and 18 there are two, not seventy."""
    clean = ops.convert_to_tensor([[16.0]])
    attacked = ops.convert_to_tensor([[18.0]])
    logits = [
        as_logits(ops.sigmoid(z), takes_log=True) for z in (clean, attacked)
    ]
    pairing = kr.objectives.LogitPairing(weight=1.0)
    labels = np.ones(1, "int32")
    assert float(array(pairing.loss(labels, *logits))[0]) < 4
    for dtype, least in (("float32", -17.4), ("bfloat16", -6.3)):
        found = array(as_logits(ops.ones((1, 1), dtype), takes_log=True))
        np.testing.assert_allclose(found, [[least, 0.0]], atol=0.1)


@pytest.mark.parametrize("activation, units", [("softmax", 3), ("sigmoid", 1)])
def test_attack_and_loss_get_the_same_logits(data, activation, units):
    """Of probabilities their logarithms, which the outputs do tell."""
    x, y = data[0], np.minimum(data[1], 1)
    model = linear(activation, units)
    loss = "sparse_categorical_crossentropy"
    if units == 1:
        loss = "binary_crossentropy"
    robust = adversarial(model, kr.objectives.TRADES(), loss)
    outputs = model(ops.convert_to_tensor(x))
    expected = array(outputs)
    if units == 1:
        expected = np.concatenate([1 - expected, expected], axis=-1)
    attack = robust._train_attack
    batch = attack.batch(ops.convert_to_tensor(x), ops.convert_to_tensor(y))
    _, of_attack = attack._clean_objective(batch, None)
    of_loss = attack.logits_of(outputs, is_class=True)
    for found in (of_attack, of_loss):
        np.testing.assert_allclose(array(found), np.log(expected), atol=1e-5)


def test_label_smoothing_is_that_of_the_compiled_loss(data):
    x, y = data
    smooth = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=0.2
    )
    model = linear()
    robust = adversarial(model, kr.objectives.TRADES(beta=2.0), smooth, lr=0.0)
    moved = perturbed(robust, x, one_hot(y))
    kernel, bias = (part.astype("float64") for part in model.get_weights())
    clean, attacked = x @ kernel + bias, moved @ kernel + bias
    shares = 0.8 * one_hot(y) + 0.2 / 3
    wanted = -(shares * reference.log_softmax(clean)).sum(-1)
    wanted = (wanted + 2 * reference.kl(clean, attacked)).mean()
    found = robust.fit(x, one_hot(y), verbose=0, shuffle=False).history["loss"][
        0
    ]
    assert found == pytest.approx(wanted, rel=1e-5)


def test_class_weights_and_reductions(data):
    x, y = data
    model, (objective, expected) = linear(), make("trades")
    kernel, bias = (part.astype("float64") for part in model.get_weights())

    def losses(loss, **options):
        robust = adversarial(model, objective, loss, lr=0.0)
        moved = perturbed(robust, x, y)
        values = expected(y, x @ kernel + bias, moved @ kernel + bias)
        return robust.fit(x, y, verbose=0, shuffle=False, **options).history[
            "loss"
        ][0], values

    of_class = {0: 1.0, 1: 3.0, 2: 0.5}
    found, values = losses(CROSS_ENTROPY, class_weight=of_class)
    weights = np.array([of_class[label] for label in y])
    assert found == pytest.approx((weights * values).mean(), rel=1e-5)
    for reduction, wanted in (
        ("sum", lambda w, v: (w * v).sum()),
        ("mean_with_sample_weight", lambda w, v: (w * v).sum() / w.sum()),
    ):
        loss = keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction=reduction
        )
        found, values = losses(loss, sample_weight=weights)
        assert found == pytest.approx(wanted(weights, values), rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_what_layers_add_counts_once(data, name):
    x, y = data
    penalty = keras.regularizers.L2(0.3)
    objective, _ = make(name)
    losses = []
    for regularizer in (None, penalty):
        inputs = keras.Input((5,))
        outputs = layers.Dense(3, kernel_regularizer=regularizer)(inputs)
        model = keras.Model(inputs, outputs)
        model.set_weights(linear().get_weights())
        robust = adversarial(model, objective, lr=0.0)
        losses.append(
            robust.fit(x, y, verbose=0, shuffle=False).history["loss"][0]
        )
    added = 0.3 * (model.get_weights()[0] ** 2).sum()
    assert losses[1] - losses[0] == pytest.approx(added, rel=1e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.compiles_much
def test_what_a_pass_adds_has_the_weight_of_its_loss(data, name):
    """A regularizer of outputs sees the clean and the attacked batch."""
    x, y = data
    objective, _ = make(name)
    losses, steps = [], []
    for regularizer in (None, keras.regularizers.L2(0.3)):
        inputs = keras.Input((5,))
        outputs = layers.Dense(3, activity_regularizer=regularizer)(inputs)
        model = keras.Model(inputs, outputs)
        model.set_weights(linear().get_weights())
        kernel, bias = (part.astype("float64") for part in model.get_weights())
        robust = adversarial(model, objective)
        batches = x.astype("float64"), perturbed(robust, x, y)
        logs = robust.train_on_batch(x, y, return_dict=True)
        losses.append(float(array(logs["loss"])))
        steps.append((kernel - model.get_weights()[0]) / 0.1)

    def added(kernel):
        weights = objective.clean_weight, objective.attacked_weight
        return sum(
            weight * 0.3 * np.square(batch @ kernel + bias).sum() / len(x)
            for weight, batch in zip(weights, batches, strict=True)
        )

    assert losses[1] - losses[0] == pytest.approx(added(kernel), rel=1e-4)
    np.testing.assert_allclose(
        steps[1] - steps[0], reference.derivative(added, kernel), atol=2e-5
    )


def two_outputs():
    inputs = keras.Input((5,))
    digit = layers.Dense(3, name="digit")(inputs)
    size = layers.Dense(1, name="size")(inputs)
    return keras.Model(inputs, {"digit": digit, "size": size})


def test_one_of_several_outputs(data):
    x, y = data
    labels = {"digit": y, "size": x[:, :1]}
    model = two_outputs()
    robust = adversarial(
        model,
        kr.objectives.TRADES(beta=2.0),
        {"digit": CROSS_ENTROPY, "size": "mse"},
        lr=0.0,
        loss_weights={"digit": 0.5, "size": 3.0},
        output="digit",
    )
    state = array(robust._seed_generator.state)
    moved = array(
        robust.perturb(
            ops.convert_to_tensor(x),
            {key: ops.convert_to_tensor(part) for key, part in labels.items()},
        )
    )
    robust._seed_generator.state.assign(state)
    clean, attacked = (
        {key: array(part) for key, part in model(points).items()}
        for points in (x, moved)
    )
    found = robust.fit(x, labels, verbose=0, shuffle=False).history["loss"][0]
    own = reference.trades(y, clean["digit"], attacked["digit"], beta=2.0)
    squares = ((clean["size"] - x[:, :1]) ** 2).mean()
    assert found == pytest.approx(0.5 * own.mean() + 3 * squares, rel=1e-4)
    with pytest.raises(ValueError, match="TRADES.*output=.*Received"):
        adversarial(
            two_outputs(),
            kr.objectives.TRADES(),
            {"digit": CROSS_ENTROPY, "size": "mse"},
        ).fit(x, labels, verbose=0)


def test_numbers_as_labels(data):
    x, _ = data
    numbers = x[:, :1] ** 2
    model = linear(units=1)
    kernel, bias = (part.astype("float64") for part in model.get_weights())
    for name in ("mixed", "logit_pairing"):
        robust = adversarial(model, make(name)[0], "mse", lr=0.0)
        moved = perturbed(robust, x, numbers)
        clean, attacked = x @ kernel + bias, moved @ kernel + bias
        share = OBJECTIVES[name][1]["clean_weight"]
        wanted = share * ((clean - numbers) ** 2).mean()
        wanted += (1 - share) * ((attacked - numbers) ** 2).mean()
        if name == "logit_pairing":
            wanted += 0.7 * ((clean - attacked) ** 2).mean()
        found = robust.fit(x, numbers, verbose=0, shuffle=False).history[
            "loss"
        ][0]
        assert found == pytest.approx(wanted, rel=1e-4)
    for name in ("trades", "mart", "ikl"):
        robust = adversarial(model, make(name)[0], "mse")
        with pytest.raises(ValueError, match="probabilities of classes.*Rec"):
            robust.fit(x, numbers, verbose=0)


@pytest.mark.parametrize("examples", [4, 6])
def test_weights_of_places(examples):
    """An example has the mean weight of its pixels in the objective's loss."""
    random = np.random.default_rng(0)
    x = random.uniform(0.2, 0.8, (examples, 4, 4, 1)).astype("float32")
    y = random.random((examples, 4, 4, 1)).astype("float32")
    weights = random.random((examples, 4, 4)).astype("float32")
    model = keras.Sequential(
        [keras.Input((4, 4, 1)), layers.Conv2D(1, 3, padding="same")]
    )
    objective = kr.objectives.LogitPairing(weight=30.0, clean_weight=0.0)
    robust = adversarial(model, objective, "mse", lr=0.0)
    attacked = array(
        robust.perturb(ops.convert_to_tensor(x), ops.convert_to_tensor(y))
    )
    clean, moved = (model.predict_on_batch(image) for image in (x, attacked))
    places = ((moved - y) ** 2)[..., 0] * weights
    pairs = ((clean - moved) ** 2).mean((1, 2, 3)) * weights.mean((1, 2))
    expected = places.mean() + 30.0 * pairs.mean()
    logs = robust.train_on_batch(x, y, weights, return_dict=True)
    assert logs["loss"] == pytest.approx(expected, rel=1e-5)


def test_ikl_means_of_the_last_epoch(data):
    x, y = data[0], np.minimum(data[1], 1)
    model = linear()
    objective = kr.objectives.IKL(temperature=2.0)
    robust = adversarial(model, objective, lr=0.0)
    history = robust.fit(
        x, y, batch_size=4, epochs=2, verbose=0, shuffle=False
    ).history
    kernel, bias = (part.astype("float64") for part in model.get_weights())
    soft = reference.probabilities((x @ kernel + bias) / 2)
    means = [soft[y == label].mean(0) for label in (0, 1)]
    # A class without examples keeps what it had.
    means.append(np.full(3, 1 / 3))
    found = {v.name: array(v.value) for v in robust.non_trainable_variables}
    np.testing.assert_allclose(found["class_means"], means, atol=1e-5)
    assert not found["class_sums"].any()
    assert history["loss"][0] != pytest.approx(history["loss"][1], rel=1e-4)
    # What a step outside of an epoch added is forgotten.
    robust.train_on_batch(x[:4], y[:4])
    robust.fit(x, y, batch_size=4, verbose=0)
    found = {v.name: array(v.value) for v in robust.non_trainable_variables}
    np.testing.assert_allclose(found["class_means"], means, atol=1e-5)
    with pytest.raises(ValueError, match="number of classes.*Received"):
        adversarial(two_outputs(), kr.objectives.IKL())


@keras.saving.register_keras_serializable("test_training_objectives")
class SquaredDifference(kr.objectives.TrainingObjective):
    clean_weight = 1.0

    def __init__(self, weight=1.0):
        self.weight = weight

    def loss(self, labels, clean, attacked):
        change = ops.square(ops.softmax(clean) - ops.softmax(attacked))
        return self.weight * ops.sum(change, axis=-1)


def test_an_objective_of_ones_own_is_saved(data, tmp_path):
    x, y = data
    robust = adversarial(linear(), SquaredDifference(weight=5.0), lr=0.0)
    moved = perturbed(robust, x, y)
    kernel, bias = robust.model.get_weights()
    clean, attacked = x @ kernel + bias, moved @ kernel + bias
    change = reference.probabilities(clean) - reference.probabilities(attacked)
    wanted = reference.cross_entropy(y, clean) + 5 * (change**2).sum(-1)
    found = robust.fit(x, y, verbose=0, shuffle=False).history["loss"][0]
    assert found == pytest.approx(wanted.mean(), rel=1e-4)
    robust.save(tmp_path / "robust.keras")
    loaded = keras.saving.load_model(tmp_path / "robust.keras")
    assert loaded.objective.weight == 5.0
    assert loaded.fit(x, y, verbose=0, shuffle=False).history["loss"][
        0
    ] == pytest.approx(found, rel=1e-4)

    class Wrong(SquaredDifference):
        def loss(self, labels, clean, attacked):
            return clean - attacked

    with pytest.raises(ValueError, match="Wrong.loss.*one number for each"):
        adversarial(linear(), Wrong()).fit(x, y, verbose=0)


@pytest.mark.parametrize("name", NAMES)
def test_objectives_are_saved_with_the_model(data, name, tmp_path):
    x, y = data
    robust = adversarial(linear(), make(name)[0])
    robust.fit(x, y, epochs=2, verbose=0)
    robust.save(tmp_path / "robust.keras")
    loaded = keras.saving.load_model(tmp_path / "robust.keras")
    assert loaded.objective.get_config() == robust.objective.get_config()
    for found, expected in zip(
        loaded.get_weights(), robust.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    # Keras does not save the state of random numbers.
    state = array(loaded._seed_generator.state)
    robust._seed_generator.state.assign(state)
    histories = [
        model.fit(x, y, verbose=0, shuffle=False).history["loss"]
        for model in (robust, loaded)
    ]
    assert histories[0] == pytest.approx(histories[1], rel=1e-5)


def test_a_model_saved_without_an_objective_loads():
    """Configurations of earlier versions."""
    robust = adversarial(linear(), "adversarial")
    config = robust.get_config()
    for name in ("objective", "weight_perturbation"):
        del config[name]
    again = kr.AdversarialModel.from_config(config)
    assert again.objective == "adversarial"


def test_metrics_are_those_of_attacked_images(data):
    x, y = data
    robust = adversarial(
        linear(), kr.objectives.TRADES(), lr=0.0, metrics=["accuracy"]
    )
    moved = perturbed(robust, x, y)
    found = robust.fit(
        x, y, verbose=0, validation_data=(x, y), shuffle=False
    ).history
    right = [
        (robust.predict(points, verbose=0).argmax(-1) == y).mean()
        for points in (moved.astype("float32"), x)
    ]
    assert found["accuracy"][0] == pytest.approx(right[0], abs=1e-6)
    assert found["val_accuracy"][0] == pytest.approx(right[1], abs=1e-6)
    assert set(found) == {
        "accuracy",
        "loss",
        "val_accuracy",
        "val_loss",
        "val_robust_accuracy",
        "val_robust_loss",
    }


def test_batch_statistics_of_two_passes(data):
    x, y = data
    inputs = keras.Input((5,))
    h = layers.BatchNormalization(momentum=0.5)(inputs)
    model = keras.Model(inputs, layers.Dense(3)(h))
    robust = adversarial(model, kr.objectives.Mixed(), lr=0.0)
    moved = perturbed(robust, x, y)
    robust.train_on_batch(x, y)
    mean = array(model.layers[1].moving_mean.value)
    expected = 0.25 * x.mean(0) + 0.5 * moved.mean(0)
    np.testing.assert_allclose(mean, expected, atol=1e-6)


@pytest.mark.compiles_much
def test_both_passes_see_the_same_drawn_image(data):
    """With radius 0 and random translations both losses are equal."""
    random = np.random.default_rng(4)
    x = random.random((8, 4, 4, 1), dtype="float32")
    y = np.arange(8) % 3
    inputs = keras.Input((4, 4, 1))
    h = layers.RandomTranslation(0.5, 0.5, seed=0)(inputs)
    outputs = layers.Dense(3)(layers.Flatten()(h))
    model = keras.Model(inputs, outputs)
    attack = kr.PGDAttack("linf", 0.0, steps=1)
    losses = []
    for objective in (kr.objectives.LogitPairing(weight=100.0), "adversarial"):
        model.layers[1].generator.state.assign(np.array([0, 0], "uint32"))
        robust = adversarial(model, objective, lr=0.0, attack=attack)
        losses.append(
            robust.fit(x, y, verbose=0, shuffle=False).history["loss"][0]
        )
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.compiles_much
def test_mixed_precision_and_loss_scaling(data):
    x, y = data
    steps = []
    for optimizer in (
        keras.optimizers.SGD(0.1),
        keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)),
    ):
        model = linear()
        robust = adversarial(model, kr.objectives.MART(), optimizer=optimizer)
        robust.train_on_batch(x, y)
        steps.append(model.get_weights()[0])
    np.testing.assert_allclose(*steps, atol=1e-6)
    inputs = keras.Input((5,))
    h = layers.Dense(8, activation="relu", dtype="mixed_bfloat16")(inputs)
    model = keras.Model(inputs, layers.Dense(3, dtype="mixed_bfloat16")(h))
    robust = adversarial(model, kr.objectives.TRADES())
    losses = robust.fit(x, y, epochs=3, verbose=0, shuffle=False).history[
        "loss"
    ]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]


def test_a_loss_of_the_models_own_is_mixed(data):
    x, y = data

    class Own(keras.Model):
        def compute_loss(self, x=None, y=None, y_pred=None, **given):
            loss = super().compute_loss(x=x, y=y, y_pred=y_pred, **given)
            return loss + ops.mean(x)

    inputs = keras.Input((5,))
    model = Own(inputs, layers.Dense(3)(inputs))
    attack = kr.PGDAttack("linf", 0.1, steps=1, loss="margin")
    robust = adversarial(
        model, kr.objectives.Mixed(0.25), lr=0.0, attack=attack
    )
    moved = perturbed(robust, x, y)
    kernel, bias = model.get_weights()
    clean, attacked = x @ kernel + bias, moved @ kernel + bias
    wanted = reference.mixed(y, clean, attacked, 0.25).mean()
    wanted += 0.25 * x.mean() + 0.75 * moved.mean()
    found = robust.fit(x, y, verbose=0, shuffle=False).history["loss"][0]
    assert found == pytest.approx(wanted, rel=1e-4)


def test_refusals():
    with pytest.raises(ValueError, match="objective.*TRADES.*Received"):
        adversarial(linear(), "trades")
    with pytest.raises(ValueError, match="untargeted.*Received"):
        attack = kr.PGDAttack("linf", 0.1, targeted=True)
        adversarial(linear(), kr.objectives.TRADES(), attack=attack)
    for wrong in (-1.0, np.nan, "6", [1.0, 2.0]):
        with pytest.raises(ValueError, match="beta.*Received"):
            kr.objectives.TRADES(beta=wrong)
    with pytest.raises(ValueError, match="clean_weight.*<= 1.*Received"):
        kr.objectives.Mixed(1.5)
    with pytest.raises(ValueError, match="temperature.*> 0.*Received"):
        kr.objectives.IKL(temperature=0)
    with pytest.raises(TypeError, match="betta.*beta"):
        kr.objectives.TRADES(betta=1)


@pytest.mark.compiles_much
def test_noise_at_the_start_is_in_units_of_the_value_range():
    model = make_linear(np.random.default_rng(5).normal(size=(16, 3)))
    scaled = keras.Sequential(
        [keras.Input((16,)), layers.Rescaling(1 / 255), model]
    )
    x = np.random.default_rng(6).integers(0, 256, (9, 16)).astype("float32")
    y = np.arange(9) % 3
    attack = kr.PGDAttack("linf", 8, steps=3, value_range=(0, 255), seed=0)
    robust = adversarial(scaled, kr.objectives.TRADES(), attack=attack)
    moved = perturbed(robust, x, y)
    assert np.abs(moved - x).max() <= 8 + 1e-4
    # The noise at the start is a thousandth of 255.
    near = adversarial(
        scaled, kr.objectives.TRADES(), attack=attack.replace(steps=0)
    )
    noise = (perturbed(near, x, y) - x)[(x > 2) & (x < 253)]
    assert noise.std() == pytest.approx(0.255, rel=0.25)
