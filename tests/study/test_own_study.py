"""A study of data, networks and optimizers of one's own."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_robust as kr
from keras_robust.study import Replication
from keras_robust.study import data as study_data
from keras_robust.study.replication import running
from keras_robust.study.replication import tables
from keras_robust.study.replication.generating import describe_generated
from keras_robust.study.replication.stages import model_description
from keras_robust.utils.files import json_hash

CLASSES = 3


@keras.saving.register_keras_serializable("test_own_study")
class Doubled(layers.Layer):
    """A layer that the package has never seen."""

    def call(self, inputs):
        return 2.0 * inputs


class Unregistered(layers.Layer):
    """One that Keras could not load from a file."""

    def __init__(self, units):
        super().__init__()
        self.dense = layers.Dense(units, activation="relu")

    def call(self, inputs):
        return self.dense(inputs)


def make_model(units=12):
    """A classifier of bytes with its preprocessing inside."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Rescaling(1 / 255),
            Doubled(),
            layers.Flatten(),
            Unregistered(units),
            layers.Dense(CLASSES, activation="softmax"),
        ]
    )


def make_bright(images):
    return ops.clip(images + 1.0, 0, 255)


@pytest.fixture(scope="module")
def data():
    """Digits 0, 1, 2 in bytes."""
    splits = kr.datasets.load("digits")
    return tuple(
        ((255 * x[y < CLASSES][:count]).astype("uint8"), y[y < CLASSES][:count])
        for (x, y), count in zip(splits, (150, 60), strict=True)
    )


def make_study(arrays, **changes):
    settings = {
        "data": arrays,
        "network": make_model,
        "training": kr.Training(
            epochs=4,
            optimizer=lambda steps: keras.optimizers.Lion(3e-3),
            augment=make_bright,
            batch_size=32,
        ),
        "sets": ("D_R", "D_rand"),
        "controls": False,
        "inversion_steps": 4,
        "relabel_steps": 4,
        "evaluation_steps": 4,
        "attack_steps": 2,
    }
    return kr.Study(**{**settings, **changes})


@pytest.fixture(scope="module")
def own_run(data, tmp_path_factory):
    """`(study, results, folder)` of a whole run."""
    folder = tmp_path_factory.mktemp("own")
    study = make_study(data)
    return study, study.run(folder, verbose=0), folder


def test_a_study_of_ones_own(own_run, data):
    study, results, folder = own_run
    assert list(results["models"]) == [
        "standard",
        "adversarial",
        "D_R",
        "D_rand",
    ]
    kept = json.loads((folder / "results.json").read_text())
    assert kept["summary"] == results["summary"]
    assert kept["preset"] == "own" and kept["recipe"]["dataset"] == "own data"
    # What `model` returns takes the user's pixels, and is what was attacked.
    x, y = data[1]
    right = study.model("D_R").predict(x, verbose=0).argmax(-1) == y
    clean = results["summary"]["D_R"]["clean"]["mean"]
    assert 100 * right.mean() == pytest.approx(clean)
    made = study.generated("D_rand")
    assert made["x"].shape == data[0][0].shape and made["x"].max() > 100
    assert 0 <= made["x"].min() and made["x"].max() <= 255


def test_a_radius_is_measured_and_told(own_run):
    _, results, folder = own_run
    found = results["measured_radius"]
    recipe = results["recipe"]
    radius = found["radius"]
    assert recipe["epsilon"] == radius
    assert recipe["radii"] == (radius, 2 * radius)
    assert recipe["relabel_epsilon"] == 2 * radius
    # On a part of the training images.
    assert found["images"] == 20
    text = " ".join((folder / "report.html").read_text().split())
    assert f"Measured radius: L2 {radius:g}, at which a standard" in text
    # Attacks move a network that has seen other images, and not all of it.
    accuracy = results["summary"]["standard"]
    kept = accuracy[f"pgd-l2-{radius:g}"]["mean"] / accuracy["clean"]["mean"]
    assert 0.2 < kept < 1


def test_what_results_return(own_run, capsys):
    _, results, _ = own_run
    text = results.table()
    assert capsys.readouterr().out == text + "\n"
    assert "own data" in text and "D_rand" in text
    assert "own data" in repr(results)
    frame = results.to_dataframe()
    chosen = (frame.trained_on == "D_R") & (frame.attack == "clean")
    (row,) = frame[chosen].to_dict("records")
    assert 100 * row["accuracy"] == results["summary"]["D_R"]["clean"]["mean"]
    assert row["low"] <= row["accuracy"] <= row["high"]
    shown = results._repr_html_()
    for claim in results.claims():
        assert claim["verdict"] in shown
    assert shown.count("<td>this run</td>") == len(results["models"])
    assert 'src="data:image/png;base64,' in shown
    (axes,) = results.plot().axes
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        *results["models"]
    ]


def test_claims_say_what_they_cannot_decide(own_run):
    _, results, folder = own_run
    claims = {claim["name"]: claim for claim in results.claims()}
    for name, reason in (
        ("Non-robust features", "the set D_NR was left out of this study"),
        ("Shifted targets", "the set D_det was left out of this study"),
        ("Beyond shortcuts", "the controls were left out of this study"),
    ):
        assert claims[name]["verdict"] == "cannot be decided"
        assert claims[name]["reason"] == reason
    # Nobody has published figures of these images.
    assert {claim["published"] for claim in claims.values()} == {""}
    assert "Published:" not in (folder / "report.html").read_text()
    assert "The AM207 report's gap" not in claims
    # 25 % of ten classes are as far above chance as 44.4 % of three.
    assert claims["Random targets"]["rule"].startswith("clean at least 44.4 %")


def test_a_second_run_finds_every_stage(own_run, data, monkeypatch):
    _, results, folder = own_run
    for work in ("_train", "_generate", "_evaluate"):
        monkeypatch.setattr(Replication, work, None)
    again = make_study(data).run(folder, verbose=0)
    assert again["summary"] == results["summary"]
    # Networks are found without having been run in this process.
    fresh = make_study(data)
    model = fresh.model("D_rand", seed=0, folder=folder)
    for one, other in zip(
        model.get_weights(),
        own_run[0].model("D_rand").get_weights(),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_a_changed_study_is_not_resumed(data, tmp_path):
    def described(**changes):
        study = make_study(data, epsilon=1.0, **changes)
        return json_hash(study.replication(tmp_path, verbose=0).description())

    same = described()
    assert described() == same
    (x, y), test = data
    changes = [
        {"network": lambda: make_model(13)},
        {"data": ((np.roll(x, 1, axis=1), y), test)},
        {"training": kr.Training(epochs=4, optimizer="lion")},
    ]
    assert len({same, *(described(**change) for change in changes)}) == 4


def test_other_pixels_of_a_data_set_by_name_are_another_training():
    def described(value_range):
        study = make_study("digits", value_range=value_range)
        return json_hash(model_description(study, "standard"))

    found = [described(given) for given in (None, (0, 255), (0, 510))]
    assert len(set(found)) == 3


def test_a_folder_must_be_known(data):
    with pytest.raises(ValueError, match="`folder` must be.*Received"):
        make_study(data).model("D_R")


def test_a_model_takes_the_place_of_a_stage(
    own_run, data, tmp_path, monkeypatch
):
    study, results, folder = own_run
    (x, y), test = data
    standard = study.model("standard")
    again = make_study(data, epsilon=results["recipe"]["epsilon"])
    again.use("standard", standard)
    again.use("D_rand", (x, (y + 1) % CLASSES))
    stages = again.replication(folder, verbose=0)
    assert stages.model("standard").layers[-1] is standard
    taken = stages.generated("D_rand")
    np.testing.assert_allclose(255 * taken["x"], x, atol=1e-4)
    assert (taken["y"] == (y + 1) % CLASSES).all()
    # What does not depend on it is found again, what does is not.
    trained = []
    monkeypatch.setattr(
        Replication, "_train", lambda self, name: trained.append(name)
    )
    for name in ("standard", "adversarial", "D_R"):
        stages.model(name)
    assert trained == []
    copied = dataclasses.replace(again, seeds=2)
    assert set(copied.stand_ins) == {"standard", "D_rand"}
    copied.use("adversarial", standard)
    assert "adversarial" not in again.stand_ins


def test_what_is_given_is_not_taken_for_a_set_of_the_study(data, tmp_path):
    """D_R of test images is not made as the user made D_R."""
    (x, y), _ = data
    study = make_study(data, epsilon=1.0)
    stages = study.replication(tmp_path, verbose=0)
    assert "decomposition" in running._measures(stages)
    study.use("D_R", (x, y))
    stages = study.replication(tmp_path, verbose=0)
    assert "decomposition" not in running._measures(stages)
    reason = running._left_out(study)["decomposition"]
    assert reason == "D_R or its network was given by the user"


def nearest_mean(means):
    """A linear classifier: the class whose mean is nearest."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Rescaling(1 / 255),
            layers.Flatten(),
            layers.Dense(CLASSES),
        ]
    )
    model.set_weights([2 * means.T, -(means**2).sum(-1)])
    return model


@pytest.mark.compiles_much
def test_a_radius_is_measured_on_the_model_that_is_given(
    data, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(Replication, "_train", None)
    (x, y), _ = data
    flat = x.reshape(len(x), -1) / 255
    means = np.stack([flat[y == label].mean(0) for label in range(CLASSES)])
    study = make_study(data)
    study.use("standard", nearest_mean(means))
    found = study.resolve(tmp_path, verbose=1)
    # How far each image is from the boundaries; the box makes it farther.
    rows = np.linspace(0, len(x) - 1, 20).round().astype(int)
    scores = flat[rows] @ (2 * means.T) - (means**2).sum(-1)
    gaps = scores[np.arange(20), y[rows]][:, None] - scores
    widths = np.linalg.norm(2 * (means[y[rows]][:, None] - means), axis=-1)
    gaps[widths == 0], widths[widths == 0] = np.inf, 1
    distances = (gaps / widths).min(-1)
    median = np.median(distances[distances > 0])
    assert 0.97 * median <= found.epsilon <= 1.3 * median
    text = " ".join(capsys.readouterr().out.split())
    assert "at which the standard network that was given keeps" in text
    # Another model has another radius.
    means[:, :32] = 0
    study.use("standard", nearest_mean(means))
    assert study.resolve(tmp_path, verbose=0).epsilon < found.epsilon


def test_what_cannot_take_a_place(data):
    study = make_study(data)
    wide = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten()])
    wide.add(layers.Dense(4))
    for name, value, message in (
        ("D_rnd", wide, "Did you mean 'D_rand'"),
        ("standard", data[0], "must be a Keras model"),
        ("standard", wide, "must have 3 classes.*4"),
        ("D_rand", 3, "or the folder of a generated set"),
        ("D_rand", (np.zeros((2, 4, 4, 1)), [0, 1]), r"shape \(8, 8, 1\)"),
        ("D_rand", (data[0][0][:2], [0, 3]), r"0 \.\.\. 2"),
        ("D_rand", "nowhere", "description.json"),
    ):
        with pytest.raises(ValueError, match=message):
            study.use(name, value)
    assert study.stand_ins == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": make_model()}, "study.use"),
        ({"network": "smal_cnn"}, "Did you mean 'small_cnn'"),
        ({"network": 3}, "must be one of"),
        ({"data": np.zeros((3, 8, 8, 1))}, "`data` of a study must be"),
        ({"sets": ("D_rnd",)}, "Did you mean 'D_rand'"),
        ({"radii": (0.0,)}, "`radii` must be a number > 0"),
        ({"epsilon": -1}, "`epsilon` must be a number > 0"),
        ({"seeds": 0}, "`seeds` must be an integer >= 1"),
        ({"training": 3}, "must be a `Training`"),
        ({"radii": ("1",)}, "`radii` must be a number > 0"),
        ({"radii": (1, 0.25, 0.2501)}, "differ by 1 % or more"),
        (
            {"architectures": {"make_model": make_model}},
            "other keys than the name of the study's network",
        ),
        ({"epsilon": float("inf")}, "`epsilon` must be a number > 0"),
        ({"linf_radii": 0.1}, "`linf_radii` of a study must be a tuple"),
        ({"relabel_steps": 0}, "`relabel_steps` must be an integer >= 1"),
        ({"value_range": (1, 0)}, "low < high"),
        ({"image_size": (8, 8)}, "`image_size` of a study must be left out"),
        ({"inversion_optimizer": "adam"}, "`inversion_optimizer` of a study"),
        ({"undecidable": {"no claim": "why"}}, "`undecidable` of a study"),
        ({"overrides": {"D_R": {"epochs": 0}}}, "`epochs` must be"),
        ({"dtype_policy": "float99"}, "float99"),
        (
            {"network": "small_cnn", "network_options": {"deep": 3}},
            "`network_options` must be of models.small_cnn",
        ),
    ],
)
def test_a_wrong_study_is_refused_at_once(data, changes, message):
    with pytest.raises(ValueError, match=message):
        make_study(data, **changes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: keras.Sequential([layers.Dense(3)]), "not built"),
        (lambda: 3, "must be a function that returns a built"),
        (lambda units: make_model(units), "be called without arguments"),
        (lambda: kr.models.small_cnn((8, 8, 3)), r"\(8, 8, 1\)"),
        (lambda: kr.models.small_cnn((8, 8, 1)), "3 classes of the data"),
    ],
)
def test_a_wrong_network_is_refused_before_training(
    data, tmp_path, make, message, monkeypatch
):
    monkeypatch.setattr(Replication, "_train", None)
    for changes in (
        {"network": make},
        {"network": make, "epsilon": None},
        {"networks": {"D_R": make}},
        {"architectures": {"other": make}},
    ):
        study = make_study(data, **{"epsilon": 1.0, **changes})
        with pytest.raises(ValueError, match=message):
            study.run(tmp_path, verbose=0)


def test_a_model_must_be_one_of_the_study(data, tmp_path, monkeypatch):
    monkeypatch.setattr(Replication, "_train", None)
    study = make_study(data, epsilon=1.0)
    with pytest.raises(ValueError, match="one of .*standard.*'D_NR'"):
        study.model("D_NR", folder=tmp_path)
    with pytest.raises(ValueError, match="on a generated set.*'standard'"):
        study.generated("standard", folder=tmp_path)


def test_only_networks_are_offered(data):
    for given in ("ensemble", "fake_relu_copy", "adapt_whitening", "smal_cnn"):
        with pytest.raises(ValueError, match="must be one of") as error:
            make_study(data, network=given)
        offered = str(error.value).partition("[")[2].partition("]")[0]
        assert offered.replace("'", "").split(", ") == [
            "airbench",
            "cifar_resnet",
            "mlp",
            "resnet50",
            "resnet9",
            "small_cnn",
        ]


@pytest.mark.parametrize("low_high", [(0, 255), (-1, 1)])
def test_both_splits_have_one_range_of_pixels(data, low_high):
    (x, y), (x_test, y_test) = data
    low, high = low_high
    train = low + (high - low) * (x / 255)
    study = make_study(((train, y), (x_test / 255, y_test)))
    with pytest.raises(ValueError, match="one range of pixels.*Received"):
        study.read()


def test_a_network_of_bytes_must_get_bytes(data, tmp_path):
    small = tuple((x / 255, y) for x, y in data)
    with pytest.raises(ValueError, match=r"Rescaling of \[0, 255\].*\[0, 1\]"):
        make_study(small).run(tmp_path, verbose=0)
    with pytest.raises(ValueError, match="`value_range` must be that of"):
        make_study(small, value_range=(0, 255)).read()


def test_both_splits_have_images(data):
    (x, y), _ = data
    with pytest.raises(ValueError, match="images in both splits.*0 test"):
        make_study(((x, y), (x[:0], y[:0]))).read()


def test_one_network_again_and_again_is_refused(data, tmp_path):
    model = make_model()
    study = make_study(data, network=lambda: model, epsilon=1.0)
    with pytest.raises(ValueError, match="a new network at every call"):
        study.run(tmp_path, verbose=0)


def by_class(split):
    order = np.argsort(split[1], kind="stable")
    return split[0][order], split[1][order]


def test_some_of_sorted_images_are_of_all_classes(data):
    """The first so many would all be of the first class."""
    pair = tuple(map(by_class, data))
    found = study_data.choose(study_data.read(pair), 30, 20, 0)
    for (x, y), (x_all, y_all), most in zip(found, pair, (30, 20), strict=True):
        assert len(y) == most
        assert np.bincount(y, minlength=CLASSES).min() >= most // 6
        # Still each image has its label.
        stored = {
            (image.tobytes(), label)
            for image, label in zip(x_all, y_all, strict=True)
        }
        bytes_again = (255 * x).round().astype("uint8")
        assert stored >= {
            (image.tobytes(), label)
            for image, label in zip(bytes_again, y, strict=True)
        }


@pytest.mark.parametrize("train_images", [None, 100])
def test_a_study_of_all_or_the_first_images_copies_none(train_images):
    read = study_data.read("digits")
    found = study_data.choose(read, train_images, None, 0)
    for split, all_of_it in zip(found, read.images, strict=True):
        for part, whole in zip(split, all_of_it, strict=True):
            assert np.shares_memory(part, whole)
            assert not part.flags.writeable


def test_images_of_a_study_are_read_only(data):
    found = study_data.choose(study_data.read(data), 30, 20, 10)
    for split in found:
        assert not any(part.flags.writeable for part in split)


def test_labels_from_one_are_not_taken_for_another_class(data):
    (x, y), (x_test, y_test) = data
    pair = ((x, y + 1), (x_test, y_test + 1))
    with pytest.raises(ValueError, match="numbers from 0.*from 1 to 3"):
        study_data.read(pair)
    named = kr.datasets.ImageDataset(
        pair[0], pair[1], ("none", "zero", "one", "two")
    )
    assert study_data.read(named).num_classes == 4


def test_a_set_in_other_pixels_is_refused(data):
    (x, y), _ = data
    study = make_study(data)
    with pytest.raises(ValueError, match="`value_range` must be that of"):
        study.use("D_rand", (x / 255, y))


@pytest.mark.parametrize("split", [0, 1])
def test_images_that_are_no_numbers_are_refused(data, split):
    images = [((x / 255).astype("float32"), y) for x, y in data]
    images[split][0][3] = np.nan
    study = make_study(tuple(images), value_range=(0, 1))
    with pytest.raises(ValueError, match="pixels from nan to nan"):
        study.read()


def test_labels_of_another_number_of_images_are_not_called_right(data):
    """Which of them are right is not known; it was said to be all."""
    (x, y), _ = data
    study = make_study(data)
    named = {"D_R": (x, y), "D_rand": (x[:9], y[:9])}
    generated = {}
    for name, value in named.items():
        study.use(name, value)
        arrays = study.stand_ins[name].arrays
        generated[name] = describe_generated(arrays)
    assert generated["D_R"] == {"labels_right": 1.0}
    assert generated["D_rand"] == {"labels_right": None}
    run = {"generated": generated}
    run["evaluation"] = {name: {"accuracy": {"clean": 0.5}} for name in named}
    summary = running._summary({0: run}, named)
    cells = [summary[name]["right labels"] for name in named]
    assert [tables._cell(cell) for cell in cells] == ["100.0", "not known"]


def test_a_model_of_bytes_that_is_given_must_get_bytes(data):
    small = make_study(tuple((x / 255, y) for x, y in data))
    model = nearest_mean(np.zeros((CLASSES, 64)))
    with pytest.raises(ValueError, match=r"Rescaling of \[0, 255\].*\[0, 1\]"):
        small.use("standard", model)
    make_study(data).use("standard", model)


def test_a_model_that_is_given_is_evaluated_on_other_images_anew(
    data, tmp_path
):
    (x, y), (x_test, y_test) = data
    flat = x.reshape(len(x), -1) / 255
    means = np.stack([flat[y == label].mean(0) for label in range(CLASSES)])
    found = []
    for labels in (y_test, (y_test + 1) % CLASSES):
        study = make_study(
            ((x, y), (x_test, labels)), epsilon=0.1, evaluation_steps=1
        )
        study.use("standard", nearest_mean(means))
        stages = study.replication(tmp_path, verbose=0)
        found.append(stages.evaluate("standard")["accuracy"]["clean"])
    flat = x_test.reshape(len(x_test), -1) / 255
    predicted = (2 * flat @ means.T - (means**2).sum(-1)).argmax(-1)
    assert found[0] == pytest.approx((predicted == y_test).mean())
    shifted = (y_test + 1) % CLASSES
    assert found[1] == pytest.approx((predicted == shifted).mean())
