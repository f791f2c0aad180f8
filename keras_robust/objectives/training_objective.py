"""Base class of training objectives."""

from collections.abc import Callable
from typing import Any
from typing import ClassVar

from keras_robust.attacks.config import ConfigMixin
from keras_robust.backend import Tensor


class TrainingObjective(ConfigMixin):
    """A loss of clean and attacked outputs, for `AdversarialModel`.

    `fit` minimizes

        clean_weight * L(clean) + attacked_weight * L(attacked) + loss(...)

    where L is the compiled loss on the outputs for the clean batch or for the
    attacked one. All three are weighted by sample and class weights, and
    reduced over the batch as the compiled loss is. What regularizers of
    weights add to the loss is added once. What layers add in a pass, such as a
    regularizer of their outputs, has the weight of the compiled loss on the
    outputs of that pass.

    A subclass sets the two weights, defines `loss`, or both. Arguments of its
    constructor are kept as attributes of the same names; with the decorator
    of the example a model with it can be saved and loaded.

    Attributes:
        clean_weight: Float, weight of the compiled loss on clean outputs.
        attacked_weight: Float, weight of the compiled loss on attacked ones.
        needs_classes: Whether labels must be numbers of classes or one-hot.
            If `False`, `loss` gets the model's own output where they are not,
            and `None` as labels.
        attack_loss: `None`: the attack increases its own loss. Or a method
            `(clean, logits) -> (N,)` of the logits (as in `loss`) for clean
            images and for points on the way, which attacks with the default
            `loss="cross_entropy"` increase instead. Where they have
            `random_start=False`, they start from the image with Gaussian
            noise, whose standard deviation is a thousandth of the width of
            `value_range`: at the image itself a divergence has no gradient.

    Example:

    ```python
    @keras.saving.register_keras_serializable("my_package")
    class SquaredDifference(keras_robust.objectives.TrainingObjective):
        clean_weight = 1.0

        def __init__(self, weight: float = 1.0) -> None:
            self.weight = weight

        def loss(self, labels: Any, clean: Any, attacked: Any) -> Any:
            change = ops.square(ops.softmax(clean) - ops.softmax(attacked))
            return self.weight * ops.sum(change, axis=-1)
    ```
    """

    clean_weight: float = 0.0
    attacked_weight: float = 0.0
    needs_classes: ClassVar[bool] = True
    attack_loss: Callable[[Tensor, Tensor], Tensor] | None = None

    def build(self, num_classes: int | None, add_weight: Any) -> None:
        """Create variables that the objective updates in training.

        Args:
            num_classes: Number of classes; `None` where it is not known.
            add_weight: As `keras.Layer.add_weight`.
        """

    def loss(self, labels: Tensor, clean: Tensor, attacked: Tensor) -> Any:
        """The loss of each example besides the compiled loss.

        Args:
            labels: Int32 tensor `(N,)`; of soft labels the largest.
            clean: Logits for clean images, float32 `(N, C)`, C >= 2. Of a
                single output `z` they are `[0, z]`; of a model that ends in
                probabilities, the logarithms of these.
            attacked: Logits for attacked images.

        Returns:
            Float tensor `(N,)`, or `None` for no such loss.
        """
        del labels, clean, attacked

    def begin_epoch(self) -> None:
        """Forget what an epoch that was not finished has left."""

    def end_epoch(self) -> None:
        """Update what changes between epochs."""
