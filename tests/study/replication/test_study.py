import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from keras_robust import datasets
from keras_robust import study
from keras_robust.study.replication import backup
from keras_robust.study.replication import generating
from keras_robust.study.replication import store
from keras_robust.study.replication import tables
from keras_robust.study.replication.running import _summary
from keras_robust.study.replication.running import judge
from keras_robust.study.replication.stages import architecture_description
from keras_robust.study.replication.stages import evaluation_description
from keras_robust.study.replication.stages import measure_description
from keras_robust.study.replication.stages import model_description
from keras_robust.study.replication.stages import set_description
from keras_robust.utils.files import json_hash

ROOT = Path(__file__).parents[3]
HASHES = [
    "92d327564343",
    "fb0e57cbdf9e",
    "4bf7a0f3d7ca",
    "7ee97a9af125",
    "b74a350fd341",
    "2dd71bb896fc",
]


def test_all_stages_and_their_files(smoke_run):
    folder, _ = smoke_run
    results = json.loads((folder / "results.json").read_text())
    assert list(results["summary"]) == list(study.MODELS)
    columns = set(results["summary"]["D_det"])
    assert {"clean", "pgd-l2-0.25", "pgd-l2-0.5", "y + 1"} <= columns
    # Three of equal volume, and 8/255; not those of the AM207 report.
    assert sum(name.startswith("pgd-linf") for name in columns) == 4
    assert sum(name.startswith("fgsm") for name in columns) == 1
    generated = results["runs"]["3"]["generated"]
    for name in ("D_det", "D_det_robust", "D_det_shortcut"):
        assert generated[name]["labels_right"] == 0
        assert results["summary"][name]["right labels"]["mean"] == 0
    # A control has the targets of what it controls.
    share = generated["D_rand"]["labels_right"]
    assert 0 < share == generated["D_rand_shortcut"]["labels_right"] < 0.3
    assert results["summary"]["D_R"]["right labels"]["mean"] == 100
    for name in ("results.json", "table.md", "report.html", "images.png"):
        assert (folder / name).stat().st_size > 0
    for name in ("bars", "curves", "transfer"):
        assert (folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
        assert "<svg" in (folder / f"{name}.svg").read_text()
    assert list((folder / "tensorboard").rglob("*tfevents*"))
    # Too small to show anything; but all that claims need was run.
    assert results["claims"] == [] and results["recipe"]["too_small"]
    recipe = {**results["recipe"], "too_small": False}
    claims = judge(results["runs"], recipe)["claims"]
    assert len(claims) == 14
    assert "not run" not in [claim["verdict"] for claim in claims]
    assert {"recipe", "seeds", "versions", "machine", "backend"} <= set(results)
    stages = results["seconds_by_seed_and_stage"]["3"]
    # Trainings, two of another architecture; sets; evaluations; measures.
    assert len(stages) == 14 + 10 + 12 + 4 and min(stages.values()) >= 0
    curves = results["runs"]["3"]["curves"]
    assert {*study.MODELS, "D_det-narrow"} < set(curves)
    assert len(curves["D_rand"]["curve"]["val_accuracy"]) == 2
    table = (folder / "table.md").read_text()
    assert all(f"| {name} |" in table for name in study.MODELS)


def test_a_second_run_finds_every_stage(smoke_run, monkeypatch):
    folder, _ = smoke_run
    first = json.loads((folder / "results.json").read_text())
    for work in ("_train", "_generate", "_evaluate"):
        monkeypatch.setattr(study.Replication, work, None)
    again = study.replicate(preset="smoke", seed=3, output=folder, verbose=0)
    assert again["summary"] == first["summary"]
    timed = "seconds_by_seed_and_stage"
    assert list(again[timed].values()) == list(first[timed].values())


def test_a_search_has_its_place_in_the_report(smoke_run, tmp_path):
    folder = tmp_path / "again"
    shutil.copytree(smoke_run[0], folder)
    assert "Is it the optimizer?" not in (folder / "report.html").read_text()
    run = {
        **{"optimizer": "sgd", "learning_rate": 0.1, "outcome": "stuck"},
        **{"test_accuracy": 0.1, "seed": 0},
    }
    search = {
        "search": {"data": {"set": "D_rand"}, "epochs": 3, "seeds": 1},
        "runs": [run],
        "verdict": "It is <not>.",
    }
    (folder / "optimizer").mkdir()
    (folder / "optimizer" / "results.json").write_text(json.dumps(search))
    (folder / "optimizer" / "accuracy.svg").write_text("<svg></svg>")
    study.replicate(preset="smoke", seed=3, output=folder, verbose=0)
    text = (folder / "report.html").read_text()
    place = text.split("Is it the optimizer?")[1]
    assert "It is &lt;not&gt;." in place and "Set D_rand,\n1 training" in place
    assert "data:image/svg+xml" in place


def test_processes_share_the_stages(smoke_run):
    folder, printed = smoke_run
    other = (folder / "process-2.log").read_text()
    made = [
        [line for line in text.splitlines() if line.startswith("[seed 3] ")]
        for text in (printed, other)
    ]
    assert min(len(lines) for lines in made) > 5
    stages = sum(made, [])
    # 14 + 2 trainings, 10 sets, 12 evaluations, 4 measures, none of them twice.
    assert len(stages) == len(set(stages)) == 40
    assert not list(folder.glob("stages/*/locks/*"))


@pytest.mark.on_one_backend
def test_replicate_as_a_process(smoke_run):
    folder, printed = smoke_run
    assert "D_NR" in printed and "too small to show anything" in printed
    told = printed[printed.index("digits: accuracy") :]
    # The last lines name the folder, which may be long.
    assert all(len(line) <= 80 for line in told.splitlines()[:-1])
    results = json.loads((folder / "results.json").read_text())
    assert results["seeds"] == [3]
    # The example runs the same study and finds its stages there.
    example = subprocess.run(
        [
            *(sys.executable, str(ROOT / "examples" / "cifar_replication.py")),
            *("--dataset", "digits", "--preset", "smoke"),
            *("--output", str(folder), "--seed", "3"),
        ],
        capture_output=True,
        text=True,
    )
    assert example.returncode == 0, example.stderr
    assert "] training" not in example.stdout
    again = json.loads((folder / "results.json").read_text())
    assert again["summary"] == results["summary"]


def test_mean_and_spread_over_seeds():
    def run(accuracy):
        row = {"accuracy": {"clean": accuracy}}
        return {"evaluation": {model: row for model in study.MODELS}}

    runs = {0: run(0.5), 1: run(0.7)}
    summary = _summary(runs, study.MODELS)["D_R"]["clean"]
    assert summary["mean"] == pytest.approx(60)
    assert summary["deviation"] == pytest.approx(14.1421, abs=1e-3)
    summary = _summary({0: run(0.5)}, study.MODELS)
    assert summary["D_R"]["clean"]["deviation"] is None


def test_a_change_undoes_only_what_stands_on_it():
    recipe = study.get_recipe("digits", "smoke")
    everything = set(recipe.models)
    sets = {name for name in everything if name.startswith("D_")}
    shortcuts = {name for name in everything if name.endswith("_shortcut")}

    def changed(**options):
        """Which models, sets and evaluations a change makes anew."""
        other = replace(recipe, **options)
        made = {
            "model": (model_description, recipe.models),
            "set": (set_description, sets),
            "evaluation": (evaluation_description, recipe.models),
        }
        return {
            kind: {
                name
                for name in names
                if describe(recipe, name) != describe(other, name)
            }
            for kind, (describe, names) in made.items()
        }

    robust = {"D_R", "D_rand_robust", "D_det_robust"}
    assert changed(radii=(0.1,)) == {
        "model": set(),
        "set": set(),
        "evaluation": everything,
    }
    assert changed(undecidable={"Plateau": "no"})["evaluation"] == set()
    found = changed(epsilon=0.7)
    assert found["set"] == robust
    assert found["model"] == {"adversarial", *robust}
    found = changed(overrides={"D_det": {"epochs": 3}})
    assert found["set"] == set()
    assert found["model"] == {"D_det", "D_det_robust", "D_det_shortcut"}
    found = changed(inversion_steps=3)
    assert found["set"] == found["model"] == {"D_R", "D_NR"}
    found = changed(overrides={"standard": {"epochs": 3}})
    assert found["set"] == sets - robust - shortcuts
    for option in ({"train_images": 100}, {"validation_images": 50}):
        assert changed(**option)["model"] == everything
        assert changed(**option)["set"] == sets


def test_finished_stages_of_earlier_runs_are_found():
    """Files are named by a hash of what their stage depends on.

    Other hashes for the same recipe would make every run begun before the
    change train anew.
    """
    recipe = study.get_recipe("digits", "smoke")
    sets = [name for name in recipe.models if name.startswith("D_")]
    described = [
        [model_description(recipe, name) for name in recipe.models],
        [set_description(recipe, name) for name in sets],
        [evaluation_description(recipe, name) for name in recipe.models],
        architecture_description(recipe, "D_det", "narrow"),
        measure_description(recipe, "leakage"),
        measure_description(recipe, "transfer"),
    ]
    assert [json_hash(each) for each in described] == HASHES


def test_the_curve_of_a_training_is_drawn_on_images_that_it_tells():
    recipe = study.get_recipe("digits", "smoke")
    descriptions = [
        model_description(replace(recipe, test_images=count), "standard")
        for count in (50, 100, 1000, 2000, None)
    ]
    assert descriptions[0] != descriptions[1] != descriptions[2]
    assert descriptions[2] == descriptions[3] == descriptions[4]


def test_the_order_of_architectures_decides_their_random_numbers(tmp_path):
    one, two = (("small_cnn", {"filters": [width]}) for width in (4, 8))
    recipe = study.get_recipe("digits", "smoke")
    orders = ({"one": one, "two": two}, {"two": two, "one": one})
    studies = [
        study.Replication(replace(recipe, architectures=order), tmp_path)
        for order in orders
    ]
    names, places, measured = (
        [function(each) for each in studies]
        for function in (
            lambda each: each.seed_of("standard", "two"),
            lambda each: architecture_description(
                each.recipe, "standard", "two"
            ),
            lambda each: measure_description(each.recipe, "transfer"),
        )
    )
    assert names[0] != names[1] and places[0] != places[1]
    paths = [
        each.store.path("measured-transfer", described)
        for each, described in zip(studies, measured, strict=True)
    ]
    assert paths[0] != paths[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"overrides": {"D_rnad": {"epochs": 1}}}, "Did you mean 'D_rand'"),
        ({"overrides": {"D_rand": {"epoch": 1}}}, "Did you mean 'epochs'"),
        ({"networks": {"sourc": ("mlp", {})}}, "Did you mean 'source'"),
        ({"networks": {"source": ("mpl", {})}}, "Did you mean 'mlp'"),
        ({"architectures": {"a": ("resnet", {})}}, "architectures"),
        ({"architectures": {"a/b": ("mlp", {})}}, "letters, digits"),
        (
            {"architectures": {str(i): ("mlp", {}) for i in range(10)}},
            "at most 9",
        ),
        ({"errors": ("no_bx",)}, "Did you mean 'no_box'"),
        ({"flip": "alternate"}, "Did you mean 'alternating'"),
        ({"fill_mode": "reflection"}, "Did you mean 'reflect'"),
        ({"train_images": 0}, "`train_images` must be an integer >= 1"),
        ({"validation_images": -1}, "`validation_images` must be"),
        ({"radii": (np.float32(0.5),)}, "plain numbers"),
    ],
)
def test_a_wrong_recipe_is_refused_at_once(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(study.get_recipe("digits", "smoke"), **changes)


def test_something_is_left_to_train_on(tmp_path):
    recipe = replace(
        study.get_recipe("digits", "smoke"), validation_images=10_000
    )
    with pytest.raises(ValueError, match="10000"):
        study.Replication(recipe, tmp_path, verbose=0).data  # noqa: B018


def test_seeds_have_folders_of_their_own(tmp_path):
    recipe = study.get_recipe("digits", "smoke")
    folders = {
        study.Replication(recipe, tmp_path, seed).store.folder
        for seed in (0, 1, 0)
    }
    assert len(folders) == 2


def test_validation_images_are_training_images():
    recipe = study.get_recipe("digits", "smoke")
    data = datasets.load("digits")
    held_out = replace(
        recipe, validation_images=30, train_images=None, test_images=None
    )
    found = study.Replication(held_out, "unused", verbose=0).data
    for part, all_images in zip(found.test, data.train, strict=True):
        np.testing.assert_array_equal(part, all_images[-30:])
    for part, all_images in zip(found.train, data.train, strict=True):
        np.testing.assert_array_equal(part, all_images[:-30])


@pytest.mark.parametrize("name", ["D_R", "D_rand", "D_det_shortcut"])
def test_a_set_goes_on_where_it_was_stopped(name, tmp_path, monkeypatch):
    recipe = replace(
        study.get_recipe("digits", "smoke"),
        train_images=40,
        training=study.Training(epochs=1, learning_rate=0.1),
        attack_steps=1,
    )
    whole = study.Replication(recipe, tmp_path / "whole", verbose=0)
    expected = whole.generated(name)
    stopped = study.Replication(recipe, tmp_path / "parts", verbose=0)
    for source in ("standard", "adversarial"):
        network = whole.model(source)
        stopped._networks[source] = network
    make_shard = generating._make_shard
    calls = []

    def second_fails(*args, **options):
        calls.append(options["rows"])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return make_shard(*args, **options)

    monkeypatch.setattr(generating, "SHARD", 15)
    monkeypatch.setattr(generating, "_make_shard", second_fails)
    with pytest.raises(KeyboardInterrupt):
        stopped.generated(name)
    found = stopped.generated(name)
    assert [rows.start for rows in calls] == [0, 15, 15, 30]
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, atol=1e-4)
    assert not list(stopped.store.folder.glob("shards-*"))


def test_what_is_made_is_not_lost_where_it_cannot_be_written(
    tmp_path, monkeypatch
):
    recipe = replace(
        study.get_recipe("digits", "smoke"),
        train_images=40,
        training=study.Training(epochs=1, learning_rate=0.1),
    )
    made = study.Replication(recipe, tmp_path, verbose=0)
    write, make_shard = store._write_arrays, generating._make_shard
    calls = []

    def counted(*args, **options):
        calls.append(options["rows"].start)
        return make_shard(*args, **options)

    def full(path, arrays):
        if path.name.startswith("data-"):
            raise OSError("No space left on device")
        write(path, arrays)

    monkeypatch.setattr(generating, "SHARD", 20)
    monkeypatch.setattr(generating, "_make_shard", counted)
    monkeypatch.setattr(store, "_write_arrays", full)
    with pytest.raises(OSError, match="No space"):
        made.generated("D_rand_shortcut")
    monkeypatch.setattr(store, "_write_arrays", write)
    assert made.generated("D_rand_shortcut")["x"].shape[0] == 40
    assert calls == [0, 20]
    assert not list(made.store.folder.glob("shards-*"))


def test_a_training_leaves_nothing_behind(tmp_path, monkeypatch):
    recipe = replace(
        study.get_recipe("digits", "smoke"),
        train_images=40,
        training=study.Training(epochs=2, learning_rate=0.1),
    )
    monkeypatch.setattr(backup, "SECONDS_BETWEEN_BACKUPS", 0)
    made = study.Replication(recipe, tmp_path, verbose=0)
    made.model("standard")
    assert not list(made.store.folder.glob("backup-*"))
    assert "training-standard" in made.seconds()


def test_recipe_of_the_paper():
    """Table 3: D_rand has its own learning rate, D_det no augmentation."""
    recipe = study.get_recipe("cifar10", "paper")
    assert recipe.training_of("D_R").learning_rate == 0.1
    assert recipe.training_of("D_rand").learning_rate == 0.01
    assert not recipe.training_of("D_det").augment
    assert (recipe.inversion_steps, recipe.relabel_steps) == (1000, 100)


def test_unknown_recipe_says_which_there_are():
    with pytest.raises(ValueError, match="digits/cpu.*Received"):
        study.get_recipe("digits", "gpu")


def test_a_study_is_not_a_name():
    recipe = study.get_recipe("digits")
    with pytest.raises(ValueError, match="`dataset` must be.*type Study"):
        study.get_recipe(recipe)


def test_reference_stands_beside_ours():
    value = {"mean": 90.0, "deviation": 1.0}
    row = {"clean": value, "pgd-l2-0.25": value, "worst case": value}
    # A network of its own for the relabelled sets, without published figures.
    models = {**study.MODELS, "source": "the data set"}
    results = {
        "summary": {name: row for name in models},
        "recipe": {"dataset": "cifar10"},
        "models": models,
    }
    rows = tables.rows(results)
    assert ["standard", "paper", "95.25", "4.49"] in rows
    assert ["D_rand", "AM207", "24", "0"] in rows
    assert ["D_NR", "this run", "90.0 ± 1.0", "90.0 ± 1.0"] in rows
    results["recipe"]["dataset"] = "digits"
    assert len(tables.rows(results)) == 1 + len(models)
