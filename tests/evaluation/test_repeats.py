import numpy as np
import pytest

import keras_robust as kr


def flags(model, x, y):
    report = kr.evaluate_robustness(
        model, (x, y), kr.FGSMAttack("l2", 0.1), verbose=0, probe=False
    )
    found = [f for f in report.flags if f.name == "repeated examples"]
    assert len(found) <= 1
    return found[0].evidence if found else None


def test_repeated_examples(linear_problem):
    model, x, y = linear_problem
    x, y = x[:20], y[:20]
    assert flags(model, x, y) is None
    twice = np.concatenate([x, x]), np.concatenate([y, y])
    assert flags(model, *twice) == {"copies": 20, "of": 40}
    # Some copies are usual.
    assert flags(model, twice[0][:30], twice[1][:30]) is None
    # Labels are part of an example.
    assert flags(model, twice[0], np.concatenate([y, (y + 1) % 2])) is None


@pytest.mark.slow_on_jax
def test_curves_and_matrices_tell_it_as_well(linear_problem):
    model, x, y = linear_problem
    data = np.concatenate([x[:9]] * 2), np.concatenate([y[:9]] * 2)
    curve = kr.robustness_curve(
        model, data, "l2", [0.1], "fgsm", verbose=0, probe=False
    )
    matrix = kr.transfer_matrix(
        {"a": model},
        {"a": model},
        data,
        kr.FGSMAttack("l2", 0.1),
        verbose=0,
        probe=False,
    )
    for result in (curve, matrix):
        assert "repeated examples" in [flag.name for flag in result.flags]


def test_a_repeated_tf_data(linear_problem):
    tf = pytest.importorskip("tensorflow")
    model, x, y = linear_problem
    data = tf.data.Dataset.from_tensor_slices((x[:10], y[:10]))
    report = kr.evaluate_robustness(
        model,
        data.batch(4).repeat(2),
        kr.FGSMAttack("l2", 0.1),
        verbose=0,
        probe=False,
    )
    assert "repeated examples" in [flag.name for flag in report.flags]
