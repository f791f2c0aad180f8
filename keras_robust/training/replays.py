"""A step of "free" adversarial training."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_robust import backend
from keras_robust.attacks.engine.loop import zeros_per_example
from keras_robust.backend import Tensor
from keras_robust.training.batch_attack import Batch
from keras_robust.training.batch_attack import BatchAttack


def start(attack: BatchAttack, batch: Batch, seed: Any, epsilon: Any) -> Tensor:
    """Where an attack begins: at the images or at random points.

    Args:
        attack: The attack of training.
        batch: What it attacks.
        seed: `keras.random.SeedGenerator`.
        epsilon: Scalar tensor, the radius; `None` for the attack's.
    """
    own = attack.attack
    if not own.random_start:
        return batch.image
    own = own.replace(steps=0)
    return along(own, attack, batch, ops.zeros_like(batch.image), epsilon, seed)


def move(
    attack: BatchAttack,
    batch: Batch,
    image: Tensor,
    gradient: Tensor,
    epsilon: Any,
) -> Tensor:
    """One step of an attack from given points along a given gradient.

    Args:
        attack: The attack of training.
        batch: What it attacks.
        image: Tensor like the images, where they are now.
        gradient: Tensor like the images.
        epsilon: See `start`.
    """
    return along(attack.attack, attack, batch, gradient, epsilon, image=image)


def along(
    own: Any,
    attack: BatchAttack,
    batch: Batch,
    gradient: Tensor,
    epsilon: Any,
    seed: Any = None,
    image: Any = None,
) -> Tensor:
    """Run an attack where the loss is linear, with a given gradient."""

    def linear(rows: dict[str, Any], x: Tensor) -> tuple[Tensor, Tensor]:
        axes = tuple(range(1, len(x.shape)))
        none = ops.cast(zeros_per_example(x), "bool")
        return ops.sum(rows["y"] * x, axis=axes), none

    perturbed, _ = own.perturb(
        attack.classifier,
        batch.image,
        gradient,
        seed=seed,
        objective=linear,
        epsilon=epsilon,
        start=image,
    )
    return perturbed


def replay(
    model: Any,
    image: Tensor,
    inputs_of: Callable[[Tensor], Any],
    y: Any,
    sample_weight: Any,
    replicas: int,
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Train on a batch, and differentiate the loss with respect to its images.

    Shafahi et al. 2019 (arXiv:1904.12843), algorithm 1: one backward pass gives
    the gradients of weights and images.

    Args:
        model: An `AdversarialModel`.
        image: Images to train on, float32 tensor `(N, ...)`.
        inputs_of: `image -> inputs` of the model.
        y: As in `compute_loss`.
        sample_weight: As in `compute_loss`.
        replicas: Number of devices that share a batch.

    Returns:
        The gradient, like `image`; 1.0 where entries of it overflowed, which
        are 0 in it, otherwise 0.0; and the logs of a training step.
    """
    weights = model.trainable_variables
    others = [*model.non_trainable_variables, *model.metrics_variables]
    kept = [(variable, variable.value) for variable in others]

    def loss(values: list[Tensor]) -> tuple[Tensor, tuple[Any, ...]]:
        mapping = [*zip(weights, values[:-1], strict=True), *kept]
        with keras.StatelessScope(mapping, collect_losses=True) as scope:
            inputs = inputs_of(values[-1])
            outputs = model(inputs, training=True)
            total = model.compute_loss(inputs, y, outputs, sample_weight)
        changed = [scope.get_current_value(variable) for variable in others]
        return model.optimizer.scale_loss(total), (total, outputs, changed)

    values = [ops.convert_to_tensor(weight) for weight in weights]
    (_, found), gradients = backend.value_and_gradients(loss, [*values, image])
    total, outputs, changed = keras.tree.map_structure(ops.stop_gradient, found)
    for variable, value in zip(others, changed, strict=True):
        variable.assign(value)
    backend.apply_gradients(model.optimizer, gradients[:-1], weights)
    gradient = gradients[-1]
    # With a loss scale it can overflow, where the optimizer skips the step.
    finite = ops.isfinite(gradient)
    gradient = ops.where(finite, gradient, 0.0)
    overflows = 1.0 - ops.cast(ops.all(finite), "float32")
    for metric in model.metrics:
        if metric.name == "loss":
            # Each replica has its share of the loss.
            metric.update_state(
                ops.cast(total, "float32") * float(replicas),
                sample_weight=ops.shape(image)[0],
            )
    logs = model.compute_metrics(
        inputs_of(image), y, outputs, sample_weight=sample_weight
    )
    return gradient, overflows, logs
