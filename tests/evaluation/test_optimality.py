"""The optimality of attacks, against areas computed by hand."""

import math

import numpy as np
import pytest

from keras_robust.evaluation import attack_optimality

INF = math.inf


def test_areas_by_hand():
    # Best: 0, 1, 2, 3; accuracy 3/4, 1/2, 1/4, 0 on [0, 1), [1, 2), [2, 3).
    best = [0.0, 1.0, 2.0, 3.0]
    found = attack_optimality(
        {
            # 3/4 on [0, 2), 1/2 on [2, 3): area 2 instead of 3/2.
            "far": [0.0, 2.0, 4.0, INF],
            "nothing": [0.0, INF, INF, INF],
            "best": best,
            # 3/4, 3/4, 1/4.
            "one": [0.0, 2.0, 2.0, 3.0],
        }
    )
    # The worst area is 3/4 * 3 = 9/4.
    expected = {
        "best": 1.0,
        "one": 1 - (7 / 4 - 3 / 2) / (9 / 4 - 3 / 2),
        "far": 1 - (2 - 3 / 2) / (9 / 4 - 3 / 2),
        "nothing": 0.0,
    }
    assert list(found) == list(expected)
    assert found == pytest.approx(expected)


def test_the_best_is_that_of_each_example():
    both = {"a": [1.0, 4.0], "b": [3.0, 2.0]}
    # Best 1, 2: area 3/2 to d_max 2; a and b have (1 + 2)/2 and (2 + 2)/2.
    assert attack_optimality(both) == pytest.approx({"a": 1.0, "b": 0.0})
    # A nearer example of others moves the best: 1, 1/2; d_max is 1.
    known = attack_optimality(both, known=[5.0, 0.5])
    assert known == pytest.approx({"a": 0.0, "b": 0.0 - 0.0})
    known = attack_optimality({"a": [1.0, 4.0]}, known=[0.5, 2.0])
    # Best area 5/4, worst 2, a has 3/2.
    assert known == pytest.approx({"a": 1 - (3 / 2 - 5 / 4) / (2 - 5 / 4)})


def test_examples_that_nobody_breaks_do_not_count_against_anybody():
    found = attack_optimality({"a": [1.0, 2.0, INF], "b": [2.0, 2.0, INF]})
    # To d_max 2: best (1 + 2 + 2)/3, worst 2.
    assert found == pytest.approx({"a": 1.0, "b": 0.0})


def test_uniform_distances_tend_to_the_closed_form():
    """Best uniform in [0, 1], the attack twice as far: 1/2."""
    best = (np.arange(20_000) + 0.5) / 20_000
    found = attack_optimality({"twice": 2 * best}, known=best)
    # min(2u, 1) has mean 3/4: 1 - (3/4 - 1/2) / (1 - 1/2).
    assert found["twice"] == pytest.approx(0.5, abs=1e-3)
    # The trapezoid rule of the paper's code gives the same.
    assert found["twice"] == pytest.approx(
        by_trapezoids(2 * best, best), abs=1e-3
    )


def by_trapezoids(distances, best):
    def area(values):
        places, counts = np.unique(values.clip(max=best.max()), return_counts=1)
        return np.trapezoid(1 - counts.cumsum() / len(values), places)

    worst = np.count_nonzero(best) / len(best) * best.max()
    return 1 - (area(distances) - area(best)) / (worst - area(best))


def test_nothing_to_gain_is_not_a_number():
    assert math.isnan(attack_optimality({"a": [0.0, 0.1, 0.1, 0.1]})["a"])
    assert math.isnan(attack_optimality({"a": [0.0, INF]})["a"])
    assert math.isnan(attack_optimality({"a": [0.0]})["a"])


def test_what_is_refused():
    for wrong in ([-1.0], [math.nan], [], [[1.0]], "near"):
        with pytest.raises(ValueError, match="must be a list of numbers >= 0"):
            attack_optimality({"a": wrong})
    with pytest.raises(ValueError, match="at least one attack"):
        attack_optimality({})
    with pytest.raises(ValueError, match="same examples. Received.*'b': 2"):
        attack_optimality({"a": [1.0], "b": [1.0, 2.0]})
    # The image itself is no adversarial example.
    with pytest.raises(ValueError, match="has distance infinity. Received"):
        attack_optimality({"a": [0.0, 1.0], "b": [0.5, 1.0]})
    with pytest.raises(ValueError, match="has distance infinity. Received"):
        attack_optimality({"a": [0.5, 1.0]}, known=[0.0, 1.0])
    two = {"a": [1.0], "b": [2.0]}
    with pytest.raises(ValueError, match="at most 2000 .*'b': 2001"):
        attack_optimality(two, passes={"a": 2000, "b": 2001})
    with pytest.raises(ValueError, match=r"every attack. Received.*\['b'\]"):
        attack_optimality(two, passes={"a": 2000})
    attack_optimality(two, passes={"a": 2000, "b": 3})
