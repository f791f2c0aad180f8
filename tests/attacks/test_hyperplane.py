import numpy as np
import pytest
from keras import ops
from scipy.optimize import brentq
from scipy.optimize import linprog

from keras_robust.attacks.hyperplane import step_to_hyperplane
from tests.helpers import mostly_slow


def ours(norm, x, normal, offset):
    tensors = [
        ops.convert_to_tensor(np.asarray(a, "float32"))
        for a in (x, normal, offset)
    ]
    return ops.convert_to_numpy(step_to_hyperplane(norm, *tensors, (0, 1)))


def problems(rng, count=12, size=30):
    x = rng.uniform(0, 1, (count, size))
    x[: count // 2] = np.round(x[: count // 2])
    normal = rng.normal(size=(count, size))
    normal[:, 0] = 0
    # A plane through another point of the box: it can be reached.
    other = rng.uniform(0, 1, (count, size))
    return x, normal, (normal * other).sum(-1)


def length_by_linear_program(norm, x, normal, offset):
    """Exact smallest norm: d = p - q with p, q >= 0, and for L-inf t."""
    size = len(x)
    equality = np.concatenate([normal, -normal])
    bounds = [(0, 1 - v) for v in x] + [(0, v) for v in x]
    if norm == "l1":
        found = linprog(
            np.ones(2 * size),
            A_eq=equality[None],
            b_eq=[offset - normal @ x],
            bounds=bounds,
        )
        return found.fun
    rows = np.concatenate(
        [np.eye(size), np.eye(size), -np.ones((size, 1))], axis=1
    )
    found = linprog(
        np.append(np.zeros(2 * size), 1),
        A_ub=rows,
        b_ub=np.zeros(size),
        A_eq=np.append(equality, 0)[None],
        b_eq=[offset - normal @ x],
        bounds=[*bounds, (0, None)],
    )
    return found.fun


@pytest.mark.parametrize("norm, order", [("l1", 1), ("linf", np.inf)])
def test_shortest_step_by_linear_programming(rng, norm, order):
    x, normal, offset = problems(rng)
    steps = ours(norm, x, normal, offset)
    for one in zip(x, normal, offset, steps, strict=True):
        exact = length_by_linear_program(norm, *one[:3])
        length = np.linalg.norm(one[3], ord=order)
        assert length == pytest.approx(exact, rel=1e-4, abs=1e-5)


def test_shortest_l2_step_by_its_multiplier(rng):
    x, normal, offset = problems(rng)
    steps = ours("l2", x, normal, offset)
    for point, w, b, step in zip(x, normal, offset, steps, strict=True):

        def clipped(r, point=point, w=w):
            return np.clip(r * w, -point, 1 - point)

        def beyond(r, point=point, w=w, b=b):
            return w @ (point + clipped(r, point, w)) - b

        r = brentq(beyond, -1e6, 1e6)
        np.testing.assert_allclose(step, clipped(r), atol=1e-5)


@pytest.mark.parametrize("norm", mostly_slow(["l1", "l2", "linf"], "linf"))
def test_on_the_plane_and_in_the_box(rng, norm):
    x, normal, offset = problems(rng, 40, 100)
    reached = x + ours(norm, x, normal, offset)
    assert reached.min() >= -1e-6 and reached.max() <= 1 + 1e-6
    np.testing.assert_allclose((normal * reached).sum(-1), offset, atol=1e-4)


@pytest.mark.parametrize("norm", mostly_slow(["l1", "l2", "linf"], "linf"))
def test_out_of_reach_goes_as_far_as_the_box(norm):
    x = np.full((1, 3), 0.25)
    step = ours(norm, x, [[1, -2, 0]], [100.0])
    np.testing.assert_allclose(step, [[0.75, -0.25, 0]], atol=1e-6)


@pytest.mark.parametrize("norm", mostly_slow(["l1", "l2", "linf"], "linf"))
def test_a_tiny_or_zero_normal(norm):
    x = np.full((2, 4), 0.5)
    normal = np.array([[1e-30, 0, 0, 0], [0, 0, 0, 0]])
    step = ours(norm, x, normal, [0.6e-30, 0.0])
    np.testing.assert_allclose(step[0], [0.1, 0, 0, 0], atol=1e-5)
    assert not step[1].any()
