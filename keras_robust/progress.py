"""Progress of whatever takes longer than a moment."""

import time
from typing import Any

import keras

# Below this many seconds nothing is printed.
PATIENCE = 2.0


class Progress:
    """Keras's `Progbar`, which stays silent for the first two seconds.

    Args:
        target: Int, number of units in all.
        verbose: 0 for silence, 1 for a bar.
        unit_name: What is counted.
    """

    def __init__(
        self, target: Any, verbose: int = 1, unit_name: str = "step"
    ) -> None:
        self._bar = keras.utils.Progbar(
            target,
            verbose=verbose,
            unit_name=unit_name,
            # Shown as it is, where other values are averaged.
            stateful_metrics=["survivors", "images/s"],
        )
        self._done = 0
        self._start = time.monotonic()
        self._verbose = verbose

    def add(self, n: int = 1, values: Any = None) -> None:
        """Counts `n` more units.

        Args:
            n: Int.
            values: List of `(name, value)` to average and show; `survivors` and
                `images/s` are shown as they are.
        """
        self._done += n
        waited = time.monotonic() - self._start
        if self._verbose and n and waited > PATIENCE:
            self._bar.update(self._done, values=values)
