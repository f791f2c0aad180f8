"""MALT's order of targets, and the margin of probabilities."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_robust as kr
from keras_robust import backend
from keras_robust.attacks import apgd
from keras_robust.attacks.objectives import get_loss
from keras_robust.attacks.objectives import probability_margin
from tests.helpers import make_linear

DUAL = {"l1": np.inf, "l2": 2, "linf": 1}


@pytest.fixture
def problem(rng):
    """A linear model of six classes, points it gets right, and its weights.

    The columns differ much in length, so that the likeliest wrong class is
    often not the nearest one.
    """
    weights = rng.normal(size=(5, 6)) * np.array([0.1, 0.3, 1, 3, 6, 9])
    x = rng.uniform(0.3, 0.7, (30, 5)).astype("float32")
    bias = -(x.mean(0) @ weights)
    model = make_linear(weights, bias)
    logits = x.astype(float) @ weights.astype("float32") + bias
    return model, x, logits.argmax(-1).astype("int32"), weights, logits


def distances(weights, logits, y, norm, mask=1.0):
    """`(z_y - z_t) / ||w_y - w_t||_q`, infinite for the label itself."""
    rows = np.arange(len(y))
    gap = logits[rows, y][:, None] - logits
    normals = (weights.T[y][:, None] - weights.T[None]) * mask
    size = np.linalg.norm(normals, ord=DUAL[norm], axis=-1)
    size[rows, y] = 1
    found = gap / size
    found[rows, y] = np.inf
    return found


def attack_with_targets(norm, monkeypatch, **options):
    """An attack, and a list that gets the orders it computes."""
    orders, own = [], apgd.nearest_targets

    def recorded(*args, **kwargs):
        orders.append(own(*args, **kwargs))
        return orders[-1]

    monkeypatch.setattr(apgd, "nearest_targets", recorded)
    attack = kr.APGDAttack(
        norm,
        1e-4,
        steps=2,
        loss="targeted_dlr",
        targets_by="malt",
        seed=0,
        **options,
    )
    return attack, orders


@pytest.mark.parametrize("norm", DUAL)
@pytest.mark.compiles_much
def test_order_of_a_linear_model(problem, norm, monkeypatch):
    model, x, y, weights, logits = problem
    attack, orders = attack_with_targets(norm, monkeypatch, targets=3)
    attack(model, x, y, verbose=0)
    expected = np.argsort(distances(weights, logits, y, norm), axis=-1)
    # Once for three runs.
    assert len(orders) == 1
    np.testing.assert_array_equal(orders[0], expected[:, :5])
    likeliest = np.argsort(-logits, axis=-1)[:, 1]
    assert (orders[0][:, 0] != likeliest).mean() > 0.2


@pytest.mark.slow_on_jax
def test_order_with_a_mask_and_in_batches(problem, monkeypatch):
    model, x, y, weights, logits = problem
    mask = np.array([1, 1, 0, 0, 1], "float32")
    attack, orders = attack_with_targets(
        "l2", monkeypatch, targets=2, batch_size=8, mask=mask, restarts=2
    )
    attack(model, x, y, verbose=0)
    expected = distances(weights, logits, y, "l2", mask)
    assert [len(order) for order in orders] == [8, 8, 8, 6]
    np.testing.assert_array_equal(
        np.concatenate(orders), np.argsort(expected, axis=-1)[:, :5]
    )


@pytest.mark.slow_on_jax
def test_one_target_is_enough_where_it_is_the_nearest(rng):
    """The likeliest wrong class is far away, and at a right angle."""
    # Class 1 is 0.1 - u away along the first entry, class 2, whose logit is
    # larger, 0.5 - v along the second.
    model = make_linear(np.array([[0, 10, 0], [0, 0, 0.1]]), [0, -6, -0.1])
    x = 0.5 + rng.uniform(-0.05, 0.05, (30, 2)).astype("float32")
    y = np.zeros(30, "int32")
    nearest = 0.6 - x[:, 0]
    epsilon = float(np.median(nearest))
    broken = {
        order: kr.APGDAttack(
            "l2",
            epsilon,
            steps=20,
            loss="targeted_margin",
            targets=1,
            targets_by=order,
            seed=0,
        ).run(model, x, y, verbose=0, scored=True)["success"]
        for order in ("logits", "malt")
    }
    clear = np.abs(nearest / epsilon - 1) > 0.01
    np.testing.assert_array_equal(
        broken["malt"][clear], nearest[clear] < epsilon
    )
    # Only where the random start is behind the boundary already.
    assert broken["logits"].sum() < broken["malt"].sum() / 2


def test_settings():
    attack = kr.attacks.get_attack("malt", "linf", 0.1)
    assert attack.targets_by == "malt" and attack.targets == 9
    saved = keras.saving.serialize_keras_object(attack)
    restored = keras.saving.deserialize_keras_object(saved)
    assert restored.get_config() == attack.get_config()
    for options in (
        {"targets_by": "malt"},
        {"targets_by": "margin", "loss": "targeted_dlr"},
    ):
        with pytest.raises(ValueError, match="targets_by.*Received"):
            kr.APGDAttack(**options)


@pytest.mark.parametrize("classes", [2, 7])
def test_probability_margin(rng, classes):
    logits = 3 * rng.normal(size=(50, classes))
    y = rng.integers(0, classes, 50).astype("int32")
    e = np.exp(logits - logits.max(-1, keepdims=True))
    p = e / e.sum(-1, keepdims=True)
    own = p[np.arange(50), y]
    others = np.where(np.arange(classes) == y[:, None], -1, p)
    found = probability_margin(
        ops.convert_to_tensor(y), ops.convert_to_tensor(logits, "float32")
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(found),
        np.log(1 - (own - others.max(-1))),
        rtol=1e-4,
        atol=1e-5,
    )
    assert get_loss("probability_margin") is probability_margin


@pytest.mark.parametrize("gap", [20.0, 80.0, 500.0])
def test_gradient_of_the_probability_margin_survives_confidence(gap):
    """Of p_y - p_j it would be zero in float32."""
    logits = ops.convert_to_tensor(np.array([[gap, 1.0, 0.0]], "float32"))
    y = ops.convert_to_tensor(np.zeros(1, "int32"))
    _, gradient = backend.value_and_gradient(
        lambda z: (probability_margin(y, z), 0), logits
    )
    # Twice the likeliest wrong class, once the other.
    share = 2 * np.e / (2 * np.e + 1)
    np.testing.assert_allclose(
        ops.convert_to_numpy(gradient), [[-1, share, 1 - share]], atol=1e-5
    )


def test_apgd_climbs_the_probability_margin(problem):
    model, x, y, *_ = problem
    options = {"steps": 20, "seed": 0}
    found = {
        loss: kr.APGDAttack("l2", 0.2, loss=loss, **options).run(
            model, x, y, verbose=0, scored=True
        )["success"]
        for loss in ("margin", "probability_margin")
    }
    assert found["margin"].any()
    difference = found["margin"] != found["probability_margin"]
    assert difference.sum() <= 2
