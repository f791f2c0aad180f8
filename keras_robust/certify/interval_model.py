"""Training for interval bounds, as an ordinary Keras model."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust.attacks.compiled_loss import CompiledLoss
from keras_robust.certify.interval_network import IntervalNetwork
from keras_robust.utils import array_checks
from keras_robust.utils.checks import check_radius
from keras_robust.utils.checks import check_value_range
from keras_robust.utils.messages import shown


@keras.saving.register_keras_serializable("keras_robust")
class IntervalModel(keras.Model):
    """A model that `fit` trains for interval bounds in an L-infinity ball.

    Gowal et al. 2018 (arXiv:1810.12715), section 3: the loss is

    `kappa * compiled loss(z, y) + (1 - kappa) * cross-entropy(z_worst, y)`

    with the worst logits that interval bounds allow in the ball of radius
    `epsilon`. Both take sample weights and are reduced over the batch as the
    compiled loss is; `loss_weights` weights the first one only. What layers and
    regularizers add is added once, with a weight of 1. For `warmup` steps the
    training is ordinary; over the next `ramp` steps the radius grows from 0 to
    `epsilon` and the weight of the first term falls from 1 to `kappa`, both
    linearly.

    The model is trained in place, as in `AdversarialModel`; save `.model` to
    publish an ordinary Keras model. `fit` logs `certified_accuracy` at the
    radius of the step, `evaluate` at `epsilon`. The bounds take BatchNorm in
    inference mode, which follows its own statistics with a delay: networks
    without it train better.

    Args:
        model: A built functional or sequential classifier with one input, of
            layers that `IntervalNetwork` knows, and labels that are class
            numbers or one-hot.
        epsilon: Radius >= 0 in units of `value_range`.
        kappa: Float in [0, 1], the last weight of the compiled loss.
        warmup: Int >= 0, steps before the ramp.
        ramp: Int >= 0, steps of the ramp.
        value_range: `(low, high)`, the box that holds all inputs. Arrays
            outside it are an error, as are arrays of labels that are no
            classes; for such inputs and labels from any other source the loss
            of training is NaN, and they count as not certified.
        **kwargs: Arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is not as above.

    Example:

    ```python
    trainer = keras_robust.certify.IntervalModel(model, epsilon=0.1)
    trainer.compile("adam", loss, metrics=["accuracy"])
    trainer.fit(x, y, epochs=100)
    keras_robust.certify.interval_bounds(model, (x_test, y_test), 0.1).table()
    ```
    """

    def __init__(
        self,
        model: keras.Model,
        epsilon: float,
        kappa: float = 0.5,
        warmup: int = 2000,
        ramp: int = 10_000,
        value_range: Any = (0.0, 1.0),
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"autocast": False, **kwargs})
        epsilon = check_radius(epsilon)
        if not isinstance(epsilon, float) or not 0 <= kappa <= 1:
            raise ValueError(
                "Argument `epsilon` must be one number >= 0, and `kappa` in "
                f"[0, 1]. Received: epsilon={shown(epsilon)}, kappa={kappa}"
            )
        if min(warmup, ramp) < 0:
            raise ValueError(
                "Arguments `warmup` and `ramp` must be numbers of steps >= 0. "
                f"Received: warmup={warmup}, ramp={ramp}"
            )
        network = IntervalNetwork(model)
        _check_one(network.classifier.model)
        value_range = check_value_range(value_range)
        if isinstance(value_range, str):
            value_range = network.classifier.value_range()
        self.model = network.classifier.model
        self.epsilon = epsilon
        self.kappa = float(kappa)
        self.warmup = int(warmup)
        self.ramp = int(ramp)
        self.value_range = value_range
        self._network = network
        self._steps = self.add_weight(
            name="interval_steps",
            shape=(),
            initializer="zeros",
            dtype="float32",
            trainable=False,
            aggregation="only_first_replica",
        )
        self._certified = keras.metrics.Mean(name="certified_accuracy")
        self.built = True

    @property
    def attacked_model(self) -> keras.Model:
        """The inner model, which attacks and evaluations take."""
        return self.model

    @property
    def output_names(self) -> list[str] | None:
        """Names of the outputs of the inner model."""
        # Keras reads this property in the constructor already.
        return getattr(getattr(self, "model", None), "output_names", None)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The outputs of the inner model."""
        return self.model(inputs, training=training)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The loss of the paper in training, the compiled one in evaluation."""
        loss = super().compute_loss(
            x=x,
            y=y,
            y_pred=y_pred,
            sample_weight=sample_weight,
            training=training,
        )
        progress = self._progress() if training else ops.ones(())
        worst, labels = self._worst_logits(x, y, self.epsilon * progress)
        # The label's own entry is 0.
        others = worst - ops.one_hot(labels, worst.shape[-1])
        self._certified.update_state(ops.max(others, -1) < 0, sample_weight)
        if not training:
            return loss
        self._steps.assign_add(1.0)
        cross_entropy = self._cross_entropy(labels, worst, sample_weight)
        share = (1 - self.kappa) * progress
        # The compiled loss includes what layers add.
        cross_entropy = cross_entropy + self._added_losses()
        return (1 - share) * loss + share * cross_entropy

    def _cross_entropy(
        self, labels: Any, worst: Any, sample_weight: Any
    ) -> Any:
        """Cross-entropy of the worst logits, reduced as the compiled loss."""
        (part,) = CompiledLoss(self.loss, names=self.output_names).parts
        reduction = getattr(part.loss, "reduction", "sum_over_batch_size")
        if reduction in ("none", None):
            # Keras adds up what a loss without reduction gives.
            reduction = "sum"
        loss = keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction=reduction
        )
        return loss(labels, worst, sample_weight)

    def _added_losses(self) -> Any:
        """What layers and regularizers add to the compiled loss."""
        strategy = getattr(self, "distribute_strategy", None)
        replicas = getattr(strategy, "num_replicas_in_sync", 1)
        return sum(ops.sum(loss) for loss in self.losses) / replicas

    def fit(
        self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """As `keras.Model.fit`; arrays must lie in `value_range`."""
        self._check(x, y)
        return super().fit(x, y, *args, **kwargs)

    def evaluate(
        self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """As `keras.Model.evaluate`; arrays must lie in `value_range`."""
        self._check(x, y)
        return super().evaluate(x, y, *args, **kwargs)

    def train_on_batch(
        self, x: Any, y: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """As `keras.Model.train_on_batch`; see `fit`."""
        self._check(x, y)
        return super().train_on_batch(x, y, *args, **kwargs)

    def test_on_batch(
        self, x: Any, y: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        """As `keras.Model.test_on_batch`; see `evaluate`."""
        self._check(x, y)
        return super().test_on_batch(x, y, *args, **kwargs)

    def _check(self, x: Any, y: Any) -> None:
        """Check images and labels where they are in memory."""
        if _is_array(x):
            x = array_checks.as_floats(x, self.value_range)
            array_checks.check_images(x, self.value_range)
        if _is_array(y):
            classes = self._network.classifier.num_classes
            array_checks.check_labels(y, len(y), classes)

    def _progress(self) -> Any:
        """The share of the ramp that is done."""
        steps = ops.convert_to_tensor(self._steps) - self.warmup
        if not self.ramp:
            return ops.cast(steps >= 0, "float32")
        return ops.clip(steps / self.ramp, 0.0, 1.0)

    def _worst_logits(self, x: Any, y: Any, radius: Any) -> tuple[Any, Any]:
        low, high = (
            ops.convert_to_tensor(edge, "float32") for edge in self.value_range
        )
        x = ops.cast(x, "float32")
        lower = ops.maximum(x - radius, low)
        upper = ops.minimum(x + radius, high)
        classes = self._network.classifier.num_classes
        labels, valid = _classes(ops.convert_to_tensor(y), classes)
        worst = self._network.worst_case_logits(lower, upper, labels)
        # Outside the box the ball is cut to nothing, and its bounds mean
        # nothing.
        inside = ops.logical_and(x >= low, x <= high)
        inside = ops.all(inside, axis=tuple(range(1, len(x.shape))))
        valid = ops.logical_and(valid, inside)
        return ops.where(valid[:, None], worst, np.nan), labels

    def get_config(self) -> dict[str, Any]:
        """Configuration, with the inner model."""
        return {
            **super().get_config(),
            "model": keras.saving.serialize_keras_object(self.model),
            "epsilon": self.epsilon,
            "kappa": self.kappa,
            "warmup": self.warmup,
            "ramp": self.ramp,
            "value_range": [
                np.asarray(edge).tolist() for edge in self.value_range
            ],
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: Any = None
    ) -> "IntervalModel":
        """Create a model from the result of `get_config`."""
        config = dict(config)
        config["model"] = keras.saving.deserialize_keras_object(
            config["model"], custom_objects=custom_objects
        )
        return cls(**config)


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or ops.is_tensor(value)


def _check_one(model: Any) -> None:
    """Check that a model has one input and one output."""
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            "Argument `model` must have one input and one output. Received: "
            f"{len(model.inputs)} inputs and {len(model.outputs)} outputs"
        )


def _classes(y: Any, classes: int) -> tuple[Any, Any]:
    """Numbers of classes, and which rows of the labels are classes at all.

    Args:
        y: Tensor of labels.
        classes: The number of classes.

    Returns:
        Int32 tensor `(N,)`, and a bool tensor `(N,)`.
    """
    if len(y.shape) == 2 and y.shape[-1] == classes > 1:
        y = ops.cast(y, "float32")
        labels = ops.cast(ops.argmax(y, -1), "int32")
        one_hot = ops.one_hot(labels, classes, dtype="float32")
        return labels, ops.all(ops.equal(y, one_hot), axis=-1)
    given = ops.cast(ops.reshape(y, (-1,)), "float32")
    labels = ops.clip(ops.cast(given, "int32"), 0, classes - 1)
    return labels, ops.equal(given, ops.cast(labels, "float32"))
