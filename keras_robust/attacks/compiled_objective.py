"""Increasing the model's own loss, from the numbers before its activations."""

import weakref
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import keras
from keras import ops

from keras_robust.attacks.compiled_loss import CompiledLoss
from keras_robust.attacks.compiled_loss import Part
from keras_robust.attacks.compiled_loss import labels_of
from keras_robust.attacks.compiled_loss import mask_of
from keras_robust.attacks.compiled_loss import masked
from keras_robust.attacks.compiled_loss import per_example
from keras_robust.attacks.compiled_loss import resolve_loss
from keras_robust.attacks.objectives import log_odds
from keras_robust.classifier import Classifier
from keras_robust.classifier.frozen import frozen_scope
from keras_robust.classifier.graph import output_of
from keras_robust.classifier.graph import shows_graph
from keras_robust.classifier.graph_run import Entry
from keras_robust.classifier.graph_run import GraphRun
from keras_robust.classifier.head import Head
from keras_robust.classifier.head import find_head

_ACTIVATIONS = {
    "softmax": keras.activations.softmax,
    "sigmoid": keras.activations.sigmoid,
}
_CROSS_ENTROPIES = (
    keras.losses.SparseCategoricalCrossentropy,
    keras.losses.CategoricalCrossentropy,
    keras.losses.BinaryCrossentropy,
    keras.losses.sparse_categorical_crossentropy,
    keras.losses.categorical_crossentropy,
    keras.losses.binary_crossentropy,
)
# `(y, logits) -> (N,)`.
Loss = Callable[[Any, Any], Any]
# `(y, logits) -> (weights, margins)`, both `(N, ..., K)`.
Margins = Callable[[Any, Any], tuple[Any, Any]]
# The activation whose output a cross-entropy of probabilities reads.
_READS = {"classes": "softmax", "rows": "softmax", "bits": "sigmoid"}


class Raw(NamedTuple):
    """An output before its last activation.

    Attributes:
        values: Tensor `(N, ...)`.
        kind: `"softmax"` or `"sigmoid"`, the activation that was left out;
            `"linear"` where there is none, `None` where it is unknown.
        mask: Keras's mask of the output, `None` where it has none. What is
            computed of the values loses it.
    """

    values: Any
    kind: str | None
    mask: Any = None

    @property
    def output(self) -> Any:
        """The model's own output."""
        activation = _ACTIVATIONS.get(self.kind or "")
        values = ops.cast(self.values, "float32")
        return values if activation is None else activation(values)


class RawOutputs:
    """Outputs of a model in inference mode, before a softmax or sigmoid.

    Layers are called as in Keras; no BatchNorm is folded. The model is held
    weakly.

    Args:
        classifier: The `Classifier`.
        loss: The `CompiledLoss`, for whose parts outputs are given.
        entry: A tensor of the graph that stands in place of the attacked
            input, or `None`.
    """

    def __init__(
        self,
        classifier: Classifier,
        loss: CompiledLoss,
        entry: Entry | None = None,
    ) -> None:
        model = classifier.model
        self._model = weakref.ref(model)
        self._inputs = classifier.inputs
        self._own = classifier.outputs
        self._rounds = classifier.integer_input and entry is None
        self._loss = loss
        self._run = None
        if shows_graph(model):
            keys = [part.key for part in loss.parts]
            self._heads = [_head(model, key) for key in keys]
            self._attacked = _position(model.inputs, classifier.inputs.tensor)
            self._run = GraphRun(
                [
                    head.body.outputs[0] if head.body else output_of(model, key)
                    for head, key in zip(self._heads, keys, strict=True)
                ],
                model.inputs,
                entry,
                self._attacked,
            )

    def __call__(self, x: Any, draw: Any = None, held: Any = None) -> list[Raw]:
        """One `Raw` for each part of the loss.

        Args:
            x: Tensor `(N, ...)`.
            draw: Which draw of a randomized model's noise.
            held: The other inputs.
        """
        if self._run is None:
            outputs = self._own.structure(x, draw, held)
            found = [self._loss.output(outputs, p) for p in self._loss.parts]
            return [Raw(values, None, mask_of(values)) for values in found]
        values = self._inputs.flat(self._own.scale(x), held)
        with frozen_scope(self._model(), draw):
            bodies = self._run(
                [
                    self._cast(value, source, i == self._attacked)
                    for i, (value, source) in enumerate(
                        zip(values, self._run.sources, strict=True)
                    )
                ]
            )
            return [
                _raw(head, body)
                for head, body in zip(self._heads, bodies, strict=True)
            ]

    def _cast(self, value: Any, source: Any, moves: bool) -> Any:
        if moves and self._rounds:
            # The cast to integers would cut off the gradient.
            return value + ops.stop_gradient(ops.round(value) - value)
        return ops.cast(value, source.dtype)


def _raw(head: Head, body: Any) -> Raw:
    """The output that ends in a head, before its activation."""
    values = body if head.body is None else head.finish(body)
    return Raw(values, head.kind, mask_of(values))


def _position(tensors: list[Any], wanted: Any) -> int:
    return next(i for i, tensor in enumerate(tensors) if tensor is wanted)


def _head(model: keras.Model, key: str | int | None) -> Head:
    """The head of an output; of kind `None` if it cannot be removed."""
    head = find_head(model, key)
    if head.body is None and head.kind != "linear":
        return Head(None)
    return head


class CompiledObjective:
    """The loss of `compile`, to be increased; decreased with `targeted`.

    Where the loss is a cross-entropy and the model's logits can be computed, it
    is computed from these: Keras cuts probabilities off at 1e-7, where a
    confident model has no gradient. A single loss is replaced by its logarithm,
    which rises with it and has a gradient where the loss rounds to zero; of
    class labels by their log-odds. A hinge loss that is zero counts by its
    margin.

    Args:
        outputs: `(x, draw, held)` to a list of `Raw`, one for each part of the
            loss.
        loss: The `CompiledLoss`.
        targeted: Whether the labels are to be reached.
    """

    def __init__(
        self,
        outputs: Callable[..., list[Raw]],
        loss: CompiledLoss,
        targeted: bool = False,
    ) -> None:
        self.outputs = outputs
        self.loss = loss
        self.targeted = targeted

    def __call__(self, inputs: dict[str, Any], x: Any) -> tuple[Any, Any]:
        """Values `(N,)` to increase at `x`, and where the goal is reached.

        Args:
            inputs: Dictionary with `y`, labels as `fit` takes them.
            x: Tensor `(N, ...)`.
        """
        found = self.outputs(x, inputs.get("draw"), inputs.get("held"))
        terms, parts = [], self.loss.parts
        # Of a single loss any rising function will do.
        log = len(parts) == 1 and parts[0].weight > 0
        for part, raw in zip(parts, found, strict=True):
            y = self.loss.labels(inputs["y"], part)
            terms.append(_term(part, y, raw, log))
        values = self.loss.total(terms)
        success = self.success(inputs, found)
        if success is None:
            success = ops.zeros_like(values, dtype="bool")
        return -values if self.targeted else values, success

    def success(self, inputs: dict[str, Any], found: list[Raw]) -> Any:
        """Where the goal is reached; `None`: a loss has no such place."""
        del inputs, found


def _term(part: Part, y: Any, raw: Raw, log: bool) -> tuple[Part, Any, Any]:
    loss = resolve_loss(part.loss, y, raw.values)
    function = from_logits(loss, raw, log) or _from_margins(loss, raw)
    if function is not None:
        return part, loss, function(y, ops.cast(raw.values, "float32"))
    return part, loss, per_example(loss, raw.mask)(y, raw.output)


def from_logits(loss: Any, raw: Raw, log: bool = False) -> Loss | None:
    """A cross-entropy as a function of logits.

    Args:
        loss: What `resolve_loss` gave.
        raw: The output that it is for.
        log: Whether to give its logarithm, or for class labels log-odds, in
            place of the loss.

    Returns:
        `(y, logits) -> (N,)`; `None` where the loss is another one, or the
        model does not show its logits.
    """
    exact = loss in _CROSS_ENTROPIES or type(loss) in _CROSS_ENTROPIES
    if not exact:
        return None
    config = loss.get_config() if isinstance(loss, keras.losses.Loss) else {}
    kind = labels_of(loss)
    reads = "linear" if config.get("from_logits") else _READS.get(kind or "")
    if raw.kind != reads:
        return None
    smoothing = config.get("label_smoothing") or 0.0
    if kind == "rows" and smoothing:
        # It has no flat part.
        return per_example(_of_logits(loss, config), raw.mask)
    adds_up = getattr(loss, "reduction", "mean") in ("sum", "none", None)
    ignored, axis = config.get("ignore_class"), config.get("axis", -1)
    if len(raw.values.shape) == 2 and log and ignored is None:
        if kind == "rows":
            return soft_log_odds
        if kind == "classes":
            return lambda y, logits: log_odds(_as_numbers(y), logits)
    if kind == "bits":
        margins = _bit_margins(smoothing)
    else:
        margins = _class_margins(axis % len(raw.values.shape), kind, ignored)
    return _mean_softplus(margins, adds_up, log, raw.mask)


def _as_numbers(y: Any) -> Any:
    return ops.cast(y[:, 0] if len(y.shape) == 2 else y, "int32")


def _of_logits(loss: Any, config: dict[str, Any]) -> Any:
    if isinstance(loss, keras.losses.Loss):
        return type(loss)(**{**config, "from_logits": True})
    return lambda y, z: loss(y, z, from_logits=True)


def soft_log_odds(y: Any, logits: Any) -> Any:
    """Log-odds of one-hot rows, cross-entropy of soft ones.

    Args:
        y: Tensor `(N, C)`, rows of probabilities.
        logits: Tensor `(N, C)`.

    Returns:
        Float tensor `(N,)`.
    """
    y = ops.cast(y, "float32")
    hard = log_odds(ops.cast(ops.argmax(y, axis=-1), "int32"), logits)
    soft = _soft_cross_entropy(y, logits)
    return ops.where(ops.max(y, axis=-1) >= 1, hard, soft)


def _soft_cross_entropy(y: Any, logits: Any) -> Any:
    total = ops.sum(y, axis=-1)
    return total * ops.logsumexp(logits, axis=-1) - ops.sum(y * logits, axis=-1)


def _bit_margins(smoothing: float) -> Margins:
    """Binary cross-entropy as `sum_k weight_k * softplus(margin_k)`."""

    def call(y: Any, logits: Any) -> Any:
        y = ops.reshape(ops.cast(y, "float32"), ops.shape(logits))
        y = y * (1 - smoothing) + 0.5 * smoothing
        return ops.stack([y, 1 - y], -1), ops.stack([-logits, logits], -1)

    return call


def _class_margins(axis: int, kind: str | None, ignored: int | None) -> Margins:
    """Cross-entropy of each place as `weight * softplus(log-odds)`.

    That of soft labels is turned into it by the inverse of softplus.
    """

    def call(y: Any, logits: Any) -> Any:
        logits = ops.moveaxis(logits, axis, -1)
        if kind == "rows":
            y = ops.moveaxis(ops.cast(y, "float32"), axis, -1)
            soft = _soft_cross_entropy(y, logits)
            soft = ops.log(ops.expm1(ops.clip(soft, 1e-6, 50.0)))
            is_hard = ops.max(y, axis=-1) >= 1
            y = ops.argmax(y, axis=-1)
        elif len(y.shape) == len(logits.shape):
            y = ops.squeeze(y, -1)
        y = ops.cast(y, "int32")
        classes = ops.arange(logits.shape[-1], dtype="int32")
        own = ops.equal(classes, y[..., None])
        others = ops.logsumexp(ops.where(own, -1e30, logits), axis=-1)
        margins = others - ops.sum(ops.where(own, logits, 0.0), axis=-1)
        weights = ops.ones_like(margins)
        if kind == "rows":
            margins = ops.where(is_hard, margins, soft)
        elif ignored is not None:
            weights = ops.cast(ops.not_equal(y, ignored), "float32")
        return weights[..., None], margins[..., None]

    return call


def _mean_softplus(
    margins: Margins, adds_up: bool, log: bool, mask: Any = None
) -> Loss:
    """`sum_k weight_k * softplus(margin_k)`, averaged over places."""

    def call(y: Any, logits: Any) -> Any:
        weights, values = margins(y, logits)
        weights = masked(weights, mask)
        places = ops.cast(ops.size(values[0, ..., 0]), "float32")
        axes = tuple(range(1, len(values.shape)))
        if not log:
            total = ops.sum(weights * ops.softplus(values), axis=axes)
            return total if adds_up else total / places
        # log(softplus(m)) is m where softplus(m) rounds to zero.
        near = ops.log(ops.softplus(ops.maximum(values, -20.0)))
        logs = ops.where(values < -20.0, values, near)
        present = weights > 0
        shares = ops.log(ops.where(present, weights, 1.0))
        logs = ops.where(present, logs + shares, -1e30)
        logs = ops.logsumexp(logs, axis=axes)
        return logs if adds_up else logs - ops.log(places)

    return call


def _from_margins(loss: Any, raw: Raw) -> Loss | None:
    """Hinge losses, with the margin where all of an example's are zero."""
    hinges = (keras.losses.Hinge, keras.losses.SquaredHinge)
    functions = (keras.losses.hinge, keras.losses.squared_hinge)
    if type(loss) not in hinges and loss not in functions:
        return None

    def call(y: Any, values: Any) -> Any:
        del values
        own = per_example(loss, raw.mask)(y, raw.output)
        signs = ops.reshape(ops.cast(y, "float32"), ops.shape(raw.output))
        # Keras takes labels of 0 for -1 as well.
        signs = ops.where(signs > 0, 1.0, -1.0)
        axes = tuple(range(1, len(raw.output.shape)))
        margin = masked(1 - signs * raw.output, raw.mask)
        margin = ops.mean(margin, axis=axes)
        return ops.where(own > 0, own, margin)

    return call


def objective_of(
    classifier: Classifier, loss: CompiledLoss, targeted: bool = False
) -> CompiledObjective:
    """Return what `loss="compiled"` increases on a model.

    Args:
        classifier: The `Classifier`; its `output` chooses one of several.
        loss: The model's `CompiledLoss`.
        targeted: Whether the labels are to be reached.

    Returns:
        `CompiledObjective`, which takes labels as `fit` does.
    """
    loss = loss.only(classifier.output)
    return CompiledObjective(RawOutputs(classifier, loss), loss, targeted)
