"""The scaling of the pixels that a model takes."""

from typing import Any

import numpy as np

from keras_robust.attacks.image_attack import channels_first
from keras_robust.classifier import SCALINGS
from keras_robust.classifier import Classifier

# What the scalings are called in messages.
MEANINGS = {
    "unit": "pixels in [0, 1]",
    "byte": "pixels in [0, 255]",
    "symmetric": "pixels in [-1, 1]",
    "standardized": "mean 0 and variance 1 in each channel",
}
# Images that are predicted, and the lead in accuracy that the best scaling
# needs.
_IMAGES = 500
_CLEAR_LEAD = 0.05


def with_statistics(scaling: Any, x: np.ndarray, model: Any) -> Any:
    """Return the `scaling` that `Classifier` takes.

    Args:
        scaling: One of `SCALINGS`, or `None`.
        x: Images in [0, 1], whose mean and deviation per channel
            `"standardized"` takes.
        model: The model or `Classifier` that takes them, which shows where
            the channels are.
    """
    if scaling != "standardized":
        return scaling
    first = x.ndim == 4 and channels_first(model, x.shape, None)
    axes = (0, 2, 3) if first else tuple(range(x.ndim - 1))
    mean = x.mean(axes, dtype="float64")
    deviation = np.maximum(x.std(axes, dtype="float64"), 1e-7)
    if first:
        mean, deviation = mean[:, None, None], deviation[:, None, None]
    return scaling, tuple(mean.tolist()), tuple(deviation.tolist())


def with_scaling(model: Any, scaling: str, x: np.ndarray) -> Classifier:
    """Return a classifier that takes pixels in [0, 1].

    So an attack's radius is in units of [0, 1], whatever the model takes.

    Args:
        model: A built Keras classifier.
        scaling: What the model takes: `"unit"` ([0, 1]), `"byte"`
            ([0, 255]), `"symmetric"` ([-1, 1]) or `"standardized"` (mean 0
            and variance 1 in each channel of `x`).
        x: Images `(N, H, W, C)` or `(N, C, H, W)` in [0, 1].
    """
    return Classifier.of(model, scaling=with_statistics(scaling, x, model))


def find_scaling(
    model: Any,
    x: np.ndarray,
    y: np.ndarray,
    from_logits: bool | None = None,
) -> str:
    """Find the scaling with which the model is clearly most accurate.

    Args:
        model: A built Keras classifier.
        x: Images `(N, H, W, C)` or `(N, C, H, W)` in [0, 1]; the first 500
            decide.
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
        scaled = Classifier.of(
            model,
            from_logits=from_logits,
            scaling=with_statistics(scaling, x, model),
        )
        accuracy[scaling] = float(np.mean(scaled.predict_labels(x) == y))
    first, second = sorted(accuracy.values(), reverse=True)[:2]
    commonest = np.bincount(y).max() / len(y)
    if first < commonest + _CLEAR_LEAD or first < second + _CLEAR_LEAD:
        found = ", ".join(
            f"{key}: {100 * value:.1f} %" for key, value in accuracy.items()
        )
        raise ValueError(
            "The scaling of the model's input must be given (--scaling): no "
            f"scaling is clearly the best. Received: accuracy {found}"
        )
    return max(accuracy, key=accuracy.__getitem__)
