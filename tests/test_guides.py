"""Guides as written; pages of results hold the tables of the numbers."""

import importlib.util
import json
import re
import shlex
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from keras_robust import cli

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
# What a reader of the paper looks up.
WORDS = (
    *("ball", "box", "radius", "clean", "robust", "worst-case accuracy"),
    *("PGD", "APGD", "DLR", "FAB", "Square", "EOT", "survivor", "flag"),
    *("logits", "representation", "source model", "D_R", "D_NR", "D_rand"),
    *("D_det", "D_other", "control", "shortcut", "robust leakage"),
    *("right labels", "plateau", "AM207 report"),
)


@pytest.fixture(scope="module")
def pages():
    path = ROOT / "results" / "pages.py"
    spec = importlib.util.spec_from_file_location("pages", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(page):
    """Runs the blocks of a page; returns what they define."""
    text = (DOCS / page).read_text("utf-8")
    names = {}
    for code in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(code, names)
    return names


@pytest.mark.on_one_backend
@pytest.mark.thorough
def test_check_your_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = run("check_model.md")
    assert names["clean"] > 0.7 and names["reasons"] == []
    assert names["low"] < names["robust"] < names["high"]
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["accuracy"]["worst case"] == names["robust"]
    accuracy = names["curve"].accuracy
    assert accuracy[0] == names["clean"]
    assert (np.diff(accuracy) <= 0).all() and accuracy[-1] < accuracy[0] - 0.05
    # The number is what the model says of the images as they are stored.
    saved = keras.saving.load_model(tmp_path / "classifier.keras")
    answers = saved.predict(names["test_images"], verbose=0).argmax(-1)
    right = answers == names["test_labels"].argmax(-1)
    assert right.mean() == names["clean"]


@pytest.mark.thorough
def test_devices(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    policy = keras.mixed_precision.dtype_policy()
    names = run("devices.md")
    assert keras.mixed_precision.dtype_policy() == policy
    moved = np.abs(names["x_adv"] - names["x_test"][:100])
    assert names["x_adv"].dtype == "float32" and moved.max() <= 0.1 + 1e-6
    whole = names["kr"].evaluate_robustness(
        names["model"],
        (names["x_test"][:100], names["y_test"][:100]),
        {"pgd": names["kr"].PGDAttack("linf", 0.1, seed=0)},
        probe=False,
        verbose=0,
    )
    joined = np.stack(names["parts"], axis=1).ravel()
    np.testing.assert_array_equal(joined, whole.correct["worst case"])
    assert names["robust_accuracy"] == whole.accuracy["worst case"]


def test_tables_of_results_are_those_of_the_numbers(pages):
    found = set()
    for page in pages.PAGES:
        text = (DOCS / page).read_text("utf-8")
        assert pages.rewritten(text) == text
        found |= set(re.findall(r"<!-- table (.+?) -->", text))
    assert found == set(pages.TABLES)


def test_a_changed_table_is_noticed(pages):
    text = (DOCS / "replication.md").read_text("utf-8")
    assert "| 71.0 ± 0.4 |" in text
    changed = text.replace("| 71.0 ± 0.4 |", "| 72.0 ± 0.4 |")
    assert pages.rewritten(changed) == text


@pytest.mark.parametrize("word", WORDS)
def test_the_glossary_has(word):
    text = (DOCS / "glossary.md").read_text("utf-8")
    entries = " ".join(re.findall(r"^- \*\*(.*?)\*\*", text, re.M | re.S))
    assert re.search(rf"\b{re.escape(word)}\b", entries, re.IGNORECASE)


def shell_commands():
    """The commands of all pages, continued lines joined."""
    for page in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]:
        text = page.read_text("utf-8")
        for block in re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                found = re.match(r"(?:\w+=\S+ )*keras-robust (.*)", line)
                # What comes after a variable of the shell is not known here.
                if found and "$" not in line and "--beam" not in line:
                    yield pytest.param(
                        found[1].rstrip("& "), id=f"{page.stem}: {found[1]}"
                    )


@pytest.mark.parametrize("command", shell_commands())
def test_commands_are_understood(command):
    cli.build_parser().parse_args(shlex.split(command, comments=True))


def study_command(data):
    """The command of the page on studies for some data, in few steps."""
    page = (DOCS / "study.md").read_text("utf-8").replace("\\\n", "")
    (found,) = re.findall(
        rf"^keras-robust (.* --dataset {data} .*)$", page, re.M
    )
    few = "--radii 0.5 --set D_det --no-controls --verbose 0"
    return shlex.split(re.sub(r"--epochs \d+", "--epochs 1", found) + " " + few)


def write_build_file(folder):
    """The file `build.py` of that page, without a download."""
    page = (DOCS / "study.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    (build,) = (block for block in blocks if "def make_transfer" in block)
    assert '"imagenet"' in build
    (folder / "build.py").write_text(build.replace('"imagenet"', "None"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The number of unique classes:UserWarning")
def test_a_study_of_a_tfds_data_set_by_command(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    monkeypatch.chdir(tmp_path)
    write_build_file(tmp_path)
    with tfds.testing.mock_data(num_examples=24):
        assert cli.main(study_command("cifar100")) == 0
    results = json.loads(Path("runs/cifar100/results.json").read_text())
    assert results["recipe"]["classes"] == 100
    assert list(results["models"]) == ["standard", "adversarial", "D_det"]
    assert Path("runs/cifar100/report.html").stat().st_size > 0


@pytest.mark.slow
def test_a_study_of_a_folder_by_command(tmp_path, monkeypatch):
    """PNG files of 96x96, three classes, a transfer-learning model."""
    monkeypatch.chdir(tmp_path)
    write_build_file(tmp_path)
    random = np.random.default_rng(0)
    for number, name in enumerate(5 * ("daisy", "rose", "tulip")):
        folder = tmp_path / "flowers" / name
        folder.mkdir(parents=True, exist_ok=True)
        image = random.integers(0, 256, (96, 96, 3)).astype("uint8")
        Image.fromarray(image).save(folder / f"{number}.png")
    assert cli.main(study_command("flowers")) == 0
    results = json.loads(Path("runs/flowers/results.json").read_text())
    assert results["recipe"]["data"]["value_range"] == [0.0, 255.0]
    assert results["recipe"]["classes"] == 3
    assert list(results["models"]) == ["standard", "adversarial", "D_det"]
    # One image of each class is a test image.
    assert results["summary"]["standard"]["clean"]["mean"] in [
        pytest.approx(100 * right / 3) for right in range(4)
    ]
