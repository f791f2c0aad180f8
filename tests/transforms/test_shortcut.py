import keras
import numpy as np
import pytest

import keras_robust as kr
from tests.helpers import norms


@pytest.fixture
def data(rng):
    # Far from the edges of the box, so that nothing is clipped.
    x = rng.uniform(0.4, 0.6, (60, 8, 8, 3)).astype("float32")
    return x, np.arange(60, dtype="int32") % 5


@pytest.mark.parametrize("norm, epsilon", [("l2", 0.4), ("linf", 0.1)])
def test_one_pattern_per_class(data, norm, epsilon):
    x, y = data
    shortcut = kr.Shortcut(5, norm=norm, epsilon=epsilon, seed=1)
    x_s, t, details = shortcut(x, y, return_details=True)
    step = x_s - x
    size = norms(step, norm)
    # The true label teaches itself; the others get the whole norm.
    np.testing.assert_array_equal(size > 0, t != y)
    np.testing.assert_allclose(size[t != y], epsilon, rtol=1e-5)
    np.testing.assert_array_equal(details["success"], t != y)
    np.testing.assert_allclose(details["distance"], size)
    for label in range(5):
        mine = step[(t == label) & (t != y)]
        np.testing.assert_allclose(
            mine, mine[:1].repeat(len(mine), 0), atol=1e-6
        )
    np.testing.assert_array_equal(shortcut(x, y)[0], x_s)


@pytest.mark.parametrize("target", ["random", "deterministic", "other"])
def test_targets_of_the_transform_it_controls(data, cnn, target):
    x, y = data
    t = kr.Shortcut(5, target, seed=3)(x, y)[1]
    transform = kr.NonRobustifier(cnn, target, seed=3)
    np.testing.assert_array_equal(t, transform.draw_targets(y, 5))


def test_clipped_to_the_box_and_configuration(rng):
    x = rng.random((20, 5, 7, 1), dtype="float32")
    shortcut = kr.Shortcut(4, "other", epsilon=3.0, seed=0)
    x_s, t = shortcut(x, np.zeros(20, "int32"))
    assert x_s.min() >= 0 and x_s.max() <= 1 and (t > 0).all()
    again = kr.Shortcut.from_config(shortcut.get_config())
    np.testing.assert_array_equal(again(x, np.zeros(20, "int32"))[0], x_s)
    restored = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(shortcut)
    )
    assert restored.get_config() == shortcut.get_config()


def test_errors():
    with pytest.raises(ValueError, match="target='y'"):
        kr.Shortcut(10, target="y")
    with pytest.raises(ValueError, match="num_classes=1"):
        kr.Shortcut(1)
    with pytest.raises(ValueError, match="label"):
        kr.Shortcut(3)(np.zeros((1, 4, 4, 1), "float32"), np.array([3]))
    with pytest.raises(ValueError, match=r"\(N, H, W, C\).*'N', 4, 4\)"):
        kr.Shortcut(3)(np.zeros((2, 4, 4), "float32"), np.array([0, 1]))
