"""Further processes of one command, which share its work."""

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keras_robust.startup import load_package


@contextmanager
def further_processes(
    count: int,
    folder: Path,
    work: Callable[..., None],
    options: dict[str, Any],
) -> Iterator[None]:
    """Start processes that call a function, and end them afterwards.

    Args:
        count: Int, how many besides this process.
        folder: What the second process prints goes to `process-2.log` there.
        work: A function of a module.
        options: Its arguments, plain values.
    """
    context = multiprocessing.get_context("spawn")
    processes = {}
    for number in range(2, count + 2):
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / f"process-{number}.log"
        processes[log] = context.Process(
            target=_run, args=(work, options, log), daemon=True
        )
        processes[log].start()
    try:
        yield
        for log, process in processes.items():
            if process.exitcode:
                print(
                    f"keras-robust: another process failed, see {log}",
                    file=sys.stderr,
                )
    finally:
        for process in processes.values():
            process.terminate()
            process.join()


def _run(work: Callable[..., None], options: dict[str, Any], log: Path) -> None:
    """The life of a further process."""
    with open(log, "w", encoding="utf-8") as file:
        for stream in (sys.stdout, sys.stderr):
            # What frameworks print from C++ as well.
            os.dup2(file.fileno(), stream.fileno())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    load_package()
    work(**options)


def _end_with_parent() -> None:
    """End this process when the one that started it is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
