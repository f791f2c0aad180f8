import keras
import numpy as np
import pytest
from keras import ops

import keras_robust as kr
from keras_robust.classifier import Classifier
from tests.helpers import norms

FAST = {"steps": 6, "queries": 10, "seed": 0}


@pytest.mark.parametrize(
    "norm, epsilon",
    [pytest.param("l2", 0.25, marks=pytest.mark.slow_on_jax), ("linf", 0.03)],
)
@pytest.mark.compiles_much
def test_the_parts_in_order_on_survivors_only(varied, norm, epsilon):
    model, x, y = varied
    attack = kr.AutoAttack(norm, epsilon, **FAST)
    result = attack.run(model, x, y, scored=True)
    x_adv, broken_by = result["x"], result["broken_by"]
    assert norms(x_adv - x, norm).max() <= epsilon * (1 + 1e-6)
    assert x_adv.min() >= 0 and x_adv.max() <= 1
    clean = ops.convert_to_numpy(model(x)).argmax(-1) == y
    np.testing.assert_array_equal(broken_by == 0, ~clean)
    np.testing.assert_array_equal(broken_by >= 0, result["success"])
    says = ops.convert_to_numpy(model(x_adv)).argmax(-1)
    np.testing.assert_array_equal(says != y, result["success"])
    # What each part breaks is what it breaks of the examples that are left.
    left = clean
    for number, part in enumerate(attack.parts(3).values(), 1):
        broken = part.run(model, x, y, scored=True)["success"]
        np.testing.assert_array_equal(broken & left, broken_by == number)
        left = left & ~broken


def test_versions():
    names = {
        "standard": ["apgd-ce", "apgd-t", "fab-t", "square"],
        "plus": ["apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"],
        "rand": ["apgd-ce", "apgd-dlr"],
    }
    for version, expected in names.items():
        parts = kr.AutoAttack("l2", 0.5, version).parts(10)
        assert list(parts) == expected
        for part in parts.values():
            assert part.early_stop and part.epsilon == 0.5
    randomized = kr.AutoAttack("l2", 0.5).parts(10, randomized=True)
    assert not randomized["apgd-ce"].early_stop
    standard = kr.AutoAttack("l2", 0.5).parts(10)
    assert standard["apgd-t"].targets == standard["fab-t"].targets == 9
    assert standard["square"].queries == 5000
    assert standard["apgd-ce"].steps == standard["fab-t"].steps == 100
    plus = kr.AutoAttack("l2", 0.5, "plus").parts(10)
    assert plus["apgd-dlr"].restarts == plus["fab"].restarts == 5
    assert kr.AutoAttack("l2", 0.5, "rand").parts(10)["apgd-ce"].eot == 20


def test_two_classes_take_margins():
    parts = kr.AutoAttack("l2", 0.5, "plus").parts(2)
    assert parts["apgd-dlr"].loss == "margin"
    assert parts["apgd-t"].loss == "targeted_margin"
    assert kr.AutoAttack("l2", 0.5, "plus").parts(3)["apgd-dlr"].loss == "dlr"


def test_nobody_left_or_nobody_there(linear_problem):
    model, x, y = linear_problem
    attack = kr.AutoAttack("linf", 1.0, **FAST)
    result = attack.run(model, x, y, scored=True)
    assert result["success"].all() and result["broken_by"].max() == 1
    assert attack(model, x[:0], y[:0]).shape == (0, 4, 4, 1)


@pytest.mark.slow_on_jax
def test_batches_do_not_matter(varied):
    model, x, y = varied
    whole, split = (
        kr.AutoAttack("linf", 0.03, batch_size=size, **FAST)(model, x, y)
        for size in (24, 7)
    )
    np.testing.assert_allclose(whole, split, atol=1e-4)


def test_errors():
    for wrong in (
        {"norm": "l1"},
        {"version": "fast"},
        {"epsilon": -1},
        {"steps": 0},
    ):
        with pytest.raises(ValueError, match="Received"):
            kr.AutoAttack(**wrong)


@pytest.mark.slow_on_jax
@pytest.mark.compiles_much
def test_tensors_in_tensors_out(linear_problem):
    model, x, y = linear_problem
    attack = kr.AutoAttack("l2", 0.1, **FAST)
    out = attack(model, ops.convert_to_tensor(x), ops.convert_to_tensor(y))
    assert ops.is_tensor(out)
    np.testing.assert_allclose(
        ops.convert_to_numpy(out), attack(model, x, y), atol=1e-6
    )


class Noisy(keras.layers.Layer):
    """Noise at inference too."""

    def __init__(self):
        super().__init__()
        self.seed_generator = keras.random.SeedGenerator(0)

    def call(self, inputs):
        """`inputs` and noise."""
        shape = ops.shape(inputs)
        return inputs + keras.random.normal(shape, seed=self.seed_generator)


def test_a_randomized_model_is_found_out(varied):
    model, x, _ = varied
    inputs = keras.Input(x.shape[1:])
    noisy = keras.Model(inputs, model(Noisy()(inputs)))
    assert Classifier.of(noisy).is_randomized(x)
    assert not Classifier.of(model).is_randomized(x)
