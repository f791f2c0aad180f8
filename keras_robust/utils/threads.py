"""Reading and writing in threads, so that the device waits for neither disk."""

import queue
import threading
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any
from typing import TypeVar

T = TypeVar("T")

_END = object()


def prefetch(iterable: Iterable[T], size: int = 2) -> Iterator[T]:
    """Iterate in a thread, which makes items before they are requested.

    Args:
        iterable: What to iterate over; its errors are raised here.
        size: Int >= 1, how many items may wait.

    Yields:
        The items, in order.
    """
    waiting: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(size)
    stopped = threading.Event()

    def put(item: Any, error: BaseException | None = None) -> None:
        while not stopped.is_set():
            try:
                return waiting.put((item, error), timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in iterable:
                put(item)
                if stopped.is_set():
                    return
            put(_END)
        except BaseException as error:  # Raised again by the reading thread.
            put(_END, error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        stopped.set()
        thread.join()


class BackgroundWriter:
    """Passes items to a function that runs in a thread, in their order.

    Args:
        function: Called with each item; its errors are raised by `put` and
            `close`.
        size: Int >= 1, how many items may wait.
    """

    def __init__(self, function: Callable[[Any], Any], size: int = 2) -> None:
        self._function = function
        self._waiting: queue.Queue[Any] = queue.Queue(size)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while True:
            item = self._waiting.get()
            if item is _END:
                return
            if self._error is None:
                try:
                    self._function(item)
                except BaseException as error:
                    self._error = error

    def put(self, item: Any) -> None:
        """Add an item; blocks while `size` items wait already."""
        if self._error is not None:
            raise self._error
        self._waiting.put(item)

    def close(self) -> None:
        """Wait until all items are written; raises what went wrong."""
        self.stop()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Wait until all items are written, and raise nothing."""
        if self._thread.is_alive():
            self._waiting.put(_END)
            self._thread.join()
