"""Snapshots that show whether functions traced from a model are stale."""

import builtins
import functools
import types
import weakref
import zlib
from typing import Any

import keras
import numpy as np

# Attributes that Keras and its users change without changing the function.
BOOKKEEPING = frozenset(
    """
    name output_names built compiled loss optimizer history train_function
    test_function predict_function activity_regularizer steps_per_execution
    stop_training training _called _compile_loss _compile_metrics _losses
    _loss_ids _losses_override _loss_tracker _tracker _metrics _jit_compile
    _run_eagerly _initial_epoch _jax_state_synced _inbound_nodes
    _outbound_nodes _lock _nodes _nodes_by_depth _operations_by_depth _path
    _inputs _outputs _inputs_struct _outputs_struct _auto_config
    _compile_config _build_shapes_dict _call_signature
    call_signature_parameters _input_spec _call_context_args
    _call_has_context_arg _parent_path _call_has_training_arg
    _call_has_mask_arg _epoch_iterator _distribute_strategy auto_scale_loss
    _eval_epoch_iterator _seed_generators seed_generator stop_predicting
    stop_evaluating _compiled_trainable_state _tracked is_awq_calibrated
    is_gptq_calibrated _jax_state variables_restored
    """.split()
)
# A PyTorch module that Keras adds to a layer when it is first used.
_LAZY = "_torch_params"
# Ends of names of attributes that only create and train weights.
_CREATION = ("_initializer", "_regularizer", "_constraint")
_PLAIN = frozenset((str, int, float, bool, complex, bytes, type(None), type))
# Flag of classes defined in Python code (CPython's Py_TPFLAGS_HEAPTYPE).
_HEAP_TYPE = 1 << 9
# Arrays up to this many bytes are compared by their content.
_SMALL = 65_536


class Structure:
    """A snapshot of a model: its layers, their settings and variables.

    Two snapshots are equal if nothing has changed that a compiled function of
    the model could depend on. Values of variables are left out, since compiled
    functions read them at every call.

    Args:
        model: A Keras model.
    """

    def __init__(self, model: keras.Model) -> None:
        # Objects are kept alive or watched: the id of a freed object may
        # belong to a new one.
        self._kept: list[Any] = []
        self._watched: list[weakref.ref[Any]] = []
        self._entries = self._walk(model)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Structure):
            return NotImplemented
        return self._entries == other._entries and all(
            reference() is not None for reference in self._watched
        )

    __hash__ = None  # type: ignore[assignment]

    def _walk(self, model: keras.Model) -> list[Any]:
        entries, waiting, seen = [], [model], {id(model)}
        while waiting:
            operation = waiting.pop()
            entries.append(self._watch(operation))
            values = vars(operation)
            for key in _relevant(tuple(values)):
                value = values[key]
                kind = type(value)
                if kind not in _PLAIN:
                    value = self._describe(value, waiting, seen)
                entries.append(value)
        return entries

    def _describe(
        self,
        value: Any,
        waiting: list[keras.Operation],
        seen: set[int],
        depth: int = 0,
    ) -> Any:
        """A value in place of an attribute that can be compared."""
        if isinstance(value, keras.Variable):
            return self._watch(value)
        if isinstance(value, keras.Operation):
            if id(value) not in seen:
                seen.add(id(value))
                waiting.append(value)
            return self._watch(value)
        if isinstance(value, keras.DTypePolicy):
            return value.name, getattr(value, "quantization_mode", None)
        if depth > 4:
            return self._watch(value)
        if isinstance(value, dict):
            value = relevant_entries(value)
        if isinstance(value, (list, tuple, set, frozenset)):
            return [
                entry
                if type(entry) in _PLAIN
                else self._describe(entry, waiting, seen, depth + 1)
                for entry in value
            ]
        if isinstance(value, np.ndarray) and value.nbytes <= _SMALL:
            content = zlib.crc32(np.ascontiguousarray(value).tobytes())
            return value.shape, str(value.dtype), content
        kind: type = type(value)
        if is_user_defined(kind):
            settings = getattr(value, "__dict__", {})
            return (
                self._watch(value),
                self._describe(settings, waiting, seen, depth + 1),
            )
        return self._watch(value)

    def _watch(self, value: Any) -> int:
        try:
            self._watched.append(weakref.ref(value))
        except TypeError:
            self._kept.append(value)
        return id(value)


@functools.lru_cache(maxsize=4096)
def _relevant(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names of attributes that affect the function of a layer."""
    return tuple(name for name in names if affects_function(name))


def affects_function(name: str) -> bool:
    """Whether an attribute can affect the function of a layer."""
    return not (
        name in BOOKKEEPING
        or name.endswith(_CREATION)
        # TensorFlow's own.
        or name.startswith("_self_")
    )


def relevant_entries(settings: dict[Any, Any]) -> list[tuple[Any, Any]]:
    """The entries of a layer's dictionary that can affect its function."""
    return [(key, value) for key, value in settings.items() if key != _LAZY]


@functools.cache
def is_user_defined(kind: Any) -> bool:
    """Whether a class comes neither from Keras nor from a framework."""
    if kind is types.SimpleNamespace:
        return True
    module = kind.__module__.partition(".")[0]
    if module == "builtins":
        # Also the module of classes that `exec` defines.
        is_python = bool(kind.__flags__ & _HEAP_TYPE)
        return is_python and not hasattr(builtins, kind.__qualname__)
    known = ("keras", "tensorflow", "torch", "jax", "jaxlib", "numpy")
    return module not in (*known, "functools", "threading")
