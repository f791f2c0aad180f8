"""One network of a study trained, such that it can stop and go on."""

import os
import shutil
from pathlib import Path
from typing import Any

import keras

from keras_robust import datasets
from keras_robust.study.optimizers import make_loss
from keras_robust.study.optimizers import make_optimizer
from keras_robust.study.plateau_monitor import PlateauMonitor
from keras_robust.study.report_errors import enlarged_and_cropped

# Test images on which the curve of a training is drawn.
VALIDATED = 1000


def fit_network(
    model: Any,
    name: str,
    train: Any,
    test: Any,
    recipe: Any,
    seed: int | None,
    folder: str | os.PathLike,
    logs: str | os.PathLike | None = None,
    verbose: int = 1,
) -> dict:
    """Trains a model as its recipe says, epoch by epoch.

    What is needed to go on after a stop is kept in `folder`, which is removed
    at the end. A run that goes on shuffles and augments anew.

    Args:
        model: A built Keras classifier with logits, or an `AdversarialModel`.
        name: One of `recipe.models`.
        train: `(x, y)` to train on.
        test: `(x, y)`; the first 1,000 make the curve, and no choice is made
            by them.
        recipe: A `Recipe`.
        seed: Int.
        folder: Where the backup is; of this training alone.
        logs: Folder for TensorBoard, or `None`.
        verbose: 0 for silence, else a line per epoch.

    Returns:
        Dictionary: `curve`, lists by metric; `chance`; `escape_epoch`;
        `outcome`; see `PlateauMonitor`.
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
        _batches(name, x, y, training, recipe, seed),
        validation_data=datasets.pipeline(
            test[0][:VALIDATED], test[1][:VALIDATED], training.batch_size
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


def _batches(name, x, y, training, recipe, seed):
    options = {"shuffle": True, "seed": seed}
    if name.endswith("_frozen_flips"):
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
