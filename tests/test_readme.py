import re
import shlex
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_robust as kr
from keras_robust import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
# Commands of the blocks of shell, continued lines joined.
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("keras-robust ")
]


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """A folder with the files that the reader brings; what code defines."""
    monkeypatch.chdir(tmp_path)
    train, test = kr.datasets.load("digits")
    np.savez("train.npz", x=train[0], y=train[1])
    np.savez("test.npz", x=test[0], y=test[1])
    kr.models.small_cnn((8, 8, 1)).save("model.keras")
    return {}


@pytest.mark.on_one_backend
@pytest.mark.thorough
def test_the_examples_run(stranger, tmp_path):
    evaluate, harden, reproduce = re.findall(
        r"```python\n(.*?)```", README, flags=re.DOTALL
    )
    for long, short in (
        ('"autoattack"', '"apgd"'),
        (
            'test = (test["x"], test["y"])',
            'test = (test["x"][:9], test["y"][:9])',
        ),
    ):
        assert long in evaluate
        evaluate = evaluate.replace(long, short)
    exec(evaluate, stranger)
    report = stranger["report"]
    assert set(report.accuracy) == {"clean", "apgd", "worst case"}
    assert list((tmp_path / "state").rglob("*.npz"))
    assert "epochs=20" in harden
    before = stranger["model"].get_weights()
    exec(harden.replace("epochs=20", "epochs=1"), stranger)
    assert "val_robust_accuracy" in stranger["robust"].history.history
    saved = keras.saving.load_model("robust.keras")
    assert saved.name == "small_cnn"
    for old, same in zip(before, stranger["model"].get_weights(), strict=True):
        np.testing.assert_array_equal(old, same)
    assert any(
        np.any(old != new)
        for old, new in zip(before, saved.get_weights(), strict=True)
    )
    for long, short in (
        ("steps=200", "steps=2"),
        ("NonRobustifier(model,", "NonRobustifier(model, steps=2,"),
    ):
        assert long in reproduce
        reproduce = reproduce.replace(long, short)
    exec(reproduce, stranger)
    assert stranger["x_adv"].shape == stranger["test"][0].shape
    x, x_r, x_rand = (stranger[name] for name in ("x", "x_r", "x_rand"))
    assert x_r.shape == x_rand.shape == x.shape
    moved = np.linalg.norm((x_rand - x).reshape(len(x), -1), axis=1)
    assert 0 < moved.max() and stranger["t"].shape == (len(x),)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_understood(command):
    cli.build_parser().parse_args(shlex.split(command)[1:])


def test_it_is_short():
    assert len(README.splitlines()) <= 150
