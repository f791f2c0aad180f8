"""Schedules of the radius in adversarial training."""

from abc import ABC
from abc import abstractmethod
from typing import Any

import keras
import numpy as np
from keras import ops


class EpsilonSchedule(ABC):
    """Base class of schedules of the radius, as a share of the attack's.

    A subclass defines `call_share(progress)`, which runs inside the compiled
    step, and `get_config`.

    Args:
        epochs: Length of the schedule in epochs, or `None`.
        steps: Length of the schedule in training steps, or `None`.

    Raises:
        ValueError: If not exactly one of the two is a number > 0.
    """

    def __init__(
        self, epochs: float | None = None, steps: int | None = None
    ) -> None:
        given = [length for length in (epochs, steps) if length is not None]
        if len(given) != 1 or not given[0] > 0:
            raise ValueError(
                "Exactly one of the arguments `epochs` and `steps` must be a "
                f"number > 0. Received: epochs={epochs}, steps={steps}"
            )
        self.epochs = epochs
        self.steps = steps

    def __call__(self, done: Any) -> Any:
        """The share of the attack's radius.

        Args:
            done: Float tensor, epochs or steps of training so far.

        Returns:
            Float tensor.
        """
        length = self.epochs if self.steps is None else self.steps
        return self.call_share(ops.minimum(done / length, 1.0))

    @abstractmethod
    def call_share(self, progress: Any) -> Any:
        """The share of the radius at a progress between 0 and 1."""

    def get_config(self) -> dict[str, Any]:
        """Arguments of the schedule."""
        return {"epochs": self.epochs, "steps": self.steps}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "EpsilonSchedule":
        """Create a schedule from the result of `get_config`."""
        return cls(**config)


@keras.saving.register_keras_serializable("keras_robust")
class LinearWarmup(EpsilonSchedule):
    """A radius that grows linearly, then stays the attack's.

    Args:
        epochs: Length in epochs, counted over all calls of `fit`. Within an
            epoch the radius grows step by step if `fit` knows their number.
        steps: Length in training steps, in place of `epochs`.
        start: Share of the radius at the beginning, 0 to 1.

    Example:

    ```python
    schedule = keras_robust.training.LinearWarmup(epochs=5)
    robust = keras_robust.AdversarialModel(
        model, attack, epsilon_schedule=schedule
    )
    ```

    Raises:
        ValueError: If not exactly one length is given, or `start` is not in
            [0, 1].
    """

    def __init__(
        self,
        epochs: float | None = None,
        steps: int | None = None,
        start: float = 0.0,
    ) -> None:
        super().__init__(epochs, steps)
        if not 0 <= start <= 1:
            raise ValueError(
                "Argument `start` must be a share of the radius, 0 to 1. "
                f"Received: start={start}"
            )
        self.start = start

    def call_share(self, progress: Any) -> Any:
        """`start + (1 - start) * progress`."""
        return self.start + (1 - self.start) * progress

    def get_config(self) -> dict[str, Any]:
        """Arguments of the schedule."""
        return {**super().get_config(), "start": self.start}


class EpsilonClock:
    """Counts steps or epochs for a schedule, in a variable of the model.

    Args:
        model: The model that owns the variable.
        schedule: An `EpsilonSchedule`; or a Keras schedule or another function
            that gives the radius itself by training step.

    Raises:
        ValueError: If `schedule` is something else.
    """

    def __init__(self, model: keras.Model, schedule: Any) -> None:
        self._is_share = isinstance(schedule, EpsilonSchedule)
        # A class is callable too.
        if not callable(schedule) or isinstance(schedule, type):
            raise ValueError(
                "Argument `epsilon_schedule` must be a schedule of "
                "keras.optimizers.schedules or of keras_robust.training, or a "
                "function of the training step. "
                f"Received: epsilon_schedule={schedule!r}"
            )
        self.schedule = schedule
        self.counts_epochs = self._is_share and schedule.epochs is not None
        # The counter of the optimizer is not available to the attack.
        options: dict[str, Any] = {
            "shape": (),
            "initializer": "zeros",
            "dtype": "float32",
            "trainable": False,
            "aggregation": "only_first_replica",
        }
        self._done = model.add_weight(name="epsilon_progress", **options)
        # Epochs per step of this `fit`; 0 if the number of steps is unknown.
        self._pace = None
        if self.counts_epochs:
            self._pace = model.add_weight(name="epsilon_pace", **options)

    def epsilon(self, full: Any) -> Any:
        """The radius of this step, as a float tensor.

        Args:
            full: The attack's own radius, or one for each feature: then the
                result is the largest.
        """
        # A tensor of its own: functions need not take variables.
        value = self.schedule(self._done + 0.0)
        value = ops.cast(ops.convert_to_tensor(value), "float32")
        if len(value.shape):
            raise ValueError(
                "Argument `epsilon_schedule` must return one number. Received: "
                f"a tensor of shape {tuple(value.shape)}"
            )
        if self._is_share:
            value = value * float(np.max(full))
        return ops.maximum(value, 0.0)

    def advance(self) -> None:
        """Count one training step."""
        pace = 1.0 if self._pace is None else self._pace
        self._done.assign(self._done + pace)

    def begin_epoch(self, epoch: int, steps: int | None) -> None:
        """Set the count to whole epochs, and the number of steps in one.

        Args:
            epoch: Number of the epoch in this `fit`, from 0 on.
            steps: Int, or `None` if it is not known.
        """
        if self._pace is not None:
            self._pace.assign(0.0 if not steps else 1.0 / steps)
            # 0.01 is more than the rounding errors of the steps add up to.
            done = int(float(ops.convert_to_numpy(self._done.value)) + 0.01)
            self._done.assign(float(max(done, epoch)))

    def end_epoch(self) -> None:
        """Count a whole epoch if its steps were not counted."""
        if self._pace is None:
            return
        done = float(ops.convert_to_numpy(self._done.value))
        if float(ops.convert_to_numpy(self._pace.value)) == 0.0:
            self._done.assign(int(done) + 1.0)
        else:
            self._done.assign(float(round(done)))
