"""How a network is trained: settings, schedules, optimizers, losses."""

from dataclasses import dataclass
from dataclasses import replace
from typing import Any

import keras
from keras import ops

SCHEDULES = ("one_cycle", "triangle", "drops", "late_drops", "constant")


@dataclass(frozen=True)
class Training:
    """How one network is trained.

    Attributes:
        epochs: Int.
        learning_rate: Peak learning rate.
        optimizer: `"sgd"`, `"nesterov"` (both with `momentum`) or `"adam"`.
        schedule: `"one_cycle"`: warm-up over a fifth of the steps, then a
            cosine to zero; `"triangle"`: from a fifth of the peak up in 23 %
            of the steps and down to 7 %; `"drops"`: a tenth after each third;
            `"late_drops"`: a tenth after 60 and after 80 % of the steps;
            `"constant"`.
        batch_size: Int.
        augment: Whether to shift, and flip where the recipe flips.
        momentum: Float in [0, 1), of SGD.
        label_smoothing: Float in [0, 1).
        bias_rate: Float > 0, how much larger the learning rate of biases and
            of BatchNormalization's offsets is.
        weight_average: Share of the running average of weights that each step
            keeps, which takes their place at the end; `None` for none.
    """

    epochs: int
    learning_rate: float
    optimizer: str = "sgd"
    schedule: str = "one_cycle"
    batch_size: int = 128
    augment: bool = True
    momentum: float = 0.9
    label_smoothing: float = 0.0
    bias_rate: float = 1.0
    weight_average: float | None = None


@keras.saving.register_keras_serializable("keras_robust")
class Triangle(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises linearly to its peak and falls linearly.

    Jordan 2024 (arXiv:2404.00498), section 3 and the released airbench94: 0.2
    of the peak at first, the peak after 23 % of the steps, 0.07 at the end.

    Args:
        peak: Float > 0, the largest learning rate.
        steps: Int >= 1, steps of the whole training.
        start: Float >= 0, the share of the peak at first.
        end: Float >= 0, the share of the peak after `steps`.
        rise: Float in (0, 1), the share of the steps that rise.
    """

    def __init__(
        self,
        peak: float,
        steps: int,
        start: float = 0.2,
        end: float = 0.07,
        rise: float = 0.23,
    ) -> None:
        if int(steps) != steps or steps < 1:
            raise ValueError(
                "Argument `steps` must be an integer >= 1. "
                f"Received: steps={steps}"
            )
        if not 0 < rise < 1:
            raise ValueError(
                "Argument `rise` must lie between 0 and 1. "
                f"Received: rise={rise}"
            )
        self.peak = float(peak)
        self.steps = int(steps)
        self.start = float(start)
        self.end = float(end)
        self.rise = float(rise)

    def __call__(self, step: Any) -> Any:
        """The learning rate at a step, counted from 0."""
        done = ops.cast(step, "float32") / self.steps
        rising = self.start + (1 - self.start) * done / self.rise
        left = ops.clip((1 - done) / (1 - self.rise), 0.0, 1.0)
        falling = self.end + (1 - self.end) * left
        return self.peak * ops.minimum(rising, falling)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {
            "peak": self.peak,
            "steps": self.steps,
            "start": self.start,
            "end": self.end,
            "rise": self.rise,
        }


@keras.saving.register_keras_serializable("keras_robust")
class SmoothedCrossEntropy(keras.losses.Loss):
    """Cross-entropy of class numbers with label smoothing.

    Keras smooths one-hot labels only; data sets here hold class numbers.

    Args:
        smoothing: Float in [0, 1), the probability that is spread evenly over
            all classes.
        **kwargs: Arguments of `keras.losses.Loss`.
    """

    def __init__(self, smoothing: float = 0.0, **kwargs: Any) -> None:
        if not 0 <= smoothing < 1:
            raise ValueError(
                "Argument `smoothing` must lie in [0, 1). "
                f"Received: smoothing={smoothing}"
            )
        super().__init__(**kwargs)
        self.smoothing = float(smoothing)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each example.

        Args:
            y_true: Class numbers, `(N,)` or `(N, 1)`.
            y_pred: Logits, `(N, C)`.

        Returns:
            Tensor `(N,)`.
        """
        labels = ops.reshape(y_true, (-1,))
        rows = ops.one_hot(ops.cast(labels, "int32"), y_pred.shape[-1])
        return keras.losses.categorical_crossentropy(
            rows,
            ops.cast(y_pred, "float32"),
            from_logits=True,
            label_smoothing=self.smoothing,
        )

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {**super().get_config(), "smoothing": self.smoothing}


def make_schedule(
    name: str, peak: float, steps: int
) -> keras.optimizers.schedules.LearningRateSchedule | float:
    """A learning rate over the steps of a training.

    Args:
        name: One of `SCHEDULES`, see `Training`.
        peak: Largest learning rate.
        steps: Int, how many steps there are.

    Returns:
        `keras.optimizers.schedules.LearningRateSchedule`, or `peak`.

    Raises:
        ValueError: If the schedule is unknown.
    """
    schedules = keras.optimizers.schedules
    warm_up = max(steps // 5, 1)
    left = max(steps - warm_up, 1)
    warming = {"warmup_target": peak, "warmup_steps": warm_up}
    if name == "triangle":
        return Triangle(peak, steps)
    if name == "one_cycle":
        return schedules.CosineDecay(0.0, left, **warming)
    if name == "drops":
        bounds = [steps // 3, 2 * steps // 3]
    elif name == "late_drops":
        bounds = [round(0.6 * steps), round(0.8 * steps)]
    elif name == "constant":
        return peak
    else:
        raise ValueError(
            f"A schedule must be one of {SCHEDULES}. "
            f"Received: schedule={name!r}"
        )
    return schedules.PiecewiseConstantDecay(
        bounds, [peak, peak / 10, peak / 100]
    )


def make_optimizer(
    training: Training, steps_per_epoch: int
) -> keras.optimizers.Optimizer:
    """The optimizer and schedule of a `Training`.

    Args:
        training: A `Training`.
        steps_per_epoch: Int.

    Returns:
        `keras.optimizers.Optimizer`.

    Raises:
        ValueError: If optimizer or schedule are unknown.
    """
    if training.bias_rate == 1.0:
        return _optimizer(training, steps_per_epoch)
    faster = replace(
        training, learning_rate=training.bias_rate * training.learning_rate
    )
    # Offsets of BatchNormalization and biases, by the paths of variables.
    return keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(
            _optimizer(training, steps_per_epoch),
            {r".*/(beta|bias)": _optimizer(faster, steps_per_epoch)},
        )
    )


def _optimizer(
    training: Training, steps_per_epoch: int
) -> keras.optimizers.Optimizer:
    """One optimizer for all variables."""
    rate = make_schedule(
        training.schedule,
        training.learning_rate,
        training.epochs * steps_per_epoch,
    )
    options: dict[str, Any] = {}
    if training.weight_average is not None:
        options = {"use_ema": True, "ema_momentum": training.weight_average}
    if training.optimizer == "adam":
        return keras.optimizers.Adam(rate, **options)
    if training.optimizer in ("sgd", "nesterov"):
        return keras.optimizers.SGD(
            rate,
            momentum=training.momentum,
            nesterov=training.optimizer == "nesterov",
            **options,
        )
    raise ValueError(
        "An optimizer must be 'sgd', 'nesterov' or 'adam'. "
        f"Received: optimizer={training.optimizer!r}"
    )


def make_loss(training: Training) -> keras.losses.Loss:
    """The loss of a `Training`, of logits and class numbers."""
    if training.label_smoothing:
        return SmoothedCrossEntropy(training.label_smoothing)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
