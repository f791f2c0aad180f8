import keras
import numpy as np
import pytest

from keras_robust.classifier import Classifier
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


def test_channels_first(rng):
    """Statistics are those of channels, wherever the channels are."""
    weights = rng.normal(size=(108, 3))
    model = make_linear(weights, np.zeros(3), shape=(3, 6, 6))
    scale = np.array([0.1, 0.5, 1])[:, None, None]
    x = (scale * rng.random((40, 3, 6, 6))).astype("float32")
    axes = (0, 2, 3)
    mean, std = (
        part(x, axis=axes, keepdims=True)[0] for part in (np.mean, np.std)
    )
    expected = model.predict((x - mean) / std, verbose=0)
    found = with_scaling(model, "standardized", x).predict_outputs(x)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    # Statistics of another shape are told apart from these.
    options = "standardized", mean.ravel(), std.ravel()
    with pytest.raises(ValueError, match=r"broadcast.*Received: shape \(3,\)"):
        Classifier.of(model, scaling=options).predict_outputs(x)
    options = "standardized", mean, std
    found = Classifier.of(model, scaling=options).predict_outputs(x)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("statistics", [(0.5, 0.0), (np.nan, 1.0), (0.5, -1)])
def test_statistics_that_scale_nothing(problem, statistics):
    x, _ = problem
    with pytest.raises(ValueError, match="deviations > 0.*Received"):
        Classifier.of(
            model_for(x, "unit"),
            scaling=("standardized", statistics[0], statistics[1]),
        )


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
