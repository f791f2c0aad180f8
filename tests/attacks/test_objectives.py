import keras
import numpy as np
import pytest
from keras import ops

from keras_robust import backend
from keras_robust.attacks.objectives import dlr
from keras_robust.attacks.objectives import get_loss
from keras_robust.attacks.objectives import log_odds
from keras_robust.attacks.objectives import margin
from keras_robust.attacks.objectives import targeted_dlr


def labels(y):
    return ops.convert_to_tensor(np.asarray(y, "int32"))


def test_softplus_of_log_odds_is_cross_entropy(rng):
    logits = rng.normal(size=(50, 7)).astype("float32") * 3
    y = rng.integers(0, 7, 50)
    ours = ops.softplus(log_odds(labels(y), ops.convert_to_tensor(logits)))
    theirs = keras.losses.sparse_categorical_crossentropy(
        y, logits, from_logits=True
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs), rtol=2e-5
    )


def test_margin(rng):
    logits = np.array([[1.0, 5.0, 2.0], [4.0, 0.0, 3.0]], "float32")
    values = margin(labels([1, 2]), ops.convert_to_tensor(logits))
    assert ops.convert_to_numpy(values).tolist() == [-3.0, 1.0]


@pytest.mark.parametrize("gap", [0.0, 20.0, 80.0, 500.0])
def test_gradient_survives_confidence(gap):
    logits = ops.convert_to_tensor(np.array([[gap, 0.0, 0.0]], "float32"))
    _, gradient = backend.value_and_gradient(
        lambda z: (log_odds(labels([0]), z), 0), logits
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(gradient), [[-1, 0.5, 0.5]], atol=1e-6
    )


def test_names():
    assert get_loss("margin") is margin
    assert get_loss(np.add) is np.add
    with pytest.raises(ValueError, match="loss.*Received"):
        get_loss("hinge")


def test_dlr_is_the_papers_ratio_and_free_of_scale(rng):
    logits = rng.normal(size=(40, 5)).astype("float32")
    y = rng.integers(0, 5, 40).astype("int32")
    target = ((y + 2) % 5).astype("int32")
    ranked = np.sort(logits, axis=-1)[:, ::-1]
    own = logits[np.arange(40), y]
    other = np.where(np.arange(5) == y[:, None], -np.inf, logits).max(-1)
    expected = -(own - other) / (ranked[:, 0] - ranked[:, 2])
    aimed = -(own - logits[np.arange(40), target]) / (
        ranked[:, 0] - (ranked[:, 2] + ranked[:, 3]) / 2
    )
    for scale in (1.0, 1e4, 1e-4):
        z = ops.convert_to_tensor(scale * logits)
        np.testing.assert_allclose(
            ops.convert_to_numpy(dlr(ops.convert_to_tensor(y), z)),
            expected,
            1e-3,
            1e-4,
        )
        ours = targeted_dlr(
            ops.convert_to_tensor(y), ops.convert_to_tensor(target), z
        )
        np.testing.assert_allclose(
            ops.convert_to_numpy(ours), aimed, rtol=1e-3, atol=1e-4
        )


def test_dlr_of_equal_logits_is_zero():
    y = ops.convert_to_tensor(np.int32([1]))
    assert float(dlr(y, ops.ones((1, 4)))[0]) == 0
    assert float(targeted_dlr(y, y, ops.ones((1, 4)))[0]) == 0
