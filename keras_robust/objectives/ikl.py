"""IKL: the divergence of TRADES in two parts, of which one is improved."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust.backend import Tensor
from keras_robust.objectives.divergences import kl_divergence
from keras_robust.objectives.training_objective import TrainingObjective
from keras_robust.utils import checks


@keras.saving.register_keras_serializable("keras_robust")
class IKL(TrainingObjective):
    """Improved Kullback-Leibler divergence in place of that of TRADES.

    Cui et al. 2023 (arXiv:2305.13948). The divergence KL(p(x) || p(x')) has
    the same gradients as the sum of a squared difference of logits, weighted
    by p(x), and a cross-entropy with soft labels. IKL weights the first part by
    the mean prediction w_y for the label's class instead. With logits z,
    d = z(x) - z(x') and p(x) held fixed in the last term,

        L(x, y) + squares_weight / 4 * sum_jk w_yj w_yk (d_j - d_k)**2
            - cross_entropy_weight * sum_k p_k(x) log p_k(x')

    where L is the compiled loss. w_y is the mean over an epoch of
    `softmax(z(x) / temperature)` on examples of class y, uniform in the first
    epoch and always with `train_on_batch`. The attack increases
    KL(p(x) || p(x')), as with TRADES. The defaults are those of the authors'
    code for CIFAR-10.

    Args:
        squares_weight: Float >= 0.
        cross_entropy_weight: Float >= 0.
        temperature: Float > 0.
    """

    clean_weight = 1.0

    def __init__(
        self,
        squares_weight: float = 20.0,
        cross_entropy_weight: float = 4.0,
        temperature: float = 4.0,
    ) -> None:
        self.squares_weight = checks.check_number(
            squares_weight, "squares_weight"
        )
        self.cross_entropy_weight = checks.check_number(
            cross_entropy_weight, "cross_entropy_weight"
        )
        self.temperature = checks.check_number(
            temperature, "temperature", positive=True
        )
        self._means: Any = None
        self._sums: Any = None

    def build(self, num_classes: int | None, add_weight: Any) -> None:
        """See `TrainingObjective`."""
        if num_classes is None:
            raise ValueError(
                "Objective IKL keeps a mean prediction for each class, so the "
                "model must show its number of classes. Received: a model "
                "whose output has no fixed size, or one of several outputs "
                "that `output=` does not choose"
            )
        shape = (num_classes, num_classes)
        options = {"shape": shape, "dtype": "float32", "trainable": False}
        options["aggregation"] = "mean"
        uniform = keras.initializers.Constant(1 / num_classes)
        self._means = add_weight(
            name="class_means", initializer=uniform, **options
        )
        self._sums = add_weight(
            name="class_sums", initializer="zeros", **options
        )

    def attack_loss(self, clean: Tensor, logits: Tensor) -> Tensor:
        """See `TrainingObjective`."""
        return kl_divergence(clean, logits)

    def loss(self, labels: Tensor, clean: Tensor, attacked: Tensor) -> Any:
        """See `TrainingObjective`."""
        weights = ops.take(ops.convert_to_tensor(self._means), labels, axis=0)
        own = ops.one_hot(labels, clean.shape[-1], dtype="float32")
        fixed = ops.stop_gradient(clean)
        soft = ops.softmax(fixed / self.temperature)
        self._sums.assign(self._sums + ops.matmul(ops.transpose(own), soft))
        entropy = ops.sum(
            ops.softmax(fixed) * ops.log_softmax(attacked), axis=-1
        )
        squares = weighted_squares(weights, clean - attacked)
        return (
            self.squares_weight / 4 * squares
            - self.cross_entropy_weight * entropy
        )

    def begin_epoch(self) -> None:
        """See `TrainingObjective`."""
        self._sums.assign(ops.zeros(self._sums.shape))

    def end_epoch(self) -> None:
        """Take the means of the epoch; a class without examples keeps its."""
        sums = np.asarray(ops.convert_to_numpy(self._sums.value))
        means = np.asarray(ops.convert_to_numpy(self._means.value))
        totals = sums.sum(axis=1, keepdims=True)
        found = sums / np.where(totals > 0, totals, 1.0)
        self._means.assign(np.where(totals > 0, found, means))
        self._sums.assign(np.zeros_like(sums))


def weighted_squares(weights: Tensor, change: Tensor) -> Tensor:
    """`sum_jk w_j w_k (d_j - d_k)**2`, for weights that add up to 1.

    Args:
        weights: w, tensor of shape `(N, C)`.
        change: d, tensor of shape `(N, C)`.

    Returns:
        Tensor of shape `(N,)`.
    """
    mean = ops.sum(weights * change, axis=-1, keepdims=True)
    return 2 * ops.sum(weights * ops.square(change - mean), axis=-1)
