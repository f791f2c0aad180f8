"""When a training leaves chance, and where it ends."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from keras_robust.utils.files import read_json
from keras_robust.utils.files import write_json

OUTCOMES = ("stuck", "memorized", "generalized")


class PlateauMonitor(keras.callbacks.Callback):
    """Find the end of a plateau at chance and name the outcome of a training.

    Networks trained on D_rand can sit at chance for many epochs and then jump
    (Ilyas et al. 2019, Fig. 10: past epoch 31 with SGD). Where they land
    differs: *stuck* at chance to the end; *memorized*, right on what they were
    trained on and at chance elsewhere; or *generalized* (Jordan's runs show
    all three).

    Works in any `fit`. With a `path` the curve is kept in a file, so that it is
    complete for a training that is stopped and resumed
    (`keras.callbacks.BackupAndRestore`).

    Args:
        chance: Accuracy of guessing, a fraction: 0.1 for ten equal classes.
        margin: Difference from which two accuracies count as different, a
            fraction; an accuracy so far above chance has left it.
        metric: Name of the training accuracy in the logs.
        validation_metric: Name of the one that tells memorized from
            generalized, on clean data; may be missing in the logs.
        path: JSON file in which the curve is kept, or `None`.

    Attributes:
        curve: Dictionary of lists, one number per epoch: `metric`,
            `validation_metric` (where logged) and `loss`.

    Example:

    ```python
    monitor = keras_robust.study.PlateauMonitor(chance=0.1)
    model.fit(x, t, validation_data=clean, epochs=30, callbacks=[monitor])
    monitor.outcome, monitor.escape_epoch
    ```

    Raises:
        ValueError: If chance and margin are no fractions.
    """

    def __init__(
        self,
        chance: float,
        margin: float = 0.03,
        metric: str = "accuracy",
        validation_metric: str = "val_accuracy",
        path: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        if not (0 <= chance < 1 and 0 <= margin < 1 - chance):
            raise ValueError(
                "Arguments `chance` and `margin` must be >= 0 with a sum "
                f"below 1. Received: chance={chance}, margin={margin}"
            )
        self.chance = chance
        self.margin = margin
        self.metric = metric
        self.validation_metric = validation_metric
        self.path = None if path is None else Path(path)
        self.curve: dict[str, list[float]] = {}

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Start a curve, or continue the one in the file."""
        self.curve = {}
        if self.path is not None and self.path.exists():
            self.curve = read_json(self.path)

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Add an epoch to the curve."""
        logs = logs or {}
        if self.metric not in logs:
            raise ValueError(
                f"The logs of `fit` must have {self.metric!r}: compile the "
                "model with that metric, or name another one by `metric=`. "
                f"Received: {sorted(logs)}"
            )
        for name in (self.metric, self.validation_metric, "loss"):
            if name in logs:
                # A repeated epoch replaces its first run.
                values = self.curve.get(name, [])[:epoch]
                self.curve[name] = [*values, float(logs[name])]
        if self.path is not None:
            write_json(self.path, self.curve)

    @property
    def escape_epoch(self) -> int | None:
        """First epoch, from 1, after which training stays above chance."""
        return escape_epoch(
            self.curve.get(self.metric, []), self.chance, self.margin
        )

    @property
    def memorization_gap(self) -> float | None:
        """Training minus validation accuracy at the end, or `None`."""
        validation = self.curve.get(self.validation_metric)
        if not validation:
            return None
        return self.curve[self.metric][-1] - validation[-1]

    @property
    def outcome(self) -> str | None:
        """`"stuck"`, `"memorized"` or `"generalized"`, or `None`.

        Of the last epoch (the paper's D.4: a split of such data cannot pick
        the stopping time); `None` where nothing was validated and the run is
        not stuck. Where clean data are at chance, only a run that is better by
        the margin on what it was trained on has memorized.
        """
        if self.escape_epoch is None:
            return "stuck"
        gap = self.memorization_gap
        if gap is None:
            return None
        clean = self.curve[self.validation_metric][-1]
        if clean > self.chance + self.margin:
            return "generalized"
        return "memorized" if gap > self.margin else "stuck"


def escape_epoch(
    accuracy: Sequence[float], chance: float, margin: float = 0.03
) -> int | None:
    """First epoch, from 1, from which on an accuracy is above chance.

    Args:
        accuracy: Sequence of fractions, one per epoch.
        chance: Fraction.
        margin: How far above chance an accuracy must be to have left it.

    Returns:
        Int, or `None` if it ends at chance.
    """
    first = None
    for epoch, value in enumerate(accuracy, 1):
        if value <= chance + margin:
            first = None
        elif first is None:
            first = epoch
    return first
