import argparse
import json
import os
import subprocess
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_robust as kr
from keras_robust import cli
from keras_robust.cli import arguments
from keras_robust.cli import evaluate

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
    with pytest.raises(SystemExit):
        cli.main(["replicate", "--dataset", "imagenet"])


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
    for default in ("cifar10", "linf", "8/255", "128", "all", "evaluation"):
        assert f"(default: {default})" in text
