"""Momentum, schedules, layers, L1 and randomized models in PGD."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_robust as kr
from keras_robust.classifier import call_frozen
from tests.helpers import exact_accuracy
from tests.helpers import make_linear
from tests.helpers import mostly_slow
from tests.helpers import norms

WIDE = (-100.0, 100.0)


def test_schedule_gives_each_step_its_length(linear_problem):
    """Against one direction, lengths add up: 0.1 + 0.05 + 0.025."""
    model, x, y = linear_problem
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)
    attack = kr.PGDAttack("l2", 5.0, schedule, steps=3, value_range=WIDE)
    step = norms(attack(model, x, y) - x, "l2")
    np.testing.assert_allclose(step, 0.175, rtol=1e-4)
    copy = type(attack).from_config(attack.get_config())
    np.testing.assert_allclose(copy(model, x, y), attack(model, x, y))


def test_momentum_is_the_sum_of_normalized_gradients(varied):
    model, x, y = varied
    attack = kr.PGDAttack("linf", 1.0, 0.05, steps=2, momentum=0.9)
    one = kr.PGDAttack("linf", 1.0, 0.05, steps=1)
    first = one(model, x, y)

    def gradient(at):
        """From the step that PGD-L2 takes there, in a box without edges."""
        unit = kr.PGDAttack("l2", 1.0, 1.0, steps=1, value_range=WIDE)
        g = unit(model, at, y) - at
        return g / np.abs(g).sum((1, 2, 3), keepdims=True)

    direction = 0.9 * gradient(x) + gradient(first)
    expected = np.clip(first + 0.05 * np.sign(direction), 0, 1)
    ours = attack(model, x, y)
    # Where two gradients nearly cancel, rounding decides the sign.
    clear = np.abs(direction) > 1e-4 * np.abs(direction).max()
    np.testing.assert_allclose(ours[clear], expected[clear], atol=1e-5)


def test_l1_reaches_the_linear_optimum(linear_problem):
    model, x, y = linear_problem
    attack = kr.PGDAttack("l1", 0.8, 0.1, steps=40, keep_best=True)
    result = attack.run(model, x, y, scored=True)
    assert norms(result["x"] - x, "l1").max() <= 0.8 * (1 + 1e-6)
    exact = exact_accuracy(model, x, y, "l1", 0.8)
    assert abs((~result["success"]).mean() - exact) <= 1.5 / len(x)


@pytest.mark.parametrize("norm", mostly_slow(["l1", "l2"], "l2"))
def test_random_starts_do_not_depend_on_batches(varied, norm):
    model, x, y = varied
    options = {"random_start": True, "seed": 3, "steps": 2}
    whole, split = (
        kr.PGDAttack(norm, 0.5, batch_size=size, **options)(model, x, y)
        for size in (24, 5)
    )
    np.testing.assert_allclose(whole, split, atol=1e-5)


def test_a_loss_of_any_layer(linear_problem):
    """Raise the third number of a hidden layer, whatever the logits."""
    hidden = make_linear(np.eye(16)[:, :4], shape=(4, 4, 1))
    layer = keras.layers.Dense(3, name="last")
    model = keras.Model(hidden.inputs, layer(hidden.outputs[0]))
    name = model.layers[-2].name
    x = np.full((5, 4, 4, 1), 0.5, "float32")
    attack = kr.PGDAttack(
        "l2", 0.3, steps=3, layer=name, loss=lambda y, h: h[:, 2]
    )
    expected = x.copy()
    expected.reshape(5, 16)[:, 2] += 0.3
    np.testing.assert_allclose(attack(model, x, np.zeros(5)), expected, 1e-5)
    with pytest.raises(ValueError, match="layer.*Received"):
        kr.PGDAttack(layer=name)
    lost = kr.PGDAttack(layer="nowhere", loss=lambda y, h: h[:, 0])
    with pytest.raises(ValueError, match="nowhere"):
        lost(model, x, np.zeros(5))


@keras.saving.register_keras_serializable("tests")
class RandomSign(keras.layers.Layer):
    """Turns the first pixels around in one draw of two."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seeds = keras.random.SeedGenerator(0)

    def call(self, x):
        turned = keras.random.uniform((), seed=self.seeds) < 0.4
        sign = ops.where(turned, -1.0, 1.0)
        return ops.concatenate([x[:, :2] * sign, x[:, 2:]], axis=1)


@pytest.fixture
def randomized():
    """Pixels that only sometimes count, beside small ones that always do."""
    plain = make_linear([[0, 1.0], [0, 1.0], [0, 0.2], [0, 0.2]])
    inputs = keras.Input((4,))
    return keras.Model(inputs, plain(RandomSign()(inputs)))


def test_each_draw_is_another_and_none_is_kept(randomized):
    x = ops.ones((1, 4))
    before = randomized.get_weights()

    def draws(numbers):
        return [float(call_frozen(randomized, x, d)[0, 1]) for d in numbers]

    first = draws(range(40))
    assert len(set(np.round(first, 3))) == 2
    assert first == draws(range(40))
    turned = np.mean(np.array(first) < 0)
    assert 0.15 < turned < 0.65
    for old, new in zip(before, randomized.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_eot_climbs_the_mean_of_random_gradients(randomized):
    """The step is along the mean of the draws' gradients."""
    x = np.full((1, 4), 0.5, "float32")
    options = {"loss": "margin", "value_range": WIDE, "from_logits": True}
    draws = 6
    ones = ops.ones((1, 4))
    logits = [float(call_frozen(randomized, ones, d)[0, 1]) for d in range(6)]
    # Signs of the first two pixels, whose weights are 1, in each draw.
    signs = [1.0 if z > 0 else -1.0 for z in logits]
    assert len(set(signs)) == 2
    mean = np.mean(signs)
    expected = np.array([mean, mean, 0.2, 0.2])
    attack = kr.PGDAttack("l2", 9.0, 1.0, 1, eot=draws, **options)
    step = (attack(randomized, x, [0]) - x)[0]
    np.testing.assert_allclose(
        step, expected / np.linalg.norm(expected), atol=1e-5
    )


def test_steps_see_different_draws(randomized):
    x = np.full((1, 4), 0.5, "float32")
    attack = kr.PGDAttack(
        "linf",
        99.0,
        step_size=1.0,
        steps=30,
        loss="margin",
        value_range=WIDE,
        from_logits=True,
    )
    walked = (attack(randomized, x, [0]) - x)[0]
    # Sure pixels go up in every step, the random ones to and fro.
    np.testing.assert_allclose(walked[2:], 30)
    assert abs(walked[0]) < 29


def test_errors():
    for wrong in ({"eot": 0}, {"momentum": -1}, {"epsilon": "1"}):
        with pytest.raises(ValueError, match="Received"):
            kr.PGDAttack(**wrong)


def test_gradients_that_are_not_finite_are_told(rng):
    """The root of zero has an infinite slope, which leaves no direction."""
    inputs = keras.Input((4,))
    outputs = keras.layers.Dense(3)(keras.ops.sqrt(inputs))
    model = keras.Model(inputs, outputs)
    x = rng.random((5, 4), dtype="float32")
    x[:2, 1] = 0
    y = np.zeros(5, "int32")
    with pytest.warns(UserWarning, match="^2 of 5 results hold NaN"):
        found = kr.PGDAttack("l2", 0.1, steps=2)(model, x, y, verbose=0)
    assert np.isnan(found[:2]).any(-1).all() and np.isfinite(found[2:]).all()
