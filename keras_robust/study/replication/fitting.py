"""Training of one network, resumed after the last epoch if it was stopped."""

import os
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_robust import datasets
from keras_robust.study.plateau_monitor import PlateauMonitor
from keras_robust.study.replication.am207_errors import enlarged_and_cropped
from keras_robust.study.replication.recipe import Recipe
from keras_robust.study.replication.results import FittedCurve
from keras_robust.study.replication.training_sets import training_set
from keras_robust.study.training import Training
from keras_robust.study.training import make_loss
from keras_robust.study.training import make_optimizer

Split = tuple[np.ndarray, np.ndarray]
# Test images on which the accuracy after each epoch is measured.
CURVE_IMAGES = 1000


def fit_network(
    model: keras.Model,
    name: str,
    train: Split,
    test: Split,
    recipe: Recipe,
    seed: int,
    folder: str | os.PathLike[str],
    logs: str | os.PathLike[str] | None = None,
    verbose: int = 1,
) -> FittedCurve:
    """Train a model by its recipe.

    The state after every epoch is kept in `folder`, which is removed at the
    end. A training that is resumed shuffles and augments in another order.

    Args:
        model: A built Keras classifier with logits, or an `AdversarialModel`.
        name: One of `recipe.models`.
        train: `(x, y)` to train on.
        test: `(x, y)`; accuracy after each epoch is measured on the first
            1,000, and nothing is chosen by it.
        recipe: A `Recipe`.
        seed: Int.
        folder: Where the state is kept, for this training only.
        logs: Folder for TensorBoard, or `None`.
        verbose: 0 for silence, else a line per epoch.

    Returns:
        What `PlateauMonitor` found.
    """
    training = recipe.training_of(name)
    x, y = train
    model.compile(
        make_optimizer(training, -(-len(x) // training.batch_size)),
        make_loss(training),
        metrics=["accuracy"],
    )
    backup = Path(folder)
    backup.mkdir(parents=True, exist_ok=True)
    monitor = PlateauMonitor(
        1 / model.compute_output_shape(x.shape)[-1], path=backup / "curve.json"
    )
    callbacks = [keras.callbacks.BackupAndRestore(backup / "state"), monitor]
    if logs is not None:
        callbacks.append(
            keras.callbacks.TensorBoard(
                logs, write_graph=False, profile_batch=0
            )
        )
    model.fit(
        _batches(name, x=x, y=y, training=training, recipe=recipe, seed=seed),
        validation_data=datasets.pipeline(
            test[0][:CURVE_IMAGES], test[1][:CURVE_IMAGES], training.batch_size
        ),
        epochs=training.epochs,
        shuffle=False,
        # A line per epoch is legible in a log.
        verbose=2 if verbose else 0,
        callbacks=callbacks,
    )
    shutil.rmtree(backup)
    return {
        "curve": monitor.curve,
        "chance": monitor.chance,
        "escape_epoch": monitor.escape_epoch,
        "outcome": monitor.outcome,
    }


def _batches(
    name: str,
    x: np.ndarray,
    y: np.ndarray,
    training: Training,
    recipe: Recipe,
    seed: int,
) -> Any:
    """The `tf.data.Dataset` of a training."""
    options: dict[str, Any] = {"shuffle": True, "seed": seed}
    if training_set(name).error == "frozen_flips":
        batches = datasets.pipeline(x, y, training.batch_size, **options)
        return batches.map(enlarged_and_cropped(x.shape[1:], seed))
    return datasets.pipeline(
        x,
        y,
        training.batch_size,
        augment=training.augment,
        **recipe.augmentation,
        **options,
    )
