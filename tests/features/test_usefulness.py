import keras
import numpy as np
import pytest

import keras_robust as kr
from keras_robust.features import feature_usefulness

EPSILON = 0.1


@pytest.fixture(scope="module")
def linear():
    """A network whose four units are linear in the image, and its data."""
    random = np.random.default_rng(0)
    x = random.uniform(0.3, 0.7, (400, 3, 2, 1)).astype("float32")
    w = random.normal(size=(6, 4)).astype("float32")
    w[:, 3] = 0
    inputs = keras.Input((3, 2, 1))
    h = keras.layers.Flatten()(inputs)
    h = keras.layers.Dense(4, name="units")(h)
    model = keras.Model(inputs, keras.layers.Dense(3)(h))
    model.layers[2].set_weights([w, np.zeros(4)])
    # The class depends on the first unit most.
    score = x.reshape(400, 6) @ w[:, 0] + 0.1 * random.normal(size=400)
    y = np.digitize(score, np.quantile(score, [0.3, 0.6])).astype("int32")
    return model, x, y, w


def closed_form(x, y, w, norm, epsilon):
    """Goh 2019: the attack takes epsilon times the dual norm of the weights."""
    f = x.reshape(len(x), -1) @ w
    deviation = f.std(0)
    deviation[deviation == 0] = 1
    f = (f - f.mean(0)) / deviation
    share = np.bincount(y) / len(y)
    z = (np.eye(3)[y] - share) / np.sqrt(share * (1 - share))
    rho = np.abs(f.T @ z) / len(y)
    dual = np.linalg.norm(w, 1 if norm == "linf" else 2, axis=0) / deviation
    return rho, rho - epsilon * dual[:, None] * np.abs(z).mean(0)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_linear_units_have_a_closed_form(linear, norm):
    model, x, y, w = linear
    attack = kr.PGDAttack(norm=norm, epsilon=EPSILON, steps=5)
    found = feature_usefulness(model, (x, y), attack, verbose=0)
    rho, gamma = closed_form(x, y, w, norm, EPSILON)
    np.testing.assert_allclose(found.rho, rho, atol=1e-4)
    np.testing.assert_allclose(found.gamma, gamma, atol=1e-3)


@pytest.mark.compiles_much
def test_gamma_falls_with_the_radius(linear):
    model, x, y, _ = linear
    gammas = [
        feature_usefulness(
            model, (x, y), kr.PGDAttack(epsilon=epsilon, steps=5), verbose=0
        )
        for epsilon in (0.0, 0.05, 0.1)
    ]
    np.testing.assert_allclose(gammas[0].gamma, gammas[0].rho, atol=1e-5)
    for smaller, larger in zip(gammas, gammas[1:], strict=False):
        assert (larger.gamma <= smaller.gamma + 1e-5).all()


def test_gamma_is_never_above_rho(cnn, cnn_data):
    """Also where an attack overshoots: no perturbation is one."""
    x, y = cnn_data
    attack = kr.PGDAttack(epsilon=3.0, step_size=3.0, steps=1)
    found = feature_usefulness(cnn, (x, y), attack, verbose=0)
    assert (found.gamma <= found.rho + 1e-6).all()
    assert found.rho.shape == (4, 3)


def test_split_and_units(linear, tmp_path):
    model, x, y, _ = linear
    attack = kr.PGDAttack(epsilon=0.02, steps=3)
    found = feature_usefulness(model, (x, y), attack, units=[0, 3], verbose=0)
    parts = found.split()
    assert parts["useful, robust"].tolist() == [0]
    # A unit that never changes is of no use, and no error.
    assert parts["useless"].tolist() == [3]
    assert np.isfinite(found.gamma).all()
    strong = kr.PGDAttack(epsilon=0.3, steps=3)
    found = feature_usefulness(model, (x, y), strong, units=[0, 3], verbose=0)
    assert found.split()["useful, non-robust"].tolist() == [0]
    found.plot(tmp_path / "units.png")
    assert '"useless": 1' in found.to_json()


@pytest.mark.slow_on_jax
def test_classes_that_do_not_occur(linear):
    """Column c is class c, also where fewer classes occur."""
    model, x, y, _ = linear
    attack = kr.PGDAttack(epsilon=0.02, steps=2)
    few = y != 1
    found = feature_usefulness(model, (x[few], y[few]), attack, verbose=0)
    assert found.rho.shape == (4, 3)
    # Nothing correlates with what does not occur; two classes are one.
    np.testing.assert_array_equal(found.rho[:, 1], 0)
    np.testing.assert_array_equal(found.gamma[:, 1], 0)
    np.testing.assert_allclose(found.rho[:, 0], found.rho[:, 2], atol=1e-6)
    assert found.rho[0, 0] > 0.5 and np.isfinite(found.gamma).all()


def test_a_layer_by_name(linear):
    model, x, y, _ = linear
    attack = kr.PGDAttack(epsilon=0.02, steps=2)
    found = feature_usefulness(
        model, (x, y), attack, layer=model.layers[1].name, verbose=0
    )
    assert found.rho.shape == (6, 3)
