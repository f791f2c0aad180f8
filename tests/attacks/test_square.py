import keras
import numpy as np
import pytest
from keras import ops

import keras_robust as kr
from keras_robust.attacks.engine.batches import as_tensors
from keras_robust.attacks.engine.randomness import RowDraws
from keras_robust.attacks.engine.search import Batch
from keras_robust.attacks.engine.search import Run
from keras_robust.attacks.square_proposals import two_hills
from keras_robust.attacks.square_proposals import window_sizes
from keras_robust.attacks.square_proposals import windows
from tests.helpers import norms


def test_the_published_schedule():
    """Side of the window for a 32x32 image over 10,000 queries, p = 0.8."""
    side = window_sizes(10_000, 0.8, 32, 32, 1)
    halvings = {
        **{0: 0, 10: 0, 11: 1, 50: 1, 51: 2, 200: 2, 201: 3, 500: 3},
        **{501: 4, 1000: 4, 1001: 5, 2001: 6, 4001: 7, 6001: 8, 8001: 9},
    }
    for query, halved in halvings.items():
        expected = max(round((0.8 / 2**halved * 1024) ** 0.5), 1)
        assert side[query] == expected, query
    # Fewer queries: the same schedule, faster.
    np.testing.assert_array_equal(
        window_sizes(1000, 0.8, 32, 32, 1), side[::10]
    )


def test_windows_reach_every_pixel_and_stay_inside():
    tables = windows(0, 0, 3000, 0.8, (7, 9, 2), "linf")
    _, side, *places = tables["windows"].T
    seen = np.zeros((7, 9), bool)
    for s, row, column in zip(side, *places[:2], strict=True):
        assert 0 <= row and row + s <= 7 and 0 <= column and column + s <= 9
        seen[row : row + s, column : column + s] |= s == 1
    assert seen.all()
    tables = windows(0, 0, 3000, 0.8, (7, 9, 2), "linf", edges=False)
    _, side, row, column = tables["windows"].T[:4]
    smaller = side < 7
    assert (row + side)[smaller].max() == 6
    assert (column + side)[smaller].max() == 8
    assert set(np.unique(tables["signs"])) == {-1.0, 1.0}


def test_two_hills():
    pattern = two_hills(5)
    assert np.linalg.norm(pattern) == pytest.approx(1)
    assert (pattern[:2] > 0).all() and (pattern[2:] < 0).all()
    # The peaks are where the rectangles' middles are.
    assert pattern.argmax() == 1 * 5 + 2 and pattern.argmin() == 3 * 5 + 2


@pytest.mark.parametrize("norm, epsilon", [("l2", 0.8), ("linf", 0.1)])
@pytest.mark.compiles_much
def test_promises(varied, norm, epsilon):
    model, x, y = varied
    options = {"queries": 40, "seed": 0}
    attack = kr.SquareAttack(norm, epsilon, **options)
    result = attack.run(model, x, y, scored=True)
    x_adv = result["x"]
    assert x_adv.min() >= 0 and x_adv.max() <= 1
    assert norms(x_adv - x, norm).max() <= epsilon * (1 + 1e-6)
    says = ops.convert_to_numpy(model(x_adv, training=False)).argmax(-1)
    np.testing.assert_array_equal(says != y, result["success"])
    clean = ops.convert_to_numpy(model(x, training=False)).argmax(-1)
    assert ((says != y) & (clean == y)).any()
    again = kr.SquareAttack(norm, epsilon, batch_size=4, **options)
    np.testing.assert_allclose(again(model, x, y), x_adv, atol=1e-5)


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.slow_on_jax
def test_every_query_only_raises_the_loss(varied, norm):
    model, x, y = varied
    attack = kr.SquareAttack(norm, 0.2, queries=30, early_stop=False, seed=0)
    problem = attack.prepare(model, x, y)
    loop, index = attack.loop(problem, Run()), np.arange(len(x))
    batch = Batch(index, RowDraws(0, 0).for_rows(index), None)
    inputs = as_tensors(attack.inputs(problem, Run(), batch))
    state = loop.init(inputs)
    losses = [ops.convert_to_numpy(state.rows["best"].loss)]
    for _ in range(30):
        state = loop.step(inputs, state)
        losses.append(ops.convert_to_numpy(state.rows["best"].loss))
    rise = np.diff(losses, axis=0)
    # A margin is larger where the label loses, so a success never costs.
    assert (rise >= 0).all()
    assert (rise > 0).any(0).mean() > 0.8


@pytest.mark.compiles_much
def test_it_needs_no_gradient(linear_problem):
    model, x, y = linear_problem
    inputs = keras.Input(x.shape[1:])
    rounded = keras.layers.Lambda(lambda z: ops.round(z * 20) / 20)(inputs)
    hidden = keras.Model(inputs, model(rounded))
    options = {"norm": "linf", "epsilon": 0.2}
    blind = kr.PGDAttack(**options, steps=10).run(hidden, x, y, scored=True)
    found = kr.SquareAttack(**options, queries=300, seed=0).run(
        hidden, x, y, scored=True
    )
    assert found["success"].mean() > blind["success"].mean() + 0.3


def test_errors(linear_problem):
    for wrong in (
        {"norm": "l1"},
        {"share": 0},
        {"epsilon": -1},
        {"queries": 0},
        {"loss": "x"},
    ):
        with pytest.raises(ValueError, match="Received"):
            kr.SquareAttack(**wrong)
    model, x, y = linear_problem
    inputs = keras.Input((16,))
    flat = keras.Model(inputs, model(keras.layers.Reshape((4, 4, 1))(inputs)))
    with pytest.raises(ValueError, match="images.*Received"):
        kr.SquareAttack(queries=2)(flat, x.reshape(60, 16), y)
