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
# Between two texts of the one line of a notebook.
SECONDS_BETWEEN_UPDATES = 0.5


class Progress:
    """Keras's `Progbar` in terminals, lines of text elsewhere.

    It is silent for the first two seconds. A notebook gets one line, which is
    replaced as the work goes on, so that a stored notebook has the last one. A
    file, or another program that reads the output, gets a line every ten
    seconds and one at the end. Neither has the control characters of a bar.

    Args:
        target: Int, total number of units; `None` if it is not known.
        verbose: 1 for a bar, 0 for none.
        unit_name: Name of a unit.
    """

    def __init__(
        self, target: int | None, verbose: int = 1, unit_name: str = "step"
    ) -> None:
        self._bar = self._notebook_line = None
        if _in_notebook():
            self._notebook_line = _NotebookLine()
        elif sys.stdout.isatty():
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
        self._seconds_between_lines = (
            SECONDS_BETWEEN_LINES
            if self._notebook_line is None
            else SECONDS_BETWEEN_UPDATES
        )
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
            or now - self._last_line >= self._seconds_between_lines
        ):
            self._last_line = now
            line = self._line(now - self._start, values or ())
            if self._notebook_line is None:
                print(line, flush=True)
            else:
                self._notebook_line.show(line)

    def _line(self, seconds: float, values: Sequence[tuple[str, Any]]) -> str:
        """What is done, as a line of a log."""
        total = "" if self._target is None else f"/{self._target}"
        parts = [f"{self._unit_name} {self._done}{total}", f"{seconds:.0f} s"]
        parts += [f"{name} {float(value):.4g}" for name, value in values]
        return ", ".join(parts)


class _NotebookLine:
    """A line of a notebook's output that is replaced by the next one."""

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, text: str) -> None:
        from IPython.display import display

        content = {"text/plain": text}
        if self._handle is None:
            self._handle = display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)


def _in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return hasattr(shell, "kernel")
