import argparse
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import keras_robust as kr

EXAMPLES = Path(__file__).parent.parent / "examples"
SHORT = ("--images", "200", "--epochs", "1")
SMOKE = ("--preset", "smoke", "--verbose", "0", "--dataset", "digits")


def run(name, folder, *arguments):
    done = subprocess.run(
        [
            *(sys.executable, str(EXAMPLES / f"{name}.py"), *arguments),
            *("--output", str(folder)),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def skip_without(dataset):
    try:
        kr.datasets.load(dataset)
    except FileNotFoundError:
        pytest.skip(f"{dataset} is not prepared in TFDS_DATA_DIR")


@pytest.fixture
def imported(monkeypatch):
    """A function that imports an example, as a script beside it does."""
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module


def figures(folder):
    return json.loads((folder / "figures.json").read_text())


def test_results_are_whole_while_they_are_written(
    imported, tmp_path, monkeypatch
):
    """Processes that share a folder read what others write."""
    studies = imported("small_studies")
    options = argparse.Namespace(output=tmp_path, verbose=0)
    studies.write_results(options, {"rows": [1]}, ["| a |"])
    paths = [tmp_path / "results.json", tmp_path / "table.md"]
    before = [path.read_text() for path in paths]
    assert json.loads(before[0])["rows"] == [1] and before[1] == "| a |\n"
    write_text = Path.write_text

    def watched(self, text, encoding=None):
        count = write_text(self, text[: len(text) // 2], encoding)
        # What another process would read in the middle of it.
        assert [path.read_text() for path in paths] == before
        write_text(self, text, encoding)
        return count

    monkeypatch.setattr(Path, "write_text", watched)
    studies.write_results(options, {"rows": [1]}, ["| a |"])
    assert sorted(tmp_path.iterdir()) == paths
    assert [path.read_text() for path in paths] == before


def test_jobs_of_other_processes_come_later(imported, monkeypatch):
    studies = imported("small_studies")
    waited, busy = [], {"a", "b"}
    monkeypatch.setattr(
        studies.time, "sleep", lambda seconds: waited.append(busy.clear())
    )

    def take(job):
        if job in busy:
            raise studies.StageBusyError(job)
        return job.upper()

    found = list(studies.in_turn(["a", "b", "c"], take))
    assert found == [("c", "C"), ("a", "A"), ("b", "B")]
    assert len(waited) == 1


class CountedAttacks:
    """Attack nothing, and count the networks that would be attacked."""

    def __init__(self):
        self.attacked = []

    def accuracy(self, study, name):
        self.attacked.append(name)
        return {"y": 0.5}


def test_kept_numbers_of_recipe_changes_tell_what_they_depend_on(
    imported, tmp_path, monkeypatch
):
    """Rows and sources of other attacks or versions are not taken for them."""
    changes = imported("recipe_changes")
    stages = imported("keras_robust.study.replication.replication")
    curve = {"accuracy": [0.5], "val_accuracy": [0.5]}
    for name, value in (
        ("curves", {"D_det": {"curve": curve}}),
        ("describe_generated", {}),
        ("seconds", {}),
    ):
        monkeypatch.setattr(
            kr.study.Replication, name, lambda *_, value=value: value
        )
    monkeypatch.setattr(
        "sys.argv", ["recipe_changes.py", "--output", str(tmp_path)]
    )

    def attacked(change="as in the recipe"):
        attacks = CountedAttacks()
        job = (change, "D_det", 0)
        options = changes.arguments()
        row = changes.measure(options, attacks, job)
        assert (row["change"], row["set"], row["seed"]) == job
        return attacks.attacked

    assert attacked() == ["D_det", "source"]
    assert attacked() == []
    # A source serves all changes that leave it as it is.
    assert attacked("no augmentation") == ["D_det"]
    assert attacked("a ResNet-9 as the source") == ["D_det", "source"]
    for module, name, value in (
        (changes, "ATTACKED", 10),
        (changes, "RADII", (0.25, 1.0)),
        (stages, "__version__", "0.0.1"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            assert attacked() == ["D_det", "source"]


@pytest.mark.slow
def test_theory(tmp_path):
    printed = run("theory", tmp_path)
    assert "0.9928" in printed and "dimension 128" in printed
    for name in ("gaussians", "bounds"):
        assert (tmp_path / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.slow
def test_non_transferable(tmp_path):
    printed = run(
        "non_transferable",
        tmp_path,
        "--dataset",
        "digits",
        *SHORT,
        "--verbose",
        "0",
    )
    rows = figures(tmp_path)["rows"]
    assert len(rows) == 8 + 6 and all(
        row["what"][:9] in printed for row in rows
    )
    named = {row["what"]: row["here"] for row in rows}
    # Attacked so, the source errs more than the network that nobody attacks.
    for kind in ("PGD", "kept from the others"):
        source = named[f"{kind}: source takes them for y + 1"]
        assert source > named[f"{kind}: another network does"]
    # A rule without wrong labels to fit is right at a small radius.
    clean = [v for k, v in named.items() if "squares, 0%" in k]
    assert clean[0] == 100 and all(0 <= v <= 100 for v in named.values())


@pytest.mark.slow
def test_wrong_predictions(tmp_path):
    skip_without("fashion_mnist")
    run("wrong_predictions", tmp_path, "--dataset", "digits", *SHORT)
    named = {row["what"]: row for row in figures(tmp_path)["rows"]}
    assert named["guessing"]["here"] == 10
    assert named["network of its mistakes only"]["published"] == "49.7"


@pytest.mark.slow
def test_what_looks_into_a_replication(tmp_path):
    """The others find the models of the first."""
    run("robust_leakage", tmp_path, *SMOKE)
    named = {row["what"]: row for row in figures(tmp_path)["rows"]}
    assert (
        named["linear model of robust features, D_rand"]["published"] == "23.5"
    )
    made = {
        p: p.stat().st_mtime_ns for p in (tmp_path / "stages").rglob("*.keras")
    }
    run(
        "vae_geometry",
        tmp_path,
        *SMOKE,
        "--epochs",
        "2",
        "--latent",
        "4",
        "--images",
        "60",
    )
    assert all(path.stat().st_mtime_ns == t for path, t in made.items())
    found = json.loads((tmp_path / "vae.json").read_text())["found"]
    assert list(found) == ["D", "D_R", "D_NR"]
    for kinds in found.values():
        assert set(kinds["clean"]) == {"elbo", "error"}
        assert {"adversarial", "D_R", "D_NR", "D_rand", "noise"} < set(kinds)
        assert all(0 <= k["auroc"] <= 1 for k in list(kinds.values())[1:])
    assert (tmp_path / "vae.md").read_text().count("\n") == 2 + 3 * 6
    run(
        "useful_units",
        tmp_path,
        *SMOKE,
        "--units",
        "4",
        "--images",
        "40",
    )
    named = {row["what"]: row["here"] for row in figures(tmp_path)["rows"]}
    for name in ("standard", "adversarial"):
        assert named[f"{name}: representation moves by"] > 0
        shares = [
            named[f"{name}: {kind}, share of units"]
            for kind in ("useful, robust", "useful, non-robust", "useless")
        ]
        assert sum(shares) == 100
        picture = (tmp_path / f"units-{name}.png").read_bytes()
        assert picture[:4] == b"\x89PNG"


@pytest.mark.slow
def test_recipe_changes(tmp_path):
    skip_without("cifar10")
    changes = ("as in the recipe", "no augmentation")
    settings = (*SHORT, "--held-out", "100", "--widths", "8", "8", "8")
    printed = run(
        "recipe_changes",
        tmp_path,
        *settings,
        "--preset",
        "cpu",
        "--sets",
        "D_NR",
        "D_det",
        "--only",
        *changes,
    )
    rows = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert [(row["change"], row["set"]) for row in rows] == [
        (changes[0], "D_NR"),
        (changes[0], "D_det"),
        (changes[1], "D_det"),
    ]
    for row in rows:
        assert 0 <= row["y"] + row["y + 1"] <= 1
        assert f"{100 * row['y']:.1f} | {100 * row['y + 1']:.1f}" in printed
        assert row["source"]["y"] >= row["source"]["L2 0.25"]
    inverted, *relabelled = (row["made"] for row in rows)
    assert 0 < inverted["distance_after"] < inverted["distance_before"]
    # One source, and so one set, for both trainings.
    assert relabelled[0] == relabelled[1]


@pytest.mark.slow
def test_catastrophic_overfitting(tmp_path):
    printed = run(
        "catastrophic_overfitting", tmp_path, "--dataset", "digits", *SHORT
    )
    found = figures(tmp_path)["trainings"]
    for name, one in found.items():
        assert f"| {name} | {100 * one['pgd'][0]:.1f} |" in printed
        assert one["collapsed_epoch"] is None and one["best_epoch"] == 0
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.slow
def test_planted_reversal(tmp_path):
    """A large perturbation teaches y, a small one the label y + 1."""
    run("planted_reversal", tmp_path, "--radii", "0.2", "0.4", "--verbose", "0")
    small, _, large, _ = [row["here"] for row in figures(tmp_path)["rows"]]
    assert small < 50 < large


@pytest.mark.slow
def test_whitening(tmp_path):
    skip_without("fashion_mnist")
    run(
        "whitening",
        tmp_path,
        "--dataset",
        "fashion_mnist",
        "--images",
        "64",
        "--held-out",
        "32",
        "--epochs",
        "1",
        "--widths",
        "4",
        "4",
        "4",
        "--sets",
        "D_rand",
        "D_other",
        "--seeds",
        "1",
        "--verbose",
        "0",
    )
    results = json.loads((tmp_path / "results.json").read_text())
    rows = results["rows"]
    # Two sources, students and optimizers with two sets each, their controls
    # once for each student and optimizer, and the two sources themselves.
    assert len(rows) == 2 * 2 * 2 * 2 + 2 * 2 * 2 + 2
    assert all(0 <= row["accuracy"]["clean"] <= 1 for row in rows)
    other = [row for row in rows if row["set"] == "D_other"]
    assert {(row["source"], row["student"]) for row in other} == {
        (source, student)
        for source in ("whitened", "plain")
        for student in ("whitened", "plain")
    }
    assert (tmp_path / "table.md").read_text().count("\n") == 2 + len(rows)
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.slow
def test_the_study_of_ones_own(tmp_path):
    run("own_study", tmp_path, "--epochs", "1")
    assert "Measured radius" in (tmp_path / "report.html").read_text()
    header = (tmp_path / "accuracy.csv").read_text().splitlines()[0]
    assert header == ",trained_on,seed,attack,accuracy,low,high"
