import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_robust as kr
from keras_robust import cli
from keras_robust.cli import arguments
from keras_robust.cli import evaluate
from keras_robust.evaluation.diagnostics import Diagnostics

ROOT = Path(__file__).parents[2]


def run(*arguments):
    return subprocess.run(
        arguments, capture_output=True, text=True, env={**os.environ}
    )


def test_mistakes_are_said_without_a_traceback(tmp_path, capsys):
    status = cli.main(
        ["replicate", "--preset", "paper", "--output", str(tmp_path)]
    )
    assert status == 2
    assert "digits/paper" in capsys.readouterr().err
    wrong = ["replicate", "--dataset", "imagenet", "--output", str(tmp_path)]
    assert cli.main(wrong) == 2
    assert "--model-file" in capsys.readouterr().err


def test_a_model_with_a_layer_that_is_not_known(tmp_path, capsys):
    class Own(keras.layers.Layer):
        def call(self, x):
            return x

    path = tmp_path / "own.keras"
    keras.Sequential([keras.Input((8, 8, 1)), Own()]).save(path)
    for command in (["evaluate", str(path)], ["generate", "rand"]):
        model = ["--model", str(path)] if command[0] == "generate" else []
        output = ["--output", str(tmp_path / "out")]
        more = ["--data", "digits"] + output
        assert cli.main(command + model + more) == 2
        error = capsys.readouterr().err
        assert "register_keras_serializable" in error and "Own" in error


@pytest.mark.on_one_backend
def test_console_script_is_installed():
    done = run("keras-robust", "replicate", "--help")
    assert done.returncode == 0 and "--dataset" in done.stdout


@pytest.mark.parametrize(
    "text, value", [("8/255", 8 / 255), ("0.5", 0.5), ("1", 1.0), ("0", 0.0)]
)
def test_radius(text, value):
    assert arguments.radius(text) == value


@pytest.mark.parametrize("text", ["-1", "8/0", "much", "nan", "inf"])
def test_no_radius(text):
    with pytest.raises(argparse.ArgumentTypeError, match="Received"):
        arguments.radius(text)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A classifier of digits that wants bytes, and says probabilities."""
    (x, y), _ = kr.datasets.load("digits")
    flat = x.reshape(len(x), -1)
    means = np.stack([flat[y == label].mean(0) for label in range(10)])
    weights = [(2 / 255 * means).T, -(means**2).sum(-1)]
    inputs = keras.Input((8, 8, 1))
    h = keras.layers.Flatten()(inputs)
    model = keras.Model(inputs, keras.layers.Dense(10, "softmax")(h))
    model.set_weights(weights)
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    model.save(path)
    return path


@pytest.mark.slow_on_jax
@pytest.mark.compiles_much
def test_evaluate(saved, tmp_path, capsys):
    arguments = [
        *("evaluate", str(saved), "--dataset", "digits", "--norm", "l2"),
        *("--epsilon", "4/16", "--attack", "apgd", "--examples", "100"),
        *("--output", str(tmp_path), "--batch-size", "50", "--verbose", "0"),
    ]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "byte" in printed and "worst case" in printed
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["examples"] == 100
    clean, robust = (
        written["accuracy"][key] for key in ("clean", "apgd l2 0.25")
    )
    # The exact answer: the distance of a linear classifier's boundaries.
    model = keras.saving.load_model(saved)
    weights, bias = model.get_weights()
    x, y = (a[:100] for a in kr.datasets.load("digits").test)
    logits = 255 * x.reshape(100, -1) @ weights + bias
    gap = logits[np.arange(100), y][:, None] - logits
    slopes = 255 * (weights.T[y][:, None] - weights.T[None])
    norm = np.linalg.norm(slopes, axis=-1)
    distance = np.where(norm > 0, gap / np.maximum(norm, 1e-9), np.inf).min(-1)
    assert clean == pytest.approx((distance > 0).mean())
    # Pixels may not leave the box, which the formula does not know.
    assert (distance > 0.25).mean() <= robust <= (distance > 0.1).mean()
    assert (tmp_path / "report.png").exists()
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "is still right on" in page and "data:image/png" in page
    assert list((tmp_path / "state").glob("*/*.npz"))
    # Several radii: a curve.
    arguments[arguments.index("4/16") : arguments.index("--attack")] = [
        *("0.1", "4/16")
    ]
    assert cli.main(arguments) == 0
    curve = json.loads((tmp_path / "report.json").read_text())
    assert curve["epsilons"] == [0, 0.1, 0.25]
    assert curve["accuracy"][2] == pytest.approx(robust)
    # The report of the single radius is kept beside it.
    (kept,) = tmp_path.glob("report-*.json")
    assert json.loads(kept.read_text()) == written
    assert f"is kept as {kept.name}" in capsys.readouterr().out


@pytest.mark.slow_on_jax
def test_mistakes_of_evaluate(saved, tmp_path, capsys):
    begin = ["evaluate", str(saved), "--output", str(tmp_path)]
    assert cli.main([*begin, "--dataset", "digits", "--attack", "best"]) == 2
    assert "name must be one of" in capsys.readouterr().err
    nowhere = ["evaluate", str(tmp_path / "no.keras"), "--dataset", "digits"]
    assert cli.main(nowhere) == 2


@pytest.mark.slow
def test_a_model_for_other_images(saved, tmp_path, capsys):
    begin = ["evaluate", str(saved), "--output", str(tmp_path)]
    assert cli.main([*begin, "--dataset", "fashion_mnist"]) == 2
    assert "shape (28, 28, 1)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        "replicate",
        "evaluate",
        "generate",
        "sweep",
        "report",
        "inspect",
        "import-released",
    ],
)
def test_every_argument_is_explained(command):
    parser = cli.build_parser()
    (commands,) = (
        action
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    chosen = commands.choices[command]
    silent = [action.dest for action in chosen._actions if not action.help]
    assert silent == []
    text = " ".join(chosen.format_help().split())
    assert "(default: None)" not in text and "(default: False)" not in text


def test_defaults_of_evaluate_are_told():
    parser = argparse.ArgumentParser(formatter_class=arguments.HelpFormatter)
    evaluate.add_arguments(parser)
    text = " ".join(parser.format_help().split())
    for default in ("linf", "128", "all", "evaluation"):
        assert f"(default: {default})" in text
    assert "(default for linf: 8/255; must be given for other norms)" in text
    assert "cifar10" in text and "(default: cifar10)" not in text


@pytest.mark.parametrize(
    "more", [("--help",), ("--version",), ("evaluate", "--attack", "list")]
)
@pytest.mark.parametrize("started", ["script", "module"])
def test_what_needs_no_keras_imports_none(tmp_path, started, more):
    """Only the import of Keras and TensorFlow makes the command line slow."""
    script = tmp_path / "keras-robust"
    script.write_text("from keras_robust.cli import main\nmain()")
    (tmp_path / "keras.py").write_text("raise RuntimeError('imported')")
    begin = {"script": [str(script)], "module": ["-m", "keras_robust"]}
    done = subprocess.run(
        [sys.executable, *begin[started], *more],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
    )
    assert done.returncode == 0, done.stderr
    assert "autoattack" in done.stdout or "keras-robust" in done.stdout


@pytest.mark.on_one_backend
@pytest.mark.thorough
def test_a_command_has_the_whole_package(tmp_path):
    """A function of the user's imports it, too."""
    (tmp_path / "mine.py").write_text(
        "import numpy as np\nimport keras_robust as kr\n"
        "def data():\n"
        "    assert kr.PGDAttack and kr.study.sweep\n"
        "    return np.full((4, 8, 8, 1), 0.5), [0, 1, 2, 3]\n"
    )
    command = ["generate", "shortcut_rand", "--data", "mine:data"]
    done = subprocess.run(
        [sys.executable, "-m", "keras_robust", *command, "--verbose", "0"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data" / "constructed_data").is_dir()


def evaluate_digits(saved, folder, *more):
    return cli.main(
        [
            *("evaluate", str(saved), "--data", "digits", "--norm", "l2"),
            *("--epsilon", "0.25", "--attack", "fgsm", "--examples", "50"),
            *("--output", str(folder), "--verbose", "0", "--scaling", "byte"),
            *more,
        ]
    )


@pytest.mark.compiles_much
def test_exit_status_of_thresholds(saved, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Diagnostics, "run", lambda self, cheap=False: [])
    assert evaluate_digits(saved, tmp_path, "--fail-on-flags") == 0
    report = json.loads((tmp_path / "report.json").read_text())
    accuracy = 100 * report["accuracy"]["worst case"]
    # The same evaluation, read from its state.
    higher = str(accuracy + 1)
    assert evaluate_digits(saved, tmp_path, "--fail-under", higher) == 1
    printed = capsys.readouterr().err
    assert f"at least {accuracy + 1:.2f}%. Received: {accuracy:.2f}%" in printed


def test_what_decides_the_exit_status(capsys):
    rows = np.arange(10) < 6
    found = {"clean": rows | ~rows, "pgd": rows}
    report = kr.RobustnessReport(found)
    low = 100 * report.intervals["worst case"][0]
    for under, interval, no_flags, status in (
        (None, None, True, 0),
        (60, None, True, 0),
        (61, None, False, 1),
        (None, low - 0.1, False, 0),
        (None, 60, False, 1),
    ):
        found_status = evaluate._status(report, under, interval, no_flags)
        assert found_status == status
    flag = kr.evaluation.Flag("odd", "found by a test")
    flagged = kr.RobustnessReport(found, [flag])
    assert evaluate._status(flagged, 60, None, False) == 0
    capsys.readouterr()
    assert evaluate._status(flagged, 60, None, True) == 3
    assert (
        "no flags (--fail-on-flags). Received: odd" in capsys.readouterr().err
    )
    # A threshold that is missed says more than a flag.
    assert evaluate._status(flagged, 100, None, True) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("epsilon", "more", "status", "text"),
    [
        ("0.5", ["--fail-under", "0", "--fail-under-interval", "0"], 0, ""),
        ("0.5", ["--fail-under", "90"], 1, "must be at least 90.00%"),
        ("0.5", ["--fail-under-interval", "90"], 1, "The lower end"),
        ("0.0005", ["--fail-on-flags"], 3, "Received: radius"),
        ("0.0005", ["--fail-under", "99", "--fail-on-flags"], 1, "99.00%"),
        ("-1", [], 2, "Received"),
    ],
)
def test_exit_statuses_of_a_process(
    saved, tmp_path, epsilon, more, status, text
):
    command = ["evaluate", str(saved), "--data", "digits", "--norm", "l2"]
    command += ["--epsilon", epsilon, "--attack", "pgd", "--examples", "50"]
    command += ["--output", str(tmp_path / "evaluation"), "--verbose", "0"]
    done = subprocess.run(
        [sys.executable, "-m", "keras_robust", *command, *more],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == status, done.stderr
    assert text in done.stderr and "Traceback" not in done.stderr


@pytest.mark.compiles_much
def test_corruptions_by_command(saved, tmp_path, capsys):
    begin = ["evaluate", str(saved), "--data", "digits", "--scaling", "byte"]
    begin += ["--output", str(tmp_path), "--examples", "20", "--verbose", "0"]
    begin += ["--attack", "corruptions"]
    assert cli.main([*begin, "--fail-under", "100"]) == 1
    assert "the mean over corruptions" in capsys.readouterr().err
    report = json.loads((tmp_path / "report.json").read_text())
    assert len(report["corruptions"]) > 5
    for more in (["--epsilon", "0.1"], ["--fail-under-interval", "40"]):
        assert cli.main([*begin, *more]) == 2
        assert f"`{more[0]}` must" in capsys.readouterr().err


def test_provenance_of_a_report(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(Diagnostics, "run", lambda self, cheap=False: [])
    evaluate_digits(saved, tmp_path, "--seed", "3")
    found = json.loads((tmp_path / "report.json").read_text())["provenance"]
    attack = found["attacks"]["fgsm l2 0.25"]
    assert attack["class"] == "FGSMAttack"
    assert (found["norm"], found["epsilon"]) == ("l2", 0.25)
    assert len(found["data_fingerprint"]) == 64
    assert len(found["model_fingerprint"]) == 64
    assert {"keras", "numpy"} <= set(found["versions"])
    assert found["date"][:2] == "20" and found["backend"]


@pytest.mark.parametrize("command", ["evaluate", "generate"])
def test_data_have_no_silent_default(command, capsys):
    arguments = {"evaluate": ["model.keras"], "generate": ["rand"]}
    with pytest.raises(SystemExit) as stopped:
        cli.main([command, *arguments.get(command, [])])
    assert stopped.value.code == 2
    assert "--data" in capsys.readouterr().err


def test_a_model_that_does_not_fit_costs_no_download(
    saved, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(
        "keras_robust.datasets.readers.prepare", lambda builder: 1 / 0
    )
    for data in ("tfds:kmnist", "cifar10"):
        command = ["evaluate", str(saved), "--data", data]
        assert cli.main([*command, "--output", str(tmp_path)]) == 2
        assert "--resize" in capsys.readouterr().err or data == "cifar10"
    assert not list(tmp_path.iterdir())


@pytest.mark.compiles_much
def test_images_of_a_folder(saved, tmp_path, capsys):
    random = np.random.default_rng(0)
    for label in range(10):
        folder = tmp_path / "images" / str(label)
        folder.mkdir(parents=True)
        image = random.integers(0, 256, (12, 12, 1))
        keras.utils.save_img(
            folder / "image.png", image, "channels_last", scale=False
        )
    begin = ["evaluate", str(saved), "--data", str(tmp_path / "images")]
    begin += ["--output", str(tmp_path / "out"), "--attack", "fgsm"]
    begin += ["--verbose", "0", "--scaling", "byte"]
    assert cli.main(begin) == 2
    assert "resized (--resize)" in capsys.readouterr().err
    assert cli.main([*begin, "--resize"]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["examples"] == 10


@pytest.mark.parametrize("text", ["-1", "101", "0.4", "much"])
def test_no_percent(text):
    with pytest.raises(argparse.ArgumentTypeError, match="Received"):
        arguments.percent(text)


@pytest.mark.parametrize(
    "options",
    [
        ["--norm", "l2"],
        ["--attack", "corruptions", "--norm", "linf"],
        ["--attack", "corruptions", "--seed", "0"],
        ["--attack", "corruptions", "--epsilon", "0.1"],
    ],
)
def test_options_that_would_mean_nothing(options, tmp_path, capsys):
    """A radius of another norm, settings of attacks for corruptions."""
    command = ["evaluate", "no.keras", "--data", "digits"] + options
    assert cli.main(command + ["--output", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert f"Received: {options[-2]}" in error or "no --epsilon" in error
