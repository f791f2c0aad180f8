"""Hashes that tell whether two models compute the same function."""

import functools
import hashlib
import types
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust import backend
from keras_robust.classifier.graph import nodes_to
from keras_robust.classifier.graph import shows_graph
from keras_robust.classifier.structure import affects_function
from keras_robust.classifier.structure import is_user_defined
from keras_robust.classifier.structure import relevant_entries

# How deeply the values that a function reads are followed.
_DEPTH = 6


def weights_sha256(model: keras.Model) -> str:
    """SHA-256 of a model's weights, in order.

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
    """SHA-256 of a model's graph, settings and weights.

    Args:
        model: A built Keras model.
        options: Other values to include.

    Returns:
        Hexadecimal text. Names of layers are left out, since they differ from
        process to process.
    """
    digest = hashlib.sha256(weights_sha256(model).encode())
    digest.update(repr(_plain(options)).encode())
    for line in _description(model):
        digest.update(repr(line).encode())
    return digest.hexdigest()


def architecture_sha256(model: keras.Model, options: Any = None) -> str:
    """SHA-256 of a model's graph and settings, whatever its weights are.

    Args:
        model: A built Keras model.
        options: Other values to include.

    Returns:
        Hexadecimal text. Names of layers are left out, since they differ from
        process to process.
    """
    digest = hashlib.sha256(repr(_plain(options)).encode())
    for line in _description(model):
        digest.update(repr(line).encode())
    return digest.hexdigest()


def callable_sha256(value: Any) -> str:
    """SHA-256 of a function's code, or of a layer's settings and weights.

    Args:
        value: A function, a Keras layer or model, a plain value, or a list of
            these.
    """
    if isinstance(value, keras.layers.Layer):
        return model_sha256(value)
    return hashlib.sha256(repr(_plain(value)).encode()).hexdigest()


def class_sha256(kind: type) -> str | None:
    """SHA-256 of the code of a class, wherever it is defined.

    Args:
        kind: A class.

    Returns:
        Hexadecimal text; `None` for classes of this package and of Keras.
    """
    described = _class(kind)
    if isinstance(described, str):
        return None
    _, methods = described
    return hashlib.sha256(repr(methods).encode()).hexdigest()


def _description(model: keras.Model) -> Iterator[Any]:
    waiting, numbers = [model], {id(model): 0}
    while waiting:
        operation = waiting.pop(0)
        yield _class(type(operation))
        for key, value in sorted(vars(operation).items()):
            if affects_function(key):
                yield key, _described_setting(value, waiting, numbers)
        if shows_graph(operation):
            yield from _edges(operation, numbers)


def _edges(model: keras.Model, numbers: dict[int, int]) -> Iterator[Any]:
    tensors = {id(tensor): i for i, tensor in enumerate(model.inputs)}

    def number(part: Any) -> Any:
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


def _described_setting(
    value: Any,
    waiting: list[keras.Operation],
    numbers: dict[int, int],
    depth: int = 0,
) -> Any:
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
        return [
            _described_setting(v, waiting, numbers, depth + 1) for v in value
        ]
    if depth < 4 and isinstance(value, dict):
        return [
            (str(k), _described_setting(v, waiting, numbers, depth + 1))
            for k, v in relevant_entries(value)
        ]
    return _plain(value)


def _plain(value: Any, depth: int = 0) -> Any:
    """Plain values whose `repr` is the same in every process."""
    if isinstance(value, (str, int, float, bool, complex, bytes, type(None))):
        return value
    if depth > _DEPTH:
        return _name(type(value))
    if isinstance(value, (list, tuple, set, frozenset)):
        entries = [_plain(entry, depth + 1) for entry in value]
        is_set = isinstance(value, (set, frozenset))
        return sorted(entries, key=repr) if is_set else entries
    if isinstance(value, dict):
        return [(str(k), _plain(v, depth + 1)) for k, v in value.items()]
    if backend.is_traced(value):
        # It has no values: a function that is compiled has kept it in a list.
        return _name(type(value))
    if isinstance(value, keras.Variable) or ops.is_tensor(value):
        value = ops.convert_to_numpy(value)
    if isinstance(value, np.ndarray):
        content = np.ascontiguousarray(value).tobytes()
        return value.shape, hashlib.sha256(content).hexdigest()
    if isinstance(value, functools.partial):
        return [_plain(p, depth + 1) for p in (value.func, value.args)] + [
            _plain(value.keywords, depth + 1)
        ]
    if isinstance(value, types.MethodType):
        return _plain(value.__func__, depth), _plain(value.__self__, depth + 1)
    if isinstance(value, types.FunctionType):
        return _function(value, depth)
    if isinstance(value, types.CodeType):
        return _code(value)
    if isinstance(value, type):
        return _class(value, depth)
    if isinstance(value, keras.layers.Layer):
        # A model that a function reads, such as the target of a distillation.
        return _class(type(value), depth), weights_sha256(value)
    if isinstance(value, types.ModuleType) or not _is_user_defined(type(value)):
        if isinstance(value, keras.losses.Loss):
            return _name(type(value)), _plain(value.get_config(), depth + 1)
        return getattr(value, "__name__", None) or _name(type(value))
    settings = _plain(dict(getattr(value, "__dict__", {})), depth + 1)
    return _class(type(value), depth), settings


def _function(function: types.FunctionType, depth: int) -> Any:
    """A function as its code and the closures and globals that it reads."""
    name = f"{function.__module__}.{function.__qualname__}"
    if (function.__module__ or "").startswith("keras."):
        return name
    cells = []
    for cell in function.__closure__ or ():
        try:
            cells.append(_plain(cell.cell_contents, depth + 1))
        except ValueError:
            cells.append(None)
    globals_read = [
        (key, _plain(function.__globals__[key], depth + 1))
        for key in _names(function.__code__)
        if key in function.__globals__
    ]
    return (
        function.__qualname__,
        _code(function.__code__),
        _plain(function.__defaults__, depth + 1),
        _plain(function.__kwdefaults__, depth + 1),
        cells,
        globals_read,
    )


def _code(code: types.CodeType) -> tuple[Any, ...]:
    constants = [
        _code(c) if isinstance(c, types.CodeType) else _plain(c)
        for c in code.co_consts
    ]
    return code.co_code.hex(), code.co_names, constants


def _names(code: types.CodeType) -> list[str]:
    """Names that a function or a nested one may read."""
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found.update(_names(constant))
    return sorted(found)


def _class(kind: type, depth: int = 0) -> Any:
    """A class by name; user-defined ones with the code of their methods."""
    methods = []
    for cls in kind.__mro__ if depth <= _DEPTH else ():
        if not _is_user_defined(cls):
            continue
        methods += [
            (name, _plain(_unwrapped(value), depth + 1))
            for name, value in sorted(vars(cls).items())
            if not (name.startswith("__") and name != "__call__")
            and not name.startswith("_abc_")
        ]
    return (_name(kind), methods) if methods else _name(kind)


def _unwrapped(value: Any) -> Any:
    """The function inside a property, method or decorator."""
    if isinstance(value, property):
        return value.fget
    value = getattr(value, "__func__", value)
    return getattr(value, "__wrapped__", value)


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _is_user_defined(kind: type) -> bool:
    return is_user_defined(kind) and not kind.__module__.startswith(
        "keras_robust."
    )
