import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from keras import ops

import keras_robust as kr
from keras_robust import backend
from keras_robust.attacks.objectives import log_odds
from tests.helpers import make_cnn
from tests.helpers import make_linear
from tests.helpers import mostly_slow
from tests.helpers import norms

WIDE = (-100.0, 100.0)


@pytest.fixture
def binary(rng):
    """A linear model of two classes, data, and its weight vector."""
    weights = rng.normal(size=(10, 2))
    model = make_linear(weights, rng.normal(size=2))
    x = rng.normal(size=(40, 10)).astype("float32")
    return model, x, rng.integers(0, 2, 40), weights[:, 1] - weights[:, 0]


@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
def test_linear_model_exact_l2(binary, loss):
    model, x, y, w = binary
    attack = kr.PGDAttack(
        epsilon=0.7, step_size=0.3, steps=6, value_range=WIDE, loss=loss
    )
    sign = np.where(y == 0, 1, -1)[:, None]
    exact = x + 0.7 * sign * w / np.linalg.norm(w)
    np.testing.assert_allclose(attack(model, x, y), exact, atol=1e-5)


def test_linear_model_exact_linf(binary):
    model, x, y, w = binary
    attack = kr.PGDAttack("linf", 0.3, 0.1, 5, value_range=WIDE)
    sign = np.where(y == 0, 1, -1)[:, None]
    exact = x + 0.3 * sign * np.sign(w)
    np.testing.assert_allclose(attack(model, x, y), exact, atol=1e-5)


@pytest.mark.parametrize("norm, dual", [("l2", 2), ("linf", 1)])
def test_linear_model_exact_robust_accuracy(binary, norm, dual):
    """Robust accuracy of a linear rule is P(margin > epsilon ||w||_dual)."""
    model, x, y, w = binary
    logits = ops.convert_to_numpy(model(x))
    margin = np.where(y == 1, 1, -1) * (logits[:, 1] - logits[:, 0])
    for epsilon in (0.1, 0.3, 0.6):
        attack = kr.PGDAttack(norm, epsilon, steps=5, value_range=WIDE)
        attacked = ops.convert_to_numpy(model(attack(model, x, y))).argmax(-1)
        exact = margin > epsilon * np.linalg.norm(w, ord=dual)
        np.testing.assert_array_equal(attacked == y, exact)


def test_one_step_is_the_formula(cnn, cnn_data):
    x, y = cnn_data
    _, gradient = backend.value_and_gradient(
        lambda z: (
            log_odds(ops.convert_to_tensor(y), cnn(z, training=False)),
            0,
        ),
        ops.convert_to_tensor(x),
    )
    gradient = ops.convert_to_numpy(gradient)
    length = np.sqrt((gradient**2).sum((1, 2, 3), keepdims=True))
    step = np.clip(x + 0.2 * gradient / length, 0, 1)
    ours = kr.PGDAttack(epsilon=1.0, step_size=0.2, steps=1)(cnn, x, y)
    np.testing.assert_allclose(ours, step, atol=1e-6)


def test_targeted_moves_the_other_way(binary):
    model, x, y, w = binary
    options = {"epsilon": 0.7, "steps": 4, "value_range": WIDE}
    away = kr.PGDAttack(**options)(model, x, y)
    to_other = kr.PGDAttack(targeted=True, **options)(model, x, 1 - y)
    np.testing.assert_allclose(away, to_other, atol=1e-5)


@settings(deadline=None, max_examples=25)
@given(
    norm=st.sampled_from(["l2", "linf"]),
    epsilon=st.floats(1e-4, 3),
    random_start=st.booleans(),
    seed=st.integers(0, 99),
    batch_size=st.sampled_from([4, 21]),
)
@pytest.mark.compiles_much
def test_ball_box_seed_and_batch_split(
    cnn, cnn_data, norm, epsilon, random_start, seed, batch_size
):
    x, y = cnn_data
    options = {
        "norm": norm,
        "epsilon": epsilon,
        "steps": 3,
        "random_start": random_start,
        "targeted": norm == "linf",
        "seed": seed,
    }
    x_adv = kr.PGDAttack(**options, batch_size=21)(cnn, x, y)
    assert x_adv.dtype == x.dtype and x_adv.shape == x.shape
    assert x_adv.min() >= 0 and x_adv.max() <= 1
    assert (norms(x_adv - x, norm) <= epsilon * (1 + 1e-6)).all()
    again = kr.PGDAttack(**options, batch_size=batch_size)(cnn, x, y)
    np.testing.assert_allclose(again, x_adv, atol=2e-6)


@pytest.mark.parametrize("value_range", [(-2.118, 2.64), (0, 255), (-1, 0)])
def test_other_boxes(value_range, cnn, rng):
    low, high = value_range
    x = rng.uniform(low, high, (6, 6, 6, 2)).astype("float32")
    x[:3] = np.where(x[:3] > (low + high) / 2, high, low)
    for norm, epsilon in (("l2", 0.5), ("linf", 0.01)):
        attack = kr.PGDAttack(norm, epsilon, value_range=value_range, steps=3)
        x_adv = attack(cnn, x, np.zeros(6, int))
        assert x_adv.min() >= np.float32(low)
        assert x_adv.max() <= np.float32(high)
        exact = x_adv.astype("float64") - x
        length = np.linalg.norm(
            exact.reshape(6, -1), ord=2 if norm == "l2" else np.inf, axis=1
        )
        assert (length <= epsilon * (1 + 1e-6)).all()


def test_batch_size_does_not_change_the_step(rng):
    """The loss is summed: a confident example moves as far in any batch."""
    model = make_linear(11 * np.eye(2))
    x = np.repeat(np.array([[1.0, 0.0]], "float32"), 2000, axis=0)
    attack = kr.PGDAttack(epsilon=0.1, steps=1, step_size=0.05, batch_size=2000)
    alone = attack(model, x[:1], np.zeros(1, int))
    crowd = attack(model, x, np.zeros(2000, int))
    np.testing.assert_allclose(crowd, np.repeat(alone, 2000, axis=0), atol=1e-7)
    assert norms(alone - x[:1], "l2")[0] > 0.03


@pytest.mark.parametrize("gap", [20, 80])
def test_confident_models_do_not_stop_the_attack(gap):
    model = make_linear(gap * np.eye(2))
    x = np.array([[1.0, 0.0]], "float32")
    x_adv = kr.PGDAttack(epsilon=0.5, steps=3)(model, x, [0])
    assert norms(x_adv - x, "l2")[0] == pytest.approx(0.5, rel=1e-5)


@pytest.mark.compiles_much
def test_epsilon_zero_and_dead_models_give_the_input_back(cnn, cnn_data):
    x, y = cnn_data
    for norm in ("l2", "linf"):
        zero = kr.PGDAttack(norm, 0.0, random_start=True, seed=0)(cnn, x, y)
        np.testing.assert_array_equal(zero, x)
    dead = make_linear(np.zeros((72, 3)), shape=(6, 6, 2))
    np.testing.assert_array_equal(kr.PGDAttack(steps=3)(dead, x, y), x)


def test_state_is_untouched(cnn_data):
    x, y = cnn_data
    model = make_cnn()
    model.layers[1].trainable = False
    before = model.get_weights()
    flags = [layer.trainable for layer in model.layers]
    seeds = [ops.convert_to_numpy(v) for v in model.non_trainable_variables]
    kr.PGDAttack(steps=3, random_start=True, restarts=2)(model, x, y)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert flags == [layer.trainable for layer in model.layers]
    for old, new in zip(seeds, model.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(old, ops.convert_to_numpy(new))


def test_new_weights_are_seen(cnn_data):
    """A compiled attack must not keep the weights it was compiled with."""
    x, y = cnn_data
    model = make_cnn()
    attack = kr.PGDAttack(epsilon=0.5, steps=3)
    first = attack(model, x, y)
    model.set_weights(
        [-w for w in model.get_weights()[:2]] + model.get_weights()[2:]
    )
    second = attack(model, x, y)
    fresh = make_cnn()
    fresh.set_weights(model.get_weights())
    np.testing.assert_allclose(second, attack(fresh, x, y), atol=1e-6)
    assert np.abs(second - first).max() > 1e-3


def count_traces(calls):
    def loss(y, logits):
        calls.append(1)
        return log_odds(y, logits)

    return loss


def test_compiled_once(cnn, cnn_data):
    x, y = cnn_data
    calls = []
    options = {"loss": count_traces(calls), "steps": 3, "batch_size": 8}
    attack = kr.PGDAttack(epsilon=0.5, **options)
    attack(cnn, x[:16], y[:16])
    traced = len(calls)
    # A partial batch, another radius, another object with the same settings.
    attack(cnn, x, y)
    kr.PGDAttack(epsilon=0.25, **options)(cnn, x[:16], y[:16])
    if backend.name == "torch":
        # Eager: one forward pass per step and batch, and no more.
        assert traced == 2 * 3 and len(calls) == 2 * 3 + 3 * 3 + 2 * 3
    else:
        assert len(calls) == traced


def test_mask_is_applied_before_the_norm(cnn, cnn_data):
    x, y = cnn_data
    mask = np.zeros((6, 6, 2), "float32")
    mask[:3] = 1
    for options in ({}, {"random_start": True, "seed": 0}):
        attack = kr.PGDAttack(
            epsilon=0.3, step_size=0.3, steps=1, mask=mask, **options
        )
        x_adv = attack(cnn, np.clip(x, 0.4, 0.6), y)
        step = x_adv - np.clip(x, 0.4, 0.6)
        assert not step[:, mask == 0].any()
    whole = kr.PGDAttack(epsilon=0.3, step_size=0.3, steps=1, mask=mask)
    step = whole(cnn, np.full_like(x, 0.5), y) - 0.5
    np.testing.assert_allclose(norms(step, "l2"), 0.3, rtol=1e-5)


def test_epsilon_per_example(cnn, cnn_data):
    x, y = cnn_data
    epsilon = np.linspace(0, 1, len(x))
    many = kr.PGDAttack(epsilon=epsilon, steps=3, batch_size=8)(cnn, x, y)
    for i in (0, 9, 20):
        one = kr.PGDAttack(epsilon=epsilon[i], steps=3)(
            cnn, x[i : i + 1], y[i : i + 1]
        )
        np.testing.assert_allclose(many[i : i + 1], one, atol=1e-6)


def right(model, x, y):
    return ops.convert_to_numpy(model(x, training=False)).argmax(-1) == y


@pytest.mark.slow_on_jax
def test_more_effort_never_helps_the_defender(cnn, cnn_data):
    x, y = cnn_data
    options = {"epsilon": 0.4, "steps": 6, "random_start": True, "seed": 5}
    one = right(cnn, kr.PGDAttack(**options)(cnn, x, y), y)
    restarts = kr.PGDAttack(**options, restarts=4)(cnn, x, y)
    best = kr.PGDAttack(**options, keep_best=True)(cnn, x, y)
    assert not (right(cnn, restarts, y) & ~one).any()
    assert not (right(cnn, best, y) & ~one).any()


def test_restarts_keep_the_best_per_example(cnn, cnn_data):
    """Not the last one, which a bitwise `~` on bytes would keep."""
    x, y = cnn_data
    options = {"epsilon": 0.3, "steps": 2, "random_start": True, "seed": 1}
    run = kr.PGDAttack(**options, restarts=3).run(cnn, x, y, scored=True)
    losses = []
    for restarts in (1, 2, 3):
        part = kr.PGDAttack(**options, restarts=restarts)
        losses.append(part.run(cnn, x, y, scored=True))
    for fewer, more in zip(losses, losses[1:], strict=False):
        worse = more["success"] == fewer["success"]
        assert (more["success"] >= fewer["success"]).all()
        assert (more["loss"][worse] >= fewer["loss"][worse] - 1e-6).all()
    np.testing.assert_array_equal(run["x"], losses[-1]["x"])
    # Some examples come from the first start, some from a later one.
    moved = np.abs(losses[2]["x"] - losses[0]["x"]).max((1, 2, 3)) > 1e-4
    assert moved.any() and not moved.all()


def test_keep_best_looks_at_the_last_point_too(cnn, cnn_data):
    """`steps=1` must not give the clean input back."""
    x, y = cnn_data
    attack = kr.PGDAttack(epsilon=0.3, step_size=0.3, steps=1, keep_best=True)
    result = attack.run(cnn, x, y, scored=True)
    plain = kr.PGDAttack(epsilon=0.3, step_size=0.3, steps=1).run(
        cnn, x, y, scored=True
    )
    better = plain["loss"] >= result["loss"]
    np.testing.assert_allclose(result["x"][better], plain["x"][better])
    assert norms(result["x"] - x, "l2").max() > 0.1


def test_early_stop(cnn, cnn_data):
    x, y = cnn_data
    options = {"epsilon": 1.0, "step_size": 0.05, "steps": 30}
    stopped = kr.PGDAttack(**options, early_stop=True).run(
        cnn, x, y, scored=True
    )
    full = kr.PGDAttack(**options)(cnn, x, y)
    assert stopped["success"].sum() >= (~right(cnn, full, y)).sum()
    # An example that was wrong from the start has not moved.
    wrong = ~right(cnn, x, y)
    assert wrong.any()
    np.testing.assert_array_equal(stopped["x"][wrong], x[wrong])
    assert norms(stopped["x"] - x, "l2").mean() < norms(full - x, "l2").mean()


@pytest.mark.parametrize(
    "shape", mostly_slow([(5,), (4, 3), (4, 4, 2), (2, 3, 2, 2)], (5,))
)
def test_any_rank(shape, rng):
    size = int(np.prod(shape))
    model = make_linear(rng.normal(size=(size, 3)), shape=shape)
    x = rng.random((7, *shape), dtype="float32")
    for norm in ("l2", "linf"):
        attack = kr.PGDAttack(norm, 0.2, steps=2, random_start=True, seed=0)
        x_adv = attack(model, x, np.arange(7) % 3)
        assert (norms(x_adv - x, norm) <= 0.2 * (1 + 1e-6)).all()


def test_kinds_and_dtypes(cnn, cnn_data):
    x, y = cnn_data
    attack = kr.PGDAttack(epsilon=0.3, steps=2)
    expected = attack(cnn, x, y)
    tensor = attack(cnn, ops.convert_to_tensor(x), ops.convert_to_tensor(y))
    assert ops.is_tensor(tensor)
    np.testing.assert_allclose(
        ops.convert_to_numpy(tensor), expected, atol=1e-6
    )
    doubles = np.random.default_rng(0).random(x.shape)
    for radius in (0.3, 1e-3):
        x_adv = kr.PGDAttack(epsilon=radius, steps=2)(cnn, doubles, y)
        assert x_adv.dtype == np.float64
        flat = (x_adv - doubles).reshape(len(x), -1)
        assert np.linalg.norm(flat, axis=1).max() <= radius * (1 + 1e-6)
        assert x_adv.min() >= 0 and x_adv.max() <= 1


@pytest.mark.parametrize(
    "jit_compile",
    [
        pytest.param(
            True,
            # torch.compile builds C++ for a minute.
            marks=pytest.mark.slow if backend.name == "torch" else (),
        ),
        pytest.param(False, marks=pytest.mark.slow_on_jax),
    ],
)
def test_forced_compilation_agrees(binary, jit_compile):
    model, x, y, _ = binary
    options = {"epsilon": 0.3, "steps": 2, "value_range": WIDE}
    auto = kr.PGDAttack(**options)(model, x, y)
    forced = kr.PGDAttack(**options, jit_compile=jit_compile)(model, x, y)
    np.testing.assert_allclose(forced, auto, atol=1e-5)


def test_long_loops_run_in_pieces(binary):
    model, x, y, w = binary
    options = {"epsilon": 0.7, "step_size": 0.01, "value_range": WIDE}
    sign = np.where(y == 0, 1, -1)[:, None]
    for steps in (51, 120):
        exact = x + min(0.7, 0.01 * steps) * sign * w / np.linalg.norm(w)
        x_adv = kr.PGDAttack(**options, steps=steps)(model, x, y)
        np.testing.assert_allclose(x_adv, exact, atol=1e-4)


def test_softmax_models_are_attacked_at_their_logits(cnn_data):
    x, y = cnn_data
    plain, softmax = make_cnn(), make_cnn(activation="softmax")
    attack = kr.PGDAttack(epsilon=0.5, steps=3)
    np.testing.assert_allclose(
        attack(softmax, x, y), attack(plain, x, y), atol=1e-6
    )


def test_own_loss(cnn, cnn_data):
    x, y = cnn_data
    ours = kr.PGDAttack(steps=3, loss="margin")(cnn, x, y)

    def loss(y, logits):
        own = ops.take_along_axis(logits, y[:, None], axis=-1)[:, 0]
        others = logits - 1e9 * ops.one_hot(y, 3)
        return ops.max(others, axis=-1) - own

    theirs = kr.PGDAttack(steps=3, loss=loss)(cnn, x, y)
    np.testing.assert_allclose(theirs, ours, atol=1e-6)


def test_the_reports_linf_bug_is_absent(cnn, cnn_data):
    """AM207 clipped the step, not the image, around the image: 1.25 at .25."""
    x, y = cnn_data
    x_adv = kr.PGDAttack("linf", 0.25, 0.1, 40)(cnn, x, y)
    assert np.abs(x_adv - x).max() <= 0.25 * (1 + 1e-6)
    assert x_adv.min() >= 0 and x_adv.max() <= 1


def test_same_seed_same_result_and_no_seed_another(cnn, cnn_data):
    x, y = cnn_data
    options = {"epsilon": 0.3, "steps": 0, "random_start": True}
    first = kr.PGDAttack(**options, seed=7)
    np.testing.assert_array_equal(first(cnn, x, y), first(cnn, x, y))
    fresh = kr.PGDAttack(**options)
    assert np.abs(fresh(cnn, x, y) - fresh(cnn, x, y)).max() > 0


def test_configuration_round_trip():
    attack = kr.PGDAttack(
        "linf", [0.1, 0.2], steps=3, mask=np.ones((2, 2)), value_range=(-1, 1)
    )
    config = attack.get_config()
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(attack)
    )
    assert isinstance(again, kr.PGDAttack)
    assert again.get_config() == config
    assert "epsilon=[0.1" in repr(attack)
