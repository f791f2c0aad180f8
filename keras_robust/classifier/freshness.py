"""Whether compiled functions of a model still match the model."""

import types
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust.classifier.frozen import call_in_inference
from keras_robust.classifier.frozen_model import agree
from keras_robust.classifier.frozen_model import choose_output
from keras_robust.classifier.frozen_model import rounding_of
from keras_robust.classifier.inputs import Held
from keras_robust.classifier.structure import affects_function
from keras_robust.classifier.structure import is_user_defined

_LIBRARIES = ("keras", "keras_robust")


def runs_user_code(model: keras.Model) -> bool:
    """Whether calling a model runs user-defined code.

    Such code may read anything: a global, a closure, an attribute of a class.
    A `Structure` does not include what it reads.

    Args:
        model: A built Keras model.
    """
    waiting, seen = [model], {id(model)}
    while waiting:
        operation = waiting.pop()
        if isinstance(operation, keras.layers.Lambda) or _is_user_defined(
            operation
        ):
            return True
        for name, value in vars(operation).items():
            if not affects_function(name):
                continue
            for part in _parts(value):
                if isinstance(part, keras.Operation):
                    if id(part) not in seen:
                        seen.add(id(part))
                        waiting.append(part)
                elif _is_code(part):
                    return True
    return False


def _is_user_defined(value: Any) -> bool:
    kind: type = type(value)
    return (
        is_user_defined(kind)
        and kind.__module__.partition(".")[0] not in _LIBRARIES
    )


def _is_code(value: Any) -> bool:
    if isinstance(value, types.FunctionType):
        return (value.__module__ or "").partition(".")[0] not in _LIBRARIES
    return callable(value) and _is_user_defined(value)


def _parts(value: Any, depth: int = 0) -> list[Any]:
    """The entries of nested lists and dictionaries, which may be layers."""
    if depth < 3 and isinstance(value, dict):
        value = list(value.values())
    if depth < 3 and isinstance(value, (list, tuple)):
        return [part for entry in value for part in _parts(entry, depth + 1)]
    return [value]


def compiled_matches(classifier: Any, rows: Any, held: Held) -> bool:
    """Whether compiled outputs equal those of the model's code now.

    Args:
        classifier: A `Classifier`.
        rows: Tensor `(N, ...)`, a few inputs.
        held: The inputs that are not attacked.
    """
    draw = ops.convert_to_tensor(0, "int32")
    now = classifier.outputs(rows, draw, held)
    now = ops.convert_to_numpy(ops.cast(now, "float32"))
    size = len(now)
    found = classifier.predict_outputs(rows, size, held, draw=0)
    return agree(found, now, rounding_of(classifier.model))


def plain_calls_differ(classifier: Any, image: Any, held: Held) -> bool:
    """Whether two plain calls of the model give different outputs.

    This finds randomness that Keras does not control, such as NumPy's. The
    variables of the model are restored.

    Args:
        classifier: A `Classifier`.
        image: Array `(N, ...)`, N >= 1.
        held: The inputs that are not attacked.
    """
    model = classifier.model
    before = [
        (variable, np.array(ops.convert_to_numpy(variable)))
        for variable in model.non_trainable_variables
    ]
    x = ops.cast(ops.convert_to_tensor(image), "float32")
    packed = classifier.inputs.pack(classifier.outputs.scale(x), held)

    def call() -> np.ndarray:
        found = call_in_inference(model, packed)
        found = choose_output(found, classifier.output, model)
        return ops.convert_to_numpy(ops.cast(found, "float32"))

    try:
        first, second = call(), call()
    finally:
        for variable, value in before:
            variable.assign(value)
    return not agree(first, second, rounding_of(model))


def draws_compared(model: keras.Model) -> int:
    """Return how many draws show whether a model is random.

    Some layers change few images, such as one that inverts a tenth.
    """
    seeds = any("seed_generator" in v.path for v in model.variables)
    return 8 if seeds else 2
