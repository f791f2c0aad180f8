"""Further processes of one command."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from keras_robust.cli.processes import further_processes

# Functions of a module, as processes that are spawned find them.
PROGRAM = """
import os, sys, time
from pathlib import Path
from keras_robust.cli.processes import further_processes
from tests.cli.test_processes import sleep

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with further_processes(1, folder, sleep, {"folder": str(folder)}):
        time.sleep(60)
"""


def fail(folder):
    """Raise an error."""
    raise ValueError(f"nothing in {folder}")


def sleep(folder):
    """Print and write the number of this process, and wait."""
    number = str(os.getpid())
    print("printed", number, flush=True)
    with open(f"{folder}/{number}.txt", "w", encoding="utf-8") as file:
        file.write(number)
    time.sleep(60)


def wait_for(condition):
    until = time.monotonic() + 60
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)
    assert condition()


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_none_is_this_process_alone(tmp_path):
    with further_processes(0, tmp_path, fail, {"folder": str(tmp_path)}):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.thorough
def test_one_that_fails_is_told_of(tmp_path, capfd):
    log = tmp_path / "process-2.log"
    with further_processes(1, tmp_path, fail, {"folder": str(tmp_path)}):
        # Joins those that have ended.
        wait_for(lambda: not multiprocessing.active_children())
    assert f"nothing in {tmp_path}" in log.read_text()
    assert f"another process failed, see {log}" in capfd.readouterr().err


@pytest.mark.thorough
def test_they_end_when_the_first_one_is_killed(tmp_path):
    first = subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path)])
    try:
        wait_for(lambda: [f for f in tmp_path.glob("*.txt") if f.read_text()])
        (path,) = tmp_path.glob("*.txt")
        assert path.stem == path.read_text() != str(first.pid)
        assert (
            f"printed {path.stem}" in (tmp_path / "process-2.log").read_text()
        )
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
    wait_for(lambda: not is_alive(int(path.stem)))
