"""The benchmark of training settings: what it trains, and how it is shared."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_robust as kr
from keras_robust.study.replication.store import StageStore

PATH = Path(__file__).parent.parent / "benchmarks" / "training_settings.py"
# Holds the training that it is told of, until it is killed.
HOLDER = """
import sys, time
from keras_robust.study.replication.store import StageStore
def train():
    print("held", flush=True)
    time.sleep(600)
StageStore(sys.argv[1]).numbers("seed0", "inputs", train)
"""


@pytest.fixture
def benchmark(monkeypatch):
    """The module."""
    spec = importlib.util.spec_from_file_location("training_settings", PATH)
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look for it there.
    monkeypatch.setitem(sys.modules, "training_settings", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def script(benchmark, monkeypatch):
    """The module, which trains nothing; `trained` lists what it would train."""
    module = benchmark
    module.trained = []

    def train(name, seed, *_):
        module.trained.append((name, seed))
        return {"accuracy": 0.01 * len(name), "cpu_seconds": 60.0}

    monkeypatch.setattr(module, "train", train)
    monkeypatch.setattr(module, "load", lambda images: None)
    return module


def run(script, monkeypatch, folder, *arguments):
    """What the command writes, as names and seeds."""
    monkeypatch.setattr(
        "sys.argv", ["training_settings.py", "--output", str(folder)]
    )
    sys.argv.extend(arguments)
    script.main()
    return rows_in(folder)


def rows_in(folder):
    written = json.loads((folder / "results.json").read_text())
    return [(row["name"], row["seed"]) for row in written["trainings"]]


def test_a_training_that_is_done_is_not_repeated(script, monkeypatch, tmp_path):
    few = {name: script.SETTINGS[name] for name in ("recipe", "cosine", "Muon")}
    monkeypatch.setattr(script, "SETTINGS", few)
    one = ("--only", "recipe", "--seeds", "1")
    assert run(script, monkeypatch, tmp_path, *one) == [("recipe", 0)]
    rows = run(script, monkeypatch, tmp_path, "--seeds", "2")
    assert rows == [(name, s) for s in (0, 1) for name in script.SETTINGS]
    assert sorted(script.trained) == sorted(rows)
    # Those of more seeds than this command asks for are there still.
    assert run(script, monkeypatch, tmp_path, *one) == rows
    assert len(script.trained) == len(rows)
    table = (tmp_path / "table.md").read_text()
    policy = kr.study.get_recipe("cifar10", "cpu").dtype_policy
    assert f"5 epochs, {policy}" in table
    assert "| cosine | 6.0 (6.0 to 6.0) | +0.0, +0.0 | 1 |" in table


def test_processes_that_share_a_folder_keep_all_rows(
    script, monkeypatch, tmp_path
):
    """Another one trains, from its first to its last, during one of ours."""
    train = script.train

    def interrupted(name, seed, *rest):
        if name == "recipe":
            run(script, monkeypatch, tmp_path, "--only", "Muon", "--seeds", "1")
            # What is trained here is left to this process.
            options = script.command_line().parse_args([])
            store = StageStore(tmp_path / "trainings")
            jobs = [("recipe", 0), ("cosine", 0)]
            for left, expected in ((jobs[:1], None), (jobs, jobs[1])):
                job = script.next_training(left, options, None, store)
                assert job == expected
        return train(name, seed, *rest)

    monkeypatch.setattr(script, "train", interrupted)
    run(
        script,
        monkeypatch,
        tmp_path,
        "--only",
        "recipe",
        "Muon",
        "plain momentum",
        "--seeds",
        "1",
    )
    expected = ["Muon", "cosine", "recipe", "plain momentum"]
    assert script.trained == [(name, 0) for name in expected]
    assert sorted(rows_in(tmp_path)) == sorted(script.trained)


def test_the_claim_of_a_process_that_was_killed_ends(
    script, monkeypatch, tmp_path
):
    monkeypatch.setattr(script, "inputs_of", lambda *_: "inputs")
    options = script.command_line().parse_args([])
    job, store = ("recipe", 0), StageStore(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        assert script.next_training([job], options, None, store) is None
        os.kill(holder.pid, signal.SIGKILL)
    assert script.next_training([job], options, None, store) == job
    assert script.trained == [job]


@pytest.mark.parametrize(
    "changed",
    ["--epochs", "--images", "--dtype-policy", "version", "backend", "recipe"],
)
def test_trainings_of_other_options_do_not_mix(
    script, monkeypatch, tmp_path, capsys, changed
):
    one = ["--only", "recipe", "--seeds", "1"]
    run(script, monkeypatch, tmp_path, *one)
    before = (tmp_path / "results.json").read_text()
    values = {"--epochs": "6", "--images": "10", "--dtype-policy": "float32"}
    if changed in values:
        one += [changed, values[changed]]
    elif changed == "version":
        monkeypatch.setattr(kr, "__version__", "0.0.1")
    elif changed == "backend":
        monkeypatch.setattr(keras.backend, "backend", lambda: "another")
    else:
        one += ["--dtype-policy", script.recipe().dtype_policy]
        quick = kr.study.get_recipe("cifar10", "quick")
        monkeypatch.setattr(script, "recipe", lambda: quick)
    with pytest.raises(SystemExit):
        run(script, monkeypatch, tmp_path, *one)
    assert "holds results of {'widths'" in capsys.readouterr().err
    assert (tmp_path / "results.json").read_text() == before
    assert script.trained == [("recipe", 0)]


def test_it_trains_as_the_recipe_does(script):
    options = script.command_line().parse_args([])
    cpu = kr.study.get_recipe("cifar10", "cpu")
    found = script.study_of("recipe", options)
    expected = {**cpu.training.description(), "epochs": 5}
    assert found.training.description() == expected
    assert found.augmentation == cpu.augmentation
    assert found.dtype_policy == options.dtype_policy == cpu.dtype_policy
    # One thing is changed at a time.
    plain = script.study_of("plain momentum", options)
    assert plain.training.description() == {**expected, "optimizer": "sgd"}
    half = script.study_of("half of the rate", options)
    assert 2 * half.training.learning_rate == cpu.training.learning_rate
    flips = script.study_of("random flips", options)
    assert flips.augmentation == {**cpu.augmentation, "flip": True}
    descriptions = [
        json.dumps(script.inputs_of(name, 0, options))
        for name in script.SETTINGS
    ]
    assert len(set(descriptions)) == len(script.SETTINGS)


@pytest.mark.parametrize("name", ["recipe", "Muon"])
def test_a_training(benchmark, monkeypatch, name):
    options = benchmark.command_line().parse_args(["--epochs", "1"])
    draws = np.random.default_rng(0)
    x = draws.random((64, 32, 32, 3), "float32")
    y = draws.integers(0, 10, 64)
    built, fed = [], {}
    build, pipeline = kr.Study.build, kr.datasets.pipeline

    def watched_pipeline(*arguments, **named):
        fed.update(named)
        return pipeline(*arguments, **named)

    def watched_build(self, network):
        built.append(build(self, network))
        return built[-1]

    monkeypatch.setattr(kr.datasets, "pipeline", watched_pipeline)
    monkeypatch.setattr(kr.Study, "build", watched_build)
    study = benchmark.study_of(name, options)
    data = (x, y), (x[:10], y[:10])
    found = benchmark.train(name, 0, study, [4, 4, 4], data)
    assert 0 <= found["accuracy"] <= 1 and found["cpu_seconds"] > 0
    (model,) = built
    cpu = kr.study.get_recipe("cifar10", "cpu")
    assert model.dtype_policy.name == cpu.dtype_policy
    assert model.optimizer.iterations == 1
    augmentation = {"augment": cpu.training.augment, **cpu.augmentation}
    assert augmentation.items() <= fed.items()
