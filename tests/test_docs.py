import json
import re
import shlex
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_robust as kr
from keras_robust import cli
from keras_robust.cli import build_parser

GUIDE = Path(__file__).parent.parent / "docs" / "generated_data.md"


@pytest.mark.on_one_backend
def test_the_guide_as_written(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    x, y = kr.datasets.load("digits").train
    np.save("images.npy", x[:60])
    np.save("labels.npy", y[:60])
    kr.models.small_cnn((8, 8, 1), filters=(4,)).save("classifier.keras")
    make, read, from_torch = re.findall(
        r"```python\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL
    )
    for long, short in (("epochs=20", "epochs=1"), ("steps=1000", "steps=2")):
        assert long in make
        make = make.replace(long, short)
    names = {}
    exec(make, names)
    exec(read, names)
    labels = [int(label) for _, label in names["train"]]
    assert labels == y[:60].tolist()
    # The same set, for random access.
    again = make.replace(
        'name="my_images"', 'name="my_images", file_format="array_record"'
    )
    exec(again.replace('"data"', '"random_access"'), names)
    exec(from_torch.replace('"data"', '"random_access"'), names)
    images, labels = next(iter(names["loader"]))
    assert images.shape == (60, 1, 8, 8) and images.dtype == torch.float32
    assert sorted(labels.tolist()) == sorted(y[:60].tolist())


@pytest.mark.slow_on_jax
@pytest.mark.compiles_much
def test_the_page_on_models_and_data_as_written():
    """Its pieces of code, on data of the kinds that the text names."""
    random = np.random.default_rng(0)
    image = keras.Input((6, 6, 1), name="image")
    meta = keras.Input((3,), name="meta")
    h = keras.layers.Concatenate()([keras.layers.Flatten()(image), meta])
    names = {
        "kr": kr,
        "keras": keras,
        "two_inputs": keras.Model(
            {"image": image, "meta": meta}, keras.layers.Dense(3)(h)
        ),
        "image": random.random((8, 6, 6, 1), dtype="float32"),
        "images": random.random((5, 32, 32, 3), dtype="float32"),
        "meta": random.random((8, 3), dtype="float32"),
        "y": np.arange(8) % 3,
        "x": random.uniform(-5, 5, (8, 4)).astype("float32"),
        "values": random.random((8, 8), dtype="float32"),
        "targets": random.random((8, 1), dtype="float32"),
        "model": kr.models.small_cnn((8, 8, 1), filters=(4,)),
        "robust": kr.models.mlp((8, 8, 1)),
        "test": (random.random((6, 8, 8, 1), dtype="float32"), np.arange(6)),
    }
    page = GUIDE.with_name("models_and_data.md").read_text()
    several, whitened, tabular, compared, training = re.findall(
        r"```python\n(.*?)```", page, flags=re.DOTALL
    )
    exec(several, names)
    assert names["x_adv"]["image"].shape == names["image"].shape
    np.testing.assert_array_equal(names["x_adv"]["meta"], names["meta"])
    assert set(names["report"].accuracy) == {"clean", "pgd", "worst case"}
    assert "(64, 128, 128)" in whitened
    exec(whitened.replace("(64, 128, 128)", "(4, 4, 4)"), names)
    assert names["network"].get_layer("whitening").is_adapted
    exec(tabular, names)
    columns = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    attacked = names["attack"](columns, names["x"], names["y"], verbose=0)
    moved = np.abs(attacked - names["x"])
    assert (moved <= 0.1 * (names["high"] - names["low"]) + 1e-5).all()
    assert moved.max() > 0
    exec(compared, names)
    accuracy = names["curve"].accuracy
    assert accuracy.shape == (3,) and (accuracy[1:] <= accuracy[:-1]).all()
    assert names["matrix"].examples.shape == (1, 2)
    exec(training, names)
    assert {"val_robust_loss", "val_robust_mae"} <= set(
        names["history"].history
    )


def code_of(page, title):
    """The blocks of code of a section, one after the other."""
    section = page[page.index(f"## {title}") :].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)


@pytest.mark.slow_on_jax
@pytest.mark.compiles_much
def test_attacks_of_ones_own_as_written():
    page = GUIDE.with_name("extending.md").read_text()
    names, blocks = {}, code_of(page, "An attack as a loop")
    exec(blocks[0], names)
    model, x, y = names["model"], names["x"][:64], names["y"][:64]
    attack, x_adv = names["RandomSearch"], names["x_adv"]

    def distance(moved):
        return np.linalg.norm((moved - x).reshape(len(x), -1), axis=1)

    assert distance(x_adv).max() <= 1 + 1e-5 and distance(x_adv).max() > 0.1
    # What an attack promises: split into batches alike, more runs help.
    again = attack(epsilon=1.0, seed=0, batch_size=10)(model, x, y)
    np.testing.assert_allclose(again, x_adv, atol=1e-6)
    found = [
        attack(epsilon=2.0, seed=0, restarts=n).run(model, x, y, scored=True)
        for n in (1, 8)
    ]
    assert not (found[0]["success"] & ~found[1]["success"]).any()
    assert (
        names["report"].accuracy["random"] <= names["report"].accuracy["clean"]
    )
    config = keras.saving.serialize_keras_object(attack(seed=3))
    assert keras.saving.deserialize_keras_object(config).seed == 3
    exec(blocks[1], names)
    moved = np.abs(names["x_adv"] - x)
    assert moved.max() <= 0.1 * (1 + 1e-6)
    plain = kr.PGDAttack(norm="linf", epsilon=0.1)(model, x, y)
    assert np.abs(plain - names["x_adv"]).max() > 0.01
    for code in code_of(page, "A loss or an objective of your own"):
        exec(code, names)
        assert distance(names["x_adv"]).max() <= 0.5 * (1 + 1e-5)
        assert distance(names["x_adv"]).max() > 0.1


@pytest.mark.slow_on_jax
@pytest.mark.compiles_much
def test_an_attack_in_a_few_lines_as_written():
    page = GUIDE.with_name("extending.md").read_text()
    names, blocks = {}, code_of(page, "An attack in a few lines")
    exec(blocks[0], names)
    x = names["x"][:64]
    assert 0.1 < np.abs(names["x_adv"] - x).max() <= 0.2 * (1 + 1e-6)
    assert names["robust"].attack.epsilon == 0.2
    accuracy = names["report"].accuracy
    assert accuracy["SignSteps"] <= accuracy["clean"]
    exec(blocks[1], names)
    fgsm = kr.FGSMAttack("linf", 0.2)(names["model"], x, names["y"][:64])
    np.testing.assert_allclose(names["x_adv"], fgsm, atol=1e-5)
    found = names["curve"].accuracy
    assert len(found) == 3 and (np.diff(found) <= 0).all()


@pytest.mark.on_one_backend
@pytest.mark.thorough
def test_a_search_of_ones_own_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = GUIDE.with_name("study.md").read_text()
    section = page[page.index("### Your images, networks and optim") :]
    (code,) = re.findall(
        r"```python\n(.*?)```", section.split("\n## ")[0], flags=re.DOTALL
    )
    assert "epochs=5" in code
    names = {}
    exec(code.replace("epochs=5", "epochs=2"), names)
    found = names["results"]
    assert {run["optimizer"] for run in found["runs"]} == {
        *("lion", "nesterov", "adam")
    }
    assert "beta_2" in found["variance_explained"]
    shell = re.search(r"```sh\n(.*?)```", section, flags=re.DOTALL).group(1)
    for line in shell.replace("\\\n", " ").splitlines():
        cli.build_parser().parse_args(shlex.split(line)[1:])


@pytest.fixture
def own_images(tmp_path, monkeypatch):
    """A folder with the files that the pages on the command line name."""
    monkeypatch.chdir(tmp_path)
    x, y = kr.datasets.load("digits").test
    np.savez("images.npz", x=x, y=y)
    for number, (image, label) in enumerate(zip(x[:30], y[:30], strict=True)):
        folder = tmp_path / "images" / "test" / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{number}.png"
        keras.utils.save_img(path, 255 * image, "channels_last", scale=False)
    (tmp_path / "my_project.py").write_text(
        "import numpy as np\n"
        "def test():\n"
        "    data = np.load('images.npz')\n"
        "    return np.kron(data['x'], np.ones((1, 2, 2, 1))), data['y']\n"
    )
    keras.utils.set_random_seed(0)
    kr.models.small_cnn((8, 8, 1), filters=(4,)).save("MODEL.keras")


@pytest.mark.on_one_backend
@pytest.mark.parametrize("page", ["models_and_data", "api/cli"])
def test_commands_as_written(own_images, page):
    text = (GUIDE.parent / f"{page}.md").read_text()
    commands = [
        shlex.split(line)[1:]
        for block in re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
        for line in block.replace("\\\n", " ").splitlines()
    ]
    assert len(commands) >= 2
    for command in commands:
        short = ["--examples", "10", "--verbose", "0", "--scaling", "unit"]
        if "--attack" not in command:
            short += ["--attack", "fgsm"]
        status = cli.main([*command, *short])
        assert status == (1 if "--fail-under" in command else 0)
    # What the command reads is what the page says.
    report = json.loads(Path("evaluation/report.json").read_text())
    assert report["examples"] == 10


@pytest.mark.compiles_much
def test_the_gate_as_written():
    text = GUIDE.with_name("api").joinpath("cli.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    x, y = (part[:20] for part in kr.datasets.load("digits").test)
    model = kr.models.small_cnn((8, 8, 1), filters=(4,))
    names = {"kr": kr, "model": model, "x": x, "y": (y + 1) % 10}
    exec(code, names)
    with pytest.raises(AssertionError, match="at least 40.00%"):
        names["test_robustness"]()


@pytest.mark.slow_on_jax
def test_a_transform_of_ones_own_as_written(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    monkeypatch.chdir(tmp_path)
    page = GUIDE.with_name("extending.md").read_text()
    own, relabelled = code_of(page, "A transform of your own")
    names = {}
    exec(own, names)
    x, y = names["x"], names["y"]
    blocks = x.reshape(len(x), 4, 2, 4, 2).mean((2, 4))
    expected = blocks.repeat(2, 1).repeat(2, 2)[..., None]
    np.testing.assert_allclose(names["x_low"], expected, atol=1e-6)
    np.testing.assert_array_equal(names["labels"], y)
    moved = np.linalg.norm((expected - x).reshape(len(x), -1), axis=1)
    found = names["details"]
    np.testing.assert_allclose(found["distance"], moved, atol=1e-5)
    mapped, labels = next(iter(names["batches"]))
    np.testing.assert_allclose(mapped, expected[:128], atol=1e-6)
    np.testing.assert_array_equal(labels, y[:128])
    data = tfds.load(
        "constructed_digits/low_pass", data_dir="data", split="train"
    )
    stored = np.array([one["image"] for one in data.as_numpy_iterator()])
    np.testing.assert_allclose(stored, expected, atol=1e-6)
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(names["low_pass"])
    )
    assert again.get_config() == {"size": 2, "batch_size": 128, "seed": 0}
    exec(relabelled, names)
    np.testing.assert_array_equal(names["labels"], (y + 1) % 10)


@pytest.mark.on_one_backend
@pytest.mark.thorough
def test_the_page_on_training_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = GUIDE.with_name("training.md").read_text()
    names = {}
    for code in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
        exec(code, names)
    assert 0 <= names["report"].accuracy["apgd"] <= 1
    assert len(names["history"]["val_robust_accuracy"]) == 1
    assert names["watch"].accuracies and names["robust"].built
    assert names["averaged"].output_shape == (None, 10)
    saved = keras.saving.load_model("hardened.keras")
    found = saved.predict(names["x_test"], verbose=0)
    expected = names["hardened"].predict(names["x_test"], verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.on_one_backend
@pytest.mark.thorough
def test_certification_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = GUIDE.with_name("certification.md").read_text()
    for long, short in (
        ("samples=1000", "samples=200"),
        ("test = (x_test, y_test)", "test = (x_test[:100], y_test[:100])"),
        ("epochs=20", "epochs=4"),
        ("epochs=40", "epochs=10"),
        ("warmup=200, ramp=600", "warmup=50, ramp=150"),
    ):
        assert long in page
        page = page.replace(long, short)
    names = {}
    for code in code_of(page, "Randomized smoothing"):
        exec(code, names)
    result, y = names["result"], names["y_test"]
    assert (tmp_path / "smoothing.json").exists()
    assert result.accuracy(0.25)[0] > 0.3
    answered = names["labels"] >= 0
    assert (names["labels"] == y[:20])[answered].mean() > 0.7
    for code in code_of(page, "Interval bounds"):
        exec(code, names)
    result = names["result"]
    assert (result.certified == (result.correct & (result.margins > 0))).all()
    for code in code_of(page, "Training for interval bounds"):
        exec(code, names)
    result, report = names["result"], names["report"]
    assert result.accuracy["certified"] > 0.2
    assert not (result.certified & ~report.correct["pgd"]).any()
    lower, upper, worst = (
        keras.ops.convert_to_numpy(names[key])
        for key in ("lower", "upper", "worst")
    )
    own = np.take_along_axis(lower, names["y"][:32, None], 1)
    assert (worst <= upper - own + 1e-3).all() and (lower <= upper).all()


@pytest.mark.on_one_backend
@pytest.mark.thorough
def test_the_page_on_distances_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = GUIDE.with_name("minimum_norm.md").read_text()
    measure, compare = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert "(x[:50], y[:50])" in measure
    names = {}
    exec(measure.replace("(x[:50], y[:50])", "(x[:20], y[:20])"), names)
    found = names["found"]
    assert 0.2 < found.median < 2
    accuracy = found.curve([0.25, 0.5, 1.0]).accuracy
    assert accuracy[0] > 0.8 and (accuracy[1:] <= accuracy[:-1]).all()
    exec(compare, names)
    optimality = names["optimality"]
    assert set(optimality) == {"ddn", "fmn"}
    assert 0.5 < min(optimality.values()) <= max(optimality.values()) <= 1


@pytest.mark.on_one_backend
def test_the_page_on_black_boxes_as_written():
    page = GUIDE.with_name("black_box.md").read_text()
    # `tests/classifier/test_tflite.py` runs the second.
    function, _, decisions, corrupted = re.findall(
        r"```python\n(.*?)```", page, flags=re.DOTALL
    )
    names = {}
    exec(function, names)
    accuracy = names["report"].accuracy
    assert 0.8 < accuracy["clean"] and accuracy["SquareAttack"] < 0.8
    exec(decisions, names)
    found, x = names["result"], names["x_test"][:8]
    step = (found["x"] - x).reshape(8, -1)
    attacked = np.isfinite(names["distance"]) & (step != 0).any(-1)
    assert attacked.sum() >= 6
    np.testing.assert_allclose(
        names["distance"][attacked],
        np.linalg.norm(step, axis=1)[attacked],
        rtol=1e-4,
    )
    # The nearest mean's boundaries are hyperplanes, at known distances.
    means, y = names["means"].reshape(10, -1), names["y_test"][:8]
    scores = names["nearest_mean"](x)
    for i in np.flatnonzero(attacked):
        others = np.arange(10) != y[i]
        gap = scores[i, y[i]] - scores[i, others]
        width = 2 * np.linalg.norm(means[y[i]] - means[others], axis=1)
        nearest = (gap / width).min()
        assert nearest * 0.999 <= names["distance"][i] <= 2 * nearest
    exec(corrupted, names)
    assert set(names["report"].threats) == {
        "linf 0.1",
        "spatial",
        "corruptions",
        "mean",
        "worst",
    }
    assert names["x_fog"].shape == names["x_test"].shape


@pytest.mark.on_one_backend
def test_the_page_on_adaptive_attacks_as_written():
    page = GUIDE.with_name("adaptive.md").read_text()
    names = {}
    for code in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
        names["x_adv"] = None
        exec(code, names)
        assert np.abs(names["x_adv"] - names["x"][:64]).max() > 0.05


@pytest.mark.slow_on_jax
@pytest.mark.thorough
def test_the_start_as_written(tmp_path, monkeypatch):
    import matplotlib

    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    page = GUIDE.with_name("start.md").read_text()
    radii = "radii = [0.025, 0.05, 0.1, 0.15, 0.2]"
    assert page.count("epochs=20") == 2 and page.count(radii) == 1
    page = page.replace("epochs=20", "epochs=10")
    page = page.replace(radii, "radii = [0.1]")
    assert "test = (x_test[:100], y_test[:100])" in page
    page = page.replace("_test[:100]", "_test[:40]")
    names, accuracy = {}, {}
    for code in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
        exec(code, names)
    assert 0 < names["largest_change"] <= 0.1 + 1e-6
    assert names["clean_accuracy"] > 0.7
    assert names["attacked_accuracy"] < names["clean_accuracy"] - 0.2
    for picture in ("attack.png", "curves.png"):
        assert (tmp_path / picture).stat().st_size > 5000
        # As the page shows it.
        assert (GUIDE.parent / "images" / picture).exists()
        assert f"(images/{picture})" in page
    for name in ("standard", "hardened"):
        report = json.loads((tmp_path / f"{name}.json").read_text())
        accuracy[name] = report["accuracy"]["worst case"]
    assert accuracy["hardened"] > accuracy["standard"] + 0.1
    saved = keras.saving.load_model("hardened.keras")
    np.testing.assert_allclose(
        saved.predict(names["x_test"], verbose=0),
        names["hardened"].predict(names["x_test"], verbose=0),
        atol=1e-5,
    )


# Steps that show that a page's code runs, and no more.
FEW = (
    "inversion_steps=2, relabel_steps=2, evaluation_steps=2, attack_steps=1, "
    "linf_radii=()"
)


@pytest.mark.on_one_backend
def test_a_study_of_ones_own_as_written(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    monkeypatch.chdir(tmp_path)
    page = GUIDE.with_name("study.md").read_text()
    study, _ = code_of(page, "Your data, your network, your optimizer")
    for long, short in (
        ("epochs=12", "epochs=1"),
        ('("D_R", "D_NR", "D_rand", "D_det", "D_other")', '("D_R", "D_rand")'),
        ("seeds=2", f"seeds=1, controls=False, {FEW}"),
    ):
        assert long in study
        study = study.replace(long, short)
    names = {}
    with tfds.testing.mock_data(num_examples=30):
        exec(study, names)
    assert names["images"]["x"].shape == (30, 28, 28, 1)
    assert names["images"]["x"].max() > 100
    assert set(names["results"]["models"]) == {
        *("standard", "adversarial", "D_R", "D_rand"),
    }


@pytest.mark.on_one_backend
def test_a_set_of_ones_own_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = GUIDE.with_name("extending.md").read_text()
    (code,) = code_of(page, "A set of your own in the study")
    for long, short in (
        ("steps=30", "steps=2"),
        ('get_recipe("digits")', 'get_recipe("digits", "smoke")'),
        (
            'sets=("D_rand", nine())',
            f"sets=(nine(),), train_images=60, test_images=20, {FEW}",
        ),
    ):
        assert long in code
        code = code.replace(long, short)
    names = {}
    exec(code, names)
    results = names["results"]
    assert {"D_nine", "D_nine_shortcut"} <= set(results["models"])
    claims = [claim["name"] for claim in results.claims()]
    assert "D_nine beyond its control" in claims


@pytest.mark.parametrize("page", ["study.md", "extending.md"])
def test_commands_are_those_of_the_command_line(page):
    text = GUIDE.with_name(page).read_text().replace("\\\n", "")
    found = re.findall(r"^keras-robust (replicate .*)$", text, re.M)
    assert found
    for command in found:
        options = build_parser().parse_args(command.split())
        assert options.command == "replicate"
