"""Free adversarial training against NumPy in float64."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_robust as kr
from keras_robust import backend
from tests.training import objective_reference as reference

CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    x = random.uniform(0.2, 0.8, (12, 5)).astype("float32")
    return x, random.integers(0, 3, 12).astype("int32")


def linear(regularizer=None, policy="float32"):
    random = np.random.default_rng(1)
    inputs = keras.Input((5,))
    outputs = layers.Dense(3, kernel_regularizer=regularizer, dtype=policy)(
        inputs
    )
    model = keras.Model(inputs, outputs)
    model.set_weights([random.normal(size=(5, 3)), random.normal(size=3)])
    return model


def compiled(model, attack, replays, lr=0.1, **options):
    robust = kr.AdversarialModel(model, attack, replays=replays, **options)
    optimizer = keras.optimizers.SGD(lr)
    robust.compile(optimizer, CROSS_ENTROPY, metrics=["accuracy"])
    return robust


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_weights_and_perturbation_move_together(data, norm):
    """Algorithm 1 of the paper, on a linear model with weight decay."""
    x, y = data
    model = linear(keras.regularizers.L2(0.02))
    kernel, bias = (part.astype("float64") for part in model.get_weights())
    attack = kr.PGDAttack(norm, 0.1, step_size=0.07, steps=1)
    logs = compiled(model, attack, 3).train_on_batch(x, y, return_dict=True)
    delta, losses, hits = np.zeros(x.shape), [], []
    for _ in range(3):
        logits = (x + delta) @ kernel + bias
        error = reference.probabilities(logits) - np.eye(3)[y]
        loss = reference.cross_entropy(y, logits).mean()
        losses.append(loss + 0.02 * (kernel**2).sum())
        hits.append((logits.argmax(-1) == y).mean())
        slope = error @ kernel.T
        moved = (x + delta).T @ error / len(x) + 0.04 * kernel
        kernel, bias = kernel - 0.1 * moved, bias - 0.1 * error.mean(0)
        if norm == "linf":
            delta = np.clip(delta + 0.07 * np.sign(slope), -0.1, 0.1)
        else:
            size = np.linalg.norm(slope, axis=-1, keepdims=True)
            delta = delta + 0.07 * slope / size
            size = np.linalg.norm(delta, axis=-1, keepdims=True)
            delta = delta * np.minimum(1, 0.1 / size)
    for value, expected in zip(
        model.get_weights(), (kernel, bias), strict=True
    ):
        np.testing.assert_allclose(value, expected, atol=2e-6)
    assert float(logs["loss"]) == pytest.approx(np.mean(losses), rel=1e-5)
    assert float(logs["accuracy"]) == pytest.approx(np.mean(hits), abs=1e-6)


@pytest.mark.compiles_much
def test_one_pass_of_the_model_for_each_replay(data):
    calls = []

    class Counted(layers.Layer):
        def call(self, x, training=None):
            calls.append(bool(training))
            return x

    inputs = keras.Input((5,))
    model = keras.Model(inputs, linear()(Counted()(inputs)))
    robust = kr.AdversarialModel(
        model, kr.FGSMAttack("linf", 0.1, from_logits=True), replays=4
    )
    robust.compile("sgd", CROSS_ENTROPY, run_eagerly=True)
    robust.train_on_batch(*data)
    calls.clear()
    robust.train_on_batch(*data)
    assert calls.count(True) == 4


@pytest.mark.compiles_much
def test_state_schedules_and_random_layers_in_front():
    random = np.random.default_rng(0)
    x = random.random((96, 8, 8, 1), dtype="float32")
    y = (4 * x[:, :4].mean((1, 2, 3)) > 2).astype("int32")
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1))
    h = layers.Flatten()(layers.GaussianNoise(0.05)(inputs))
    h = layers.BatchNormalization(name="norm")(layers.Dense(16)(h))
    h = layers.Dropout(0.1)(layers.ReLU()(h))
    model = keras.Model(inputs, layers.Dense(10)(h))
    attack = kr.PGDAttack("linf", 0.1, steps=1, random_start=True, seed=0)
    robust = compiled(
        model, attack, 2, epsilon_schedule=kr.training.LinearWarmup(epochs=1)
    )
    before = model.get_layer("norm").get_weights()
    losses = robust.fit(x, y, epochs=4, verbose=0).history["loss"]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
    # Two steps of the optimizer for each of 4 times 3 batches.
    assert int(ops.convert_to_numpy(robust.optimizer.iterations)) == 24
    for value, old in zip(
        model.get_layer("norm").get_weights(), before, strict=True
    ):
        assert np.abs(value - old).max() > 1e-4
    copy = kr.AdversarialModel.from_config(robust.get_config())
    assert copy.replays == 2


@pytest.mark.compiles_much
def test_loss_scaling_and_several_steps_in_one_execution(data):
    """The scale doubles every second step; weights and images do not see it."""
    x, y = data

    def trained(optimizer, steps_per_execution):
        robust = kr.AdversarialModel(
            linear(keras.regularizers.L2(0.02)),
            kr.PGDAttack("l2", 0.1, step_size=0.07, steps=1),
            replays=3,
        )
        robust.compile(
            optimizer,
            CROSS_ENTROPY,
            metrics=["accuracy"],
            steps_per_execution=steps_per_execution,
        )
        # Three batches in an epoch: the second execution has only one.
        logs = robust.fit(
            x, y, batch_size=4, epochs=2, shuffle=False, verbose=0
        ).history
        return [*robust.get_weights(), logs["loss"], logs["accuracy"]]

    expected = trained(keras.optimizers.SGD(0.1, momentum=0.9), 1)
    scaled = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.1, momentum=0.9),
        initial_scale=64.0,
        dynamic_growth_steps=2,
    )
    # Keras has no such executions on PyTorch.
    found = trained(scaled, 1 if backend.name == "torch" else 2)
    for value, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, right, atol=1e-6)
    scale = float(ops.convert_to_numpy(scaled.dynamic_scale))
    assert scale == 64.0 * 2**9


def test_a_scale_that_overflows_changes_nothing_but_itself(data):
    """And no warning says that the gradient is zero: warnings are errors."""
    x, y = data
    model, scale = linear(), 2.0**127
    before = model.get_weights()
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.1), initial_scale=scale
    )
    robust = kr.AdversarialModel(model, kr.FGSMAttack("l2", 0.1), replays=2)
    robust.compile(optimizer, lambda y, z: 1e3 * CROSS_ENTROPY(y, z))
    logs = robust.train_on_batch(x, y, return_dict=True)
    for value, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, old)
    logits = x @ before[0] + before[1]
    loss = 1e3 * reference.cross_entropy(y, logits).mean()
    assert float(logs["loss"]) == pytest.approx(loss, rel=1e-5)
    found = float(ops.convert_to_numpy(optimizer.dynamic_scale))
    assert found == scale / 4


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.compiles_much
def test_half_precision(data, policy):
    """The same as in float32, up to rounding; images stay float32."""
    x, y = data

    def trained(policy):
        model = linear(policy=policy)
        robust = compiled(model, kr.FGSMAttack("l2", 0.1), 3)
        robust.fit(x, y, epochs=2, verbose=0)
        return model.get_weights()

    for value, right in zip(trained(policy), trained("float32"), strict=True):
        np.testing.assert_allclose(value, right, atol=5e-3)


@pytest.mark.parametrize(
    "attack, options, message",
    [
        (kr.PGDAttack("linf", 0.1, steps=2), {}, "one step"),
        (kr.NFGSMAttack("linf", 0.1), {}, "leaves its ball"),
        (kr.FGSMAttack("linf", 0.1, targeted=True), {}, "targets"),
        (kr.FGSMAttack("linf", 0.1, loss="margin"), {}, "loss of its own"),
        (
            kr.FGSMAttack("linf", 0.1),
            {"objective": kr.objectives.TRADES()},
            "objective",
        ),
        (
            kr.FGSMAttack("linf", 0.1),
            {"weight_perturbation": 0.01},
            "weight_perturbation",
        ),
    ],
)
def test_refusals(attack, options, message):
    with pytest.raises(ValueError, match=f"replays.*Received.*{message}"):
        compiled(linear(), attack, 2, **options)


def test_the_number_of_replays_is_a_positive_integer():
    with pytest.raises(ValueError, match="replays.*Received"):
        kr.AdversarialModel(linear(), kr.FGSMAttack("linf", 0.1), replays=0)
