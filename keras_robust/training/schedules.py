"""Radii that change in the course of a training."""

from abc import ABC
from abc import abstractmethod
from typing import Any

import keras
from keras import ops


class EpsilonSchedule(ABC):
    """Base class of schedules: the share of an attack's radius, by progress.

    A subclass has `call_share(progress)`, computed inside the compiled step,
    and `get_config`.

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
        """The share at a progress between 0 and 1."""

    def get_config(self) -> dict[str, Any]:
        """Arguments of the schedule."""
        return {"epochs": self.epochs, "steps": self.steps}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "EpsilonSchedule":
        """The schedule that `get_config` described."""
        return cls(**config)


@keras.saving.register_keras_serializable("keras_robust")
class LinearWarmup(EpsilonSchedule):
    """A radius that grows in a straight line, then stays the attack's.

    Args:
        epochs: Length in epochs, counted over all calls of `fit`. Within an
            epoch it grows step by step, if `fit` knows the number of steps.
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
        ValueError: If not exactly one length is given, or `start` is no share.
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
    """Counts what a schedule depends on, in a variable of the model.

    Args:
        model: The model that owns the variable.
        schedule: An `EpsilonSchedule`, or a Keras schedule of the radius
            itself by training step.

    Raises:
        ValueError: If `schedule` is neither.
    """

    def __init__(self, model: keras.Model, schedule: Any) -> None:
        keras_schedule = keras.optimizers.schedules.LearningRateSchedule
        self._is_share = isinstance(schedule, EpsilonSchedule)
        if not self._is_share and not isinstance(schedule, keras_schedule):
            raise ValueError(
                "Argument `epsilon_schedule` must be a schedule of "
                "keras.optimizers.schedules or of keras_robust.training. "
                f"Received: epsilon_schedule={schedule!r}"
            )
        self.schedule = schedule
        self.counts_epochs = self._is_share and schedule.epochs is not None
        # Not a weight of the optimizer, whose own counter is out of reach of
        # the part of the step that attacks.
        options: dict[str, Any] = {
            "shape": (),
            "initializer": "zeros",
            "dtype": "float32",
            "trainable": False,
            "aggregation": "only_first_replica",
        }
        self._done = model.add_weight(name="epsilon_progress", **options)
        # Epochs for each step of this `fit`; 0 where it is not known.
        self._pace = None
        if self.counts_epochs:
            self._pace = model.add_weight(name="epsilon_pace", **options)

    def epsilon(self, full: float) -> Any:
        """The radius of this step, as a float tensor.

        Args:
            full: The attack's own radius.
        """
        value = self.schedule(ops.convert_to_tensor(self._done))
        value = ops.cast(value, "float32")
        return ops.maximum(value * full if self._is_share else value, 0.0)

    def advance(self) -> None:
        """Counts one training step."""
        pace = 1.0 if self._pace is None else self._pace
        self._done.assign(self._done + pace)

    def begin_fit(self, steps: int | None) -> None:
        """Sets how many steps an epoch has.

        Args:
            steps: Int, or `None` where it is not known.
        """
        if self._pace is not None:
            self._pace.assign(0.0 if not steps else 1.0 / steps)

    def begin_epoch(self, epoch: int) -> None:
        """Sets the count to whole epochs.

        Args:
            epoch: Number of the epoch in this `fit`, from 0 on.
        """
        if self.counts_epochs:
            # A little more than rounding errors of the steps add up to.
            done = int(float(ops.convert_to_numpy(self._done.value)) + 0.01)
            self._done.assign(float(max(done, epoch)))

    def end_epoch(self) -> None:
        """Counts a whole epoch, where its steps did not."""
        if self._pace is None:
            return
        done = float(ops.convert_to_numpy(self._done.value))
        if float(ops.convert_to_numpy(self._pace.value)) == 0.0:
            self._done.assign(int(done) + 1.0)
        else:
            self._done.assign(float(round(done)))
