"""Finding layers in a model."""

from collections.abc import Callable
from typing import Any

import keras

LOOKUPS = (
    keras.layers.Hashing,
    keras.layers.HashedCrossing,
    keras.layers.IntegerLookup,
    keras.layers.StringLookup,
    keras.layers.TextVectorization,
)


def find_layers(model: Any, test: Callable[[Any], bool]) -> list[str]:
    """Names of the layers, nested ones included, for which `test` is true."""
    names = []
    for layer in getattr(model, "layers", None) or []:
        names += find_layers(layer, test)
        if not getattr(layer, "layers", None) and test(layer):
            names.append(layer.name)
    return names
