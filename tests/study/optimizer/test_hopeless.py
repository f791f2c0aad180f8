import math

import keras
import numpy as np
import pytest

from keras_robust.study import StopHopeless
from keras_robust.study.optimizer.hopeless import is_hopeless

# Of guessing among ten classes.
CHANCE = math.log(10)


def stopped_after(losses):
    """The epoch after which a training with these losses is stopped."""
    for epoch in range(1, len(losses) + 1):
        if is_hopeless(losses[:epoch]):
            return epoch
    return None


def test_a_plateau_is_never_stopped():
    """Neither at chance, nor where it is noisy, nor above chance."""
    random = np.random.default_rng(0)
    for level in (CHANCE, 3.0, 20.0):
        for _ in range(200):
            noise = random.uniform(-0.02, 0.02, 100)
            assert stopped_after(list(level * (1 + noise))) is None


def test_a_jump_after_a_plateau_is_reached():
    """As in Fig. 10 of Ilyas et al., past epoch 31."""
    assert stopped_after([CHANCE] * 31 + [1.0] * 19) is None


def test_a_warm_up_that_raises_the_loss_for_a_while_goes_on():
    assert stopped_after([2.3, 4.0, 6.0, 5.0, 4.0, 3.0, 2.5, 2.3, 2.3]) is None
    # Up once, and then level.
    assert stopped_after([2.3] * 5 + [6.0] * 50) is None


def test_a_loss_that_rises_twice_is_stopped_at_a_rung():
    rising = [2.3 * 1.1**epoch for epoch in range(30)]
    assert stopped_after(rising) == 9
    later = [2.3] * 3 + [2.3 * 1.1**epoch for epoch in range(30)]
    assert stopped_after(later) == 27


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_stopped_at_once(value):
    assert stopped_after([2.3, 2.2, value, 2.0]) == 3


def fit(rate, stops):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(rate), "mse")
    x = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
    stop = StopHopeless()
    history = model.fit(
        x, x[:, :1], epochs=12, verbose=0, callbacks=[stop] if stops else []
    )
    return stop.stopped_epoch, len(history.history["loss"])


@pytest.mark.compiles_much
def test_in_fit():
    assert fit(0.01, stops=True) == (None, 12)
    epoch, epochs = fit(2.0, stops=True)
    assert epoch == epochs == 9
    assert fit(2.0, stops=False) == (None, 12)
