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


def test_bars_in_terminals(clock, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    counted = progress.Progress(4)
    clock[0] += 3
    counted.add(2)
    counted.add(2)
    assert "━" in capsys.readouterr().out


class Shell:
    """IPython, and its display, as far as they are used."""

    def __init__(self, has_kernel):
        if has_kernel:
            self.kernel = self
        self.shown = []

    def get_ipython(self):
        return self

    def display(self, content, raw, display_id):
        assert raw and display_id
        self.shown.append(("new", content))
        return self

    def update(self, content, raw):
        assert raw
        self.shown.append(("replaced", content))


def test_notebooks_have_one_line_that_is_replaced(clock, capsys, monkeypatch):
    shell = Shell(has_kernel=True)
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.setitem(sys.modules, "IPython.display", shell)
    counted = progress.Progress(40, unit_name="batch")
    silent = progress.Progress(40, verbose=0)
    for _ in range(4):
        clock[0] += 1
        counted.add(10)
        silent.add(10)
    assert shell.shown == [
        ("new", {"text/plain": "batch 30/40, 3 s"}),
        ("replaced", {"text/plain": "batch 40/40, 4 s"}),
    ]
    assert capsys.readouterr().out == ""


def test_ipython_outside_of_notebooks_gets_lines(clock, capsys, monkeypatch):
    shell = Shell(has_kernel=False)
    monkeypatch.setitem(sys.modules, "IPython", shell)
    counted = progress.Progress(2)
    clock[0] += 20
    counted.add(2)
    assert shell.shown == []
    assert capsys.readouterr().out == "step 2/2, 20 s\n"
