"""What is kept in `results/` agrees with itself, and is small."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from keras_robust import study
from keras_robust.study import PlateauMonitor
from keras_robust.study.optimizer import outputs
from keras_robust.study.optimizer.summary import summarize
from keras_robust.study.replication import tables
from keras_robust.study.replication.recipes import get_recipe
from keras_robust.study.replication.verdicts import mean_and_deviation

RESULTS = Path(__file__).parent.parent / "results"
SEARCHES = sorted((RESULTS / "optimizer").rglob("results.json"))
REPLICATIONS = [
    path
    for path in sorted(set(RESULTS.rglob("results.json")) - set(SEARCHES))
    if "claims" in json.loads(path.read_text("utf-8"))
]
# Made by `keras-robust report results`, and ignored by git.
BUILT = (".html", ".svg", ".png")


def name_of(path):
    return path.parent.relative_to(RESULTS).as_posix()


def read(path):
    return json.loads(path.read_text("utf-8"))


def test_they_are_small():
    files = [path for path in RESULTS.rglob("*") if path.is_file()]
    kept = [path for path in files if path.suffix not in BUILT]
    assert sum(path.stat().st_size for path in kept) < 1_000_000


def close(found, kept):
    """The same values; numbers to rounding."""
    if isinstance(kept, dict):
        assert set(found) == set(kept)
        for key, value in kept.items():
            close(found[key], value)
    elif isinstance(kept, list):
        for one, other in zip(found, kept, strict=True):
            close(one, other)
    else:
        assert found == (pytest.approx(kept) if kept is not None else None)


@pytest.mark.parametrize("path", SEARCHES, ids=name_of)
def test_findings_and_table_of_a_search_follow_from_its_trainings(path):
    results = read(path)
    found = summarize(results["runs"])
    close(found, {key: results[key] for key in found})
    table = (path.parent / "table.md").read_text("utf-8")
    assert outputs.table(results) == table


@pytest.mark.parametrize("path", SEARCHES, ids=name_of)
def test_kept_outcomes_are_those_of_the_monitor(path):
    runs = read(path)["runs"]
    assert runs
    for run in runs:
        monitor = PlateauMonitor(chance=0.1)
        if "curve" in run:
            monitor.curve = run["curve"]
            assert run["escape_epoch"] == monitor.escape_epoch
        else:
            # The last epoch decides where a training ended.
            clean = run["train_accuracy"] - run["memorization_gap"]
            monitor.curve = {
                "accuracy": [run["train_accuracy"]],
                "val_accuracy": [clean],
            }
            left = run["escape_epoch"] is not None
            assert left == (monitor.escape_epoch is not None)
            assert not left or 1 <= run["escape_epoch"] <= run["epochs"]
        assert run["outcome"] == monitor.outcome


def test_some_searches_have_curves():
    kept = [path for path in SEARCHES if "curve" in read(path)["runs"][0]]
    assert len(kept) == 5


@pytest.mark.parametrize("path", REPLICATIONS, ids=name_of)
def test_summary_and_table_of_a_replication_follow_from_its_runs(
    path, tmp_path
):
    results = read(path)
    for model, columns in results["summary"].items():
        rows = [run["evaluation"][model] for run in results["runs"].values()]
        for column, summary in columns.items():
            if column != "right labels":
                values = [100 * row["accuracy"][column] for row in rows]
                close(mean_and_deviation(values), summary)
    tables.write_table(results, tmp_path / "table.md")
    kept = (path.parent / "table.md").read_text("utf-8")
    assert (tmp_path / "table.md").read_text("utf-8") == kept


@pytest.mark.thorough
def test_reports_are_made_again(tmp_path, capsys):
    source = RESULTS / "planted"
    target = tmp_path / "planted"
    target.mkdir()
    shutil.copy(source / "results.json", target)
    search = tmp_path / "planted" / "optimizer"
    search.mkdir()
    shutil.copy(
        RESULTS / "optimizer" / "cifar10" / "D" / "results.json", search
    )
    assert study.report(tmp_path) == [search, target]
    for place, kept in (
        (target, source),
        (search, RESULTS / "optimizer" / "cifar10" / "D"),
    ):
        table = (place / "table.md").read_text("utf-8")
        assert table == (kept / "table.md").read_text("utf-8")
    text = (target / "report.html").read_text("utf-8")
    # Bars, curves and the search; no gallery, which needs the images.
    assert text.count("data:image/svg+xml") == 3
    assert "data:image/png" not in text
    for claim in read(source / "results.json")["claims"]:
        assert claim["name"] in text
    shutil.copy(search / "accuracy.png", target / "images.png")
    study.report(target)
    assert "data:image/png" in (target / "report.html").read_text("utf-8")


def test_a_folder_without_runs_is_refused(tmp_path):
    for number, text in enumerate(('{"of": "something else"}', "[{}]")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "results.json").write_text(text)
    with pytest.raises(ValueError, match=r"results\.json.*Received"):
        study.report(tmp_path)


def test_the_page_on_distances_has_the_tables_of_the_benchmark():
    made = script("optimality_table", RESULTS.parent / "benchmarks")
    found = made.read()
    page = made.PAGE.read_text("utf-8")
    assert made.rewritten(page, found) == page
    assert page.count("<!-- table ") == len(made.NORMS)
    # What the page says: ours is first, or a point behind, at no more passes.
    for columns in found.values():
        ours = {k: v for k, v in columns.items() if k.startswith("ours")}
        best = max(row["optimality"] for row in columns.values())
        assert max(row["optimality"] for row in ours.values()) > best - 0.01
        for row in columns.values():
            assert row["forward"] + row["backward"] <= 2000


def script(name, folder=RESULTS):
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_stages(folder, kept):
    """The files of the stages that a run's results were made of."""
    for seed, run in kept["runs"].items():
        stages = folder / f"seed{seed}-{kept['backend']}"
        stages.mkdir()
        for kind, numbers in (
            ("evaluation", run["evaluation"]),
            ("curve", run["curves"]),
            ("measured", run["measured"]),
            ("seconds", kept["seconds_by_seed_and_stage"][seed]),
        ):
            for name, value in numbers.items():
                path = stages / f"{kind}-{name}-0123456789ab.json"
                path.write_text(json.dumps(value), "utf-8")


def test_the_results_of_a_stopped_study_are_those_of_its_stages(
    tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(RESULTS)
    kept = read(RESULTS / "planted" / "results.json")
    write_stages(tmp_path, kept)
    arguments = [
        "finished.py",
        tmp_path,
        f"--output={tmp_path / 'made'}",
        "--dataset=planted",
        "--preset=cpu",
        f"--machine={kept['machine']}",
        "--versions",
        "keras=3.15.1",
        "numpy=2.5.2",
    ]
    monkeypatch.setattr("sys.argv", list(map(str, arguments)))
    finished = script("finished")
    finished.main()
    found = read(tmp_path / "made" / "results.json")
    # The shares of right labels in the summary follow from the seeds.
    for key in ("summary", "claims", "seconds_by_seed_and_stage", "machine"):
        close(found[key], kept[key])
    assert found["versions"] == {"keras": "3.15.1", "numpy": "2.5.2"}
    table = (RESULTS / "planted" / "table.md").read_text("utf-8").splitlines()
    # What is predicted is no stage.
    lines = [line for line in table if "| predicted |" not in line]
    made = (tmp_path / "made" / "table.md").read_text("utf-8")
    assert made.splitlines() == lines


def test_stages_that_are_missing_or_of_other_settings_are_refused(
    tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(RESULTS)
    finished = script("finished")
    write_stages(tmp_path, read(RESULTS / "planted" / "results.json"))
    recipe = get_recipe("planted", "cpu")
    path = next(tmp_path.glob("seed1-*/evaluation-D_rand-*.json"))
    other = path.with_name("evaluation-D_rand-ffffffffffff.json")
    other.write_text(path.read_text("utf-8"), "utf-8")
    with pytest.raises(ValueError, match="two of D_rand, the second in"):
        finished.finished(tmp_path, recipe, machine="", versions={})
    path.unlink()
    other.unlink()
    with pytest.raises(ValueError, match=r"seed 1 without \['D_rand'\]"):
        finished.finished(tmp_path, recipe, machine="", versions={})
    (tmp_path / "seed3-jax").mkdir()
    with pytest.raises(
        ValueError, match=r"one backend.*\['jax', 'tensorflow'\]"
    ):
        finished.finished(tmp_path, recipe, machine="", versions={})


def test_what_is_kept_of_a_run(tmp_path):
    keep = script("keep")
    results = {
        "search": {"data": "é"},
        "runs": [
            {"seed": seed, "curve": {"loss": [0.5, 0.25]}} for seed in (0, 1)
        ],
    }
    for folder, value in (
        ("whole", results),
        ("short", {**results, "runs": [{"seed": 0}, {"seed": 1}]}),
    ):
        source = tmp_path / folder
        source.mkdir()
        (source / "results.json").write_text(json.dumps(results), "utf-8")
        (source / "table.md").write_text("| a |\n", "utf-8")
        keep.keep(source, tmp_path / "kept", curves=folder == "whole")
        assert read(tmp_path / "kept" / "results.json") == value
    lines = (tmp_path / "kept" / "results.json").read_text("utf-8")
    assert len(lines.splitlines()) == 7
    assert (tmp_path / "kept" / "table.md").read_text("utf-8") == "| a |\n"


def test_kept_curves_have_five_digits_and_all_else_has_all():
    third = 1 / 3
    results = {
        "runs": {"0": {"curves": {"D_R": {"curve": {"loss": [third, third]}}}}},
        "summary": {"mean": third},
    }
    kept = json.loads(script("keep").compact(results))
    assert kept["summary"] == results["summary"]
    curve = kept["runs"]["0"]["curves"]["D_R"]["curve"]
    assert curve == {"loss": [0.33333, 0.33333]}


@pytest.mark.parametrize(
    ("name", "page"),
    [("hop_skip_jump", "black_box.md"), ("target_order", "adaptive.md")],
)
def test_measured_tables_of_the_pages(name, page):
    path = RESULTS.parent / "benchmarks" / "adaptive_tables.py"
    spec = importlib.util.spec_from_file_location("adaptive_tables", path)
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    text = (RESULTS.parent / "docs" / page).read_text("utf-8")
    lines = tables.TABLES[name]()
    assert len(lines) > 3
    assert "\n".join(lines) in text


@pytest.mark.parametrize(
    ("folder", "page"),
    [
        ("results/overfitting", "training.md"),
        ("benchmarks/results/objectives-digits", "training.md"),
        ("benchmarks/results/objectives-fashion_mnist", "training.md"),
        (
            "benchmarks/results/objectives-cifar10-unwhitened-linf",
            "training.md",
        ),
        ("benchmarks/results/objectives-cifar10-unwhitened-l2", "training.md"),
        ("benchmarks/results/training-settings", "study.md"),
        ("results/laboratory/shifted-targets", "laboratory.md"),
        ("results/laboratory/whitening", "laboratory.md"),
        ("results/laboratory/plain-students", "laboratory.md"),
        ("results/laboratory/plain-students-longer", "laboratory.md"),
    ],
)
def test_pages_have_the_tables_of_their_trainings(folder, page):
    kept = (RESULTS.parent / folder / "table.md").read_text("utf-8")
    lines = [line for line in kept.splitlines() if line.startswith("|")]
    # A head of two lines, and two trainings at least.
    assert len(lines) >= 4
    text = (RESULTS.parent / "docs" / page).read_text("utf-8")
    assert "\n".join(lines) in text


def test_the_page_on_training_has_the_collapse_of_n_fgsm():
    page = (RESULTS.parent / "docs" / "training.md").read_text("utf-8")
    for norm, ball in (("linf", "L-infinity 8/255"), ("l2", "L2 0.5")):
        for kind, layer in (("", "whitens"), ("-unwhitened", "trained")):
            folder = f"objectives-cifar10{kind}-{norm}"
            path = RESULTS.parent / "benchmarks" / "results" / folder
            trainings = read(path / "results.json")["trainings"]
            (found,) = (
                d for d in trainings if d["name"] == "N-FGSM" and d["seed"] == 0
            )
            row = " | ".join(
                f"{100 * found[key]:.1f}"
                for key in ("trained", "clean", "robust")
            )
            assert f"| {ball} | {layer} | {row} |" in page
