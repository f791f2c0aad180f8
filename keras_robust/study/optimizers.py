"""Optimizers of the recipes."""

import keras


def make_optimizer(training, steps_per_epoch):
    """SGD with momentum 0.9 and the schedule of a `Training`.

    Args:
        training: A `recipes.Training`.
        steps_per_epoch: Int.

    Returns:
        `keras.optimizers.SGD`.

    Raises:
        ValueError: If the schedule is unknown.
    """
    schedules = keras.optimizers.schedules
    steps = training.epochs * steps_per_epoch
    peak = training.learning_rate
    if training.schedule == "one_cycle":
        warm_up = max(steps // 5, 1)
        rate = schedules.CosineDecay(
            0.0,
            max(steps - warm_up, 1),
            warmup_target=peak,
            warmup_steps=warm_up,
        )
    elif training.schedule == "drops":
        rate = schedules.PiecewiseConstantDecay(
            [steps // 3, 2 * steps // 3], [peak, peak / 10, peak / 100]
        )
    else:
        raise ValueError(
            "A schedule must be 'one_cycle' or 'drops'. "
            f"Received: schedule={training.schedule!r}"
        )
    return keras.optimizers.SGD(rate, momentum=0.9)
