import sys

import pytest

from keras_robust.utils import progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still unless told."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_logs_get_lines(clock, capsys):
    counted = progress.Progress(30, unit_name="batch")
    counted.add(2)
    clock[0] += 3
    counted.add(5, [("survivors", 3)])
    assert capsys.readouterr().out == ""
    clock[0] += 8
    counted.add(1, [("survivors", 2), ("loss", 0.123456)])
    counted.add(1)
    counted.add(21)
    assert capsys.readouterr().out.splitlines() == [
        "batch 8/30, 11 s, survivors 2, loss 0.1235",
        "batch 30/30, 11 s",
    ]


def test_without_a_total(clock, capsys):
    counted = progress.Progress(None)
    clock[0] += 25
    counted.add(4)
    assert capsys.readouterr().out == "step 4, 25 s\n"


def test_what_is_fast_or_silent_prints_nothing(clock, capsys):
    fast, silent = progress.Progress(3), progress.Progress(3, verbose=0)
    fast.add(3)
    clock[0] += 60
    silent.add(3)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("place", ["terminal", "notebook"])
def test_bars_where_lines_can_be_redrawn(place, clock, capsys, monkeypatch):
    if place == "terminal":
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    else:
        monkeypatch.setitem(sys.modules, "ipykernel", sys)
    counted = progress.Progress(4)
    clock[0] += 3
    counted.add(2)
    counted.add(2)
    assert "━" in capsys.readouterr().out
