"""Copies of the compiled metrics for attacked inputs."""

import inspect
import re
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust.backend import Tensor

PREFIX = "robust_"
LOSS = "robust_loss"
ACCURACY = "robust_accuracy"
# Types of settings that hold a single value.
_PLAIN = (str, int, float, bool, type(None))


class RobustMetric(keras.metrics.Metric):
    """A metric on attacked inputs, under the clean metric's name and direction.

    Args:
        metric: A metric that nothing else updates.
        name: Name of the clean metric in logs.
    """

    def __init__(self, metric: keras.metrics.Metric, name: str) -> None:
        super().__init__(name=PREFIX + name)
        self.metric = metric
        # `EarlyStopping(mode="auto")` reads it.
        direction = getattr(metric, "_direction", None)
        if direction is not None:
            self._direction = direction
        self.is_active = False
        # Some metrics create their variables in the first update.
        self.is_ready = False

    def update_state(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> None:
        """Update the metric, once Keras has assigned it to an output."""
        if self.is_active:
            self.metric.update_state(y_true, y_pred, sample_weight)
            self.is_ready = True

    def result(self) -> Any:
        """The result of the metric; 0 before its first update."""
        return self.metric.result() if self.is_ready else ops.zeros(())

    def reset_state(self) -> None:
        """Reset the metric, once it has a state."""
        if self.is_ready:
            self.metric.reset_state()


class _ManualMean(keras.metrics.Mean):
    """A mean of given numbers, which are not computed from outputs."""

    def __init__(self, name: str, direction: Any) -> None:
        super().__init__(name=name)
        self._direction = direction

    def update_state(
        self, values: Any, outputs: Any = None, sample_weight: Any = None
    ) -> None:
        """Do nothing: see `add`."""
        del values, outputs, sample_weight

    def add(self, values: Any, weight: Any = None) -> None:
        """Add numbers to the mean."""
        super().update_state(values, weight)


class _Holder(keras.Model):
    """A model without layers, so that Keras assigns its metrics to outputs."""

    def __init__(self, output_names: Any = None) -> None:
        super().__init__()
        if output_names:
            self.output_names = output_names


def _accuracy(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """What `metrics=["accuracy"]` means, by the rule of `compile`."""
    if y_pred.shape[-1] == 1:
        return keras.metrics.binary_accuracy(_like(y_true, y_pred), y_pred)
    if _is_sparse(y_true, y_pred):
        return keras.metrics.sparse_categorical_accuracy(y_true, y_pred)
    return keras.metrics.categorical_accuracy(y_true, y_pred)


def _cross_entropy(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """What `metrics=["crossentropy"]` means, by the rule of `compile`."""
    if y_pred.shape[-1] == 1:
        return keras.losses.binary_crossentropy(_like(y_true, y_pred), y_pred)
    if _is_sparse(y_true, y_pred):
        return keras.losses.sparse_categorical_crossentropy(y_true, y_pred)
    return keras.losses.categorical_crossentropy(y_true, y_pred)


def _like(y_true: Tensor, y_pred: Tensor) -> Tensor:
    missing = len(y_true.shape) == len(y_pred.shape) - 1
    return ops.expand_dims(y_true, -1) if missing else y_true


def _is_sparse(y_true: Tensor, y_pred: Tensor) -> bool:
    return len(y_true.shape) < len(y_pred.shape) or (
        y_true.shape[-1] == 1 and y_pred.shape[-1] > 1
    )


_AUTOMATIC = {
    "accuracy": (_accuracy, "up"),
    "acc": (_accuracy, "up"),
    "crossentropy": (_cross_entropy, "down"),
    "ce": (_cross_entropy, "down"),
}


def robust_copy(metric: Any) -> RobustMetric | None:
    """A fresh metric for attacked inputs.

    Args:
        metric: What `compile` takes: a string, function or metric.

    Returns:
        `RobustMetric`; `None`, with a warning, for a metric that cannot be
        recreated from its configuration.
    """
    if metric is None:
        return None
    if isinstance(metric, str) and metric.lower() in _AUTOMATIC:
        function, direction = _AUTOMATIC[metric.lower()]
        copied = keras.metrics.MeanMetricWrapper(function, name=metric)
        copied._direction = direction
        return RobustMetric(copied, metric)
    found = keras.metrics.get(metric)
    if not isinstance(found, keras.metrics.Metric):
        name = metric if isinstance(metric, str) else _snake_case(found)
        copied = keras.metrics.MeanMetricWrapper(found, name=name)
        return RobustMetric(copied, name)
    name = metric if isinstance(metric, str) else found.name
    try:
        copied = type(found).from_config(found.get_config())
        _complete(copied, found)
        return RobustMetric(copied, name)
    except (TypeError, ValueError, NotImplementedError) as error:
        warnings.warn(
            f"There is no robust_{name} in evaluation: metric {name!r} cannot "
            f"be recreated from its get_config ({error}).",
            UserWarning,
            stacklevel=3,
        )
        return None


def _complete(copied: keras.Metric, metric: keras.Metric) -> None:
    """Copy settings that are missing in some metrics' `get_config`."""
    shapes = [
        [tuple(variable.shape) for variable in found.variables]
        for found in (copied, metric)
    ]
    # A metric that creates variables in its first update may have some. What
    # else it found then must not be copied, only what it was given.
    is_lazy = len(shapes[0]) < len(shapes[1])
    given = inspect.signature(type(metric).__init__).parameters
    bookkeeping = vars(keras.metrics.Metric(name="any"))
    for key, value in vars(metric).items():
        known = key in vars(copied)
        if is_lazy:
            known = known and key.lstrip("_") in given
        plain = isinstance(value, _PLAIN) or (
            key not in bookkeeping and _is_setting(value, metric)
        )
        if key == "_fn_kwargs" or (known and plain):
            # Containers of its own, the same entries.
            value = keras.tree.map_structure(lambda leaf: leaf, value)
            setattr(copied, key, value)
    if shapes[0] != shapes[1][: len(shapes[0])]:
        raise ValueError("its configuration is not complete")


def _is_setting(value: Any, metric: keras.Metric) -> bool:
    """Whether an attribute of a metric holds numbers, names or functions."""
    if isinstance(value, (set, frozenset)):
        value = list(value)
    return all(
        isinstance(leaf, (*_PLAIN, np.ndarray, np.generic))
        or ops.is_tensor(leaf)
        # Methods of the metric itself would update that one.
        or (inspect.isroutine(leaf) and _owner(leaf) is not metric)
        or isinstance(leaf, keras.losses.Loss)
        for leaf in keras.tree.flatten(value)
    )


def _owner(function: Any) -> Any:
    """The object of a bound method; `None` for other functions."""
    return getattr(function, "__self__", None)


def _snake_case(function: Callable[..., Any]) -> str:
    """The name of a function as Keras writes it in logs."""
    name = re.sub(r"\W+", "", getattr(function, "__name__", "metric"))
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


class RobustMetrics:
    """`robust_loss`, `robust_accuracy` and a copy of each compiled metric.

    They are compiled into separate models without layers, so that Keras
    assigns them to outputs and weights them like the clean ones.

    Args:
        metrics: As in `keras.Model.compile`.
        weighted_metrics: As in `keras.Model.compile`.
        structure: Anything with the structure of the model's outputs.
        output_names: Names of a functional model's outputs, or `None`.
    """

    def __init__(
        self,
        metrics: Any,
        weighted_metrics: Any,
        structure: Any,
        output_names: list[str] | None,
    ) -> None:
        self.is_single = not keras.tree.is_nested(structure)
        self.loss = _ManualMean(LOSS, "down")
        self.accuracy = _ManualMean(ACCURACY, "up")
        # Whether labels are classes, known after the first batch.
        self.classifies = False
        self._copies: list[RobustMetric] = []
        self._holder: _Holder | None = None
        metrics, weighted_metrics = (
            self._copied(metrics),
            self._copied(weighted_metrics),
        )
        if self._copies:
            holder = _Holder(output_names)
            self._holder = _compiled(
                holder, metrics, weighted_metrics, structure
            )
        for copied in self._copies:
            copied.is_active = True
        means = [self.accuracy, self.loss]
        if self.is_single and any(c.name == ACCURACY for c in self._copies):
            means = [self.loss]
        self._means = _compiled(_Holder(), means, None, 0.0)

    def _copied(self, metrics: Any) -> Any:
        if not metrics:
            return None

        def copy_of(metric: Any) -> RobustMetric | None:
            copied = robust_copy(metric)
            if copied is not None:
                self._copies.append(copied)
            return copied

        copies = keras.tree.map_structure(copy_of, metrics)
        # In a list for several outputs an entry stands for its output.
        is_per_output = not self.is_single and isinstance(copies, (list, tuple))
        if is_per_output:
            return [_without_none(entry) for entry in copies]
        return _without_none(copies)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The groups of compiled metrics, which the model must track."""
        holders = [self._holder, self._means]
        return [_group(holder) for holder in holders if holder is not None]

    def results(self) -> dict[str, Any]:
        """The logs of an evaluation."""
        logs = {}
        if self._holder is not None:
            for name, value in _group(self._holder).result().items():
                logs[_renamed(name)] = value
        if self.classifies and ACCURACY not in logs:
            logs[ACCURACY] = self.accuracy.result()
        return {**logs, LOSS: self.loss.result()}

    def names(self) -> set[str]:
        """Names that Keras gives them in logs, before they are renamed."""
        found = set()
        for group in self.metrics:
            found |= set(group.result())
        return found

    def build(self, y: Any, outputs: Any, sample_weight: Any = None) -> None:
        """Create variables of the copies, without counting anything.

        Some metrics create them in their first update, which must come before
        a step whose state is fixed.

        Args:
            y: Labels as `fit` takes them.
            outputs: The model's outputs.
            sample_weight: As in `fit`.
        """
        if self._holder is None or all(
            copied.is_ready for copied in self._copies
        ):
            return
        if self.is_single and len(keras.tree.flatten(outputs)) > 1:
            return
        with keras.StatelessScope():
            _group(self._holder).update_state(y, outputs, sample_weight)
        for copied in self._copies:
            copied.is_ready = True

    def update(self, y: Any, outputs: Any, sample_weight: Any = None) -> None:
        """Add a batch to the copies.

        Args:
            y: Labels as `fit` takes them.
            outputs: The model's outputs at attacked inputs.
            sample_weight: As in `fit`.

        Raises:
            ValueError: If the model has several outputs and a hidden graph.
        """
        if self._holder is None:
            return
        if self.is_single and len(keras.tree.flatten(outputs)) > 1:
            raise ValueError(
                "Metrics of several outputs on attacked inputs need a "
                "functional model. Received: outputs "
                f"{keras.tree.map_structure(lambda part: '*', outputs)}"
            )
        _group(self._holder).update_state(y, outputs, sample_weight)


def _compiled(
    holder: _Holder, metrics: Any, weighted_metrics: Any, structure: Any
) -> _Holder:
    """The holder, with its metrics assigned to outputs."""
    holder.compile(
        optimizer=None, metrics=metrics, weighted_metrics=weighted_metrics
    )
    nothing = keras.tree.map_structure(
        lambda part: np.zeros((1, 1), "float32"), structure
    )
    # Not by `compute_metrics`, which computes their results too.
    _group(holder).update_state(nothing, nothing)
    return holder


def _group(holder: _Holder) -> keras.Metric:
    """All compiled metrics of a model, as the one metric that Keras has."""
    return next(m for m in holder.metrics if m.name == "compile_metrics")


def _without_none(metrics: Any) -> Any:
    """List without entries for metrics that could not be copied."""
    if isinstance(metrics, dict):
        return {key: _without_none(entry) for key, entry in metrics.items()}
    if isinstance(metrics, (list, tuple)):
        nested = any(keras.tree.is_nested(entry) for entry in metrics)
        if nested:
            return [_without_none(entry) for entry in metrics]
        return [entry for entry in metrics if entry is not None]
    return metrics


def _renamed(name: str) -> str:
    """Put `robust_` in front, before the name of an output too."""
    before, _, after = name.partition(PREFIX)
    return PREFIX + before + after
