"""Finding layers in a model."""

from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import keras

from keras_robust import backend
from keras_robust.classifier.structure import affects_function

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


def check_lookups(names: list[str]) -> None:
    """Raise for layers that the backend cannot compile.

    Args:
        names: Names of the layers of a model that look up values.

    Raises:
        ValueError: If there are any, and the backend cannot compute them.
    """
    if names and not backend.runs_lookups:
        raise ValueError(
            "The model must have no layers that look up values on the "
            f"{backend.name} backend, which cannot compute them; apply "
            f"them to the data, before the model. Received: layers {names}"
        )


def inner_layers(layer: Any) -> Iterator[keras.layers.Layer]:
    """Layers inside a layer, in its attributes, at any depth."""
    waiting, seen = [layer], {id(layer)}
    while waiting:
        for name, value in vars(waiting.pop()).items():
            if not affects_function(name):
                continue
            for part in keras.tree.flatten(value):
                if isinstance(part, keras.layers.Layer) and (
                    id(part) not in seen
                ):
                    seen.add(id(part))
                    waiting.append(part)
                    yield part
