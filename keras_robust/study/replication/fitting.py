"""Training of one network, which is resumed if it was stopped."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust import datasets
from keras_robust.attacks.pgd import PGDAttack
from keras_robust.classifier import Classifier
from keras_robust.classifier.fingerprint import architecture_sha256
from keras_robust.datasets import tf_data
from keras_robust.study.data import StudyData
from keras_robust.study.plateau_monitor import PlateauMonitor
from keras_robust.study.replication.am207_errors import enlarged_and_cropped
from keras_robust.study.replication.backup import Backup
from keras_robust.study.replication.backup import Stopwatch
from keras_robust.study.replication.backup import restore
from keras_robust.study.replication.results import FittedCurve
from keras_robust.study.replication.settings import known
from keras_robust.study.training import Training
from keras_robust.study.training import make_loss
from keras_robust.study.training import make_optimizer
from keras_robust.study.training import tensorboard
from keras_robust.utils.files import json_hash

if TYPE_CHECKING:
    from keras_robust.study.study import Study

Split = tuple[np.ndarray, np.ndarray]
# Compiled networks by what a training is compiled for.
CompiledNetworks = dict[Any, keras.Model]
# Test images on which the accuracy after each epoch is measured.
CURVE_IMAGES = 1000


def fit_network(
    model: keras.Model,
    name: str,
    train: Split,
    test: Split,
    recipe: Study,
    seed: int,
    folder: str | os.PathLike[str],
    stopwatch: Stopwatch | None = None,
    logs: str | os.PathLike[str] | None = None,
    verbose: int = 1,
    num_classes: int = 10,
    compiled: CompiledNetworks | None = None,
) -> FittedCurve:
    """Train a model by the settings of a study.

    The state is kept in `folder` after epochs that end ten seconds or more
    after the last one that was kept. A training that is resumed shuffles and
    augments in another order.

    To trace a training takes as long as to train a small network. With
    `compiled` one copy of the network is compiled for all trainings of a kind;
    it takes the state of each model, and gives it back.

    Args:
        model: A built Keras classifier, or an `AdversarialModel`.
        name: One of `recipe.models`.
        train: `(x, y)` to train on.
        test: `(x, y)`; accuracy after each epoch is measured on the first
            1,000, and nothing is chosen by it.
        recipe: A `Study`.
        seed: Int.
        folder: Where the state is kept, for this training only; to be removed
            when the result is kept.
        stopwatch: Measures the time; `None` for one of its own.
        logs: Folder for TensorBoard, or `None`; nothing is written where
            TensorFlow is not installed.
        verbose: 0 for silence, else a line per epoch.
        num_classes: C.
        compiled: Where copies are kept, for models that `clone_model` copies;
            `None` to compile the model itself.

    Returns:
        What `PlateauMonitor` found.
    """
    training = recipe.training_of(name)
    x, y = train
    steps_per_epoch = -(-len(x) // training.batch_size)
    draws = len(model.variables) > len(model.weights)
    _compile(model, training, steps_per_epoch)
    backup = Path(folder)
    trained = model
    # An optimizer of the user may keep more than its variables, and random
    # layers draw while they are traced.
    is_named = isinstance(training.optimizer, str)
    if compiled is not None and is_named and not draws:
        trained = _compiled_copy(model, training, steps_per_epoch, compiled)
    backup.mkdir(parents=True, exist_ok=True)
    monitor = PlateauMonitor(1 / num_classes, path=backup / "curve.json")
    # The curve of a process that is killed between the two is too long, which
    # the next epoch mends.
    callbacks = [monitor, Backup(backup, stopwatch or Stopwatch())]
    if logs is not None:
        callbacks += tensorboard(logs, write_graph=False, profile_batch=0)
    trained.fit(
        _batches(name, x=x, y=y, training=training, recipe=recipe, seed=seed),
        validation_data=datasets.pipeline(
            test[0][:CURVE_IMAGES], test[1][:CURVE_IMAGES], training.batch_size
        ),
        epochs=training.epochs,
        initial_epoch=restore(trained, backup),
        shuffle=False,
        # A line per epoch is legible in a log.
        verbose=2 if verbose else 0,
        callbacks=callbacks,
    )
    if trained is not model:
        _copy_state(trained, model)
    return {
        "curve": monitor.curve,
        "chance": monitor.chance,
        "escape_epoch": monitor.escape_epoch,
        "outcome": monitor.outcome,
    }


def _compile(
    model: keras.Model, training: Training, steps_per_epoch: int
) -> None:
    loss, metric = loss_and_metric(model, training)
    optimizer = make_optimizer(training, steps_per_epoch)
    model.compile(optimizer, loss, metrics=[metric])


def _compiled_copy(
    model: keras.Model,
    training: Training,
    steps_per_epoch: int,
    compiled: CompiledNetworks,
) -> keras.Model:
    """The compiled network of a kind, in the state of a compiled model."""
    # A schedule depends on the steps.
    key = (
        architecture_sha256(model),
        json_hash(training.description()),
        steps_per_epoch,
    )
    if key not in compiled:
        compiled[key] = keras.models.clone_model(model)
        _compile(compiled[key], training, steps_per_epoch)
    for each in (model, compiled[key]):
        if not each.optimizer.built:
            each.optimizer.build(each.trainable_variables)
    _copy_state(model, compiled[key])
    return compiled[key]


def _copy_state(source: keras.Model, target: keras.Model) -> None:
    """Copy the weights and the optimizer's variables."""
    pairs = [
        *zip(source.weights, target.weights, strict=True),
        *zip(
            source.optimizer.variables,
            target.optimizer.variables,
            strict=True,
        ),
    ]
    for value, variable in pairs:
        variable.assign(value)


def _batches(
    name: str,
    x: np.ndarray,
    y: np.ndarray,
    training: Training,
    recipe: Study,
    seed: int,
) -> Any:
    """The batches of a training."""
    options: dict[str, Any] = {"shuffle": True, "seed": seed}
    if recipe.training_set(name).error == "frozen_flips":
        batches = datasets.pipeline(x, y, training.batch_size, **options)
        change = enlarged_and_cropped(x.shape[1:], seed)
        if tf_data.can_be_imported():
            return batches.map(change)
        return tf_data.map_images(
            batches,
            lambda images: ops.convert_to_numpy(change(images, None)[0]),
        )
    if not isinstance(training.augment, bool):
        batches = datasets.pipeline(x, y, training.batch_size, **options)
        return _augmented(batches, training.augment, recipe.read(), seed)
    return datasets.pipeline(
        x,
        y,
        training.batch_size,
        augment=training.augment,
        **recipe.augmentation,
        **options,
    )


def loss_and_metric(
    model: keras.Model, training: Training
) -> tuple[keras.losses.Loss, Any]:
    """The cross-entropy of a classifier's outputs, and its accuracy.

    Args:
        model: A built Keras classifier of logits or probabilities, of one
            output for two classes, or an `AdversarialModel`.
        training: A `Training`.
    """
    classifier = Classifier.of(model)
    is_logit = not classifier.logits.gives_probabilities
    if classifier.outputs.width != 1:
        return make_loss(training, from_logits=is_logit), "accuracy"
    loss = keras.losses.BinaryCrossentropy(
        from_logits=is_logit, label_smoothing=training.label_smoothing
    )
    metric = keras.metrics.BinaryAccuracy(
        name="accuracy", threshold=0.0 if is_logit else 0.5
    )
    return loss, metric


def _augmented(
    batches: Any, augment: Callable[..., Any], data: StudyData, seed: int
) -> Any:
    """Batches whose images a function of the user changes, in its units.

    Args:
        batches: What `datasets.pipeline` returns, images in [0, 1].
        augment: A Keras layer or a function.
        data: The study's, with the range of its pixels.
        seed: Int, of the layer's random numbers.
    """
    change = _fresh(augment, seed)
    low, high = (np.float32(bound) for bound in data.value_range)

    def changed(images: np.ndarray) -> np.ndarray:
        made = change(ops.convert_to_tensor(low + images * (high - low)))
        unit = (ops.convert_to_numpy(made) - low) / (high - low)
        return np.clip(unit, 0, 1).astype("float32")

    return tf_data.map_images(batches, changed)


def _fresh(augment: Callable[..., Any], seed: int) -> Callable[[Any], Any]:
    """An augmentation whose random numbers start anew for each training."""
    if not isinstance(augment, keras.layers.Layer):
        return augment
    keras.utils.set_random_seed(seed)
    layer = type(augment).from_config(augment.get_config())
    return partial(layer, training=True)


def training_attack(study: Study) -> PGDAttack:
    """The attack of adversarial training.

    It starts at the image itself, as Madry's library does (Ilyas et al. 2019,
    C.3, Table 4).

    Args:
        study: A `Study` with a number for every radius.
    """
    epsilon, size = known(study.epsilon), study.attack_step_size
    return PGDAttack(
        epsilon=epsilon,
        step_size=epsilon / 5 if size is None else size,
        steps=study.attack_steps,
    )
