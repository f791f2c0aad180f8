import numpy as np
import pytest
from keras import ops

import keras_robust as kr
from tests.helpers import exact_distances
from tests.helpers import foolbox_run
from tests.helpers import norms


def test_exact_distance_to_a_linear_boundary(linear_problem):
    model, x, y = linear_problem
    attack = kr.CarliniWagnerL2(steps=60, search_steps=7, first_constant=0.1)
    result = attack.run(model, x, y, scored=True)
    exact = exact_distances(model, x, y)["l2"]
    found = norms(result["x"] - x, "l2")
    assert result["success"].all()
    assert not found[exact == 0].any()
    right = exact > 0.01
    assert (found[right] > exact[right] * (1 - 1e-4)).all()
    assert np.median(found[right] / exact[right]) < 1.03


@pytest.mark.slow_on_jax
@pytest.mark.compiles_much
def test_as_near_as_foolbox(varied):
    model, x, y = varied
    # From the edges of the box tanh space leads away at a snail's pace.
    x, y = x[8:], y[8:]
    options = {"steps": 40, "confidence": 0.0}
    theirs = foolbox_run(
        lambda fb: fb.attacks.L2CarliniWagnerAttack(
            binary_search_steps=5,
            stepsize=0.02,
            initial_const=0.1,
            abort_early=False,
            **options,
        ),
        model,
        x,
        y.astype("int64"),
        None,
    )
    attack = kr.CarliniWagnerL2(
        search_steps=5, learning_rate=0.02, first_constant=0.1, **options
    )
    result = attack.run(model, x, y, scored=True)
    clean = ops.convert_to_numpy(model(x)).argmax(-1) == y
    both = clean & result["success"]
    assert both.sum() >= 0.9 * clean.sum()
    ours = norms(result["x"] - x, "l2")[both]
    ratio = ours / norms(theirs - x, "l2")[both]
    assert 0.9 < np.median(ratio) < 1.05


def test_radius_box_mask_and_target(varied):
    model, x, y = varied
    options = {"steps": 20, "search_steps": 4, "first_constant": 0.1}
    options["learning_rate"] = 0.05
    result = kr.CarliniWagnerL2(0.3, **options).run(model, x, y, scored=True)
    x_adv, success = result["x"], result["success"]
    assert norms(x_adv - x, "l2").max() <= 0.3 * (1 + 1e-6)
    assert x_adv.min() >= 0 and x_adv.max() <= 1
    says = ops.convert_to_numpy(model(x_adv)).argmax(-1)
    np.testing.assert_array_equal(says != y, success)
    np.testing.assert_array_equal(x_adv[~success], x[~success])
    mask = np.zeros((6, 6, 1), "float32")
    mask[:3] = 1
    attack = kr.CarliniWagnerL2(mask=mask, targeted=True, **options)
    targets = (y + 1) % 3
    result = attack.run(model, x, targets, scored=True)
    assert not (result["x"] - x)[:, 3:].any()
    says = ops.convert_to_numpy(model(result["x"])).argmax(-1)
    np.testing.assert_array_equal(says == targets, result["success"])
    assert result["success"].mean() > 0.5


def test_confidence_goes_beyond_the_boundary(linear_problem):
    model, x, y = linear_problem
    attack = kr.CarliniWagnerL2(
        steps=60, search_steps=7, first_constant=0.1, confidence=0.5
    )
    result = attack.run(model, x, y, scored=True)
    clean = ops.convert_to_numpy(model(x)).argmax(-1) == y
    moved = result["success"] & clean
    assert moved.any()
    logits = ops.convert_to_numpy(model(result["x"]))
    rows = np.arange(len(x))
    margin = logits[rows, 1 - y] - logits[rows, y]
    assert (margin[moved] >= 0.5 - 1e-4).all()


def test_errors():
    for wrong in ({"search_steps": 0}, {"learning_rate": -1}, {"epsilon": -1}):
        with pytest.raises(ValueError, match="Received"):
            kr.CarliniWagnerL2(**wrong)
