import numpy as np
import pytest

import keras_robust as kr
from keras_robust.attacks.registry import ATTACK_NAMES
from keras_robust.attacks.registry import get_attack

WITHOUT_SEED = ("fgsm", "carlini-wagner", "ddn", "fmn", "pdpgd", "sigma-zero")


@pytest.mark.parametrize("name", ATTACK_NAMES)
def test_every_name_makes_an_attack_of_that_radius(name):
    norm = {"sigma-zero": "l0", "pdpgd": "l1"}.get(name, "l2")
    attack = get_attack(name, norm, 0.3, seed=7, batch_size=5)
    assert attack.epsilon == 0.3 and attack.batch_size == 5
    assert attack.norm == norm and not attack.targeted
    if name not in WITHOUT_SEED:
        assert attack.seed == 7


def test_evaluation_by_name(linear_problem):
    model, x, y = linear_problem
    report = kr.evaluate_robustness(
        model,
        (x, y),
        attacks="apgd",
        norm="linf",
        epsilon=0.05,
        probe=False,
        verbose=0,
    )
    attack = get_attack("apgd", "linf", 0.05)
    right = ~attack.run(model, x, y, scored=True)["success"]
    np.testing.assert_array_equal(report.correct["apgd"], right)


def test_errors(linear_problem):
    model, x, y = linear_problem
    for wrong in (
        ("best", "l2", 0.1),
        ("apgd", None, 0.1),
        ("apgd", "l2", None),
        ("carlini-wagner", "linf", 0.1),
        ("ddn", "l1", 0.1),
        ("sigma-zero", "l2", 3),
        ("pdpgd", "l2", 0.1),
        ("square", "l1", 0.1),
    ):
        with pytest.raises(ValueError, match="Received"):
            get_attack(*wrong)
    with pytest.raises(ValueError, match="with the name.*Received"):
        kr.evaluate_robustness(
            model, (x, y), {"pgd": kr.PGDAttack()}, epsilon=0.1
        )
