"""Optimizers of the recipes."""

import keras

SCHEDULES = ("one_cycle", "drops", "late_drops", "constant")


def make_schedule(name, peak, steps):
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


def make_optimizer(training, steps_per_epoch):
    """The optimizer and schedule of a `Training`.

    Args:
        training: A `Training`.
        steps_per_epoch: Int.

    Returns:
        `keras.optimizers.Optimizer`.

    Raises:
        ValueError: If optimizer or schedule are unknown.
    """
    rate = make_schedule(
        training.schedule,
        training.learning_rate,
        training.epochs * steps_per_epoch,
    )
    if training.optimizer == "adam":
        return keras.optimizers.Adam(rate)
    if training.optimizer in ("sgd", "nesterov"):
        nesterov = training.optimizer == "nesterov"
        return keras.optimizers.SGD(rate, momentum=0.9, nesterov=nesterov)
    raise ValueError(
        "An optimizer must be 'sgd', 'nesterov' or 'adam'. "
        f"Received: optimizer={training.optimizer!r}"
    )
