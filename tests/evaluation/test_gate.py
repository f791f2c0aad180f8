import numpy as np
import pytest

from keras_robust.evaluation import RobustnessCurve
from keras_robust.evaluation import RobustnessReport
from keras_robust.evaluation.flags import Flag


def report(right=6, **options):
    clean = np.ones(10, bool)
    rows = np.arange(10) < right
    return RobustnessReport({"clean": clean, "pgd": rows}, **options)


def test_a_report_that_is_robust_enough():
    report().check(no_flags=True)
    report().check(at_least=0.6)
    low = report().intervals["worst case"][0]
    report().check(interval_at_least=low)
    report(flags=[Flag("odd", "why")]).check(at_least=0.6)


def test_a_report_that_is_not():
    message = (
        r"at least 61.00%. Received: 60.00% .95 % interval .*, the worst case "
        "of clean, pgd on 10 examples"
    )
    with pytest.raises(AssertionError, match=message):
        report().check(at_least=0.61)
    with pytest.raises(AssertionError, match="lower end .* at least 60.00%"):
        report().check(interval_at_least=0.6)
    flagged = report(flags=[Flag("odd", "why")])
    with pytest.raises(AssertionError, match="at least 70.*; flag odd: why"):
        flagged.check(at_least=0.7, no_flags=True)
    assert len(report().failures(0.7, 0.7)) == 2


def test_the_worst_case_counts():
    """Each attack breaks the images that the other one leaves."""
    rows = np.arange(10) < 5
    found = RobustnessReport({"clean": rows | ~rows, "a": rows, "b": ~rows})
    with pytest.raises(AssertionError, match="Received: 0.00%"):
        found.check(at_least=0.01)


def test_the_largest_radius_of_a_curve():
    correct = [np.arange(10) < right for right in (10, 7, 3)]
    curve = RobustnessCurve([0, 0.1, 0.2], correct, "l2", "pgd")
    curve.check(at_least=0.3)
    with pytest.raises(AssertionError, match="pgd at the l2 radius 0.2 on 10"):
        curve.check(at_least=0.31)


def test_the_mean_over_corruptions():
    rows = np.arange(10) < 5
    corrupted = {"fog": {1: rows, 2: rows & False}}
    found = RobustnessReport({"clean": rows | ~rows}, corrupted=corrupted)
    found.check(at_least=0.25)
    with pytest.raises(AssertionError, match="25.00%, the mean over corr"):
        found.check(at_least=0.26)
    with pytest.raises(ValueError, match="no interval"):
        found.check(interval_at_least=0.1)


@pytest.mark.parametrize("name", ["at_least", "interval_at_least"])
def test_percent_in_place_of_a_share(name):
    with pytest.raises(ValueError, match=rf"share in \[0, 1\].*{name}=40"):
        report().check(**{name: 40})


@pytest.mark.parametrize("given", [{}, {"no_flags": False}])
def test_a_check_of_nothing_is_refused(given):
    with pytest.raises(ValueError, match="have a condition.*`at_least`"):
        report().check(**given)
