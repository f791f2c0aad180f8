"""How a network is trained: settings, schedules, optimizers, losses."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import fields
from dataclasses import replace
from typing import Any

import keras
from keras import ops

from keras_robust.classifier.fingerprint import callable_sha256
from keras_robust.datasets.tf_data import can_be_imported
from keras_robust.utils.checks import check_number
from keras_robust.utils.checks import check_positive_integer
from keras_robust.utils.checks import check_share
from keras_robust.utils.checks import takes_arguments
from keras_robust.utils.messages import describe
from keras_robust.utils.messages import did_you_mean
from keras_robust.utils.messages import shown

SCHEDULES = ("one_cycle", "triangle", "drops", "late_drops", "constant")
WITH_MOMENTUM = ("sgd", "nesterov")
# Numbers of steps by which two functions of them are told apart.
_PROOF_STEPS = (1000, 77)
# What an optimizer that is not given by name decides itself.
OF_NAMED_OPTIMIZERS = (
    "learning_rate",
    "schedule",
    "momentum",
    "bias_rate",
    "weight_average",
)


@dataclass(frozen=True)
class Training:
    """How one network is trained.

    Attributes:
        epochs: Int >= 1.
        learning_rate: Peak learning rate of an optimizer by name; `None` for
            Keras's default.
        optimizer: `"sgd"`, `"nesterov"` (both with `momentum`), or the name
            of another optimizer of Keras, such as `"adam"` or `"lion"`; or one
            of your own: a function of the number of steps that returns an
            optimizer, a class of Keras, an optimizer, or its configuration.
            Every network gets a new one. Schedule, momentum, learning rate,
            `bias_rate` and `weight_average` are those of optimizers by name.
        schedule: `"one_cycle"`: warm-up over a fifth of the steps, then a
            cosine to zero; `"triangle"`: from a fifth of the peak up in 23 %
            of the steps and down to 7 %; `"drops"`: a tenth after each third;
            `"late_drops"`: a tenth after 60 and after 80 % of the steps;
            `"constant"`.
        batch_size: Int >= 1.
        augment: `True` to shift, and flip where the study flips; or a Keras
            layer, or another function of a batch of images, in the units of
            the data set.
        momentum: Float in [0, 1), of SGD.
        label_smoothing: Float in [0, 1).
        bias_rate: Float > 0, how much larger the learning rate of biases and
            of BatchNormalization's offsets is.
        weight_average: Share of the running average of weights that each step
            keeps, which takes their place at the end; `None` for none.

    Raises:
        ValueError: If an argument is not as above.
    """

    epochs: int
    learning_rate: float | None = None
    optimizer: Any = "sgd"
    schedule: str = "one_cycle"
    batch_size: int = 128
    augment: Any = False
    momentum: float = 0.9
    label_smoothing: float = 0.0
    bias_rate: float = 1.0
    weight_average: float | None = None

    def __post_init__(self) -> None:
        """Check what would fail after other networks were trained."""
        check_positive_integer(self.epochs, "epochs")
        check_positive_integer(self.batch_size, "batch_size")
        for name in ("learning_rate", "bias_rate"):
            value = getattr(self, name)
            if value is not None or name == "bias_rate":
                check_number(value, name, positive=True)
        if self.weight_average is not None:
            check_share(self.weight_average, "weight_average")
        for name in ("momentum", "label_smoothing"):
            if check_number(getattr(self, name), name, most=1.0) == 1:
                raise ValueError(
                    f"Argument `{name}` must be in [0, 1). Received: {name}=1"
                )
        if self.schedule not in SCHEDULES:
            raise ValueError(
                f"A schedule must be one of {SCHEDULES}."
                f"{did_you_mean(self.schedule, SCHEDULES)} "
                f"Received: schedule={shown(self.schedule)}"
            )
        if not isinstance(self.augment, bool) and not callable(self.augment):
            raise ValueError(
                "Argument `augment` must be True, False, a Keras layer or a "
                "function of a batch of images. "
                f"Received: augment={describe(self.augment)}"
            )
        if isinstance(self.optimizer, str):
            _check_optimizer_name(self.optimizer)
        else:
            self._check_own_optimizer()

    def _check_own_optimizer(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name in OF_NAMED_OPTIMIZERS and value != each.default:
                raise ValueError(
                    f"Argument `{each.name}` must be left out where "
                    "`optimizer` is not a name: the optimizer has its own. "
                    f"Received: {each.name}={shown(value)}"
                )
        # Made once here, so that a mistake shows before anything is trained.
        _own_optimizer(self.optimizer, steps=1)

    def changed(self, settings: Mapping[str, Any]) -> "Training":
        """This training with other settings.

        Numbers that belong to its optimizer are not those of another one.

        Args:
            settings: Attributes by name.
        """
        optimizer = settings.get("optimizer", self.optimizer)
        if optimizer == self.optimizer:
            return replace(self, **settings)
        defaults = {each.name: each.default for each in fields(self)}
        own = {name: defaults[name] for name in numbers_of(optimizer)}
        return replace(self, **{**own, **settings})

    def description(self) -> dict[str, Any]:
        """All settings as plain values, which tell two trainings apart."""
        described = {
            each.name: getattr(self, each.name) for each in fields(self)
        }
        if not isinstance(self.optimizer, str):
            described["optimizer"] = _described_optimizer(self.optimizer)
        if not isinstance(self.augment, bool):
            described["augment"] = {"sha256": callable_sha256(self.augment)}
        return described


def numbers_of(optimizer: Any) -> tuple[str, ...]:
    """The settings that do not outlast another choice of the optimizer.

    Args:
        optimizer: The one that is chosen, see `Training`.

    Returns:
        Names of attributes of `Training`.
    """
    is_named = isinstance(optimizer, str)
    return ("learning_rate",) if is_named else OF_NAMED_OPTIMIZERS


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
        from_logits: Whether outputs are logits; else they are probabilities.
        **kwargs: Arguments of `keras.losses.Loss`.
    """

    def __init__(
        self, smoothing: float = 0.0, from_logits: bool = True, **kwargs: Any
    ) -> None:
        if not 0 <= smoothing < 1:
            raise ValueError(
                "Argument `smoothing` must lie in [0, 1). "
                f"Received: smoothing={smoothing}"
            )
        super().__init__(**kwargs)
        self.smoothing = float(smoothing)
        self.from_logits = bool(from_logits)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each example.

        Args:
            y_true: Class numbers, `(N,)` or `(N, 1)`.
            y_pred: Logits or probabilities, `(N, C)`.

        Returns:
            Tensor `(N,)`.
        """
        labels = ops.reshape(y_true, (-1,))
        rows = ops.one_hot(ops.cast(labels, "int32"), y_pred.shape[-1])
        return keras.losses.categorical_crossentropy(
            rows,
            ops.cast(y_pred, "float32"),
            from_logits=self.from_logits,
            label_smoothing=self.smoothing,
        )

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor."""
        return {
            **super().get_config(),
            "smoothing": self.smoothing,
            "from_logits": self.from_logits,
        }


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
        `keras.optimizers.Optimizer`, a new one.

    Raises:
        ValueError: If the schedule is unknown.
    """
    steps = training.epochs * steps_per_epoch
    if not isinstance(training.optimizer, str):
        return _own_optimizer(training.optimizer, steps)
    if training.bias_rate == 1.0:
        return _named_optimizer(training, steps)
    # Offsets of BatchNormalization and biases, by the paths of variables.
    return keras.optimizers.MultiOptimizer(
        keras.optimizers.OptimizerMap(
            _named_optimizer(training, steps),
            {
                r".*/(beta|bias)": _named_optimizer(
                    training, steps, factor=training.bias_rate
                )
            },
        )
    )


def _named_optimizer(
    training: Training, steps: int, factor: float = 1.0
) -> keras.optimizers.Optimizer:
    """One optimizer for all variables.

    Args:
        training: A `Training` with the name of an optimizer.
        steps: Int, of the whole training.
        factor: Of the learning rate.
    """
    peak = training.learning_rate
    if peak is None:
        default = _keras_optimizer(training.optimizer)
        peak = float(ops.convert_to_numpy(default.learning_rate))
    rate = make_schedule(training.schedule, factor * peak, steps)
    options: dict[str, Any] = {}
    if training.weight_average is not None:
        options = {"use_ema": True, "ema_momentum": training.weight_average}
    if training.optimizer in WITH_MOMENTUM:
        options["momentum"] = training.momentum
        options["nesterov"] = training.optimizer == "nesterov"
    kind = type(_keras_optimizer(training.optimizer))
    return kind(learning_rate=rate, **options)


def _keras_optimizer(name: str) -> keras.optimizers.Optimizer:
    """The optimizer of a name, with Keras's defaults."""
    return keras.optimizers.get("sgd" if name in WITH_MOMENTUM else name)


def _check_optimizer_name(name: str) -> None:
    try:
        _keras_optimizer(name)
    except (ValueError, TypeError) as error:
        known = list(WITH_MOMENTUM)
        known += [
            entry.lower()
            for entry, value in vars(keras.optimizers).items()
            if isinstance(value, type)
            and issubclass(value, keras.optimizers.Optimizer)
        ]
        raise ValueError(
            "An optimizer must be 'sgd', 'nesterov', 'adam' or the name of "
            f"another one of Keras.{did_you_mean(name, known)} "
            f"Received: optimizer={name!r}"
        ) from error


def _own_optimizer(optimizer: Any, steps: int) -> keras.optimizers.Optimizer:
    """A new optimizer from what the user gave.

    Args:
        optimizer: A function of the number of steps, a class, an optimizer or
            its configuration.
        steps: Int, of the whole training.
    """
    if isinstance(optimizer, keras.optimizers.Optimizer):
        # With its own state, which must not pass to the next network.
        made = type(optimizer).from_config(optimizer.get_config())
    elif isinstance(optimizer, dict):
        made = keras.optimizers.deserialize(optimizer)
    elif isinstance(optimizer, type):
        made = optimizer()
    elif callable(optimizer) and takes_arguments(optimizer, 1):
        made = optimizer(steps)
    else:
        made = optimizer
    if not isinstance(made, keras.optimizers.Optimizer):
        raise ValueError(
            "Argument `optimizer` must be a name, a function of the number of "
            "steps that returns an optimizer of Keras, an optimizer or its "
            f"configuration. Received: optimizer={describe(optimizer)}"
            + (
                f", which returns {describe(made)}"
                if callable(optimizer) and made is not optimizer
                else ""
            )
        )
    return made


def _described_optimizer(optimizer: Any) -> Any:
    """Plain values that change with an optimizer of the user."""
    # That of a training follows from other settings; a schedule of fixed
    # length must not be taken for one of all steps.
    made, other = (_own_optimizer(optimizer, steps) for steps in _PROOF_STEPS)
    config, changed = (_unnamed(each.get_config()) for each in (made, other))
    described = [type(made), config]
    if changed != config:
        described.append(changed)
    return {
        "class": f"{type(made).__module__}.{type(made).__qualname__}",
        "sha256": callable_sha256(described),
    }


def _unnamed(config: Any) -> Any:
    """A configuration without names, which Keras numbers in each process."""
    if isinstance(config, dict):
        return {
            key: _unnamed(value)
            for key, value in config.items()
            if key != "name"
        }
    if isinstance(config, (list, tuple)):
        return [_unnamed(value) for value in config]
    return config


def make_loss(
    training: Training, from_logits: bool = True
) -> keras.losses.Loss:
    """The loss of a `Training`, of the outputs and class numbers.

    Args:
        training: A `Training`.
        from_logits: Whether outputs are logits; else they are probabilities.
    """
    if training.label_smoothing:
        return SmoothedCrossEntropy(
            training.label_smoothing, from_logits=from_logits
        )
    return keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)


def tensorboard(
    folder: str | os.PathLike[str], **options: Any
) -> list[keras.callbacks.Callback]:
    """Keras's TensorBoard, which writes through TensorFlow.

    Args:
        folder: Where logs are written.
        **options: Arguments of `keras.callbacks.TensorBoard`.

    Returns:
        List of the callback; empty where TensorFlow is not installed.
    """
    if not can_be_imported():
        return []
    return [keras.callbacks.TensorBoard(folder, **options)]
