import numpy as np
import pytest
from keras import ops

import keras_robust as kr
from tests.helpers import exact_accuracy
from tests.helpers import exact_distances
from tests.helpers import make_linear
from tests.helpers import norms

NORMS = ("l1", "l2", "linf")


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("targets", [None, 1])
def test_exact_distance_to_a_linear_boundary(linear_problem, norm, targets):
    model, x, y = linear_problem
    attack = kr.FABAttack(norm, steps=15, targets=targets)
    result = attack.run(model, x, y, scored=True)
    exact = exact_distances(model, x, y)[norm]
    assert result["success"].all()
    found = norms(result["x"] - x, norm)
    assert not found[exact == 0].any()
    # Just beyond the boundary, never before it.
    right = exact > 1e-3
    assert (found[right] > exact[right] * (1 - 1e-4)).all()
    assert (found[right] < exact[right] * 1.02).all()


def test_exact_robust_accuracy_in_the_l1_ball(linear_problem):
    model, x, y = linear_problem
    for epsilon in (0.5, 1.0):
        attack = kr.FABAttack("l1", epsilon, steps=30)
        result = attack.run(model, x, y, scored=True)
        exact = exact_accuracy(model, x, y, "l1", epsilon)
        assert abs((~result["success"]).mean() - exact) <= 1.5 / len(x)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.compiles_much
def test_promises(varied, norm):
    model, x, y = varied
    epsilon = {"l1": 1.5, "l2": 0.4, "linf": 0.1}[norm]
    options = {"steps": 10, "targets": 2}
    result = kr.FABAttack(norm, epsilon, **options).run(
        model, x, y, scored=True
    )
    x_adv = result["x"]
    assert x_adv.min() >= 0 and x_adv.max() <= 1
    assert norms(x_adv - x, norm).max() <= epsilon * (1 + 1e-6)
    says = ops.convert_to_numpy(model(x_adv, training=False)).argmax(-1)
    np.testing.assert_array_equal(says != y, result["success"])
    # No success inside the radius: the image as it was.
    failed = ~result["success"]
    np.testing.assert_array_equal(x_adv[failed], x[failed])
    again = kr.FABAttack(norm, epsilon, batch_size=4, **options)(model, x, y)
    steady = ~moved_by_rounding(kr.FABAttack(norm, epsilon, **options), varied)
    assert steady.mean() > 0.9
    np.testing.assert_allclose(again[steady], x_adv[steady], atol=1e-5)


def moved_by_rounding(attack, varied):
    """Examples at which rounding of the weights decides between branches.

    Batches of another size round differently too, so no promise holds there.
    """
    model, x, y = varied
    weights = model.get_weights()
    before = attack(model, x, y)
    moved = np.zeros(len(x), bool)
    random = np.random.default_rng(0)
    for _ in range(5):
        noise = [1 + 1e-7 * random.normal(size=w.shape) for w in weights]
        rounded = [w * n for w, n in zip(weights, noise, strict=True)]
        model.set_weights(rounded)
        moved |= norms(attack(model, x, y) - before, "linf") > 1e-5
    model.set_weights(weights)
    return moved


def test_any_distance_is_farther_than_the_radius_or_the_same(varied):
    model, x, y = varied
    anywhere = kr.FABAttack("l2", None, steps=10).run(model, x, y, scored=True)
    inside = kr.FABAttack("l2", 0.3, steps=10).run(model, x, y, scored=True)
    distance = norms(anywhere["x"] - x, "l2")
    found = anywhere["success"] & (distance <= 0.3)
    np.testing.assert_array_equal(found, inside["success"])


def test_targeted_reaches_its_label(linear_problem):
    model, x, y = linear_problem
    attack = kr.FABAttack("l2", steps=20, targeted=True)
    x_adv = attack(model, x, 1 - y)
    says = ops.convert_to_numpy(model(x_adv)).argmax(-1)
    np.testing.assert_array_equal(says, 1 - y)


def test_restarts_only_help(varied):
    model, x, y = varied
    once, often = (
        kr.FABAttack("l2", 0.2, steps=4, restarts=restarts, seed=0).run(
            model, x, y, scored=True
        )["success"]
        for restarts in (1, 3)
    )
    assert not (once & ~often).any()


def test_errors():
    for wrong in (
        {"targets": 0},
        {"targeted": True, "targets": 3},
        {"norm": "l3"},
        {"steps": 0},
        {"mix": 1.5},
        {"overshoot": 0.5},
        {"shrink_back": 1.0},
    ):
        with pytest.raises(ValueError, match="Received"):
            kr.FABAttack(**wrong)


@pytest.mark.parametrize("options", [{"targets": 2}, {"restarts": 3}])
def test_more_runs_find_nearer_examples(varied, options):
    model, x, y = varied
    single = {**options, "targets": 1} if "targets" in options else {}
    one, more = (
        kr.FABAttack("l2", steps=5, seed=0, **chosen).run(
            model, x, y, scored=True
        )
        for chosen in (single, options)
    )
    assert one["success"].all() and more["success"].all()
    before, after = (norms(found["x"] - x, "l2") for found in (one, more))
    assert (after <= before + 1e-6).all() and (after < before - 1e-3).any()
    # What is wrong without an attack stays as it is.
    assert not after[::8].any()


@pytest.mark.parametrize("norm", NORMS)
def test_the_nearest_boundary_that_a_mask_lets_it_reach(norm):
    """Nearest of all is that of a class which only a fixed entry decides."""
    weights = np.array([[0.0, 0.0, 1.0], [0.0, 10.0, 0.0]])
    model = make_linear(weights, np.array([0.0, -5.1, -0.6]), shape=(2,))
    x = np.array([[0.4, 0.5]], "float32")
    attack = kr.FABAttack(norm, steps=20, mask=np.array([1.0, 0.0]))
    found = attack(model, x, np.array([0]), verbose=0)
    np.testing.assert_allclose(found, [[0.6, 0.5]], atol=2e-3)
