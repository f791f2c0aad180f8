import keras
import pytest

from keras_robust.study.optimizers import make_optimizer
from keras_robust.study.recipes import Training


def rates(training, steps_per_epoch):
    schedule = make_optimizer(training, steps_per_epoch)._learning_rate
    steps = training.epochs * steps_per_epoch
    return [
        float(keras.ops.convert_to_numpy(schedule(step)))
        for step in range(steps + 1)
    ]


def test_one_cycle_warms_up_and_ends_at_zero():
    values = rates(Training(epochs=10, learning_rate=0.4), 5)
    assert values[0] == 0 and max(values) == pytest.approx(0.4)
    assert values.index(max(values)) == 10
    assert values[5] == pytest.approx(0.2)
    assert values[50] == pytest.approx(0, abs=1e-6)


def test_drops_of_the_paper():
    """A tenth after each third of the epochs."""
    training = Training(epochs=150, learning_rate=0.1, schedule="drops")
    values = rates(training, 2)
    assert values[50] == pytest.approx(0.1)
    assert values[150] == pytest.approx(0.01)
    assert values[250] == pytest.approx(0.001)


def test_unknown_schedule():
    with pytest.raises(ValueError, match="schedule.*Received"):
        make_optimizer(Training(1, 0.1, schedule="linear"), 1)
