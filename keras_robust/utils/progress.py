"""Progress of everything that takes more than two seconds."""

import sys
import time
from collections.abc import Sequence
from typing import Any

import keras

# Nothing is printed in the first seconds.
PATIENCE = 2.0
# Between two lines of a log.
SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Keras's `Progbar` in terminals and notebooks, lines of text elsewhere.

    It is silent for the first two seconds. A file, or another program that
    reads the output, gets a line every ten seconds and one at the end, without
    the control characters of a bar.

    Args:
        target: Int, total number of units; `None` if it is not known.
        verbose: 1 for a bar, 0 for none.
        unit_name: Name of a unit.
    """

    def __init__(
        self, target: int | None, verbose: int = 1, unit_name: str = "step"
    ) -> None:
        self._bar = None
        if _can_redraw():
            self._bar = keras.utils.Progbar(
                target,
                verbose=verbose,
                unit_name=unit_name,
                # Their last values are shown; others are averaged.
                stateful_metrics=["survivors", "images/s"],
            )
        self._target = target
        self._unit_name = unit_name
        self._done = 0
        self._start = self._last_line = time.monotonic()
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
        now = time.monotonic()
        if not self._verbose or not n or now - self._start <= PATIENCE:
            return
        if self._bar is not None:
            self._bar.update(self._done, values=values)
        elif (
            self._done == self._target
            or now - self._last_line >= SECONDS_BETWEEN_LINES
        ):
            self._last_line = now
            print(self._line(now - self._start, values or ()), flush=True)

    def _line(self, seconds: float, values: Sequence[tuple[str, Any]]) -> str:
        """What is done, as a line of a log."""
        total = "" if self._target is None else f"/{self._target}"
        parts = [f"{self._unit_name} {self._done}{total}", f"{seconds:.0f} s"]
        parts += [f"{name} {float(value):.4g}" for name, value in values]
        return ", ".join(parts)


def _can_redraw() -> bool:
    """Whether a line that was printed can be printed over."""
    # Keras draws bars in notebooks, whose output is no terminal.
    return sys.stdout.isatty() or "ipykernel" in sys.modules
