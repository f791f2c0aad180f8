import keras
import numpy as np
import pytest

import keras_robust as kr
from tests.helpers import make_linear

CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class Breaks(keras.callbacks.Callback):
    """Sets other weights at the beginning of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            model = self.model.model
            model.set_weights([-part for part in model.get_weights()])


@pytest.fixture
def problem(rng):
    """A linear model that is right on all its data, and far from the edge."""
    model = make_linear(rng.normal(size=(16, 2)))
    x = rng.uniform(0.3, 0.7, (40, 16)).astype("float32")
    logits = model.predict(x, verbose=0)
    far = np.abs(logits[:, 0] - logits[:, 1]) > 0.5
    x = x[far]
    return model, x, logits[far].argmax(-1)


def robust_model(model, **options):
    robust = kr.AdversarialModel(model, kr.NFGSMAttack("linf", 0.001))
    robust.compile(keras.optimizers.SGD(0.0, **options), CROSS_ENTROPY)
    return robust


def fit(robust, x, y, watch, breaks=2, epochs=5):
    return robust.fit(
        x, y, epochs=epochs, verbose=0, callbacks=[Breaks(breaks), watch]
    ).history


@pytest.mark.compiles_much
def test_a_collapse_is_reported_once(problem):
    model, x, y = problem
    watch = kr.callbacks.CatastrophicOverfitting(x, y)
    with pytest.warns(UserWarning, match="100% after epoch 1 to 0% after ep"):
        history = fit(robust_model(model), x, y, watch)
    assert watch.accuracies == [1, 1, 0, 0, 0] == history["pgd_accuracy"]
    assert watch.best_epoch == 0 and watch.collapsed_epoch == 2


def test_low_accuracies_collapse_too(problem):
    """From a fifth to nothing; ten classes are guessed as often as a tenth."""
    _, x, y = problem
    images, labels = np.zeros((500, *x.shape[1:])), np.arange(500) % 10
    for given in (labels, labels[:, None], np.eye(10)[labels]):
        watch = kr.callbacks.CatastrophicOverfitting(images, given)
        for best, accuracy, is_collapse in (
            (0.2, 0.09, True),
            (0.2, 0.11, False),
            (0.102, 0.0, True),
            (0.1, 0.0, False),
            (0.004, 0.002, False),
        ):
            assert watch._is_collapse(best, accuracy) == is_collapse


@pytest.mark.compiles_much
def test_it_stops_and_restores(problem):
    model, x, y = problem
    before = model.get_weights()
    for action in ("stop", "restore"):
        model.set_weights(before)
        watch = kr.callbacks.CatastrophicOverfitting(x, y, action=action)
        # The optimizer sets its averages at the end of a training.
        robust = robust_model(model, use_ema=True, ema_momentum=0.5)
        with pytest.warns(UserWarning, match="Training stops"):
            history = fit(robust, x, y, watch)
        assert len(history["loss"]) == 3
        kept = np.array_equal(model.get_weights()[0], before[0])
        assert kept == (action == "restore")


@pytest.mark.compiles_much
def test_a_smaller_fall_is_none(problem):
    model, x, y = problem
    y = np.where(np.arange(len(y)) < 0.4 * len(y), 1 - y, y)
    # From 60 % to 40 %.
    for drop, epoch in ((0.5, None), (0.25, 2)):
        watch = kr.callbacks.CatastrophicOverfitting(x, y, drop=drop)
        if epoch is None:
            fit(robust_model(model), x, y, watch)
        else:
            with pytest.warns(UserWarning, match="Catastrophic"):
                fit(robust_model(model), x, y, watch)
        assert watch.collapsed_epoch == epoch
        model.set_weights([-part for part in model.get_weights()])


def test_attacks_and_models_of_all_kinds(problem):
    model, x, y = problem
    attack = kr.PGDAttack("l2", 100.0, steps=3)
    watch = kr.callbacks.CatastrophicOverfitting(x, y, attack)
    model.compile(keras.optimizers.SGD(0.0), CROSS_ENTROPY)
    model.fit(x, y, verbose=0, callbacks=[watch])
    assert watch.accuracies == [0.0]
    watch = kr.callbacks.CatastrophicOverfitting(x, y)
    with pytest.raises(ValueError, match="AdversarialModel.*Received"):
        model.fit(x, y, verbose=0, callbacks=[watch])
    trainer = kr.certify.IntervalModel(model, 0.1)
    trainer.compile("sgd", CROSS_ENTROPY)
    with pytest.raises(ValueError, match="AdversarialModel.*Received"):
        trainer.fit(x, y, verbose=0, callbacks=[watch])


@pytest.mark.parametrize("attack", [kr.FGSMAttack, kr.NFGSMAttack])
def test_the_radius_is_the_default_of_the_attack_of_training(problem, attack):
    """8 of 255 for one step, where PGD by itself takes half of the range."""
    model, x, y = problem
    inputs = keras.Input((16,))
    of_bytes = model(keras.layers.Rescaling(1 / 255)(inputs))
    robust = kr.AdversarialModel(
        keras.Model(inputs, of_bytes), attack("linf", value_range="auto")
    )
    robust.compile(keras.optimizers.SGD(0.0), CROSS_ENTROPY)
    watch = kr.callbacks.CatastrophicOverfitting(255 * x, y)
    robust.fit(255 * x, y, verbose=0, callbacks=[watch])
    pgd = kr.PGDAttack("linf", 8 / 255, steps=10, random_start=True, seed=0)
    expected = kr.evaluate_robustness(
        model, (x, y), {"pgd": pgd}, verbose=0, probe=False
    )
    assert 0 < expected.accuracy["pgd"]
    assert watch.accuracies == [expected.accuracy["pgd"]]


@pytest.mark.compiles_much
def test_several_inputs_and_outputs(problem):
    """Those that the AdversarialModel was told to attack and to classify."""
    model, x, y = problem
    inputs = {name: keras.Input((16,), name=name) for name in ("a", "b")}
    right = model(inputs["b"]) + 0 * model(inputs["a"])
    outputs = {"right": right, "wrong": -right}
    several = keras.Model(inputs, outputs)
    data = {"a": x, "b": x}
    for output, accuracy in (("right", 1), ("wrong", 0)):
        watch = kr.callbacks.CatastrophicOverfitting(data, y)
        attack = kr.NFGSMAttack("linf", 0.001)
        for options, loss in (
            ({"output": output}, CROSS_ENTROPY),
            ({}, {output: CROSS_ENTROPY}),
        ):
            robust = kr.AdversarialModel(
                several, attack, attacked="b", **options
            )
            robust.compile(keras.optimizers.SGD(0.0), loss)
            robust.fit(
                data,
                {name: y for name in outputs},
                verbose=0,
                callbacks=[watch],
            )
            assert watch.accuracies == [accuracy]


def test_refusals(problem):
    _, x, y = problem
    watch = kr.callbacks.CatastrophicOverfitting
    for arguments, message in (
        ({"x": x, "y": y[:3]}, "same number.*Received"),
        ({"x": x[:0], "y": y[:0]}, "at least one.*Received"),
        ({"x": x, "y": y, "attack": "pgd"}, "attack.*Received"),
        ({"x": x, "y": y, "drop": 0}, "drop.*Received"),
        ({"x": x, "y": y, "action": "halt"}, "action.*restore.*Received"),
    ):
        with pytest.raises(ValueError, match=message):
            watch(**arguments)
