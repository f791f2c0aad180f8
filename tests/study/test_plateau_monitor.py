import copy

import keras
import numpy as np
import pytest

from keras_robust.study import PlateauMonitor
from keras_robust.study.plateau_monitor import escape_epoch
from tests.helpers import make_linear


def replayed(train, validation=None, **options):
    monitor = PlateauMonitor(0.1, **options)
    monitor.on_train_begin()
    for epoch, accuracy in enumerate(train):
        logs = {"accuracy": accuracy, "loss": 1.0}
        if validation:
            logs["val_accuracy"] = validation[epoch]
        monitor.on_epoch_end(epoch, logs)
    return monitor


def test_the_three_outcomes():
    stuck = replayed([0.1, 0.11, 0.12], [0.1, 0.1, 0.12])
    assert (stuck.outcome, stuck.escape_epoch) == ("stuck", None)
    memorized = replayed([0.1, 0.5, 0.998], [0.1, 0.1, 0.099])
    assert (memorized.outcome, memorized.escape_epoch) == ("memorized", 2)
    assert memorized.memorization_gap == pytest.approx(0.899)
    generalized = replayed([0.116, 0.12, 0.917, 0.99], [0.13, 0.13, 0.48, 0.6])
    assert generalized.outcome == "generalized"
    assert generalized.escape_epoch == 3
    assert generalized.memorization_gap == pytest.approx(0.39)


def test_barely_off_chance_is_stuck():
    """Nothing is memorized where the labels are known no better than clean."""
    stuck = replayed([0.1, 0.12, 0.138], [0.1, 0.11, 0.127])
    assert (stuck.outcome, stuck.escape_epoch) == ("stuck", 3)
    assert replayed([0.1, 0.1, 0.16], [0.1, 0.1, 0.127]).outcome == "memorized"


def test_the_last_epoch_counts():
    """Not the best one: the stopping time must not be picked."""
    fallen = replayed([0.2, 0.9, 0.99], [0.2, 0.4, 0.1])
    assert fallen.outcome == "memorized"
    # A jump that is lost again is no escape.
    assert escape_epoch([0.1, 0.3, 0.1, 0.3], 0.1) == 4
    assert escape_epoch([0.3, 0.1], 0.1) is None
    assert escape_epoch([0.13, 0.1301], 0.1) == 2


def test_without_validation_only_stuck_is_known():
    assert replayed([0.1, 0.1]).outcome == "stuck"
    assert replayed([0.1, 0.9]).outcome is None
    assert replayed([0.1, 0.9]).memorization_gap is None


def test_a_run_that_goes_on_has_a_whole_curve(tmp_path):
    path = tmp_path / "curve.json"
    replayed([0.1, 0.2, 0.3], path=path)
    again = PlateauMonitor(0.1, path=path)
    again.on_train_begin()
    # The backup was older than the curve: epoch 1 is run again.
    again.on_epoch_end(1, {"accuracy": 0.25, "loss": 0.5})
    assert again.curve["accuracy"] == [0.1, 0.25]
    assert again.curve["loss"] == [1.0, 0.5]


def test_in_fit():
    model = make_linear(np.zeros((2, 2)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1.0), loss, metrics=["accuracy"])
    x = np.repeat(np.eye(2, dtype="float32"), 20, 0)
    y = x.argmax(-1)
    monitor = copy.deepcopy(PlateauMonitor(0.5))
    model.fit(
        x,
        y,
        validation_data=(x, y),
        epochs=4,
        callbacks=[monitor],
        verbose=0,
    )
    assert len(monitor.curve["accuracy"]) == 4
    assert monitor.outcome == "generalized"


def test_errors():
    with pytest.raises(ValueError, match="chance=1.2"):
        PlateauMonitor(1.2)
    with pytest.raises(ValueError, match=r"must have 'accuracy'.*\['loss'\]"):
        PlateauMonitor(0.1).on_epoch_end(0, {"loss": 1.0})
