"""Adversarial weight perturbation."""

from collections.abc import Callable

import keras
from keras import ops

from keras_robust import backend
from keras_robust.backend import Tensor


def weight_shifts(
    model: keras.Model, loss: Callable[[], Tensor], size: float
) -> list[Tensor]:
    """Shifts of weights along the gradient of a loss.

    Wu et al. 2020 (arXiv:2004.05884), eq. 8 and 9: a kernel w with gradient g
    is shifted by `size * ||w|| * g / ||g||`. Biases, scales and other
    variables of rank below 2 stay.

    Args:
        model: The compiled model; its variables are not changed.
        loss: Computes the loss at the current values of variables.
        size: Norm of the shifts, as a share of that of the kernels.

    Returns:
        List of tensors, one for each trainable variable of the model.
    """
    weights = model.trainable_variables
    others = [*model.non_trainable_variables, *model.metrics_variables]
    kept = [(variable, variable.value) for variable in others]

    def of_values(values: list[Tensor]) -> Tensor:
        mapping = [*zip(weights, values, strict=True), *kept]
        with keras.StatelessScope(mapping, collect_losses=True):
            total = loss()
        # In half precision gradients of the loss itself would round to zero.
        # Only their direction counts.
        return model.optimizer.scale_loss(total)

    values = [ops.convert_to_tensor(variable) for variable in weights]
    gradients = backend.gradients(of_values, values)
    return [
        _shift(value, gradient, size)
        for value, gradient in zip(values, gradients, strict=True)
    ]


def _shift(value: Tensor, gradient: Tensor, size: float) -> Tensor:
    if len(value.shape) < 2:
        return ops.zeros_like(value)
    # Dividing by the largest entry first keeps tiny gradients exact.
    largest = ops.max(ops.abs(gradient))
    usable = ops.logical_and(largest > 0, ops.isfinite(largest))
    unit = ops.where(usable, gradient / ops.where(usable, largest, 1.0), 0.0)
    norm = ops.sqrt(ops.sum(ops.square(unit)))
    unit = unit / ops.where(usable, norm, 1.0)
    return size * ops.sqrt(ops.sum(ops.square(value))) * unit
