"""Results of stages on disk, which several processes may share."""

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from keras_robust.study.replication.store import StageBusyError
from keras_robust.study.replication.store import StageStore


def test_store_writes_whole_files_only(tmp_path):
    store = StageStore(tmp_path)

    def broken():
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError):
        store.numbers("a", 1, broken)
    assert store.find_numbers("a", 1) is None
    assert store.numbers("a", 1, lambda: {"x": 1}) == {"x": 1}
    assert store.numbers("a", 1, broken) == {"x": 1}
    assert store.find_numbers("a", 1) == {"x": 1}
    assert store.numbers("a", {"of": 2}, lambda: 3) == 3
    arrays = store.arrays("b", 1, lambda: {"x": np.arange(3)})
    assert store.arrays("b", 1, broken)["x"].tolist() == arrays["x"].tolist()
    assert not list(tmp_path.glob("part-*"))


def test_a_result_is_made_by_one_process_and_awaited_by_the_others(tmp_path):
    first, second = StageStore(tmp_path), StageStore(tmp_path)
    begins, ends, made = threading.Event(), threading.Event(), []

    def slow():
        begins.set()
        made.append("slow")
        assert ends.wait(30)
        return 1

    thread = threading.Thread(target=first.numbers, args=("a", 0, slow))
    thread.start()
    assert begins.wait(30)
    with second.without_waiting():
        with pytest.raises(StageBusyError, match="a-"):
            second.numbers("a", 0, lambda: made.append("second"))
        # What needs it is not made either, what does not need it is.
        with pytest.raises(StageBusyError):
            second.numbers("b", 0, lambda: second.numbers("a", 0, int))
        assert second.numbers("c", 0, lambda: 3) == 3
    assert second.find_numbers("b", 0) is None
    ends.set()
    assert second.numbers("a", 0, lambda: made.append("second")) == 1
    thread.join()
    assert made == ["slow"]
    assert second.numbers("b", 0, lambda: second.numbers("a", 0, int)) == 1
    assert not list((tmp_path / "locks").iterdir())


@pytest.mark.thorough
def test_a_killed_process_leaves_its_stage_to_the_others(tmp_path):
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from keras_robust.utils.files import locked\n"
        "with locked(Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(60)\n"
    )
    store = StageStore(tmp_path)
    lock = tmp_path / "locks" / (store.path("a", 0).name + ".json")
    lock.parent.mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(lock)], stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout.readline() == b"held\n"
        with store.without_waiting(), pytest.raises(StageBusyError):
            store.numbers("a", 0, lambda: 1)
        os.kill(holder.pid, signal.SIGKILL)
    assert store.numbers("a", 0, lambda: 1) == 1


def test_an_error_of_a_stage_is_not_taken_for_a_lock(tmp_path):
    def fails():
        raise BlockingIOError("of the data")

    store = StageStore(tmp_path)
    with store.without_waiting(), pytest.raises(BlockingIOError):
        store.numbers("a", 0, fails)
