import keras
import numpy as np
import pytest

import keras_robust as kr
from keras_robust.features import feature_usefulness
from keras_robust.features import linear_probes
from keras_robust.features import planted_features
from keras_robust.features.usefulness import KINDS

ROBUST, NON_ROBUST, USELESS = KINDS


@pytest.fixture(scope="module")
def templates():
    """A network whose units are the planted templates, and one dead unit."""
    planted = planted_features(train=2000, test=400)
    weights = np.concatenate(
        [planted.templates[kind].reshape(10, -1) for kind in planted.templates]
        + [np.zeros((1, 256), "float32")]
    )
    model = keras.Sequential(
        [
            keras.Input((16, 16, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(21, name="units"),
            keras.layers.Dense(10),
        ]
    )
    model.layers[1].set_weights([weights.T, -0.5 * weights.sum(-1)])
    return model, planted


@pytest.mark.on_one_backend
def test_each_part_is_worth_what_was_planted(templates):
    model, planted = templates
    attack = kr.PGDAttack(epsilon=0.25, steps=10)
    found = feature_usefulness(model, planted.test, attack, verbose=0)
    parts = found.split()
    np.testing.assert_array_equal(parts[ROBUST], np.arange(10))
    np.testing.assert_array_equal(parts[NON_ROBUST], np.arange(10, 20))
    probes = linear_probes(
        model,
        planted.train,
        planted.test,
        usefulness=found,
        attacks={"pgd": attack},
        verbose=0,
    )
    for part, kind in ((ROBUST, "robust"), (NON_ROBUST, "non_robust")):
        assert probes[part]["units"] == 10
        for name, epsilon in (("clean", 0), ("pgd", 0.25)):
            expected = planted.accuracy(kind, epsilon)
            assert abs(probes[part][name] - expected) < 0.06, (part, name)
    # A unit that never changes tells one class.
    assert probes[USELESS]["units"] == 1
    assert probes[USELESS]["clean"] < 0.15


@pytest.mark.slow_on_jax
def test_parts_without_units_and_two_classes():
    x = np.random.default_rng(0).uniform(size=(200, 4, 1, 1)).astype("float32")
    y = (x[:, 0, 0, 0] > 0.5).astype("int32")
    model = keras.Sequential(
        [keras.Input((4, 1, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    found = feature_usefulness(
        model, (x, y), kr.PGDAttack(epsilon=0.0), verbose=0
    )
    probes = linear_probes(model, (x, y), (x, y), found, verbose=0)
    assert probes[NON_ROBUST] == {"units": 0}
    assert probes[ROBUST]["clean"] > 0.95
    assert set(probes[ROBUST]) == {"units", "clean"}


def test_a_class_is_missing(templates):
    model, planted = templates
    x, y = planted.train
    some = x[y < 9], y[y < 9]
    found = feature_usefulness(
        model,
        planted.test,
        attack=kr.PGDAttack(epsilon=0.1, steps=1),
        units=[0],
        verbose=0,
    )
    with pytest.raises(ValueError, match=r"all 10 classes.*none of \[9\]"):
        linear_probes(model, some, planted.test, found, verbose=0)


@pytest.mark.on_one_backend
def test_one_of_several_outputs(templates):
    model, planted = templates
    units = model.get_layer("units").output
    several = keras.Model(
        model.inputs, [keras.layers.Dense(3)(units), model.outputs[0]]
    )
    (x, y), test = planted.train, planted.test
    attack = kr.PGDAttack(epsilon=0.25, steps=2, output=1)
    found = feature_usefulness(several, test, attack, layer="units", verbose=0)
    with pytest.raises(ValueError, match="`output` must choose one"):
        linear_probes(several, (x, y), test, usefulness=found, verbose=0)
    probes = [
        linear_probes(
            network,
            (x, y),
            test,
            usefulness=found,
            layer="units",
            output=output,
            verbose=0,
        )
        for network, output in ((model, None), (several, 1))
    ]
    assert probes[0] == probes[1]
