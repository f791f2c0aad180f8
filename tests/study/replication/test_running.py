"""Stages of a study that several processes share."""

import threading
import time

import pytest

from keras_robust.study.replication import running
from keras_robust.study.replication.store import StageStore


class Work:
    """A study of five stages that count how often they are made.

    `last` needs `slow`; the measures need all others.
    """

    verbose = 1

    def __init__(self, folder, made):
        self.store, self.made = StageStore(folder), made

    def slow(self):
        return self._make("slow", lambda: time.sleep(0.5))

    def last(self):
        return self._make("last", self.slow)

    def other(self):
        return self._make("other", lambda: time.sleep(0.1))

    def measure(self):
        for name in ("slow", "last", "other"):
            assert self.store.find_numbers(name, 0) == 1
        return self._make("measure", lambda: time.sleep(0.2))

    def second_measure(self):
        return self._make("second measure", lambda: time.sleep(0.2))

    def _make(self, name, work):
        def make():
            work()
            self.made.append((name, threading.get_ident()))
            return 1

        return self.store.numbers(name, 0, make)

    def stages(self):
        return [
            running._Stage(self.slow),
            running._Stage(self.last),
            running._Stage(self.other),
            running._Stage(self.measure, is_measure=True),
            running._Stage(self.second_measure, is_measure=True),
        ]


@pytest.fixture
def made(monkeypatch):
    monkeypatch.setattr(running, "_stages", Work.stages)
    monkeypatch.setattr(running, "SECONDS_BETWEEN_LOOKS", 0.01)
    return []


def test_one_process_runs_them_in_order(made, tmp_path):
    running.run_stages([Work(tmp_path, made)])
    names = [name for name, _ in made]
    assert names == ["slow", "last", "other", "measure", "second measure"]
    running.run_stages([Work(tmp_path, made)])
    assert len(made) == 5


def test_two_share_them(made, tmp_path, capsys):
    threads = [
        threading.Thread(
            target=running.run_stages, args=([Work(tmp_path, made)],)
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
        # The first one works on the slow stage by now.
        time.sleep(0.1)
    for thread in threads:
        thread.join(30)
    names, by = zip(*made, strict=True)
    assert sorted(names) == sorted(
        ["slow", "last", "other", "measure", "second measure"]
    )
    assert len(set(by)) == 2
    # While one makes what the next needs, the other goes on with what does not.
    assert names.index("other") < names.index("slow")
    # Of two measures each makes one.
    assert by[-1] != by[-2]
    # It says once what it waits for, not at each look.
    lines = capsys.readouterr().out.splitlines()
    named = [line for line in lines if "another process to make slow-" in line]
    assert len(named) == 1


def test_a_stage_that_fails_is_an_error(made, tmp_path, monkeypatch):
    def fails(self):
        raise ValueError("no")

    monkeypatch.setattr(Work, "other", fails)
    with pytest.raises(ValueError, match="no"):
        running.run_stages([Work(tmp_path, made)])
    assert [name for name, _ in made] == ["slow", "last"]
