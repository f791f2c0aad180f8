import keras
import numpy as np
import pytest
from keras import ops

import keras_robust as kr
from tests.helpers import make_linear


@pytest.fixture
def members(rng):
    return [
        make_linear(rng.normal(size=(12, 3)), rng.normal(size=3))
        for _ in range(3)
    ]


def test_logits_are_the_mean(members, rng, tmp_path):
    both = kr.models.ensemble(members)
    x = rng.random((5, 12), dtype="float32")
    each = np.stack([ops.convert_to_numpy(m(x)) for m in members], axis=1)
    np.testing.assert_allclose(
        ops.convert_to_numpy(both(x)), each.mean(1), atol=1e-5
    )
    # Plain Keras: saved and loaded as ever.
    both.save(tmp_path / "both.keras")
    loaded = keras.saving.load_model(tmp_path / "both.keras")
    np.testing.assert_allclose(
        ops.convert_to_numpy(loaded(x)), each.mean(1), atol=1e-5
    )


def test_one_step_is_along_the_mean_gradient(members, rng):
    both = kr.models.ensemble(members)
    x = rng.uniform(0.3, 0.7, (4, 12)).astype("float32")
    y = np.array([0, 1, 2, 0])
    attack = kr.PGDAttack(epsilon=0.1, step_size=0.1, steps=1, loss="margin")
    weights = np.mean([m.get_weights()[0] for m in members], axis=0)
    logits = ops.convert_to_numpy(both(x))
    others = np.where(np.arange(3) == y[:, None], -np.inf, logits).argmax(-1)
    direction = (weights[:, others] - weights[:, y]).T
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    np.testing.assert_allclose(
        attack(both, x, y), x + 0.1 * direction, atol=1e-5
    )


def test_members_apart_by_a_callable_loss(members, rng):
    """Fool the first member while the others keep their label."""

    def only_the_first(y, outputs):
        own = ops.cast(ops.equal(ops.arange(3), y[:, None]), "float32")
        logits = ops.log_softmax(outputs, axis=-1)
        log_probability = ops.sum(logits * own[:, None], axis=-1)
        return ops.mean(log_probability[:, 1:], axis=-1) - log_probability[:, 0]

    both = kr.models.ensemble(members)
    x = rng.random((40, 12), dtype="float32")
    y = ops.convert_to_numpy(both(x)).argmax(-1)
    attack = kr.PGDAttack(
        "l2", 1.5, steps=30, loss=only_the_first, layer="members"
    )
    plain = kr.PGDAttack("l2", 1.5, steps=30)

    def fooled(images):
        says = [ops.convert_to_numpy(m(images)).argmax(-1) for m in members]
        return np.mean([label != y for label in says], axis=1)

    apart, together = fooled(attack(both, x, y)), fooled(plain(both, x, y))
    assert apart[0] > 0.9
    assert apart[1:].mean() < together[1:].mean() - 0.2


def test_errors(members):
    with pytest.raises(ValueError, match="Received"):
        kr.models.ensemble([])
    with pytest.raises(ValueError, match="shape.*Received"):
        kr.models.ensemble([members[0], make_linear(np.eye(12))])
    inputs = keras.Input((12,))
    soft = keras.Model(inputs, keras.layers.Dense(3, "softmax")(inputs))
    hidden = keras.Model()
    hidden.built = True
    with pytest.raises(ValueError, match="functional.*Received"):
        kr.models.ensemble([members[0], hidden])
    inner = keras.Sequential([keras.Input((12,)), soft])
    layer = keras.Sequential([keras.Input((12,)), members[0].layers[-1]])
    layer.add(keras.layers.Softmax())
    for model in (soft, inner, layer):
        with pytest.raises(ValueError, match="logits.*Received"):
            kr.models.ensemble([members[0], model])


def test_members_of_one_name(rng):
    """Networks of one kind have one name."""
    members = [kr.models.small_cnn(filters=(2,)) for _ in range(2)]
    x = rng.random((3, 8, 8, 1), dtype="float32")
    each = [ops.convert_to_numpy(m(x)) for m in members]
    both = kr.models.ensemble(members)
    np.testing.assert_allclose(
        ops.convert_to_numpy(both(x)), np.mean(each, axis=0), atol=1e-5
    )
    members[0].set_weights(members[1].get_weights())
    np.testing.assert_allclose(
        ops.convert_to_numpy(both(x)), each[1], atol=1e-5
    )


def test_members_inside_an_adversarial_model(members, rng):
    robust = kr.AdversarialModel(members[0], kr.FGSMAttack())
    x = rng.random((5, 12), dtype="float32")
    found, expected = (
        ops.convert_to_numpy(kr.models.ensemble([first, members[1]])(x))
        for first in (robust, members[0])
    )
    np.testing.assert_array_equal(found, expected)
