import pytest

from keras_robust.attacks import matched_epsilon


@pytest.mark.parametrize(
    "epsilon, over_255", [(0.25, 2.37), (0.5, 4.75), (1.0, 9.49)]
)
def test_equal_volume_on_cifar(epsilon, over_255):
    radius = matched_epsilon(epsilon, "l2", "linf", 3072)
    assert 255 * radius == pytest.approx(over_255, abs=0.006)


def test_known_value():
    assert matched_epsilon(0.5, "l2", "linf", 3072) == pytest.approx(
        0.01861, abs=1e-5
    )


def test_one_dimension_has_one_ball():
    for norm in ("l1", "l2", "linf"):
        assert matched_epsilon(0.3, norm, "linf", 1) == pytest.approx(0.3)


def test_areas_in_the_plane():
    # A disc of radius 1 has area pi, a square of half side r has 4 r^2, a
    # diamond of radius r has 2 r^2.
    assert matched_epsilon(1, "l2", "linf", 2) ** 2 * 4 == pytest.approx(
        3.14159
    )
    assert matched_epsilon(1, "l2", "l1", 2) ** 2 * 2 == pytest.approx(3.14159)


@pytest.mark.parametrize("norm", ["l1", "linf"])
def test_round_trip(norm):
    there = matched_epsilon(0.7, "l2", norm, 100)
    assert matched_epsilon(there, norm, "l2", 100) == pytest.approx(0.7)


@pytest.mark.parametrize(
    "arguments",
    [(-1, "l2", "linf", 3), (1, "l3", "linf", 3), (1, "l2", "linf", 0)],
)
def test_errors(arguments):
    with pytest.raises(ValueError, match="Received"):
        matched_epsilon(*arguments)
