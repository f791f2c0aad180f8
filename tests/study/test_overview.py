import contextlib
import dataclasses
import importlib
import json
import pickle
import re
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from keras_robust import cli
from keras_robust import study
from keras_robust.study.replication import running
from keras_robust.study.replication import tables
from keras_robust.study.replication.html_report import write_report
from keras_robust.study.replication.recipes import get_recipe
from keras_robust.study.replication.running import judge
from keras_robust.study.results import StudyResults

ROOT = Path(__file__).parents[2]
KEPT = {
    "planted": "planted",
    "digits": "digits",
    "digits/am207": "digits/am207",
    "fashion_mnist": "fashion_mnist/cpu",
    "cifar10": "cifar10/quick",
}


def kept(name):
    """Results of a run of several seeds, judged by the rules of now."""
    path = ROOT / "results" / KEPT[name] / "results.json"
    results = json.loads(path.read_text())
    recipe = get_recipe(results["recipe"]["dataset"], results["preset"])
    results["recipe"]["undecidable"] = recipe.undecidable
    return {**results, **judge(results["runs"], results["recipe"])}


@pytest.fixture
def replicated(monkeypatch):
    """What was replicated, by stand-ins for the work: `(dataset, options)`."""
    calls = []

    def replicate(dataset, **options):
        calls.append((dataset, options))
        return kept(dataset)

    module = importlib.import_module("keras_robust.study.replication.replicate")
    monkeypatch.setattr(module, "replicate", replicate)
    monkeypatch.setattr(study, "replicate", replicate)
    return calls


@pytest.mark.parametrize("name", KEPT)
def test_what_is_printed_fits_a_terminal(name):
    results = kept(name)
    table, claims = tables.table_text(results), tables.claims_text(results)
    for line in (table + claims).splitlines():
        assert len(line) <= 80 and line == line.rstrip()
    # Nothing is cut: every model, every figure, every claim.
    for model in results["models"]:
        assert re.search(rf"^{model} ", table, flags=re.MULTILINE)
    columns = ["clean", *(f"pgd-l2-{r:g}" for r in results["recipe"]["radii"])]
    for column in (*columns, results["read_at"]["linf"]):
        value = results["summary"]["standard"][column]
        assert f"{value['mean']:.1f} ± {value['deviation']:.1f}" in table
    told = " ".join(claims.split())
    for claim in results["claims"]:
        assert f"{claim['name']}. {claim['statement']}" in told
        assert claim["reason"] in told
    assert "PGD at L2" in told


def test_three_radii_and_long_names_fit_a_terminal():
    results = kept("digits/am207")
    assert "standard_frozen_flips" in results["models"]
    results["recipe"]["radii"] = [0.25, 0.5, 1.0]
    for figures_of in results["summary"].values():
        figures_of["pgd-l2-1"] = {"mean": 100.0, "deviation": 10.0}
    lines = tables.table_text(results).splitlines()
    assert max(map(len, lines)) <= 80
    assert all("100.0 ± 10.0" in line for line in lines[4:])


def test_many_radii_are_left_out_from_the_right():
    results = kept("digits")
    results["recipe"]["radii"] = [float(i) for i in range(1, 20)]
    for figures_of in results["summary"].values():
        for i in range(1, 20):
            figures_of[f"pgd-l2-{i}"] = {"mean": float(i), "deviation": None}
    lines = tables.table_text(results).splitlines()
    assert max(map(len, lines)) <= 80
    assert "1.0" in lines[4] and "19.0" not in lines[4]


def test_too_small_is_one_sentence():
    results = kept("digits")
    results["recipe"]["too_small"] = True
    results["claims"] = []
    text = tables.claims_text(results)
    assert "too small to show anything" in text
    assert len(text.strip().splitlines()) <= 2


def test_no_radius_is_said():
    results = kept("digits")
    results["read_at"] = None
    text = " ".join(tables.claims_text(results).split())
    assert "attacked figures cannot be decided: the standard model ke" in text
    assert "L-inf" not in tables.table_text(results)


def texts_of(results, folder):
    """Everything that tells which images the accuracies are of, by name."""
    tables.write_table(results, folder / "table.md")
    drawn = {name: Figure() for name in ("bars", "curves", "images")}
    write_report(results, drawn, folder / "report.html")
    texts = {
        "table": tables.table_text(results),
        "claims": tables.claims_text(results),
        "one line": repr(StudyResults(results)),
        "notebook": StudyResults(results)._repr_html_(),
        "table.md": (folder / "table.md").read_text(),
        "report.html": (folder / "report.html").read_text(),
    }
    return {name: " ".join(text.split()) for name, text in texts.items()}


def test_held_out_images_are_not_called_test_images(tmp_path):
    results = kept("fashion_mnist")
    told = texts_of(results, tmp_path)
    assert all("test images" in text for text in told.values())
    assert not any("held-out" in text for text in told.values())
    results["recipe"].update(
        validation_images=500, attacked_images=200, evaluated_images=500
    )
    results.update(judge(results["runs"], results["recipe"]))
    told = texts_of(results, tmp_path)
    assert not any("test image" in text for text in told.values())
    part = "held-out training images (PGD and FGSM on the first 200)"
    for name in ("table", "one line", "notebook", "table.md", "report.html"):
        assert part in told[name]
    assert "held-out training images taken for y more" in told["claims"]
    for line in tables.table_text(results).splitlines():
        assert len(line) <= 80
    for run in results["runs"].values():
        run["evaluation"]["standard"]["accuracy"]["clean"] = 0.0
    results.update(judge(results["runs"], results["recipe"]))
    text = " ".join(tables.claims_text(results).split())
    assert "gets no held-out training image right" in text
    assert "test image" not in text


@pytest.mark.parametrize(
    ("attacked", "evaluated", "told"),
    [
        (None, 500, ""),
        (500, 500, ""),
        (600, 500, ""),
        (200, 500, " (PGD and FGSM on the first 200)"),
        # Not known of earlier results.
        (200, None, " (PGD and FGSM on the first 200)"),
    ],
)
def test_how_many_images_are_attacked(attacked, evaluated, told):
    recipe = {"attacked_images": attacked, "evaluated_images": evaluated}
    assert tables.images_text({"recipe": recipe}) == f"test images{told}"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 355),
        ({"test_images": 100}, 100),
        ({"test_images": 1000}, 355),
        ({"validation_images": 40}, 40),
        ({"validation_images": 40, "test_images": 30}, 30),
    ],
)
def test_how_many_images_are_evaluated(changes, expected, tmp_path):
    recipe = dataclasses.replace(get_recipe("digits"), **changes)
    found = running._recipe(recipe)["evaluated_images"]
    stages = study.Replication(recipe, tmp_path, seed=0, verbose=0)
    assert found == len(stages.data.test[0]) == expected


def test_the_first_command_reports_two_data_sets(
    replicated, started, tmp_path, capsys
):
    output = tmp_path
    arguments = ["replicate", "--output", str(output), "--seed", "3"]
    assert cli.main(arguments) == 0
    options = {"seed": 3, "seeds": 1, "verbose": 1}
    assert replicated == [
        (name, {**options, "output": output / name})
        for name in ("planted", "digits")
    ]
    text = (output / "report.html").read_text()
    opening = text[: text.index("<h2>")]
    for name in ("planted", "digits"):
        claims = kept(name)["claims"]
        shown = sum(claim["verdict"] == "shown" for claim in claims)
        assert re.search(rf"{name}</b>: {shown} of \d+ claims shown", opening)
        assert f'href="{name}/report.html"' in opening
        assert all(claim["statement"] in text for claim in claims)
    assert "0.25 on planted,\n0.5 on digits." in text
    assert text.count("data:image/svg+xml") == 2
    assert not re.search(r"<(script|link|iframe)|@import|url\(", text)
    printed = capsys.readouterr().out
    assert re.search(
        r"^Plateau +cannot be decided +cannot be decided$", printed, re.M
    )
    lines = printed.splitlines()
    assert lines[-1].endswith("report.html")
    assert max(map(len, lines[:-1])) <= 80


@pytest.fixture
def started(monkeypatch):
    """Further processes that would be started: how many, and what they run."""
    module = importlib.import_module("keras_robust.cli.replicate")
    found = []

    def instead(count, folder, work, options):
        # As `spawn` hands them on.
        found.append((count, pickle.loads(pickle.dumps((work, options)))))
        return contextlib.nullcontext()

    monkeypatch.setattr(module, "further_processes", instead)
    return found


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), {"planted": ("planted", 2), "digits": ("digits", 2)}),
        (("--dataset", "planted", "--workers", "2"), {"": ("planted", 2)}),
        (("--preset", "smoke", "--workers", "2"), {"": ("digits", 2)}),
    ],
)
def test_further_processes_share_the_same_studies(
    replicated, started, monkeypatch, tmp_path, arguments, expected
):
    monkeypatch.setattr(study.Study, "run", lambda self, *_, **__: None)
    module = importlib.import_module("keras_robust.study.replication.replicate")
    monkeypatch.setattr(module, "default_workers", lambda: 2)
    command = ["replicate", "--output", str(tmp_path), "--seeds", "2"]
    assert cli.main([*command, *arguments]) == 0
    ((count, (work, options)),) = started
    assert count == 1
    joined = {}
    monkeypatch.setattr(module, "join", lambda runs, **_: joined.update(runs))
    work(**options)
    assert {
        folder: (each.data, each.seeds) for folder, each in joined.items()
    } == {tmp_path / name: value for name, value in expected.items()}


@pytest.mark.parametrize(
    ("cores", "accelerator", "expected"),
    [(1, False, 1), (2, False, 2), (16, False, 2), (16, True, 1)],
)
def test_cores_are_shared_and_accelerators_are_not(
    monkeypatch, cores, accelerator, expected
):
    module = importlib.import_module("keras_robust.study.replication.replicate")
    monkeypatch.setattr(module.os, "cpu_count", lambda: cores)
    monkeypatch.setattr(module.backend, "has_accelerator", lambda: accelerator)
    assert module.default_workers() == expected


def test_a_stop_leaves_a_report_of_what_is_there(
    replicated, tmp_path, monkeypatch
):
    module = importlib.import_module("keras_robust.study.replication.replicate")
    first = module.replicate

    def stopped(dataset, **options):
        if dataset == "digits":
            raise KeyboardInterrupt
        return first(dataset, **options)

    monkeypatch.setattr(module, "replicate", stopped)
    with pytest.raises(KeyboardInterrupt):
        study.overview(output=tmp_path, verbose=0)
    text = (tmp_path / "report.html").read_text()
    assert "planted/report.html" in text
    assert "digits/am207.html" not in text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--dataset", "planted"), ("planted", "cpu")),
        (("--preset", "am207"), ("digits", "am207")),
        (("--dataset", "cifar10", "--preset", "cpu"), ("cifar10", "cpu")),
    ],
)
def test_a_named_data_set_is_replicated_alone(
    monkeypatch, started, arguments, expected
):
    runs = []

    def run(self, output, seed, verbose):
        runs.append((self.data, self.preset, self.seeds, output, seed))

    monkeypatch.setattr(study.Study, "run", run)
    assert cli.main(["replicate", *arguments, "--output", "nowhere"]) == 0
    assert [count for count, _ in started] == [0]
    dataset, preset = expected
    assert runs == [(dataset, preset, 1, "nowhere", 0)]
