import inspect
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import keras
import keras_tuner
import numpy as np
import pytest

import keras_robust as kr
from keras_robust import cli
from keras_robust.datasets import pipelines
from keras_robust.study import OptimizerSearch
from keras_robust.study import OptimizerSpace
from keras_robust.study import sweep
from keras_robust.study import training
from keras_robust.study.optimizer import data as search_data
from keras_robust.study.optimizer import search as search_module

SCRIPT = str(Path(__file__).with_name("run_sweep.py"))
SETTINGS = {("sgd", 0.01), ("sgd", 1.0), ("adam", 1e-4), ("adam", 1e-2)}


def settings(results):
    return {
        (run["optimizer"], round(run["learning_rate"], 6))
        for run in results["runs"]
    }


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A search that was killed in the middle and went on."""
    folder = tmp_path_factory.mktemp("sweep")
    process = subprocess.Popen([sys.executable, SCRIPT, str(folder), "5"])
    runs = folder / "runs"
    until = time.monotonic() + 240
    while time.monotonic() < until and len(list(runs.glob("*.json"))) < 5:
        assert process.poll() is None
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in runs.glob("*.json")}
    # In the middle of the third of four settings.
    assert len(kept) == 5
    done = subprocess.run(
        [sys.executable, SCRIPT, str(folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder, kept, done.stdout


@pytest.mark.slow_on_jax
def test_it_goes_on_after_sigkill(swept):
    folder, kept, _ = swept
    results = json.loads((folder / "results.json").read_text())
    assert len(results["runs"]) == 8 and settings(results) == SETTINGS
    # What was trained before was not trained again.
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    for name in ("table.md", "accuracy.png", "accuracy.svg"):
        assert (folder / name).stat().st_size
    assert results["verdict"].startswith("Clean test accuracy")


@pytest.mark.slow_on_jax
def test_it_says_what_it_does(swept):
    _, _, printed = swept
    assert printed.count("seed 0:") + printed.count("seed 1:") == 3
    assert "one_cycle batch 96" not in printed
    assert "one_cycle batch 128 small_cnn" in printed


@pytest.mark.slow_on_jax
def test_hparams_for_tensorboard(swept):
    folder, _, _ = swept
    events = list((folder / "tensorboard").rglob("*tfevents*"))
    assert events
    if keras.backend.backend() == "tensorflow":
        assert any(b"_hparams_" in path.read_bytes() for path in events)


@pytest.mark.slow_on_jax
def test_another_search_is_refused_there(swept):
    folder, _, _ = swept
    with pytest.raises(ValueError, match=r"same search.*'epochs'.*Received"):
        sweep("digits", output=folder, preset="smoke", epochs=2, verbose=0)


@pytest.fixture
def images(rng):
    x = rng.random((60, 8, 8, 1), dtype="float32")
    return x, rng.integers(0, 3, 60).astype("int32")


def search(images, folder, **options):
    space = OptimizerSpace(
        learning_rates={"adam": (1e-3, 1e-2)},
        learning_rate_factor=10,
        networks={"small": ("small_cnn", {"filters": (4,), "num_classes": 3})},
    )
    return OptimizerSearch(
        images,
        images,
        test=images,
        space=space,
        folder=folder,
        verbose=0,
        **options,
    )


def test_runs_of_one_seed_are_the_same(images, tmp_path):
    setting = {
        **{"optimizer": "adam", "learning_rate": 0.01, "weight_decay": 0.0},
        **{"schedule": "constant", "batch_size": 20, "augment": True},
        **{"network": "small"},
    }
    first = search(images, tmp_path / "a").run(setting, 2, seed=1)
    second = search(images, tmp_path / "b", epsilon=0.5)
    again = second.run(setting, 2, seed=1)
    np.testing.assert_allclose(
        again["curve"]["loss"], first["curve"]["loss"], rtol=1e-4
    )
    assert again["val_robust_accuracy"] <= again["val_accuracy"] + 1e-6
    assert "val_robust_accuracy" not in first
    other = second.run(setting, 2, seed=2)
    assert other["curve"]["loss"] != again["curve"]["loss"]
    assert len(second.runs()) == 2


def test_trainings_of_other_images_are_not_taken_for_these(images, tmp_path):
    x, y = images
    search(images, tmp_path)
    again = search((x.copy(), y.copy()), tmp_path)
    assert again.runs() == []
    for others, options, what in (
        ((x, (y + 1) % 3), {}, "images"),
        ((1 - x, y), {}, "images"),
        (images, {"epsilon": 0.1}, "epsilon"),
        (images, {"dtype_policy": "mixed_bfloat16"}, "dtype_policy"),
    ):
        with pytest.raises(ValueError, match=rf"same search.*\['{what}'\]"):
            search(others, tmp_path, **options)


def test_the_last_epoch_is_what_counts(images, tmp_path, monkeypatch):
    """Not the best one, which KerasTuner would take of a history."""
    made = search(images, tmp_path, seeds=2)
    values = iter([0.2, 0.6])
    monkeypatch.setattr(
        made, "run", lambda *args: {"val_accuracy": next(values)}
    )
    hp = keras_tuner.HyperParameters()
    assert made.fit(hp, made.build(hp)) == {"val_accuracy": pytest.approx(0.4)}


def test_a_mistake_in_a_trial_is_said_by_the_command(
    images, tmp_path, monkeypatch
):
    """It is a `ValueError`, which the command prints without a traceback."""
    made = search(images, tmp_path)

    def wrong(*args):
        raise ValueError("no such layer")

    monkeypatch.setattr(made, "run", wrong)
    hp = keras_tuner.HyperParameters()
    with pytest.raises(ValueError, match="no such layer") as found:
        made.fit(hp, None)
    assert isinstance(found.value, keras_tuner.errors.FatalError)


def test_networks_by_name_are_those_of_a_study(rng, tmp_path):
    """Of the shape of the images, and whitened by them."""
    x = rng.random((40, 9, 9, 1), dtype="float32")
    y = np.arange(40) % 3
    space = OptimizerSpace(
        networks={
            "mlp": ("mlp", {"num_classes": 3}),
            "airbench": (
                "airbench",
                {
                    "input_shape": (9, 9, 1),
                    "num_classes": 3,
                    "widths": (4, 4, 4),
                    "mean": None,
                    "std": None,
                },
            ),
        }
    )
    made = OptimizerSearch((x, y), (x, y), (x, y), space, tmp_path)
    setting = {
        "optimizer": "adam",
        "learning_rate": 0.01,
        "weight_decay": 0.0,
        "schedule": "constant",
        "batch_size": 20,
        "augment": False,
    }
    mlp, airbench = (
        made._network({**setting, "network": name}, epochs=1, seed=0)
        for name in space.networks
    )
    assert mlp.input_shape == (None, 9, 9, 1)
    assert airbench.get_layer("whitening").is_adapted


def hidden_policy(model):
    """The dtype policy of the first layer with weights."""
    return next(
        layer.dtype_policy.name for layer in model.layers if layer.weights
    )


def test_networks_by_name_have_the_dtype_policy_of_the_study(
    images, tmp_path, monkeypatch
):
    policies = []
    build = OptimizerSearch._network

    def watched(*args, **options):
        model = build(*args, **options)
        policies.append(hidden_policy(model))
        return model

    monkeypatch.setattr(OptimizerSearch, "_network", watched)
    sweep(
        kr.Study(
            (images, images),
            "mlp",
            value_range=(0, 1),
            dtype_policy="mixed_bfloat16",
        ),
        made="D",
        output=tmp_path,
        trials=1,
        epochs=1,
        seeds=1,
        verbose=0,
    )
    assert set(policies) == {"mixed_bfloat16"}
    described = json.loads((tmp_path / "search.json").read_text())
    assert described["dtype_policy"] == "mixed_bfloat16"


def test_functions_have_the_dtype_policy_of_the_search(images, tmp_path):
    def network():
        return kr.models.mlp(input_shape=(8, 8, 1), num_classes=3)

    space = OptimizerSpace(networks={"own": network}, weight_decays=(0.0,))
    made = OptimizerSearch(
        images,
        images,
        test=images,
        space=space,
        folder=tmp_path,
        dtype_policy="mixed_bfloat16",
    )
    model = made.build(keras_tuner.HyperParameters())
    assert hidden_policy(model) == "mixed_bfloat16"


def test_what_is_shifted_in_is_that_of_the_study(images, tmp_path, monkeypatch):
    asked = []

    def watched(*args, **options):
        asked.append(options.get("fill_mode"))
        raise InterruptedError

    made = search(images, tmp_path, fill_mode="reflect")
    monkeypatch.setattr(made, "_network", lambda *args: None)
    monkeypatch.setattr(search_module.datasets, "pipeline", watched)
    setting = {"batch_size": 20, "augment": True}
    with pytest.raises(InterruptedError):
        made._trained(setting, epochs=1, seed=0, callbacks=())
    assert asked == ["reflect"]


def test_a_trial_that_fails_raises(images, tmp_path, monkeypatch):
    made = search(images, tmp_path)

    def broken(*args):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(made, "run", broken)
    tuner = keras_tuner.GridSearch(
        made, keras_tuner.Objective("val_accuracy", "max"), directory=tmp_path
    )
    with pytest.raises(
        keras_tuner.errors.FatalError, match="RuntimeError: out of memory"
    ):
        tuner.search(verbose=0)


@pytest.mark.slow
@pytest.mark.parametrize("tuner", ["random", "hyperband", "bayesian"])
def test_the_other_tuners(tmp_path, tuner):
    results = sweep(
        "digits",
        made="D",
        output=tmp_path,
        preset="smoke",
        tuner=tuner,
        trials=None if tuner == "hyperband" else 2,
        epochs=2,
        seeds=1,
        epsilon=0.25,
        objective="val_robust_accuracy",
        optimizers=("sgd",),
        verbose=0,
    )
    assert results["runs"] and "robustness" in results
    epochs = {run["epochs"] for run in results["runs"]}
    # Hyperband trains some of them for less.
    assert max(epochs) == 2 and (tuner == "hyperband" or epochs == {2})


def test_held_out_images_are_clean_and_not_trained_on(tmp_path):
    from keras_robust.study import Replication
    from keras_robust.study import get_recipe

    study = Replication(get_recipe("digits", "smoke"), tmp_path, verbose=0)
    x, y = study.data.train
    study.generated = {"D_rand": {"x": x / 2, "y": (y + 1) % 10}}.get
    data = search_data.of_study(study, "D_rand")
    assert len(data.train[0]) + len(data.validation[0]) == len(x)
    np.testing.assert_array_equal(data.validation[0], x[9::10])
    np.testing.assert_array_equal(data.validation[1], y[9::10])
    np.testing.assert_array_equal(data.train[1][:9], (y[:9] + 1) % 10)
    assert data.train[0].max() <= 0.5
    assert data.test[0] is study.data.test[0]


@pytest.mark.parametrize("classes", [2, 10])
def test_classes_in_turns_are_all_held_out(tmp_path, classes):
    """Every tenth row would be of one class."""
    x = np.random.default_rng(0).random((200, 6, 5, 1), dtype="float32")
    y = np.arange(200) % classes
    study = kr.Study(((x, y), (x, y)), own_network, epsilon=1.0, radii=(1.0,))
    stages = kr.study.Replication(study, tmp_path, verbose=0)
    data = search_data.of_study(stages, "D")
    for _, labels in (data.train, data.validation):
        assert (np.bincount(labels) == len(labels) / classes).all()
    assert len(data.validation[1]) == 20


@pytest.mark.on_one_backend
@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_a_set_of_images_that_a_study_divides(tmp_path, file_format):
    """As the command makes it of an .npz file of `x` and `y`."""
    x, y = own_images(90)
    unit = (x / 255).astype("float32")
    np.savez(tmp_path / "images.npz", x=x, y=y)
    made = kr.datasets.generate(
        kr.Shortcut(3, "deterministic", seed=0),
        (unit, y),
        tmp_path,
        file_format=file_format,
        verbose=0,
    )["directory"]
    study = kr.Study(str(tmp_path / "images.npz"), own_network, epsilon=1.0)
    images = study.read().images
    data = search_data.of_directory(made, images)
    assert len(data.train[1]) + len(data.validation[1]) == len(images.train[1])
    assert len(data.test[1]) == 18 and len(images.train[1]) == 72
    # Nor is a network trained on what was made of test images elsewhere.
    study.use("D_det", made)
    arrays = study.stand_ins["D_det"].arrays
    np.testing.assert_array_equal(arrays["original_label"], images.train[1])
    np.testing.assert_array_equal(arrays["y"], (images.train[1] + 1) % 3)
    moved = np.abs(arrays["x"] - images.train[0]).reshape(72, -1)
    assert np.linalg.norm(moved, axis=1).max() < 0.51
    # What can be read as data is read from either format, too.
    read = kr.datasets.DataSpecification(str(made)).read("train", examples=9)
    assert read.x.shape == (9, 6, 5, 1)


@pytest.mark.slow_on_jax
def test_data_of_a_directory(tmp_path):
    shortcut = kr.Shortcut(10, target="deterministic", seed=0)
    kr.datasets.generate(shortcut, "digits", tmp_path, examples=50, verbose=0)
    path = next(Path(tmp_path).rglob("description.json")).parent
    digits = kr.datasets.load("digits")
    assert (
        search_data.source_of(search_data.description_of(path), "") == "digits"
    )
    data = search_data.of_directory(path, digits)
    x, y = digits.train
    np.testing.assert_array_equal(data.validation[0], x[9:50:10])
    np.testing.assert_array_equal(data.validation[1], y[9:50:10])
    kept = np.arange(50) % 10 != 9
    np.testing.assert_array_equal(data.train[1], (y[:50][kept] + 1) % 10)
    assert np.abs(data.train[0] - x[:50][kept]).max() > 0.01


@pytest.mark.on_one_backend
def test_networks_of_other_recipes(tmp_path):
    results = sweep(
        "digits",
        made="D",
        output=tmp_path,
        preset="smoke",
        epochs=1,
        seeds=1,
        optimizers=("sgd",),
        networks=("small_cnn", "cpu/narrow"),
        learning_rate_factor=1000,
        verbose=0,
    )
    space = results["search"]["space"]
    assert space["networks"] == {
        "small_cnn": ("small_cnn", {"filters": (32, 64, 32)}),
        "cpu/narrow": ("small_cnn", {"filters": (16, 32, 32)}),
    }
    names = [run["network"] for run in results["runs"]]
    assert sorted(names) == ["cpu/narrow", "small_cnn"]


def test_errors(tmp_path):
    for options in ({"seeds": 0}, {"epochs": 0}, {"trials": 0}, {"seed": -1}):
        (name,) = options
        with pytest.raises(ValueError, match=f"`{name}` must be an integer"):
            sweep(output=tmp_path, preset="smoke", **options)
    with pytest.raises(ValueError, match=r"'cpu/deep'.*networks=\['deep'\]"):
        sweep(output=tmp_path, preset="smoke", networks=["deep"])
    for message, options in (
        ("objective='accuracy'", {"objective": "accuracy"}),
        ("`trials` must be left out", {"tuner": "hyperband", "trials": 3}),
        ("made='standard'", {"made": "standard"}),
        ("Did you mean 'D_rand'", {"made": "D_rnd"}),
        ("Did you mean 'one_cycle'", {"schedules": ("one_cycel",)}),
        ("`batch_sizes` must be", {"batch_sizes": (0,)}),
    ):
        with pytest.raises(ValueError, match=message):
            sweep(output=tmp_path, preset="smoke", **options)
    # Refused before a network is trained to make the data.
    assert not list(tmp_path.rglob("stages"))
    with pytest.raises(ValueError, match="tuner='best'"):
        sweep(output=tmp_path, tuner="best")
    with pytest.raises(ValueError, match="epsilon=None"):
        sweep(output=tmp_path, objective="val_robust_accuracy")


@pytest.mark.slow
def test_chief_and_two_workers(tmp_path):
    """KerasTuner's own mode, over the loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "KERASTUNER_ORACLE_IP": "127.0.0.1",
        "KERASTUNER_ORACLE_PORT": str(port),
    }
    # Made once, before several look for it.
    from keras_robust.study import Replication
    from keras_robust.study import get_recipe

    recipe = get_recipe("digits", "smoke")
    Replication(recipe, tmp_path / "stages", verbose=0).generated("D_rand")
    processes = {
        name: subprocess.Popen(
            [sys.executable, SCRIPT, str(tmp_path)],
            env={**environment, "KERASTUNER_TUNER_ID": name},
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("chief", "tuner0", "tuner1")
    }
    printed = {
        name: process.communicate(timeout=600)[0]
        for name, process in processes.items()
    }
    assert all(process.returncode == 0 for process in processes.values())
    results = json.loads((tmp_path / "results.json").read_text())
    assert len(results["runs"]) == 8 and settings(results) == SETTINGS
    shares = [printed[f"tuner{i}"].count("seed 0:") for i in (0, 1)]
    assert sum(shares) == 4 and min(shares) >= 1
    assert "Table, figure" in printed["chief"]
    assert "Table, figure" not in printed["tuner0"] + printed["tuner1"]


# Images, a network and optimizers of one's own.


def own_images(count=60):
    random = np.random.default_rng(0)
    y = np.arange(count) % 3
    x = random.integers(0, 100, (count, 6, 5, 1))
    x[np.arange(count), y] += 150
    return x.astype("uint8"), y


def own_network():
    inputs = keras.Input((6, 5, 1))
    h = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    return keras.Model(inputs, keras.layers.Dense(3, "softmax")(h))


def momentum(learning_rate):
    return keras.optimizers.SGD(learning_rate, momentum=0.95, nesterov=True)


def asks(hp, steps):
    return keras.optimizers.Adam(
        hp.Choice("learning_rate", [0.01, 0.1]),
        epsilon=hp.Choice("eps", [1e-7]),
    )


@pytest.mark.on_one_backend
@pytest.mark.thorough
def test_images_network_and_optimizers_of_ones_own(tmp_path):
    x, y = own_images()
    results = sweep(
        ((x, y), (x[:30], y[:30])),
        made="D",
        output=tmp_path,
        networks=own_network,
        optimizers={
            "lion": (0.01, 0.01),
            "momentum": (momentum, (0.1, 0.1)),
            "asks": asks,
        },
        batch_sizes=(18,),
        epochs=6,
        seeds=1,
        verbose=0,
        stop_hopeless=True,
    )
    assert settings(results) == {
        ("lion", 0.01),
        ("momentum", 0.1),
        ("asks", 0.01),
        ("asks", 0.1),
    }
    assert set(results["best"]) == {"lion", "momentum", "asks"}
    # Pixels of 0 ... 255, as the network takes them, are learned.
    assert max(run["test_accuracy"] for run in results["runs"]) > 0.6
    assert {run["outcome"] for run in results["runs"]} <= {
        *("stuck", "memorized", "generalized")
    }
    assert all(run["stopped_epoch"] is None for run in results["runs"])
    space = results["search"]["space"]
    assert space["networks"]["own_network"]["function"] == "own_network"
    assert set(space["makers"]) == {"momentum", "asks"}
    assert "asks" in (tmp_path / "table.md").read_text()
    # The same call reads what is there; another network is another search.
    again = sweep(
        ((x, y), (x[:30], y[:30])),
        made="D",
        output=tmp_path / "other",
        networks={"mine": own_network},
        optimizers={"asks": asks},
        epochs=1,
        seeds=1,
        verbose=0,
    )
    assert {run["network"] for run in again["runs"]} == {"mine"}
    with pytest.raises(ValueError, match="same search"):
        sweep(
            ((x, y), (x[:30], y[:30])),
            made="D",
            output=tmp_path / "other",
            networks={"mine": own_network},
            optimizers={"asks": lambda hp, steps: keras.optimizers.SGD()},
            epochs=1,
            seeds=1,
            verbose=0,
        )


@pytest.mark.on_one_backend
def test_a_set_of_ones_own_images(tmp_path):
    """A search of a set whose source has no name is given the images."""
    x, y = own_images()
    unit = (x / 255).astype("float32")
    shortcut = kr.Shortcut(3, "deterministic", seed=0)
    kr.datasets.generate(shortcut, (unit, y), tmp_path, name="mine", verbose=0)
    path = next(tmp_path.glob("mine/*/1.0.0"))
    clean = ((unit, y), (unit[:30], y[:30]))
    options = {"output": tmp_path / "sweep", "epochs": 1, "seeds": 1}
    options |= {"verbose": 0, "optimizers": ("adam",)}
    options |= {"learning_rate_factor": 1000}
    with pytest.raises(ValueError, match="`data` must be the images that"):
        sweep(path, **options)
    other = ((unit, y[::-1]), (unit, y))
    with pytest.raises(ValueError, match="other original labels"):
        sweep(path, data=other, **options)
    with pytest.raises(ValueError, match="not_there.*, which does not exist"):
        sweep(tmp_path / "not_there", data=clean, **options)
    results = sweep(path, data=clean, **options)
    assert len(results["runs"]) == 1
    assert results["runs"][0]["network"] == "small_cnn"


@pytest.mark.parametrize("is_there", [False, True])
@pytest.mark.on_one_backend
def test_without_tensorflow_nothing_is_written_for_tensorboard(
    tmp_path, monkeypatch, is_there
):
    for module in (pipelines, training):
        monkeypatch.setattr(module, "can_be_imported", lambda: is_there)
    x, y = own_images()
    study = kr.Study(((x, y), (x[:30], y[:30])), own_network, epsilon=0.5)
    results = sweep(
        study,
        made="D",
        output=tmp_path,
        epochs=1,
        seeds=1,
        verbose=0,
        optimizers=("adam",),
        learning_rate_factor=1000,
    )
    assert len(results["runs"]) == 1
    assert (tmp_path / "tensorboard").exists() == is_there


@pytest.mark.on_one_backend
def test_relabelled_sets_of_ones_own_images(tmp_path):
    x, y = own_images()
    study = kr.Study(
        ((x, y), (x[:30], y[:30])),
        own_network,
        training=kr.Training(epochs=1, optimizer="adam"),
        epsilon=0.5,
        radii=(0.5,),
        relabel_steps=2,
    )
    results = sweep(
        study,
        made="D_det",
        output=tmp_path,
        optimizers=("adam",),
        learning_rate_factor=1000,
        seeds=1,
        verbose=0,
    )
    assert results["runs"][0]["epochs"] == 1
    assert results["search"]["data"]["set"] == "D_det"


@pytest.mark.on_one_backend
@pytest.mark.thorough
def test_by_command(tmp_path, monkeypatch, capsys):
    x, y = own_images()
    np.savez(tmp_path / "d.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    functions = map(inspect.getsource, (own_network, asks, momentum))
    (tmp_path / "mine.py").write_text(
        "import keras\n\n\n" + "\n".join(functions)
    )
    monkeypatch.chdir(tmp_path)
    command = [
        *("sweep", "--data", "d.npz", "--set", "D", "--epochs", "1"),
        *(
            "--seeds",
            "1",
            "--verbose",
            "0",
            "--networks",
            "mine.py:own_network",
        ),
        *("--optimizers", "lion:0.01:0.01", "mine.py:asks"),
        "mine.py:momentum:0.1:0.1",
    ]
    assert cli.main(command) == 0
    results = json.loads((tmp_path / "sweep" / "results.json").read_text())
    names = {run["optimizer"] for run in results["runs"]}
    assert names == {"lion", "asks", "momentum"}
    for wrong, message in (
        (["--optimizers", "lion:1:x"], "lion"),
        (["--optimizers", "lyon"], "Did you mean 'lion'"),
        (["--networks", "mine.py:none"], "no such name"),
        (["--networks", "largest"], "largest"),
    ):
        assert cli.main([*command, "--output", "other", *wrong]) == 2
        assert message in capsys.readouterr().err
    assert cli.main(["sweep"]) == 2
    assert "`--data` or SOURCE must be given" in capsys.readouterr().err


@pytest.mark.parametrize(
    "optimizers", ["lion", {"a": keras.optimizers.SGD}, {"a": (1, 2, 3)}]
)
def test_optimizers_of_another_form(tmp_path, optimizers):
    with pytest.raises(ValueError, match="`optimizers` must be|two numbers"):
        sweep(output=tmp_path, preset="smoke", optimizers=optimizers)
