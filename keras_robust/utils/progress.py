"""Progress bars for everything that takes more than two seconds."""

import time
from typing import Any

import keras

# Nothing is printed in the first seconds.
PATIENCE = 2.0


class Progress:
    """Keras's `Progbar`, silent for the first two seconds.

    Args:
        target: Int, total number of units; `None` if it is not known.
        verbose: 1 for a bar, 0 for none.
        unit_name: Name of a unit.
    """

    def __init__(
        self, target: int | None, verbose: int = 1, unit_name: str = "step"
    ) -> None:
        self._bar = keras.utils.Progbar(
            target,
            verbose=verbose,
            unit_name=unit_name,
            # Their last values are shown; others are averaged.
            stateful_metrics=["survivors", "images/s"],
        )
        self._done = 0
        self._start = time.monotonic()
        self._verbose = verbose

    def add(
        self, n: int = 1, values: list[tuple[str, Any]] | None = None
    ) -> None:
        """Count `n` more units.

        Args:
            n: Int.
            values: List of `(name, value)` to show.
        """
        self._done += n
        waited = time.monotonic() - self._start
        if self._verbose and n and waited > PATIENCE:
            self._bar.update(self._done, values=values)
