import json

import numpy as np
import pytest
from conftest import make_cnn

import keras_robust as kr
from keras_robust.cli import main
from keras_robust.datasets import generate
from keras_robust.datasets.inspection import find
from keras_robust.datasets.inspection import inspect


@pytest.fixture(scope="module")
def source():
    random = np.random.default_rng(7)
    x = random.random((90, 6, 6, 1), dtype="float32")
    return x, np.arange(90, dtype="int32") % 3


@pytest.fixture(scope="module")
def model():
    return make_cnn(shape=(6, 6, 1))


@pytest.fixture
def made(model, source, tmp_path):
    transform = kr.NonRobustifier(model, "other", steps=2, seed=1)
    done = generate(transform, source, tmp_path, shard_size=40, verbose=0)
    return done["directory"]


def edit(folder, change):
    path = folder / "description.json"
    description = json.loads(path.read_text())
    change(description)
    path.write_text(json.dumps(description))


def failed(folder):
    _, checks = inspect(folder, verbose=0)
    return {key for key, (passed, _) in checks.items() if not passed}


def test_a_sound_set(made, capsys):
    facts, checks = inspect(made, made / "grid.png")
    assert set(checks) == {"files", "order", "box", "ball", "labels"}
    assert all(passed for passed, _ in checks.values()), checks
    assert facts["right labels"] == "0.00%"
    assert facts["name"] == "constructed_images/other"
    assert (made / "grid.png").stat().st_size > 0
    printed = capsys.readouterr().out
    assert "weights SHA-256" in printed and "chi-square" in printed
    assert find(made.parent.parent.parent) == [made]


@pytest.mark.parametrize("kind", ["rand", "det", "robust"])
def test_labels_that_are_not_those_of_the_definition(made, kind):
    """D_other's labels are neither y + 1 nor y; uniform they are."""
    edit(made, lambda description: description.update(config=kind))
    assert failed(made) == (set() if kind == "rand" else {"labels"})


def test_a_set_that_is_not_uniform(model, tmp_path):
    x = np.zeros((90, 6, 6, 1), "float32")
    transform = kr.NonRobustifier(model, "deterministic", steps=1, seed=1)
    folder = generate(
        transform, (x, np.r_[np.zeros(89), 2]), tmp_path, verbose=0
    )["directory"]
    assert not failed(folder)
    edit(folder, lambda description: description.update(config="rand"))
    assert failed(folder) == {"labels"}


def test_ball_box_and_files(made):
    def smaller(description):
        description["arguments"].update(epsilon=0.1, value_range=[0.2, 1.0])

    edit(made, smaller)
    shard = next(made.glob("*.tfrecord-00001*"))
    edit(made, lambda d: d["shards"][1].update(sha256="0" * 64))
    assert failed(made) == {"ball", "box", "files"}
    assert shard.name in inspect(made, verbose=0)[1]["files"][1]


def test_the_ball_from_the_source_itself(tmp_path):
    """What is recorded is not believed where the source can be read."""
    model = kr.models.small_cnn((8, 8, 1), filters=(4,))
    transform = kr.NonRobustifier(model, steps=2, epsilon=0.2, seed=1)
    folder = generate(transform, "digits", tmp_path, examples=80, verbose=0)
    folder = folder["directory"]
    passed, found = inspect(folder, verbose=0)[1]["ball"]
    assert passed and "from the source" in found
    x, y = kr.datasets.load("digits").train
    x_n = transform(x[:80], y[:80], verbose=0)[0]
    largest = np.linalg.norm((x_n - x[:80]).reshape(80, -1), axis=1).max()
    assert f"{largest:.6g}"[:6] in found
    edit(folder, lambda d: d["source"].update(sha256="0" * 64))
    assert "as recorded" in inspect(folder, verbose=0)[1]["ball"][1]


def test_command(made, capsys):
    assert main(["inspect", str(made)]) == 0
    assert (made / "images.png").stat().st_size > 0
    edit(made, lambda description: description.update(config="det"))
    assert main(["inspect", str(made), "--verbose", "0"]) == 2
    assert "labels: not always y + 1" in capsys.readouterr().err
    assert main(["inspect", str(made / "generation")]) == 2
    assert "description.json" in capsys.readouterr().err
