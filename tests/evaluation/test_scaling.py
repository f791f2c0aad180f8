import keras
import numpy as np
import pytest

from keras_robust.evaluation import predict_labels
from keras_robust.evaluation.scaling import SCALINGS
from keras_robust.evaluation.scaling import find_scaling
from keras_robust.evaluation.scaling import with_scaling
from tests.helpers import make_linear


@pytest.fixture
def problem(rng):
    """Classes told by a hump of brightness: right at one scaling only."""
    centers = np.array([0.15, 0.4, 0.6, 0.85])
    y = rng.integers(0, 4, 400)
    x = centers[y][:, None, None, None] + rng.normal(0, 0.01, (400, 2, 2, 1))
    return np.clip(x, 0, 1).astype("float32"), y


def model_for(x, scaling):
    """-(mean - center)^2 of scaled pixels, as logits linear in the mean."""
    axes = tuple(range(x.ndim - 1))
    scaled = {
        "unit": lambda v: v,
        "byte": lambda v: 255 * v,
        "symmetric": lambda v: 2 * v - 1,
        "standardized": lambda v: (v - x.mean(axes)[0]) / x.std(axes)[0],
    }[scaling]
    centers = scaled(np.array([0.15, 0.4, 0.6, 0.85]))
    weights = np.repeat(2 * centers[None] / 4, 4, 0)
    return make_linear(weights, -(centers**2), shape=(2, 2, 1))


@pytest.mark.parametrize("scaling", SCALINGS)
def test_finds_the_scaling(problem, scaling):
    x, y = problem
    model = model_for(x, scaling)
    assert find_scaling(model, x, y) == scaling
    scaled = with_scaling(model, scaling, x)
    assert (predict_labels(scaled, x) == y).mean() > 0.99
    # As the model itself answers to what it takes.
    axes = tuple(range(x.ndim - 1))
    taken = {
        "unit": x,
        "byte": 255 * x,
        "symmetric": 2 * x - 1,
        "standardized": (x - x.mean(axes)) / x.std(axes),
    }[scaling]
    labels = model.predict(taken, verbose=0).argmax(-1)
    np.testing.assert_array_equal(predict_labels(scaled, x), labels)


def test_asks_where_it_cannot_tell(problem):
    x, y = problem
    constant = make_linear(np.zeros((4, 4)), [1, 0, 0, 0], shape=(2, 2, 1))
    with pytest.raises(ValueError, match="--scaling.*Received"):
        find_scaling(constant, x, y)
    # Scale-free: unit and byte are equally good.
    inputs = keras.Input((2, 2, 1))
    model = model_for(x, "unit")
    norm = keras.layers.Lambda(lambda z: z / (z[:, :1, :1] + 1e-9) * 0.15)
    with pytest.raises(ValueError, match="unit:.*byte:"):
        find_scaling(keras.Model(inputs, model(norm(inputs))), x, y)
