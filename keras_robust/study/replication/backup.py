"""What is kept of a stage that is stopped: weights, and the time it took."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import keras

from keras_robust.utils.files import read_json
from keras_robust.utils.files import write_atomically
from keras_robust.utils.files import write_json

# To keep the state of a small network takes as long as a third of an epoch.
SECONDS_BETWEEN_BACKUPS = 10.0
WEIGHTS = ".weights.h5"


class Stopwatch:
    """Seconds that a stage takes, those before a stop included.

    What was done after the seconds were last kept is done again, and counted
    once.

    Args:
        path: JSON file of the seconds, beside what else is kept of the stage;
            `None` for a stage that starts afresh.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._before = 0.0
        if path is not None and path.exists():
            self._before = float(read_json(path))
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds until now."""
        return self._before + time.monotonic() - self._start

    def keep(self) -> None:
        """Write the seconds until now into the file."""
        if self._path is not None:
            write_json(self._path, round(self.seconds, 1))


class Backup(keras.callbacks.Callback):
    """Keep the state of a training after epochs, for `restore`.

    Epochs that end soon after a kept one are left out. Unlike with Keras's
    `BackupAndRestore`, a process that is killed while it writes leaves the
    state before: weights get their name when they are complete, and one file
    tells which belong to how many epochs.

    Args:
        folder: Where the state is kept, which exists.
        stopwatch: Whose seconds are kept as well.
    """

    def __init__(self, folder: Path, stopwatch: Stopwatch) -> None:
        super().__init__()
        self._folder = folder
        self._stopwatch = stopwatch
        self._kept_at = time.monotonic()

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Keep the state, if the last one is old enough."""
        if time.monotonic() - self._kept_at < SECONDS_BETWEEN_BACKUPS:
            return
        name = f"epochs-{epoch + 1}{WEIGHTS}"
        # Keras requires that ending.
        write_atomically(
            self._folder / name, self.model.save_weights, suffix=WEIGHTS
        )
        self._stopwatch.keep()
        write_json(
            self._folder / "state.json",
            {"epochs": epoch + 1, "weights": name},
        )
        for other in self._folder.glob(f"epochs-*{WEIGHTS}"):
            if other.name != name:
                other.unlink()
        self._kept_at = time.monotonic()


def restore(model: keras.Model, folder: Path) -> int:
    """Load the state that a `Backup` has kept, that of the optimizer as well.

    Args:
        model: A compiled model of the same architecture.
        folder: That of the `Backup`.

    Returns:
        The number of epochs that are done; 0 if nothing is kept.
    """
    path = folder / "state.json"
    if not path.exists():
        return 0
    state = read_json(path)
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    model.load_weights(folder / state["weights"])
    epochs: int = state["epochs"]
    return epochs
