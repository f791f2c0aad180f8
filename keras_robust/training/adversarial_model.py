"""Adversarial training as an ordinary Keras model."""

import keras
import numpy as np
from keras import ops

from keras_robust import backend
from keras_robust.attacks import checks
from keras_robust.attacks.frozen import check_built
from keras_robust.attacks.gradient_attack import GradientAttack
from keras_robust.attacks.per_model import count_classes
from keras_robust.attacks.per_model import frozen_logits
from keras_robust.training.first_batch import first_images


@keras.saving.register_keras_serializable("keras_robust")
class AdversarialModel(backend.Trainer, keras.Model):
    """A model that `fit` trains on attacked batches.

    Madry et al. 2018 (arXiv:1706.06083), section 2.1: each training step
    minimizes the compiled loss on the attack's output for the current
    weights. The attack sees the model in inference mode; the one
    `training=True` pass of a step is the one on the attacked batch.
    `compile`, callbacks, weights for samples and classes, and data of any
    kind are plain Keras. `predict` and calls give the inner model's output.

    `fit` logs `loss` and the metrics on what it trained on; evaluation logs
    the metrics on clean data, and `robust_accuracy` under
    `validation_attack`.

    Args:
        model: A built `keras.Model`, kept as `.model`; save that one to
            publish an ordinary Keras model.
        attack: An attack, e.g. `PGDAttack`; its `seed` seeds the random
            starts, which differ from step to step.
        validation_attack: Attack for `evaluate` and `validation_data`;
            `None` for `attack`.
        **kwargs: Arguments of `keras.Model`.

    Example:

    ```python
    robust = keras_robust.AdversarialModel(model, attack)
    robust.compile("adam", loss, metrics=["accuracy"])
    robust.fit(x, y, validation_data=(x_test, y_test))
    robust.model.save("robust.keras")
    ```

    Raises:
        ValueError: If the model is not built or an attack is none.
    """

    def __init__(self, model, attack, validation_attack=None, **kwargs):
        super().__init__(**kwargs)
        check_built(model)
        self.model = model
        self.attack = _check_attack(attack, "attack")
        self.validation_attack = validation_attack
        if validation_attack is not None:
            _check_attack(validation_attack, "validation_attack")
        self._seed_generator = keras.random.SeedGenerator(attack.seed)
        self._robust_accuracy = keras.metrics.Mean("robust_accuracy")
        self._evaluating = False
        self._check_outputs()
        self.built = True

    @property
    def attacked_model(self):
        """The plain model, which attacks on this one act on."""
        return self.model

    def call(self, inputs, training=None):
        """The inner model's output."""
        return self.model(inputs, training=training)

    def compute_output_shape(self, input_shape):
        """The inner model's output shape."""
        return self.model.compute_output_shape(input_shape)

    def perturb(self, x, y, attack=None):
        """The attacked batch, inside a train or test step.

        Args:
            x: Tensor of shape `(N, ...)`.
            y: Tensor of labels.
            attack: `None` for the training attack.

        Returns:
            Tensor like `x`.
        """
        attack = attack or self.attack
        return attack.perturb(self.model, x, y, seed=self._seed_generator)

    def robust_test_step(self, data):
        """Adds one batch to the robust accuracy.

        Args:
            data: `(x, y)` or `(x, y, sample_weight)`.

        Returns:
            Dictionary with `"robust_accuracy"` so far.
        """
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        attacked = self.perturb(x, y, self.validation_attack)
        attack = self.validation_attack or self.attack
        logits = frozen_logits(self.model, attack.from_logits)(attacked)
        hit = ops.equal(
            ops.cast(ops.argmax(logits, axis=-1), "int32"),
            checks.labels_in_graph(y),
        )
        self._robust_accuracy.update_state(
            ops.cast(hit, "float32"), sample_weight
        )
        return {"robust_accuracy": self._robust_accuracy.result()}

    def fit(self, x=None, *args, **kwargs):
        """As `keras.Model.fit`, after a look at the range of the inputs."""
        self._check_range(x)
        return super().fit(x, *args, **kwargs)

    def evaluate(self, x=None, *args, **kwargs):
        """As `keras.Model.evaluate`, with `robust_accuracy`."""
        self._check_range(x)
        self._evaluating = True
        try:
            return super().evaluate(x, *args, **kwargs)
        finally:
            self._evaluating = False

    def get_metrics_result(self):
        """Metrics by name; `robust_accuracy` in evaluation only."""
        result = super().get_metrics_result()
        if not self._evaluating:
            result.pop(self._robust_accuracy.name, None)
        return result

    def get_config(self):
        """The inner model and the attacks."""
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "model": serialize(self.model),
            "attack": serialize(self.attack),
            "validation_attack": serialize(self.validation_attack),
        }

    @classmethod
    def from_config(cls, config):
        """The model that `get_config` described."""
        config = dict(config)
        for name in ("model", "attack", "validation_attack"):
            config[name] = keras.saving.deserialize_keras_object(config[name])
        return cls(**config)

    def _check_range(self, x):
        images = first_images(x)
        if images is not None:
            images = np.asarray(images, "float32")
            checks.check_images(images, self.attack.value_range)
            count_classes(self.model, images, self.attack.from_logits)

    def _check_outputs(self):
        """Probabilities show on any images, so a few random ones will do."""
        shape = getattr(self.model, "input_shape", None)
        if not isinstance(shape, tuple) or None in shape[1:]:
            return
        low, high = self.attack.value_range
        noise = np.random.default_rng(0).uniform(low, high, (4, *shape[1:]))
        noise = noise.astype("float32")
        count_classes(self.model, noise, self.attack.from_logits)


def _check_attack(attack, name):
    if not isinstance(attack, GradientAttack):
        raise ValueError(
            f"Argument `{name}` must be a PGDAttack or FGSMAttack: the others "
            "do not fit into a train step. "
            f"Received: {name}={attack!r}"
        )
    if np.ndim(attack.epsilon) or np.ndim(attack.effective_step_size()):
        raise ValueError(
            f"Argument `{name}` must have one epsilon and one step_size for "
            "all examples: batches of training have no fixed rows. "
            f"Received: {name}.epsilon={attack.epsilon}"
        )
    return attack
