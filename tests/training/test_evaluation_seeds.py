"""Random starts of evaluations."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_robust as kr

CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    x = random.uniform(0.2, 0.8, (24, 5)).astype("float32")
    return x, random.integers(0, 3, 24).astype("int32")


def adversarial(seed, test_seed=None, objective="adversarial"):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((5,)), layers.Dense(3)])
    start = {"steps": 1, "step_size": 0.1, "random_start": True}
    robust = kr.AdversarialModel(
        model,
        kr.PGDAttack("linf", 0.2, seed=seed, **start),
        kr.PGDAttack("linf", 0.2, seed=test_seed, **start),
        objective=objective,
    )
    robust.compile(keras.optimizers.SGD(0.1), CROSS_ENTROPY)
    return robust


@pytest.mark.compiles_much
@pytest.mark.parametrize(
    "objective", ["adversarial", kr.objectives.TRADES(1.0)]
)
def test_training_does_not_depend_on_evaluations(data, objective):
    x, y = data
    weights = []
    for held_out in (None, data):
        robust = adversarial(1, 2, objective)
        robust.fit(
            x,
            y,
            batch_size=8,
            epochs=2,
            shuffle=False,
            verbose=0,
            validation_data=held_out,
        )
        weights.append(robust.model.get_weights())
    for found, expected in zip(*weights, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.slow_on_jax
@pytest.mark.compiles_much
def test_evaluations_repeat_by_seed(data):
    """Batches of one evaluation have starts of their own."""
    x, y = (np.tile(part[:8], (2, 1)[: part.ndim]) for part in data)

    def loss(robust, count=16):
        logs = robust.evaluate(
            x[:count], y[:count], batch_size=8, verbose=0, return_dict=True
        )
        return logs["robust_loss"]

    robust = adversarial(0, 1)
    first = loss(robust)
    assert loss(robust) == first == loss(adversarial(5, 1))
    assert abs(loss(adversarial(0, 2)) - first) > 1e-6
    assert abs(loss(adversarial(0)) - first) > 1e-6
    # The same examples twice, each time from another start.
    assert abs(loss(robust, 8) - first) > 1e-6
