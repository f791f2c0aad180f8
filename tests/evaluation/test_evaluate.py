import io
import json

import numpy as np
import pytest
from keras import ops

import keras_robust as kr
from tests.helpers import make_cnn
from tests.helpers import make_linear


def attacks():
    return {
        "weak": kr.PGDAttack(epsilon=0.05, steps=2),
        "strong": kr.PGDAttack(epsilon=1.0, steps=5),
        "fgsm": kr.FGSMAttack(epsilon=0.05),
    }


@pytest.mark.compiles_much
def test_numbers_are_those_of_the_attacks(cnn, cnn_data):
    x, y = cnn_data
    report = kr.evaluate_robustness(
        cnn, (x, y), attacks(), batch_size=8, probe=False
    )
    right = []
    for name, attack in {"clean": None, **attacks()}.items():
        attacked = x if attack is None else attack(cnn, x, y)
        says = ops.convert_to_numpy(cnn(attacked)).argmax(-1)
        right.append(says == y)
        assert report.accuracy[name] == pytest.approx(right[-1].mean())
        np.testing.assert_array_equal(report.correct[name], right[-1])
    worst = np.logical_and.reduce(right)
    assert report.accuracy["worst case"] == pytest.approx(worst.mean())


@pytest.mark.compiles_much
def test_exact_robust_accuracy_of_a_linear_model(rng):
    weights = rng.normal(size=(9, 2))
    model = make_linear(weights)
    w = weights[:, 1] - weights[:, 0]
    x = rng.uniform(0.45, 0.55, (300, 9)).astype("float32")
    y = rng.integers(0, 2, 300)
    margin = np.where(y == 1, 1, -1) * (x @ w)
    report = kr.evaluate_robustness(
        model,
        (x, y),
        {
            "l2": kr.PGDAttack("l2", 0.02, steps=3),
            "linf": kr.PGDAttack("linf", 0.01, steps=3),
        },
        probe=False,
    )
    exact = {
        "clean": margin > 0,
        "l2": margin > 0.02 * np.linalg.norm(w),
        "linf": margin > 0.01 * np.abs(w).sum(),
    }
    for name, right in exact.items():
        # One example may sit on the boundary itself.
        assert abs(report.accuracy[name] - right.mean()) <= 1.5 / 300


def test_data_sets_adversarial_models_and_one_attack(cnn, cnn_data):
    x, y = cnn_data
    attack = kr.PGDAttack(epsilon=0.3, steps=2)
    expected = kr.evaluate_robustness(
        cnn, (x, y), {"PGDAttack": attack}, probe=False
    )
    robust = kr.AdversarialModel(cnn, attack)
    batches = kr.datasets.pipeline(x, y, batch_size=8)
    report = kr.evaluate_robustness(robust, batches, attack, probe=False)
    assert report.accuracy == expected.accuracy
    one_hot = kr.evaluate_robustness(
        cnn, (x, np.eye(3)[y]), attack, probe=False
    )
    assert one_hot.accuracy == expected.accuracy


def test_errors(cnn, cnn_data):
    x, y = cnn_data
    for wrong in ({"pgd": "pgd"}, {"clean": kr.PGDAttack()}):
        with pytest.raises(ValueError, match="attacks.*Received"):
            kr.evaluate_robustness(cnn, (x, y), wrong)
    with pytest.raises(ValueError, match="untargeted.*Received"):
        kr.evaluate_robustness(cnn, (x, y), kr.PGDAttack(targeted=True))
    with pytest.raises(ValueError, match="Received"):
        kr.evaluate_robustness(cnn, (x[:0], y[:0]), kr.PGDAttack())


def test_intervals_are_wilsons():
    report = kr.RobustnessReport(
        {"clean": np.arange(100) < 90, "none": np.zeros(100, bool)}
    )
    # Wilson's interval for 90 of 100, and for none of 100.
    assert report.intervals["clean"] == pytest.approx(
        (0.8256, 0.9448), abs=1e-4
    )
    assert report.intervals["none"] == pytest.approx((0.0, 0.0370), abs=1e-4)


def test_table_json_and_figure(tmp_path):
    from rich.console import Console

    report = kr.RobustnessReport(
        {"clean": np.arange(8) < 6, "pgd": np.eye(8)[0]}
    )
    console = Console(record=True, width=80, file=io.StringIO())
    report.table(console)
    text = console.export_text()
    assert "75.00" in text and "12.50" in text and "worst case" in text
    written = report.to_json(tmp_path / "report.json")
    assert json.loads(written) == json.loads(
        (tmp_path / "report.json").read_text()
    )
    assert json.loads(written)["accuracy"]["clean"] == 0.75
    figure = report.plot(tmp_path / "report.png")
    assert len(figure.axes[0].patches) == 3
    assert (tmp_path / "report.png").read_bytes()[1:4] == b"PNG"


@pytest.mark.slow_on_jax
@pytest.mark.compiles_much
def test_an_evaluation_leaves_the_model_alone(cnn_data):
    model = make_cnn()
    before = model.get_weights()
    kr.evaluate_robustness(model, cnn_data, kr.PGDAttack(steps=1))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
