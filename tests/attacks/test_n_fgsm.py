import keras
import numpy as np
import pytest
from keras import ops

import keras_robust as kr
from tests.helpers import make_linear
from tests.helpers import norms

EPSILON = 0.03


@pytest.fixture(scope="module")
def problem():
    """A linear model of two classes, images away from the edges."""
    random = np.random.default_rng(0)
    model = make_linear(random.normal(size=(16, 2)), shape=(4, 4, 1))
    x = random.uniform(0.4, 0.6, (40, 4, 4, 1)).astype("float32")
    return model, x, random.integers(0, 2, 40).astype("int32")


def gradient(model, y):
    """Of `z_other - z_y`, the same for all images of a class."""
    kernel = model.get_weights()[0]
    direction = (kernel[:, 1] - kernel[:, 0]).reshape(1, 4, 4, 1)
    return direction * np.where(y == 0, 1, -1)[:, None, None, None]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_one_step_of_epsilon_from_noise_of_two_radii(problem, norm):
    model, x, y = problem
    attack = kr.NFGSMAttack(norm, EPSILON, seed=0)
    step = gradient(model, y)
    step = np.sign(step)
    if norm == "l2":
        step = gradient(model, y)
        step = step / norms(step, "l2")[:, None, None, None]
    noise = attack(model, x, y, verbose=0) - EPSILON * step - x
    lengths = norms(noise, norm)
    assert lengths.max() <= 2 * EPSILON * (1 + 1e-4)
    # A uniform draw of 16 numbers: the largest is 32/17 on average; the
    # radius too.
    assert lengths.mean() == pytest.approx(32 / 17 * EPSILON, rel=0.05)
    assert np.abs(noise.mean()) < 0.2 * EPSILON


def test_noise_and_result_are_clipped_to_the_box(problem):
    """Noise that would leave the box does not shorten the step from it."""
    model, x, y = problem
    x = np.round(x)
    found = kr.NFGSMAttack("linf", EPSILON, seed=0)(model, x, y, verbose=0)
    assert found.min() >= 0 and found.max() <= 1
    inward = np.sign(gradient(model, y)) == np.where(x > 0.5, -1, 1)
    moved = np.abs(found - x)[inward]
    assert moved.min() == pytest.approx(EPSILON, rel=1e-4)
    # Half of the noise is cut off at the edge.
    at_edge = np.isclose(moved, EPSILON, rtol=1e-3).mean()
    assert 0.4 < at_edge < 0.6


def test_without_noise_it_is_fgsm(problem):
    model, x, y = problem
    attack = kr.NFGSMAttack("linf", EPSILON, noise_radius=0.0)
    np.testing.assert_allclose(
        attack(model, x, y, verbose=0),
        kr.FGSMAttack("linf", EPSILON)(model, x, y, verbose=0),
        atol=1e-6,
    )


def test_the_same_seed_in_batches_of_any_size(problem):
    model, x, y = problem
    found = [
        kr.NFGSMAttack("l2", 0.5, seed=3, batch_size=size)(
            model, x, y, verbose=0
        )
        for size in (7, 40)
    ]
    np.testing.assert_allclose(*found, atol=1e-6)


def test_it_cannot_evaluate(problem):
    model, x, y = problem
    attack = kr.NFGSMAttack("linf", EPSILON)
    with pytest.raises(ValueError, match="within its radius.*Received"):
        kr.evaluate_robustness(model, (x, y), {"n": attack}, verbose=0)
    with pytest.raises(ValueError, match="validation_attack.*Received"):
        kr.AdversarialModel(model, attack, validation_attack=attack)
    with pytest.raises(ValueError, match="noise_radius.*Received"):
        kr.NFGSMAttack(noise_radius=-1)


@pytest.mark.compiles_much
def test_training_validates_in_the_ball(problem):
    model, x, y = problem
    robust = kr.AdversarialModel(model, kr.NFGSMAttack("linf", EPSILON))
    robust.compile(
        keras.optimizers.SGD(0.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    logs = robust.evaluate(x, y, verbose=0, return_dict=True)
    # The steps of PGD on a linear model end in a corner, as one of FGSM does.
    moved = kr.FGSMAttack("linf", EPSILON)(model, x, y, verbose=0)
    found = (model.predict(moved, verbose=0).argmax(-1) == y).mean()
    assert logs["robust_accuracy"] == pytest.approx(found, abs=1e-6)
    batch = ops.convert_to_tensor(x), ops.convert_to_tensor(y)
    distance = norms(ops.convert_to_numpy(robust.perturb(*batch)) - x, "linf")
    assert distance.max() > 2 * EPSILON
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(robust)
    )
    assert again.attack.get_config() == robust.attack.get_config()


def test_fgsm_with_random_start_is_a_step_of_pgd(problem):
    """Wong et al. 2020: uniform noise, a step of 1.25 radii, projection."""
    model, x, y = problem
    attack = kr.PGDAttack(
        "linf", EPSILON, step_size=1.25 * EPSILON, steps=1, random_start=True
    )
    moved = attack.replace(seed=0)(model, x, y, verbose=0)
    start = attack.replace(seed=0, steps=0)(model, x, y, verbose=0)
    step = start - x + 1.25 * EPSILON * np.sign(gradient(model, y))
    np.testing.assert_allclose(
        moved, x + np.clip(step, -EPSILON, EPSILON), atol=1e-6
    )
