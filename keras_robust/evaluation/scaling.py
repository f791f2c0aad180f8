"""How a saved model wants its pixels."""

import keras
import numpy as np

from keras_robust.evaluation.evaluate import predict_labels

SCALINGS = ("unit", "byte", "symmetric", "standardized")
# Images that decide, and by how many points the best must win.
_IMAGES = 500
_CLEAR = 0.05


def with_scaling(model, scaling, x):
    """The model behind a layer that takes pixels in [0, 1].

    So an attack's radius is in units of [0, 1], whatever the model wants.

    Args:
        model: A built Keras classifier.
        scaling: `"unit"` (it wants [0, 1]), `"byte"` ([0, 255]),
            `"symmetric"` ([-1, 1]) or `"standardized"` (mean 0 and variance 1
            in each channel of `x`).
        x: Images `(N, H, W, C)` in [0, 1].

    Returns:
        A Keras model.
    """
    if scaling == "unit":
        return model
    if scaling == "standardized":
        axes = tuple(range(x.ndim - 1))
        layer = keras.layers.Normalization(
            mean=x.mean(axes), variance=x.var(axes)
        )
    else:
        scale, offset = {"byte": (255.0, 0.0), "symmetric": (2.0, -1.0)}[
            scaling
        ]
        layer = keras.layers.Rescaling(scale, offset)
    return keras.Sequential([keras.Input(x.shape[1:]), layer, model])


def find_scaling(model, x, y, from_logits=None):
    """The scaling with which the model is clearly most often right.

    Args:
        model: A built Keras classifier.
        x: Images `(N, H, W, C)` in [0, 1]; the first 500 decide.
        y: Int labels `(N,)`.
        from_logits: As in `PGDAttack`.

    Returns:
        One of `SCALINGS`.

    Raises:
        ValueError: If none of them is clearly the best.
    """
    x, y = x[:_IMAGES], y[:_IMAGES]
    accuracy = {}
    for scaling in SCALINGS:
        scaled = with_scaling(model, scaling, x)
        labels = predict_labels(scaled, x, from_logits=from_logits)
        accuracy[scaling] = float(np.mean(labels == y))
    first, second = sorted(accuracy.values(), reverse=True)[:2]
    commonest = np.bincount(y).max() / len(y)
    if first < commonest + _CLEAR or first < second + _CLEAR:
        found = ", ".join(
            f"{key}: {100 * value:.1f} %" for key, value in accuracy.items()
        )
        raise ValueError(
            "The scaling of the model's input must be said (--scaling): none "
            f"is clearly the best. Received: accuracy {found}"
        )
    return max(accuracy, key=accuracy.get)
