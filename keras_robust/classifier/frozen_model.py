"""Frozen models as functions, with BatchNorm folded if outputs agree."""

import threading
import warnings
import weakref
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust import backend
from keras_robust.backend import Tensor
from keras_robust.classifier.backward import Backward
from keras_robust.classifier.frozen import call_frozen
from keras_robust.classifier.frozen import frozen_scope
from keras_robust.classifier.graph import nodes_to
from keras_robust.classifier.graph import output_of
from keras_robust.classifier.inputs import Held
from keras_robust.classifier.inputs import Inputs
from keras_robust.classifier.rewriting import Rewritten
from keras_robust.classifier.rewriting import rewrite

# Relative differences of outputs that count as rounding, by precision.
ROUNDING = 1e-3
HALF_ROUNDING = 5e-2
_HALF = ("float16", "bfloat16")


def rounding_of(model: keras.Model) -> float:
    """The relative difference of a model's outputs that counts as rounding."""
    layers = [model]
    while layers:
        layer = layers.pop()
        if getattr(layer, "compute_dtype", None) in _HALF:
            return HALF_ROUNDING
        layers += getattr(layer, "layers", None) or []
    return ROUNDING


def agree(first: np.ndarray, second: np.ndarray, rounding: float) -> bool:
    """Whether two outputs are equal up to rounding; NaN equals NaN."""
    if first.shape != second.shape:
        return False
    finite = np.isfinite(first) & np.isfinite(second)
    same = np.where(finite, 0.0, (first != second) & ~np.isnan(first + second))
    if same.any():
        return False
    scale = np.abs(second[finite]).max(initial=0.0)
    difference = np.abs(first - second)[finite].max(initial=0.0)
    return bool(difference <= rounding * max(scale, 1e-6))


class FrozenModel:
    """A model in inference mode as a function `x -> output`.

    BatchNorm is folded into the layer before it if the backend gains by that.
    `verify` compares the outputs with those of the model.

    Args:
        model: A built Keras model. The reference is weak, so that a cache
            keyed by the model can be freed with it.
        inputs: Which input is attacked; `None` for the only one.
        output: Which of several outputs, see `Classifier`.
        is_integer: Whether the attacked input has an integer dtype. It is then
            rounded, with the gradient of the identity.
        backward: Which layers are differentiated as something else, or `None`.
        folds: Whether BatchNorm may be folded.
    """

    def __init__(
        self,
        model: keras.Model,
        inputs: Inputs | None = None,
        output: str | int | None = None,
        is_integer: bool = False,
        backward: Backward | None = None,
        folds: bool = backend.folds_batch_norm,
    ) -> None:
        self._model: Callable[[], keras.Model] = weakref.ref(model)
        self.inputs = inputs or Inputs(model)
        self._output = output
        self._is_integer = is_integer
        self._rewritten = None
        if folds or is_integer or backward:
            options: dict[str, Any] = {
                "output": output,
                "casts": not is_integer,
                "replaced": backward and backward.replaced_in(model, output),
            }
            self._rewritten = rewrite(model, fold=folds, **options)
            if self._rewritten is None and backward and folds:
                # Masks pass between layers that are called as in Keras.
                self._rewritten = rewrite(model, fold=False, **options)
        # Read now: those of a layer that was not built are new.
        self._more = [] if backward is None else backward.variables
        # Several threads may attack the same model.
        self._thread = threading.local()

    @property
    def is_rewritten(self) -> bool:
        """Whether outputs are computed without calling the model itself."""
        return self._rewritten is not None

    def __call__(self, x: Any, draw: Any = None, held: Any = None) -> Any:
        """The output of the model at `x`, in inference mode.

        Args:
            x: Tensor `(N, ...)`, the attacked input.
            draw: See `frozen_scope`.
            held: Dictionary of the other inputs, see `Inputs`.
        """
        if self._rewritten is None:
            packed = self.inputs.pack(x, held)
            output = call_frozen(self._model(), packed, draw)
            return choose_output(output, self._output, self._model())
        if self._is_integer:
            x = x + ops.stop_gradient(ops.round(x) - x)
        flat = self.inputs.flat(x, held)
        weights = getattr(self._thread, "weights", None)
        if self._rewritten.pure:
            return self._rewritten(flat, weights)
        with frozen_scope(self._model(), draw, self._more):
            return self._rewritten(flat, weights)

    @contextmanager
    def cached_weights(self) -> Iterator[None]:
        """A context in which folded weights are computed once for all calls."""
        outer = getattr(self._thread, "weights", None)
        if self._rewritten is not None and outer is None:
            self._thread.weights = self._rewritten.weights()
        try:
            yield
        finally:
            self._thread.weights = outer

    def verify(self, x: Any, held: Any = None) -> bool:
        """Compare with the model, and fall back to calling it if they differ.

        Args:
            x: Array or tensor `(N, ...)`, a few real inputs.
            held: The inputs that are not attacked.

        Returns:
            Whether they agree.
        """
        if self._rewritten is None:
            return True
        x = ops.cast(ops.convert_to_tensor(x), "float32")
        ours, own = (
            np.asarray(ops.convert_to_numpy(ops.cast(output, "float32")))
            for output in (
                self(x, held=held),
                choose_output(
                    call_frozen(self._model(), self.inputs.pack(x, held)),
                    self._output,
                    self._model(),
                ),
            )
        )
        if agree(ours, own, rounding_of(self._model())):
            return True
        self.fall_back(x, held)
        return False

    def fall_back(self, x: Any, held: Any = None) -> None:
        """Call the model itself from now on; warn which layer differs."""
        if self._rewritten is None:
            return
        name = self._first_difference(self._rewritten, x, held)
        self._rewritten = None
        warnings.warn(
            f"Model {self._model().name!r} is called without folding its "
            "BatchNormalization: with folding, the outputs differ from "
            f"model(x, training=False), first at layer {name!r}.",
            UserWarning,
            stacklevel=3,
        )

    def _first_difference(
        self, rewritten: Rewritten, x: Tensor, held: Held | None
    ) -> str:
        model, flat = self._model(), self.inputs.flat(x, held)
        tensors = [
            tensor
            for step in rewritten.steps
            if not step.is_moved
            for tensor in _tensors_of(model, self._output, step.writes)
        ]
        view = keras.Model(model.inputs, tensors)
        own = keras.tree.flatten(call_frozen(view, flat))
        with frozen_scope(model):
            values = rewritten.values(flat, keep=True)
        for tensor, expected in zip(tensors, own, strict=True):
            operation = tensor._keras_history.operation
            ours = values.get(id(tensor))
            if ours is None:
                continue
            ours, expected = (
                ops.convert_to_numpy(ops.cast(value, "float32"))
                for value in (ours, expected)
            )
            if not agree(ours, expected, rounding_of(model)):
                return operation.name
        return model.name


def _tensors_of(
    model: keras.Model, output: str | int | None, names: tuple[int, ...]
) -> list[keras.KerasTensor]:
    return [
        tensor
        for node in nodes_to(output_of(model, output), model.inputs)
        for tensor in node.outputs
        if id(tensor) in names
    ]


def choose_output(
    outputs: Any, key: str | int | None, model: keras.Model | None = None
) -> Any:
    """One of a model's outputs.

    Args:
        outputs: A tensor, or a list or dictionary of tensors.
        key: Name or position; `None` for the only one.
        model: The model, for the names of its outputs.

    Returns:
        Tensor.

    Raises:
        ValueError: If there is no such output, or there are several and `key`
            is `None`.
    """
    if isinstance(outputs, dict):
        # Positions are in the order of the keys, as in `model.outputs`; that in
        # which a model returns them depends on the backend.
        entries = {name: outputs[name] for name in sorted(outputs)}
    else:
        several = isinstance(outputs, (list, tuple))
        values = list(outputs) if several else [outputs]
        names = list(getattr(model, "output_names", None) or [])
        if len(names) != len(values):
            names = list(range(len(values)))
        entries = dict(zip(names, values, strict=True))
    if key is None and len(entries) == 1:
        return next(iter(entries.values()))
    if isinstance(key, int) and key not in entries and key < len(entries):
        return list(entries.values())[key]
    if key not in entries:
        raise ValueError(
            "Argument `output` must choose one of the outputs of the model, "
            f"{list(entries)}. Received: output={key!r}"
        )
    return entries[key]
