import json
import re
from pathlib import Path

import keras
import pytest

from keras_robust.study import PlateauMonitor

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.mark.on_one_backend
def test_the_example_runs(tmp_path, monkeypatch):
    code, evaluation = re.findall(
        r"```python\n(.*?)```", README, flags=re.DOTALL
    )
    for long, short in (("epochs=20", "epochs=1"), ("steps=200", "steps=2")):
        assert long in code
        code = code.replace(long, short)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code, names)
    assert names["x_adv"].shape == names["x_test"].shape
    assert names["x_r"].shape == names["x"].shape
    assert set(names["report"].accuracy) == {"clean", "pgd", "worst case"}
    assert keras.saving.load_model("robust.keras").name == "small_cnn"
    names["x_test"], names["y_test"] = names["x_test"][:9], names["y_test"][:9]
    assert '"autoattack"' in evaluation
    exec(evaluation.replace('"autoattack"', '"apgd"'), names)
    assert set(names["report"].accuracy) == {"clean", "apgd", "worst case"}
    assert names["curve"].accuracy.shape == (3,)
    assert names["matrix"].examples.shape == (1, 1)
    assert list((tmp_path / "state").rglob("*.npz"))


@pytest.mark.parametrize(
    ("document", "results"),
    [
        ("README.md", "cifar10/quick"),
        ("docs/study.md", "digits"),
        ("docs/study.md", "fashion_mnist/cpu"),
    ],
)
def test_the_table_is_the_one_in_results(document, results):
    text = (ROOT / document).read_text()
    table = (ROOT / "results" / results / "table.md").read_text()
    ours = [row for row in table.splitlines() if "| this run |" in row]
    assert len(ours) >= 10
    for row in ours:
        assert row.replace("| this run |", "|") in text


@pytest.mark.parametrize(
    "path",
    sorted((ROOT / "results" / "optimizer").rglob("results.json")),
    ids=lambda path: "/".join(path.parent.parts[-2:]),
)
def test_kept_outcomes_are_those_of_the_monitor(path):
    runs = json.loads(path.read_text())["runs"]
    assert runs
    for run in runs:
        monitor = PlateauMonitor(chance=0.1)
        monitor.curve = run["curve"]
        assert run["outcome"] == monitor.outcome
        assert run["escape_epoch"] == monitor.escape_epoch
