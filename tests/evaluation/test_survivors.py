import numpy as np
import pytest

import keras_robust as kr
from keras_robust.evaluation import survivors


def restarted(epsilon=0.3, **options):
    return kr.PGDAttack(
        "l2",
        epsilon,
        steps=12,
        random_start=True,
        restarts=3,
        seed=0,
        batch_size=8,
        **options,
    )


def counting(attack, batches):
    """The attack, noting each run's index and the size of each batch."""

    class Counted(type(attack)):
        def inputs(self, problem, run, batch):
            batches.append((run.restart, len(batch.rows)))
            return super().inputs(problem, run, batch)

    return Counted(**attack.get_config())


@pytest.mark.compiles_much
def test_survivors_give_the_same_answer(varied):
    model, x, y = varied
    attacks = {"pgd": restarted(keep_best=True)}
    full, left = (
        kr.evaluate_robustness(
            model, (x, y), attacks=attacks, probe=False, survivors_only=only
        )
        for only in (False, True)
    )
    np.testing.assert_array_equal(full.correct["pgd"], left.correct["pgd"])
    assert 0 < left.accuracy["pgd"] < left.accuracy["clean"]


def test_restarts_see_survivors_in_whole_batches(varied):
    model, x, y = varied
    batches = []
    attack = counting(restarted(), batches)
    report = kr.evaluate_robustness(
        model, (x, y), {"pgd": attack}, probe=False, verbose=0
    )
    attacked = [sum(n for r, n in batches if r == run) for run in range(3)]
    # What is wrong unperturbed is never attacked.
    assert attacked[0] == report.correct["clean"].sum() < len(x)
    assert attacked[0] > attacked[1] >= attacked[2]
    assert attacked[2] >= report.correct["pgd"].sum()
    # Batches are full but for the last one of a run.
    for run in range(3):
        sizes = [n for r, n in batches if r == run]
        assert sizes[:-1] == [8] * (len(sizes) - 1)


def test_later_attacks_leave_out_what_earlier_ones_broke(varied, monkeypatch):
    monkeypatch.setattr(survivors, "ALWAYS_ATTACKED", 2)
    model, x, y = varied
    batches = {"small": [], "large": []}
    attacks = {
        # Given in the other order: the cheaper one still comes first.
        "large": counting(
            kr.PGDAttack("l2", 0.6, steps=20, batch_size=8), batches["large"]
        ),
        "small": counting(kr.PGDAttack("l2", 0.3, steps=4), batches["small"]),
    }
    report = kr.evaluate_robustness(
        model, (x, y), attacks, probe=False, verbose=0
    )
    assert list(report.accuracy) == ["clean", "large", "small", "worst case"]
    assert not (report.correct["large"] & ~report.correct["small"]).any()
    entered = sum(n for _, n in batches["large"])
    left = report.correct["small"].sum()
    assert left <= entered <= left + 2 < report.correct["clean"].sum()
    alone = kr.evaluate_robustness(
        model,
        (x, y),
        attacks={"large": kr.PGDAttack("l2", 0.6, steps=20)},
        probe=False,
        verbose=0,
    )
    assert report.accuracy["large"] <= alone.accuracy["large"]


def test_one_step_counts_for_itself(varied):
    model, x, y = varied
    fgsm = kr.FGSMAttack("l2", 0.6)
    attacks = {"fgsm": fgsm, "weak": kr.FGSMAttack("l2", 0.3)}
    report = kr.evaluate_robustness(
        model, (x, y), attacks, probe=False, verbose=0
    )
    alone = kr.evaluate_robustness(
        model, (x, y), {"fgsm": fgsm}, probe=False, verbose=0
    )
    np.testing.assert_array_equal(report.correct["fgsm"], alone.correct["fgsm"])


@pytest.mark.parametrize(
    "small, large, inside",
    [
        (kr.PGDAttack("l2", 0.3), kr.APGDAttack("l2", 0.5), True),
        (kr.PGDAttack("l2", 0.5), kr.PGDAttack("l2", 0.3), False),
        (kr.PGDAttack("l2", 0.3), kr.PGDAttack("linf", 0.5), False),
        (kr.PGDAttack("l2", 0.3), kr.CarliniWagnerL2(), False),
        (kr.PGDAttack(mask=np.ones(3)), kr.PGDAttack(), True),
        (kr.PGDAttack(), kr.PGDAttack(mask=np.ones(3)), False),
        (kr.PGDAttack(value_range=(0, 2)), kr.PGDAttack(), False),
        (kr.SpatialAttack(), kr.PGDAttack("linf", 0.5), False),
    ],
)
def test_is_contained(small, large, inside):
    assert survivors.is_contained(small, large, 3).tolist() == [inside] * 3


def test_is_contained_per_example():
    small = kr.PGDAttack(epsilon=np.array([0.1, 0.6]))
    assert survivors.is_contained(small, kr.PGDAttack(), 2).tolist() == [1, 0]


def test_the_cheapest_first():
    attacks = {
        "autoattack": kr.AutoAttack(),
        "apgd-t": kr.APGDAttack(loss="targeted_dlr", steps=100),
        "pgd": kr.PGDAttack(steps=20, random_start=True, restarts=2),
        "fgsm": kr.FGSMAttack(),
        "eot": kr.PGDAttack(steps=20, eot=3),
    }
    order = ["fgsm", "pgd", "eot", "apgd-t", "autoattack"]
    assert survivors.by_cost(attacks) == order


@pytest.mark.slow_on_jax
def test_randomized_models_are_attacked_in_full(linear_problem):
    import keras

    inner, x, y = linear_problem
    inputs = keras.Input(x.shape[1:])

    @keras.saving.register_keras_serializable("tests")
    class Noise(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.seed = keras.random.SeedGenerator(0)

        def call(self, x):
            return x + keras.random.normal(
                keras.ops.shape(x), stddev=0.3, seed=self.seed
            )

    model = keras.Model(inputs, inner(Noise()(inputs)))
    batches = []
    attack = counting(kr.PGDAttack(epsilon=0.1, steps=2), batches)
    kr.evaluate_robustness(model, (x, y), attack, probe=False, verbose=0)
    # All examples, not the survivors.
    assert sum(size for _, size in batches) == len(x)


def test_attacks_without_a_norm_are_not_nested():
    """Their radii may be of anything."""

    class Other(kr.attacks.Attack):
        epsilon = 0.5

        def attack(self, problem, verbose, scored, checkpoint):
            return {"x": problem.x}

    assert not survivors.is_contained(Other(), Other(), 3).any()
