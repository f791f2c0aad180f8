"""What of a model an attack must leave as it is."""

import keras
import numpy as np
from keras import ops

from .random_models import all_layers


def snapshot(model):
    """Weights and attributes of a model, to compare later."""
    state = {}
    for number, variable in enumerate(model.variables):
        state[f"variable {number} {variable.path}"] = np.array(
            ops.convert_to_numpy(ops.cast(variable.value, _plain(variable)))
        )
    for number, layer in enumerate(all_layers(model)):
        for key, value in _attributes(layer).items():
            state[f"layer {number} {layer.name}: {key}"] = value
    state["own attributes"] = sorted(vars(model))
    if keras.backend.backend() == "torch":
        for name, parameter in model.named_parameters():
            state[f"gradient of {name}"] = parameter.grad is None
            state[f"{name} wants a gradient"] = parameter.requires_grad
    return state


def _plain(variable):
    dtype = keras.backend.standardize_dtype(variable.dtype)
    return "float32" if "float" in dtype else dtype


def _attributes(layer):
    found = {
        "trainable": layer.trainable,
        "dtype policy": layer.dtype_policy.name,
        "activation": id(getattr(layer, "activation", None)),
        "quantization": getattr(layer, "quantization_mode", None),
        "call": id(vars(layer).get("call")),
        "variables": len(layer.variables),
    }
    try:
        found["output"] = str(keras.tree.map_structure(id, layer.output))
    except (AttributeError, ValueError) as error:
        # Never called, or more than once.
        found["output"] = type(error).__name__
    if keras.backend.backend() == "torch":
        found["training"] = layer.training
    return found


def state_faults(before, after):
    """What differs, in words."""
    if before.keys() != after.keys():
        return [f"other parts: {sorted(before.keys() ^ after.keys())[:3]}"]
    return [
        key
        for key, value in before.items()
        if not np.array_equal(value, after[key])
    ]
