"""Directions of the metrics on attacked inputs, for KerasTuner.

KerasTuner infers whether a metric is to be minimized from the function that
Keras has under its name. The functions registered here only provide the name
of a metric with the same direction.
"""

from collections.abc import Callable
from typing import Any
from typing import NoReturn

import keras

from keras_robust.utils.messages import shown

# Names of a metric to be maximized and of one to be minimized.
_HIGHER = "binary_accuracy"
_LOWER = "mean_squared_error"
_DIRECTIONS = {
    "loss": _LOWER,
    "crossentropy": _LOWER,
    "ce": _LOWER,
    "accuracy": _HIGHER,
    "acc": _HIGHER,
    "binary_accuracy": _HIGHER,
    "categorical_accuracy": _HIGHER,
    "sparse_categorical_accuracy": _HIGHER,
    "top_k_categorical_accuracy": _HIGHER,
    "sparse_top_k_categorical_accuracy": _HIGHER,
    "auc": _HIGHER,
    "precision": _HIGHER,
    "recall": _HIGHER,
    "binary_crossentropy": _LOWER,
    "categorical_crossentropy": _LOWER,
    "sparse_categorical_crossentropy": _LOWER,
    "kl_divergence": _LOWER,
    "hinge": _LOWER,
    "squared_hinge": _LOWER,
    "categorical_hinge": _LOWER,
    "mean_squared_error": _LOWER,
    "mse": _LOWER,
    "mean_absolute_error": _LOWER,
    "mae": _LOWER,
    "root_mean_squared_error": _LOWER,
}


def _stand_in(name: str, like: str) -> Callable[..., Any]:
    def refuse(y_true: Any, y_pred: Any) -> NoReturn:
        del y_true, y_pred
        raise ValueError(
            "Argument `metrics` of compile must hold clean metrics: "
            "AdversarialModel adds those on attacked inputs. "
            f"Received: {shown(name)}"
        )

    refuse.__name__ = like
    return refuse


def register() -> None:
    """Register the directions of `robust_loss` and the usual metrics."""
    known = keras.saving.get_custom_objects()
    for clean, like in _DIRECTIONS.items():
        name = f"robust_{clean}"
        known.setdefault(name, _stand_in(name, like))
