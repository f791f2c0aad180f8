import json

import numpy as np
import pytest

import keras_robust as kr
from keras_robust.cli import main
from keras_robust.cli.generate import KINDS


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    kr.models.small_cnn((8, 8, 1), filters=(4,)).save(path)
    return path


# An inversion, a relabelled set, a mixture and a control.
QUICK = ("robust", "rand", "mix", "shortcut_other")


def generate(kind, output, *more):
    command = ["generate", kind, "--source", "digits", "--seed", "3"]
    command += ["--output", str(output), "--examples", "60", "--verbose", "0"]
    if not kind.startswith("shortcut_") and "--steps" not in more:
        command += ["--steps", "2"]
    return main(command + list(more))


@pytest.mark.parametrize(
    "kind",
    [
        kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow)
        for kind in KINDS
    ],
)
def test_every_kind(saved, tmp_path, kind):
    model = [] if kind.startswith("shortcut") else ["--model", str(saved)]
    assert generate(kind, tmp_path, *model) == 0
    config = "mix_90" if kind == "mix" else kind
    folder = tmp_path / "constructed_digits" / config / "1.0.0"
    found = json.loads((folder / "description.json").read_text())
    assert found["config"] == config
    assert found["statistics"]["examples"] == 60
    assert main(["inspect", str(tmp_path), "--verbose", "0"]) == 0


@pytest.mark.slow_on_jax
@pytest.mark.parametrize(
    "kind, options, key, value",
    [
        ("robust", ["--optimizer", "polyak"], "optimizer", "polyak"),
        ("rand", ["--early-stop"], "early_stop", True),
    ],
)
def test_faster_ways(saved, tmp_path, kind, options, key, value):
    assert generate(kind, tmp_path, "--model", str(saved), *options) == 0
    folder = tmp_path / "constructed_digits" / kind / "1.0.0"
    found = json.loads((folder / "description.json").read_text())
    assert found["arguments"][key] == value


@pytest.mark.slow_on_jax
def test_scaling_is_part_of_the_model(saved, tmp_path):
    """A model that wants [-1, 1] sees other pixels than one of [0, 1]."""
    import tensorflow_datasets as tfds

    made = {}
    for scaling in ("unit", "symmetric"):
        more = ["--model", str(saved), "--scaling", scaling, "--name", scaling]
        assert generate("robust", tmp_path, *more) == 0
        data = tfds.load(f"{scaling}/robust", data_dir=tmp_path, split="train")
        made[scaling] = np.array([e["image"] for e in data.as_numpy_iterator()])
    assert made["symmetric"].min() >= 0 and made["symmetric"].max() <= 1
    assert np.abs(made["symmetric"] - made["unit"]).max() > 1e-3


@pytest.fixture
def sorted_file(tmp_path):
    """Images of five classes in the order of their labels."""
    random = np.random.default_rng(0)
    path = tmp_path / "sorted.npz"
    np.savez(
        path,
        x_train=random.random((20, 4, 4, 1), dtype="float32"),
        y_train=np.arange(20) // 5,
        x_test=random.random((5, 4, 4, 1), dtype="float32"),
        y_test=np.arange(5),
    )
    return path


def test_classes_that_the_first_images_lack(sorted_file, tmp_path):
    """They get patterns and labels, as they would from all images."""
    found = {}
    for name, more in (("some", ["--examples", "10"]), ("every", [])):
        command = ["generate", "shortcut_rand", "--name", name]
        command += ["--data", str(sorted_file), "--output", str(tmp_path)]
        assert main(command + ["--verbose", "0"] + more) == 0
        folder = tmp_path / name / "shortcut_rand" / "1.0.0"
        text = (folder / "description.json").read_text()
        found[name] = json.loads(text)
    for description in found.values():
        assert description["arguments"]["num_classes"] == 5
        assert description["class_names"] == list("01234")
    assert found["some"]["statistics"]["examples"] == 10


def test_a_split_that_data_do_not_have(sorted_file, tmp_path, capsys):
    command = ["generate", "shortcut_rand", "--split", "validation"]
    command += ["--output", str(tmp_path), "--verbose", "0", "--data"]
    assert main(command + [str(sorted_file)]) == 2
    assert "--split validation" in capsys.readouterr().err
    one = tmp_path / "one.npz"
    with np.load(sorted_file) as arrays:
        np.savez(one, x=arrays["x_test"], y=arrays["y_test"])
    # One set of images can be written under any name.
    assert main(command + [str(one)]) == 0


def test_mistakes(saved, tmp_path, capsys):
    assert generate("rand", tmp_path) == 2
    assert "--model MODEL.keras" in capsys.readouterr().err
    nowhere = ["--model", str(tmp_path / "no.keras")]
    assert generate("rand", tmp_path, *nowhere) == 2
    assert "no.keras" in capsys.readouterr().err
    assert generate("shortcut_rand", tmp_path, "--epsilon", "0.25") == 0
    assert generate("shortcut_rand", tmp_path, "--epsilon", "0.5") == 2
    assert "epsilon was 0.25 and is 0.5" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["generate", "D_rand"])


@pytest.mark.parametrize(
    ("kind", "option"),
    [
        ("robust", ["--epsilon", "0.5"]),
        ("mix", ["--early-stop"]),
        ("rand", ["--start", "noise"]),
        ("shortcut_det", ["--steps", "10"]),
        ("other", ["--alpha", "0.5"]),
    ],
)
def test_options_without_an_effect(kind, option, saved, tmp_path, capsys):
    """They are refused, also with the value of the default."""
    command = ["--model", str(saved)] + option
    assert generate(kind, tmp_path, *command) == 2
    assert f"Received: {option[0]}" in capsys.readouterr().err
    assert not list(tmp_path.glob("constructed*"))


def test_steps_follow_the_radius(saved, tmp_path):
    options = ["--model", str(saved), "--examples", "8", "--steps", "1"]
    for kind, more, step in (
        ("det", ["--norm", "linf", "--epsilon", "8/255"], 8 / 255 / 5),
        ("other", [], 0.1),
        ("robust", [], 0.1),
    ):
        assert generate(kind, tmp_path, *options, *more) == 0
        folder = tmp_path / "constructed_digits" / kind / "1.0.0"
        found = json.loads((folder / "description.json").read_text())
        assert found["arguments"]["step_size"] == pytest.approx(step)


def test_a_radius_of_another_norm(tmp_path, capsys):
    """0.5 of L2 is half of the range in L-infinity."""
    assert generate("shortcut_det", tmp_path, "--norm", "linf") == 2
    assert "no --epsilon" in capsys.readouterr().err
    more = ["--norm", "linf", "--epsilon", "8/255"]
    assert generate("shortcut_det", tmp_path, *more) == 0
    folder = tmp_path / "constructed_digits" / "shortcut_det" / "1.0.0"
    found = json.loads((folder / "description.json").read_text())["arguments"]
    assert (found["norm"], found["epsilon"]) == ("linf", 8 / 255)
