import keras
import numpy as np
import pytest

import keras_robust as kr
from tests.helpers import OneBatch
from tests.helpers import make_linear


def network(seed=0, activation=None, classes=10):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(8, 3, strides=2, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(classes, activation=activation),
        ]
    )


def digits(count=None):
    (x, y), test = kr.datasets.load("digits")
    return (x[:count], y[:count]), test


def sparse(from_logits=True):
    return keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)


@pytest.mark.slow_on_jax
@pytest.mark.compiles_much
def test_training_certifies_digits():
    (x, y), (x_test, y_test) = digits()
    test = x_test[:200], y_test[:200]
    found = {}
    for epsilon in (0.0, 0.1):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                keras.layers.Flatten(),
                keras.layers.Dense(64, activation="relu"),
                keras.layers.Dense(10),
            ]
        )
        trainer = kr.certify.IntervalModel(model, epsilon, warmup=20, ramp=80)
        # At radius 0 the training is ordinary.
        trainer = trainer if epsilon else model
        trainer.compile(keras.optimizers.Adam(0.02), sparse())
        trainer.fit(x, y, epochs=12, batch_size=128, verbose=0)
        found[epsilon] = kr.certify.interval_bounds(model, test, 0.1, verbose=0)
        attack = kr.PGDAttack(norm="linf", epsilon=0.1, steps=10, seed=0)
        report = kr.evaluate_robustness(
            model, test, {"pgd": attack}, verbose=0, probe=False
        )
        assert not (found[epsilon].certified & ~report.correct["pgd"]).any()
    plain, robust = (found[epsilon].accuracy for epsilon in (0.0, 0.1))
    assert plain["clean"] > 0.8 and plain["certified"] < 0.1
    assert robust["clean"] > 0.7 and robust["certified"] > 0.3


@pytest.mark.parametrize(
    "warmup, ramp",
    [
        (1, 4),
        pytest.param(0, 0, marks=pytest.mark.slow_on_jax),
        pytest.param(2, 0, marks=pytest.mark.slow_on_jax),
    ],
)
@pytest.mark.compiles_much
def test_loss_and_schedule(warmup, ramp):
    """One step at a time, with a rate of 0, so that the model stays."""
    (x, y), _ = digits(40)
    model = network()
    trainer = kr.certify.IntervalModel(
        model, 0.05, kappa=0.25, warmup=warmup, ramp=ramp
    )
    trainer.compile(keras.optimizers.SGD(0.0), sparse(), metrics=["accuracy"])
    bounds = kr.certify.IntervalNetwork(model)
    clean = float(sparse()(y, model.predict(x, verbose=0)))
    for step in range(7):
        logs = trainer.train_on_batch(x, y, return_dict=True)
        trainer.reset_metrics()
        progress = float(step >= warmup)
        if ramp:
            progress = min(max((step - warmup) / ramp, 0), 1)
        radius = 0.05 * progress
        low, high = np.clip(x - radius, 0, 1), np.clip(x + radius, 0, 1)
        worst = bounds.worst_case_logits(low, high, y)
        share = 0.75 * progress
        worst = keras.ops.convert_to_numpy(keras.ops.stop_gradient(worst))
        expected = (1 - share) * clean + share * float(sparse()(y, worst))
        np.testing.assert_allclose(logs["loss"], expected, rtol=1e-4)
        worst = worst.copy()
        worst[np.arange(40), y] = -1
        certified = (worst < 0).all(-1).mean()
        np.testing.assert_allclose(logs["certified_accuracy"], certified)
        # An ordinary one in evaluation, certified at the whole radius.
        logs = trainer.evaluate(x, y, verbose=0, return_dict=True)
        np.testing.assert_allclose(logs["loss"], clean, rtol=1e-5)
        found = kr.certify.interval_bounds(model, (x, y), 0.05, verbose=0)
        np.testing.assert_allclose(
            logs["certified_accuracy"], found.accuracy["certified"]
        )


def test_a_linear_model_learns_the_robust_weights():
    """Two columns, of which one is wider than the ball."""
    random = np.random.default_rng(0)
    y = random.integers(0, 2, 200)
    sign = 2.0 * y - 1
    x = np.stack([0.3 * sign, 0.05 * sign], 1) + 0.5
    weights = {}
    for epsilon in (0.0, 0.1):
        model = make_linear(np.zeros((2, 2)))
        trainer = kr.certify.IntervalModel(
            model, epsilon, kappa=0.0, warmup=0, ramp=0
        )
        trainer.compile(keras.optimizers.SGD(1.0), sparse())
        trainer.fit(x, y, epochs=5, batch_size=200, verbose=0)
        kernel = model.get_weights()[0]
        weights[epsilon] = kernel[:, 1] - kernel[:, 0]
    assert (weights[0.0] > 0).all()
    # The narrow one costs more than it gives: its weight stays near 0.
    assert weights[0.1][0] > 0.3
    assert abs(weights[0.1][1]) < 0.5 * weights[0.0][1]


@pytest.mark.parametrize("labels", ["one-hot", "column", "softmax"])
@pytest.mark.compiles_much
def test_labels_and_last_activations(labels):
    (x, y), _ = digits(64)
    model = network(activation="softmax" if labels == "softmax" else None)
    trainer = kr.certify.IntervalModel(model, 0.02, warmup=0, ramp=0)
    loss, given = sparse(labels != "softmax"), y
    if labels == "one-hot":
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        given = np.eye(10)[y]
    if labels == "column":
        given = y[:, None]
    trainer.compile(keras.optimizers.SGD(0.1), loss)
    logs = trainer.train_on_batch(x, given, return_dict=True)
    reference = kr.certify.IntervalModel(network(), 0.02, warmup=0, ramp=0)
    reference.compile(keras.optimizers.SGD(0.1), sparse())
    expected = reference.train_on_batch(x, y, return_dict=True)
    for name in expected:
        np.testing.assert_allclose(logs[name], expected[name], rtol=1e-4)
    for own, other in zip(
        model.get_weights(), reference.model.get_weights(), strict=True
    ):
        np.testing.assert_allclose(own, other, atol=1e-5)


@pytest.mark.compiles_much
def test_sample_weights():
    (x, y), _ = digits(32)
    found = []
    for count, weights in ((32, np.repeat([2.0, 0.0], 16)), (16, None)):
        trainer = kr.certify.IntervalModel(network(), 0.02, warmup=0, ramp=0)
        trainer.compile(keras.optimizers.SGD(0.1), sparse())
        trainer.train_on_batch(x[:count], y[:count], sample_weight=weights)
        found.append(trainer.model.get_weights())
    for first, second in zip(*found, strict=True):
        np.testing.assert_allclose(first, second, atol=1e-6)


@pytest.mark.compiles_much
def test_reductions_and_regularizers():
    """At radius 0 both terms are one loss, and the training is ordinary."""
    (x, y), _ = digits(24)
    weights = np.linspace(0.5, 2, 24)
    for reduction in ("sum", "sum_over_batch_size", "mean_with_sample_weight"):
        loss = keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction=reduction
        )
        found = []
        for kappa in (0.0, 0.4, 1.0, None):
            model = network()
            model.layers[-1].kernel_regularizer = keras.regularizers.L2(0.3)
            trainer = model
            if kappa is not None:
                trainer = kr.certify.IntervalModel(
                    model, 0.0, kappa=kappa, warmup=0, ramp=0
                )
            trainer.compile(keras.optimizers.SGD(0.01), loss)
            history = trainer.fit(
                x, y, sample_weight=weights, batch_size=16, verbose=0
            ).history
            found.append((history["loss"], model.get_weights()))
        for losses, values in found[:-1]:
            assert losses == pytest.approx(found[-1][0], rel=1e-3)
            for own, plain in zip(values, found[-1][1], strict=True):
                np.testing.assert_allclose(own, plain, atol=1e-4)


@pytest.mark.compiles_much
def test_inputs_outside_the_value_range():
    """They are an error, or at least certify nothing."""
    (x, y), _ = digits(16)
    trainer = kr.certify.IntervalModel(network(), 0.05, warmup=0, ramp=0)
    trainer.compile("sgd", sparse())
    for wrong in (255 * x, x - 0.5, (255 * x).astype("uint8")):
        for method in (
            trainer.fit,
            trainer.evaluate,
            trainer.train_on_batch,
            trainer.test_on_batch,
        ):
            with pytest.raises(ValueError, match="value_range.*Received"):
                method(wrong, y)
    some = x.copy()
    some[:4] += 300
    labels = trainer.predict(some, verbose=0).argmax(-1)
    logs = [
        trainer.evaluate(
            OneBatch(part, labels[-len(part) :]), verbose=0, return_dict=True
        )
        for part in (some, some[4:])
    ]
    certified = [
        len(part) * log["certified_accuracy"]
        for part, log in zip((some, some[4:]), logs, strict=True)
    ]
    assert certified[0] == pytest.approx(certified[1], abs=1e-4)
    assert np.isnan(
        trainer.fit(OneBatch(some, y), verbose=0).history["loss"][0]
    )


@pytest.mark.compiles_much
def test_labels_that_are_no_classes():
    """They are an error, or at least certify nothing."""
    (x, y), _ = digits(16)
    trainer = kr.certify.IntervalModel(network(), 0.05, warmup=0, ramp=0)
    trainer.compile("sgd", "mse")
    rows = np.eye(10, dtype="float32")[y]
    for wrong in (
        y + 1,
        y - 1,
        y / 2,
        0.9 * rows + 0.01,
        np.maximum(rows, np.eye(10)[0]),
        np.zeros((16, 3)),
    ):
        for method in (
            trainer.fit,
            trainer.evaluate,
            trainer.train_on_batch,
            trainer.test_on_batch,
        ):
            with pytest.raises(ValueError, match="Argument `y`.*Received"):
                method(x, wrong)
    labels = trainer.predict(x, verbose=0).argmax(-1)
    some = np.eye(10, dtype="float32")[labels]
    some[:4] = 0.9 * some[:4] + 0.01
    logs = [
        trainer.evaluate(OneBatch(*part), verbose=0, return_dict=True)
        for part in ((x, some), (x[4:], some[4:]))
    ]
    certified = [log["certified_accuracy"] for log in logs]
    assert 16 * certified[0] == pytest.approx(12 * certified[1], abs=1e-4)
    assert np.isnan(
        trainer.fit(OneBatch(x, some), verbose=0).history["loss"][0]
    )


@pytest.mark.slow_on_jax
def test_one_unit():
    (x, y), _ = digits(64)
    model = network(activation="sigmoid", classes=1)
    trainer = kr.certify.IntervalModel(model, 0.01, warmup=0, ramp=0)
    trainer.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    logs = trainer.fit(x, y % 2, epochs=3, verbose=0).history
    assert np.isfinite(logs["loss"]).all()
    assert logs["loss"][-1] < logs["loss"][0]


@pytest.mark.compiles_much
def test_losses_and_metrics_by_name_of_the_output():
    (x, y), _ = digits(64)
    logs = []
    for loss, metrics in (
        (sparse(), ["accuracy"]),
        ({"scores": sparse()}, {"scores": ["accuracy"]}),
    ):
        inner = network()
        outputs = keras.layers.Identity(name="scores")(inner.outputs[0])
        trainer = kr.certify.IntervalModel(
            keras.Model(inner.inputs, outputs), 0.01, warmup=0, ramp=1
        )
        trainer.compile("sgd", loss, metrics=metrics)
        history = trainer.fit(x, y, shuffle=False, verbose=0).history
        logs.append([history[key][0] for key in ("loss", "accuracy")])
    np.testing.assert_allclose(logs[0], logs[1], rtol=1e-5)


@pytest.mark.compiles_much
def test_saved_and_loaded(tmp_path):
    (x, y), _ = digits(32)
    trainer = kr.certify.IntervalModel(
        network(), 0.02, kappa=0.3, warmup=1, ramp=3
    )
    trainer.compile("sgd", sparse())
    trainer.fit(x, y, batch_size=16, verbose=0)
    trainer.save(tmp_path / "trainer.keras")
    again = keras.models.load_model(tmp_path / "trainer.keras")
    np.testing.assert_allclose(
        again.predict(x, verbose=0), trainer.predict(x, verbose=0), atol=1e-6
    )
    assert again.get_config()["ramp"] == 3
    # The schedule goes on where it was.
    logs = [
        model.train_on_batch(x, y, return_dict=True)
        for model in (trainer, again)
    ]
    np.testing.assert_allclose(logs[0]["loss"], logs[1]["loss"], rtol=1e-5)
    plain = kr.evaluate_robustness(again, (x, y), [], verbose=0)
    assert plain.accuracy["clean"] >= 0


def test_refusals():
    for options, message in (
        ({"epsilon": -1}, "epsilon"),
        ({"epsilon": [0.1, 0.2]}, "epsilon"),
        ({"epsilon": 0.1, "kappa": 2}, "kappa"),
        ({"epsilon": 0.1, "warmup": -1}, "warmup"),
        ({"epsilon": 0.1, "value_range": (1, 0)}, "value_range"),
    ):
        with pytest.raises(ValueError, match=message):
            kr.certify.IntervalModel(network(), **options)
    inputs = keras.Input((4,))
    outputs = [keras.layers.Dense(2)(inputs) for _ in range(2)]
    with pytest.raises(ValueError, match="one output. Received"):
        kr.certify.IntervalModel(keras.Model(inputs, outputs), 0.1)
    outputs = keras.layers.Dense(2, activation="tanh_shrink")(inputs)
    with pytest.raises(ValueError, match="tanh_shrink"):
        kr.certify.IntervalModel(keras.Model(inputs, outputs), 0.1)
