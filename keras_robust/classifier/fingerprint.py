"""Which function a model is, as a hash."""

import hashlib
import types
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_robust.classifier.graph import nodes_to
from keras_robust.classifier.graph import shows_graph
from keras_robust.classifier.structure import BOOKKEEPING


def weights_sha256(model: keras.Model) -> str:
    """The SHA-256 of a model's weights, in their order.

    Args:
        model: A built Keras model.

    Returns:
        Hexadecimal text; the same for the same weights on every backend.
    """
    digest = hashlib.sha256()
    for value in model.get_weights():
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def model_sha256(model: keras.Model, options: Any = None) -> str:
    """The SHA-256 of a model's graph, settings and weights.

    Args:
        model: A built Keras model.
        options: What else counts, as plain values.

    Returns:
        Hexadecimal text; names of layers do not count, which differ from
        process to process.
    """
    digest = hashlib.sha256(weights_sha256(model).encode())
    digest.update(repr(_plain(options)).encode())
    for line in _described(model):
        digest.update(repr(line).encode())
    return digest.hexdigest()


def _described(model) -> Iterator[Any]:
    waiting, numbers = [model], {id(model): 0}
    while waiting:
        operation = waiting.pop(0)
        yield _class(operation)
        for key, value in sorted(vars(operation).items()):
            if key not in BOOKKEEPING:
                yield key, _setting(value, waiting, numbers)
        if shows_graph(operation):
            yield from _edges(operation, numbers)


def _edges(model, numbers):
    tensors = {id(tensor): i for i, tensor in enumerate(model.inputs)}

    def number(part):
        is_tensor = isinstance(part, keras.KerasTensor)
        return f"tensor {tensors.get(id(part))}" if is_tensor else _plain(part)

    for output in model.outputs:
        for node in nodes_to(output, model.inputs):
            for tensor in node.outputs:
                tensors.setdefault(id(tensor), len(tensors))
            arguments = keras.tree.map_structure(
                number, (node.args, node.kwargs)
            )
            yield numbers.get(id(node.operation)), arguments


def _setting(value, waiting, numbers, depth=0):
    if isinstance(value, keras.Operation):
        if id(value) not in numbers:
            numbers[id(value)] = len(numbers)
            waiting.append(value)
        return numbers[id(value)]
    if isinstance(value, keras.Variable):
        return tuple(value.shape), str(value.dtype)
    if isinstance(value, keras.DTypePolicy):
        return value.name, getattr(value, "quantization_mode", None)
    if depth < 4 and isinstance(value, (list, tuple)):
        return [_setting(v, waiting, numbers, depth + 1) for v in value]
    if depth < 4 and isinstance(value, dict):
        return [
            (str(k), _setting(v, waiting, numbers, depth + 1))
            for k, v in value.items()
        ]
    return _plain(value)


def _plain(value):
    """Text that is the same in another process."""
    if isinstance(value, (str, int, float, bool, complex, bytes, type(None))):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, dict):
        return [(str(k), _plain(v)) for k, v in value.items()]
    if isinstance(value, np.ndarray):
        content = np.ascontiguousarray(value).tobytes()
        return value.shape, hashlib.sha256(content).hexdigest()
    if isinstance(value, types.FunctionType):
        code = value.__code__.co_code.hex()
        return f"{value.__module__}.{value.__qualname__}", code
    return _class(value)


def _class(value):
    """The class of an object, and what its `call` does where it is a user's."""
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if kind.__module__.startswith(("keras.", "builtins")):
        return name
    call = vars(kind).get("call")
    code = getattr(call, "__code__", None)
    return name, code.co_code.hex() if code is not None else None
