import io
import json

import numpy as np
import pytest

import keras_robust as kr
from keras_robust.evaluation import survivors
from tests.helpers import exact_accuracy


def test_exact_accuracy_of_a_linear_model_at_every_radius(linear_problem):
    model, x, y = linear_problem
    radii = [0.04, 0.01, 0.08, 0.02]
    curve = kr.robustness_curve(
        model, (x, y), "linf", radii, attack="apgd", verbose=0, probe=False
    )
    assert curve.epsilons.tolist() == [0.0, *sorted(radii)]
    for epsilon, accuracy in zip(curve.epsilons, curve.accuracy, strict=True):
        exact = exact_accuracy(model, x, y, "linf", epsilon)
        assert abs(accuracy - exact) <= 1.5 / len(x)


def test_each_radius_attacks_what_the_smaller_ones_left(
    linear_problem, monkeypatch
):
    monkeypatch.setattr(survivors, "ALWAYS_ATTACKED", 0)
    model, x, y = linear_problem
    attacked = []

    class Counting(kr.PGDAttack):
        def attack(self, problem, *args):
            attacked.append((~problem.previous.success).sum())
            return super().attack(problem, *args)

    curve = kr.robustness_curve(
        model,
        (x, y),
        "l2",
        [0.05, 0.2, 3.0, 4.0],
        attack=lambda epsilon: Counting("l2", epsilon),
        verbose=0,
        probe=False,
    )
    right = curve.correct.sum(-1).tolist()
    # All fall to the third radius, so that the fourth has nothing to do.
    assert attacked == right[:3] and right[3] == right[4] == 0
    assert (np.diff(right) <= 0).all()
    radius = curve.smallest_radius()
    assert ((radius == 0) == ~curve.correct[0]).all()
    assert (radius[curve.correct[1] & ~curve.correct[2]] == 0.2).all()


@pytest.mark.slow_on_jax
def test_radii_that_print_alike_stay_apart(linear_problem):
    model, x, y = linear_problem
    radii = [0.1, 0.1 + 1e-8]
    curve = kr.robustness_curve(model, (x, y), "linf", radii, "fgsm", verbose=0)
    assert len(curve.accuracy) == len(curve.epsilons) == 3
    curve.table()


def test_survivors_have_no_radius():
    correct = [[True, True, False], [True, False, False]]
    curve = kr.RobustnessCurve([0, 0.5], correct, "l2", "pgd")
    assert curve.smallest_radius().tolist() == [np.inf, 0.5, 0.0]


def test_table_json_and_figure(tmp_path):
    from rich.console import Console

    curve = kr.RobustnessCurve([0, 0.5], np.arange(8) < [[6], [2]], "l2", "pgd")
    console = Console(record=True, width=80, file=io.StringIO())
    curve.table(console)
    text = console.export_text()
    assert "75.00" in text and "25.00" in text and "0.5" in text
    written = json.loads(curve.to_json(tmp_path / "curve.json"))
    assert written == json.loads((tmp_path / "curve.json").read_text())
    assert written["accuracy"] == [0.75, 0.25]
    figure = curve.plot(tmp_path / "curve.png")
    line = figure.axes[0].lines[0]
    assert line.get_ydata().tolist() == [75, 25]
    assert (tmp_path / "curve.png").read_bytes()[1:4] == b"PNG"


def test_errors(linear_problem):
    model, x, y = linear_problem
    with pytest.raises(ValueError, match="epsilons.*Received"):
        kr.robustness_curve(model, (x, y), "l2", [0.1, -1])
    with pytest.raises(ValueError, match="name must be one of.*Received"):
        kr.robustness_curve(model, (x, y), "l2", [0.1], attack="best")
    with pytest.raises(ValueError, match="untargeted attack.*Received"):
        kr.robustness_curve(
            model,
            (x, y),
            "l2",
            [0.1],
            attack=lambda e: kr.PGDAttack("l2", e, targeted=True),
        )


def test_a_radius_per_feature_is_no_list_of_radii(varied):
    model, x, y = varied
    row = np.full((1, *x.shape[1:]), 0.1)
    with pytest.raises(ValueError, match="one attack per radius. Received"):
        kr.robustness_curve(model, (x, y), "linf", [row], "pgd", verbose=0)
