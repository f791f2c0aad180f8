"""Public ways to change a model between two attacks."""

import keras
from keras import layers

from .draws import Draw
from .random_models import all_layers
from .random_models import quantize
from .random_models import randomize

NAMES = (
    *("none", "none", "weights", "activation", "activation", "int8", "lora"),
    *("pop, add", "rate"),
)


def mutate(case, name):
    """Changes a model in place.

    Args:
        case: `Case`.
        name: One of `NAMES`.

    Returns:
        What was done, or `None`: nothing.
    """
    model = case.model
    d = Draw(case.seed, "mutation")
    if name == "weights":
        randomize(model, case.seed + 1)
        return "new weights"
    if name == "activation":
        return _change_activation(case, d)
    if name == "pop, add":
        return _replace_head(case)
    if name == "int8":
        return _quantize(case)
    if name == "lora":
        return _adapt(case)
    if name == "rate":
        return _change_attributes(case)
    return None


def _plain(layer):
    return getattr(layer, "quantization_mode", None) is None and not getattr(
        layer, "lora_enabled", False
    )


def _change_activation(case, d):
    """Of a layer that is not the last one."""
    candidates = [
        layer
        for layer in all_layers(case.model)
        if isinstance(layer, (layers.Dense, layers.Conv2D, layers.Conv1D))
    ][:-1]
    if case.reads not in ("logits", "logit") or not candidates:
        return None
    layer = d.choice(candidates)
    layer.activation = keras.activations.get("softsign")
    return f"softsign in {layer.name}"


def _replace_head(case):
    model = case.model
    if type(model) is not keras.Sequential or len(model.layers) < 3:
        return None
    plain = all(_plain(layer) for layer in all_layers(model))
    if case.reads != "logits" or not plain:
        # Keras 3.15 locks the parts of a quantized model: `pop` raises.
        return None
    model.pop()
    model.add(layers.Flatten())
    model.add(layers.Dense(case.classes, dtype="float32"))
    randomize(model, case.seed + 2)
    return "a new last layer"


def _quantize(case):
    quantized = [layer for layer in all_layers(case.model) if not _plain(layer)]
    float16 = [
        layer
        for layer in all_layers(case.model)
        if layer.compute_dtype == "float16"
    ]
    if quantized or float16:
        return None
    quantize(case.model, "int8")
    case.rounding = max(case.rounding, 1e-2)
    return "int8"


def _adapt(case):
    found = [
        layer
        for layer in all_layers(case.model)
        if hasattr(layer, "enable_lora") and layer.built and _plain(layer)
    ]
    if not found:
        return None
    for layer in found:
        layer.enable_lora(1)
    randomize(case.model, case.seed + 3)
    return "LoRA"


def _change_attributes(case):
    """Plain attributes that `call` reads."""
    done = []
    for layer in all_layers(case.model):
        if type(layer) is layers.Rescaling and not done:
            layer.offset = layer.offset + 0.25
            done.append(f"offset of {layer.name}")
        if type(layer) is layers.LeakyReLU:
            layer.negative_slope = 0.9
            done.append(f"slope of {layer.name}")
        if type(layer) is layers.BatchNormalization:
            layer.epsilon = 0.5
            done.append(f"epsilon of {layer.name}")
    return ", ".join(done) or None
