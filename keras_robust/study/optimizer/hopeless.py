"""Ends trainings that have diverged, and no others."""

import math
from collections.abc import Sequence
from typing import Any

import keras

# Between the epochs at which trainings are compared with themselves, as in
# Hyperband (Li et al. 2018, arXiv:1603.06560).
RUNG_FACTOR = 3
# By what share the loss must have risen from one such epoch to the next.
RISE = 0.05


class StopHopeless(keras.callbacks.Callback):
    """Stop a training that has diverged; one on a plateau goes on.

    Hyperband compares trials at epochs 1, 3, 9, 27, ... and stops those of low
    accuracy. On D_rand that is wrong: a network can stay at chance for many
    epochs and then jump (see `PlateauMonitor`), and until then it looks like
    one that never will. So a training is compared with its own past only, at
    the same epochs, and by its training loss. On a plateau the loss stays
    where it is, at that of guessing or above. A training is hopeless

    - at once, if its loss is NaN or infinite, which no later step mends;
    - if its loss has risen twice in succession, by more than 5 % from one of
      these epochs to the next and again to the one after: 1 to 3 to 9, or
      3 to 9 to 27, ...

    A training whose loss falls, stays, or rises once, as under the warm-up of
    a learning rate, is never stopped.

    Attributes:
        losses: Training loss of each epoch.
        stopped_epoch: Epoch, from 1, after which it was stopped, or `None`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []
        self.stopped_epoch: int | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Forget an earlier training."""
        self.losses = []
        self.stopped_epoch = None

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Stop the training if it is hopeless."""
        self.losses.append(float((logs or {})["loss"]))
        if is_hopeless(self.losses):
            self.stopped_epoch = epoch + 1
            self.model.stop_training = True


def is_hopeless(losses: Sequence[float]) -> bool:
    """Whether a training has diverged, by the rule of `StopHopeless`.

    Args:
        losses: Training loss of each epoch so far, at least one.
    """
    if not math.isfinite(losses[-1]):
        return True
    epochs = len(losses)
    rungs = (epochs, epochs // RUNG_FACTOR, epochs // RUNG_FACTOR**2)
    if not _is_rung(epochs) or not rungs[-1]:
        return False
    last, middle, first = (losses[rung - 1] for rung in rungs)
    return last > (1 + RISE) * middle and middle > (1 + RISE) * first


def _is_rung(epoch: int) -> bool:
    while epoch % RUNG_FACTOR == 0:
        epoch //= RUNG_FACTOR
    return epoch == 1
