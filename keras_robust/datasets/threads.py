"""Work beside the main thread, so that the device waits for neither disk."""

import queue
import threading
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

_END = object()


def ahead(iterable: Any, size: int = 2) -> Iterator:
    """The items of an iterable, made by a thread before they are asked for.

    Args:
        iterable: What to iterate over; its errors come out here.
        size: Int >= 1, how many items may wait.

    Yields:
        The items.
    """
    waiting = queue.Queue(size)
    stopped = threading.Event()

    def put(item):
        while not stopped.is_set():
            try:
                return waiting.put(item, timeout=0.1)
            except queue.Full:
                continue

    def work():
        try:
            for item in iterable:
                put((item, None))
                if stopped.is_set():
                    return
            put((_END, None))
        except BaseException as error:  # Raised again by whoever reads.
            put((_END, error))

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


class Behind:
    """Hands items to a function that runs in a thread, in their order.

    Args:
        function: Called with each item; its errors come out of `put` and
            `close`.
        size: Int >= 1, how many items may wait.
    """

    def __init__(self, function: Callable, size: int = 2) -> None:
        self._function = function
        self._waiting = queue.Queue(size)
        self._error = None
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self):
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
        """Waits where too many items wait already."""
        if self._error is not None:
            raise self._error
        self._waiting.put(item)

    def close(self) -> None:
        """Waits for all items."""
        self.stop()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """The same, without raising what went wrong."""
        if self._thread.is_alive():
            self._waiting.put(_END)
            self._thread.join()
