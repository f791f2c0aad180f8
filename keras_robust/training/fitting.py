"""What happens between the steps of `fit`."""

import inspect
from collections.abc import Callable
from typing import Any

import keras

from keras_robust.objectives import TrainingObjective
from keras_robust.training.schedules import EpsilonClock
from keras_robust.training.source_checks import BatchInspector


class EpochCallback(keras.callbacks.Callback):
    """A callback that counts epochs and checks the last steps of each.

    Args:
        inspector: The model's `BatchInspector`.
        clock: The model's `EpsilonClock`, or `None`.
        objective: The model's objective, or `None`.
    """

    def __init__(
        self,
        inspector: BatchInspector,
        clock: EpsilonClock | None,
        objective: TrainingObjective | None,
    ) -> None:
        super().__init__()
        self._inspector = inspector
        self._clock = clock
        self._objective = objective

    def on_epoch_begin(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Pass on the beginning of an epoch, and its number of steps."""
        if self._clock is not None:
            # Callbacks may load the weights of another training before it.
            self._clock.begin_epoch(epoch, self.params.get("steps"))
        if self._objective is not None:
            self._objective.begin_epoch()

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Pass on the end of an epoch, before callbacks that save weights."""
        self._inspector.check()
        if self._clock is not None:
            self._clock.end_epoch()
        if self._objective is not None:
            self._objective.end_epoch()


def prepend_callback(callbacks: Any, first: keras.callbacks.Callback) -> Any:
    """Add a callback before those that `fit` was given.

    Args:
        callbacks: `None`, a callback, a list, or a `CallbackList`.
        first: The callback to add.
    """
    if isinstance(callbacks, keras.callbacks.CallbackList):
        # Of an earlier `fit`, which would count the same epochs again.
        callbacks.callbacks[:] = [
            one for one in callbacks.callbacks if type(one) is not type(first)
        ]
        first.set_model(callbacks.model)
        first.set_params(callbacks.params)
        callbacks.callbacks.insert(0, first)
        return callbacks
    if callbacks is None:
        return [first]
    if isinstance(callbacks, (list, tuple)):
        return [first, *callbacks]
    return [first, callbacks]


def arguments_by_name(
    method: Callable[..., Any],
    model: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> dict[str, Any]:
    """Name the positional arguments of a call.

    Args:
        method: The method, of the class.
        model: The object that it is called on.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
    """
    given = inspect.signature(method).bind(model, *args, **kwargs).arguments
    given.pop("self")
    return dict(given)
