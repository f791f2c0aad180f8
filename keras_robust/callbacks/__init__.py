"""Callbacks for `fit`."""

from keras_robust.callbacks.catastrophic_overfitting import (
    CatastrophicOverfitting as CatastrophicOverfitting,
)
