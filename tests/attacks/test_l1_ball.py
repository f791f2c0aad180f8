import numpy as np
import pytest
from keras import ops

from keras_robust.attacks.engine.randomness import RowDraws
from keras_robust.attacks.l1_ball import L1Ball
from keras_robust.attacks.l1_ball import soft_threshold_into


def simplex_projection(delta, epsilon):
    """Duchi et al. 2008, figure 1, by sorting, in float64."""
    size = np.abs(delta)
    if size.sum() <= epsilon:
        return delta
    ranked = np.sort(size)[::-1]
    totals = np.cumsum(ranked) - epsilon
    rho = np.nonzero(ranked > totals / np.arange(1, len(size) + 1))[0][-1]
    theta = totals[rho] / (rho + 1)
    return np.sign(delta) * np.maximum(size - theta, 0)


def test_projection_is_duchis(rng):
    delta = rng.normal(size=(30, 50))
    delta[0] *= 1e-3
    epsilon = rng.uniform(0.1, 20, 30)
    ours = L1Ball.project(
        ops.convert_to_tensor(delta.astype("float32")),
        ops.convert_to_tensor(epsilon.astype("float32")),
    )
    exact = [
        simplex_projection(*pair) for pair in zip(delta, epsilon, strict=True)
    ]
    np.testing.assert_allclose(ops.convert_to_numpy(ours), exact, atol=2e-6)


def test_projection_to_ball_and_box_is_the_nearest_point(rng):
    from scipy.optimize import minimize

    delta = rng.normal(size=6)
    room = rng.uniform(0, 0.8, 6)
    epsilon = 1.0
    # u = p - q with p, q >= 0 makes the L1 norm linear.
    best = minimize(
        lambda v: ((v[:6] - v[6:] - delta) ** 2).sum(),
        np.zeros(12),
        bounds=[(0, r) for r in room] * 2,
        constraints={"type": "ineq", "fun": lambda v: epsilon - v.sum()},
        options={"ftol": 1e-12, "maxiter": 500},
    )
    ours = ops.convert_to_numpy(
        soft_threshold_into(
            ops.convert_to_tensor(delta[None].astype("float32")),
            ops.convert_to_tensor(np.float32([epsilon])),
            ops.convert_to_tensor(room[None].astype("float32")),
        )
    )[0]
    np.testing.assert_allclose(ours, best.x[:6] - best.x[6:], atol=1e-3)
    assert np.abs(ours).sum() <= epsilon * (1 + 1e-6)
    assert (np.abs(ours) <= room + 1e-7).all()


def test_a_sample_is_uniform_in_the_ball():
    dimension = 5
    draws = RowDraws(0, 0).for_rows(np.arange(20_000))
    noise = L1Ball.noise(draws, (20_000, dimension))
    radius = np.abs(ops.convert_to_numpy(L1Ball.sample(noise))).sum(-1)
    # P(radius < r) = r ** d, so the mean is d / (d + 1).
    assert radius.max() <= 1 + 1e-6
    assert radius.mean() == pytest.approx(5 / 6, abs=0.005)
    assert (radius < 0.5).mean() == pytest.approx(0.5**5, abs=0.005)


def test_a_point_of_the_surface_respects_the_mask():
    noise = L1Ball.noise(RowDraws(0, 0).for_rows(np.arange(50)), (50, 4))
    mask = ops.convert_to_tensor(np.float32([1, 0, 1, 0]))
    point = ops.convert_to_numpy(L1Ball.sample_sphere(noise, mask))
    assert not point[:, [1, 3]].any()
    np.testing.assert_allclose(np.abs(point).sum(-1), 1, rtol=1e-5)


def test_unit_moves_the_largest_hundredth(rng):
    gradient = rng.normal(size=(3, 20, 10)).astype("float32")
    gradient[2] = 0
    unit = ops.convert_to_numpy(L1Ball.unit(ops.convert_to_tensor(gradient)))
    assert not unit[2].any()
    for one, step in zip(gradient[:2], unit[:2], strict=True):
        largest = np.argsort(-np.abs(one).ravel())[:2]
        expected = np.zeros(200)
        expected[largest] = np.sign(one.ravel()[largest]) / 2
        np.testing.assert_allclose(step.ravel(), expected, rtol=1e-6)
