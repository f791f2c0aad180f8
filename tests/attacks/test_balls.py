import numpy as np
import pytest
from hypothesis import example
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from keras import ops

from keras_robust.attacks.balls import L2Ball
from keras_robust.attacks.balls import LinfBall
from keras_robust.attacks.balls import add_towards
from keras_robust.attacks.balls import l2_norm
from keras_robust.attacks.engine.randomness import RowDraws
from keras_robust.attacks.l0_ball import L0Ball
from keras_robust.attacks.l1_ball import L1Ball
from keras_robust.attacks.norms import get_ball
from tests.helpers import norms


def to_numpy(x):
    return ops.convert_to_numpy(x)


def tensor(x):
    return ops.convert_to_tensor(np.asarray(x, "float32"))


@pytest.mark.parametrize("scale", [1.0, 1e-8, 1e-24, 1e-36])
def test_unit_has_no_floor(scale, rng):
    gradient = rng.normal(size=(5, 4, 4, 1)).astype("float32") * scale
    unit = to_numpy(L2Ball.unit(tensor(gradient)))
    np.testing.assert_allclose(norms(unit, "l2"), 1, rtol=1e-5)
    cosine = (unit * gradient / scale).sum((1, 2, 3)) / norms(
        gradient / scale, "l2"
    )
    np.testing.assert_allclose(cosine, 1, rtol=1e-4)


@pytest.mark.parametrize("ball", [L2Ball, LinfBall])
def test_zero_gradient_gives_zero(ball):
    assert not to_numpy(ball.unit(tensor(np.zeros((2, 3))))).any()
    # And dead entries stay where they are.
    assert to_numpy(LinfBall.unit(tensor([[0.0, -3.0]]))).tolist() == [[0, -1]]


def test_l2_norm_where_squares_underflow():
    x = np.full((1, 64), 1e-24)
    assert to_numpy(l2_norm(tensor(x)))[0] == pytest.approx(8e-24, rel=1e-5)


def test_shrink_clips_and_does_not_normalize(rng):
    delta = rng.normal(size=(4, 7)).astype("float32")
    length = norms(delta, "l2")
    shrunk = L2Ball.project(tensor(delta), tensor(length * [2, 1.1, 0.5, 0]))
    shrunk = to_numpy(shrunk)
    np.testing.assert_allclose(shrunk[:2], delta[:2], rtol=1e-6)
    np.testing.assert_allclose(shrunk[2], delta[2] / 2, rtol=1e-5)
    assert not shrunk[3].any()
    cube = to_numpy(LinfBall.project(tensor(delta), tensor([0.1] * 4)))
    np.testing.assert_array_equal(cube, np.clip(delta, -0.1, np.float32(0.1)))


@settings(deadline=None, max_examples=30)
@given(
    # Frameworks take subnormal numbers for zero.
    st.floats(-3, 3, width=32, allow_subnormal=False),
    st.floats(-1, 1, width=32, allow_subnormal=False),
    st.integers(-12, 0),
)
@example(center=2.6334372397243942e-20, delta=0.25, exponent=-12)
def test_add_towards_never_overshoots(center, delta, exponent):
    center = np.full((1, 3), center, "float32")
    delta = np.full((1, 3), delta * 10.0**exponent, "float32")
    x = to_numpy(add_towards(tensor(center), tensor(delta)))
    # In float64, so that the difference is exact; float32 sees it rounded.
    moved = np.abs(x.astype("float64") - center)
    assert (moved <= np.abs(delta.astype("float64")) * (1 + 2**-23)).all()
    assert np.abs(x - (center + delta)).max() <= 1e-6


def test_l2_sample_is_uniform_in_the_ball():
    dimension = 64
    noise = L2Ball.noise(RowDraws(0, 0).for_rows(np.arange(4000)), (4000, 8, 8))
    radius = norms(to_numpy(L2Ball.sample(noise)), "l2")
    assert radius.max() <= 1 + 1e-6
    # Mean d / (d + 1), standard deviation 0.015 of a single draw.
    assert radius.mean() == pytest.approx(dimension / (dimension + 1), abs=1e-3)


def test_masked_sample_counts_free_entries():
    mask = np.zeros((8, 8), "float32")
    mask[0, :2] = 1
    noise = L2Ball.noise(RowDraws(0, 0).for_rows(np.arange(4000)), (4000, 8, 8))
    mask_of_all = tensor(np.broadcast_to(mask, (4000, 8, 8)))
    point = to_numpy(L2Ball.sample(noise, mask_of_all))
    assert not point[:, mask == 0].any()
    assert norms(point, "l2").mean() == pytest.approx(2 / 3, abs=0.02)


def test_l0_sample_is_one_uniform_entry():
    noise = L0Ball.noise(RowDraws(0, 0).for_rows(np.arange(4000)), (4000, 5))
    point = to_numpy(L0Ball.sample(noise))
    assert ((point != 0).sum(1) == 1).all()
    np.testing.assert_allclose((point != 0).mean(0), 1 / 5, atol=0.03)
    moved = point.sum(1)
    assert moved.mean() == pytest.approx(0, abs=0.03)
    assert moved.var() == pytest.approx(1 / 3, abs=0.03)


def test_linf_sample_fills_the_cube():
    noise = LinfBall.noise(RowDraws(0, 0).for_rows(np.arange(2000)), (2000, 5))
    point = to_numpy(LinfBall.sample(noise))
    assert np.abs(point).max() <= 1
    assert np.abs(point.mean(0)).max() < 0.06
    np.testing.assert_allclose(point.var(0), 1 / 3, atol=0.03)


@pytest.mark.parametrize("norm", ["l2", "L2", 2, "2"])
def test_names_of_l2(norm):
    assert get_ball(norm) is L2Ball


@pytest.mark.parametrize("norm", ["linf", np.inf, float("inf"), "inf"])
def test_names_of_linf(norm):
    assert get_ball(norm) is LinfBall


@pytest.mark.parametrize("norm", ["l1", "L1", 1, "1"])
def test_names_of_l1(norm):
    assert get_ball(norm) is L1Ball
    with pytest.raises(ValueError, match="'l2'.*Received"):
        get_ball(norm, ("l2", "linf"))


@pytest.mark.parametrize("norm", ["l3", 3, None, True])
def test_unknown_norm(norm):
    with pytest.raises(ValueError, match="norm.*Received"):
        get_ball(norm)
