"""The study as new users would run it: three kinds of data and networks."""

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

import keras_robust as kr
from keras_robust import cli
from keras_robust.study import Replication

# Steps and epochs that show that everything runs, and no more.
FEW = {
    "inversion_steps": 2,
    "relabel_steps": 2,
    "evaluation_steps": 2,
    "attack_steps": 1,
    "linf_radii": (),
}
BUILD = """
import keras
from keras import layers


def make_model():
    return keras.Sequential(
        [
            keras.Input({shape}),
            layers.Rescaling(1 / 127.5, offset=-1),
            layers.Conv2D(4, 3, strides=4, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense({classes}),
        ]
    )
"""


def patterns(count, shape, classes, seed=0):
    """Images of bytes, each with the pattern of its class."""
    random = np.random.default_rng(seed)
    means = np.random.default_rng(1).integers(0, 256, (classes, *shape))
    y = np.arange(count) % classes
    noise = random.integers(0, 256, (count, *shape))
    return ((means[y] + noise) // 2).astype("uint8"), y


@pytest.mark.slow
def test_fashion_with_a_network_and_radii_of_ones_own(tmp_path):
    """Images of 28x28 in arrays, a subclass of `keras.Model`'s layers."""

    class Block(layers.Layer):
        def __init__(self, filters):
            super().__init__()
            self.convolution = layers.Conv2D(filters, 3, strides=3)
            self.norm = layers.BatchNormalization()

        def call(self, inputs, training=False):
            hidden = self.norm(self.convolution(inputs), training=training)
            return keras.ops.relu(hidden)

    def make_model():
        images = keras.Input((28, 28, 1))
        hidden = Block(4)(layers.Rescaling(1 / 255)(images))
        hidden = layers.GlobalAveragePooling2D()(Block(8)(hidden))
        return keras.Model(images, layers.Dense(10)(hidden))

    study = kr.Study(
        data=(patterns(60, (28, 28, 1), 10), patterns(20, (28, 28, 1), 10, 1)),
        network=make_model,
        training=kr.Training(epochs=1, optimizer="adamw", batch_size=32),
        radii=(0.5, 1.0),
        **FEW,
    )
    results = study.run(tmp_path, verbose=0)
    assert list(results["models"]) == list(kr.study.MODELS)
    columns = set(results["summary"]["D_R"])
    assert {"clean", "pgd-l2-0.5", "pgd-l2-1", "y + 1"} <= columns
    assert results["recipe"]["epsilon"] == 1.0
    assert results["measured_radius"] is None
    for name in ("report.html", "results.json", "bars.png", "images.png"):
        assert (tmp_path / name).stat().st_size > 0


@pytest.mark.thorough
def test_a_tfds_data_set_of_other_size_and_class_count(tmp_path):
    import tensorflow_datasets as tfds

    (tmp_path / "build.py").write_text(
        BUILD.format(shape=(32, 32, 3), classes=100)
    )
    command = [
        *("replicate", "--dataset", "cifar100", "--output", str(tmp_path)),
        *("--model-file", f"{tmp_path / 'build.py'}:make_model"),
        *("--epochs", "1", "--radii", "0.25", "--set", "D_det"),
        *("--no-controls", "--verbose", "0"),
    ]
    with tfds.testing.mock_data(num_examples=240):
        assert cli.main(command) == 0
    results = kr.utils.files.read_json(tmp_path / "results.json")
    assert list(results["models"]) == ["standard", "adversarial", "D_det"]
    assert results["recipe"]["classes"] == 100
    assert results["recipe"]["dataset"] == "cifar100"
    curve = results["runs"]["0"]["curves"]["standard"]
    assert curve["chance"] == 0.01
    names = {claim["name"]: claim for claim in results["claims"]}
    assert names["Random targets"]["verdict"] == "cannot be decided"
    assert names["Shifted targets"]["verdict"] != "cannot be decided"


@pytest.mark.parametrize("size", [None, (4, 4)])
@pytest.mark.parametrize(
    ("brightest", "dtype"), [(255, "uint8"), (255, "float32"), (1, "float32")]
)
def test_a_file_of_arrays_has_the_pixels_that_it_holds(
    tmp_path, size, brightest, dtype
):
    images, y = patterns(20, (8, 8, 1), 2)
    images[0, 0, 0, 0] = 255
    x = (images * (brightest / 255)).astype(dtype)
    path = tmp_path / "images.npz"
    np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y)
    data = kr.Study(str(path), "small_cnn", image_size=size).read()
    assert data.value_range == (0, brightest)
    assert data.shape == (*(size or (8, 8)), 1)
    assert data.images.train[0].max() <= 1


@pytest.mark.parametrize("is_named", [False, True])
def test_a_class_of_few_images_is_refused_at_once(
    tmp_path, monkeypatch, is_named
):
    monkeypatch.setattr(Replication, "_train", None)
    x, y = patterns(14, (8, 8, 3), 3)
    path = tmp_path / "images.npz"
    if is_named:
        path = tmp_path / "images"
        for number, (image, label) in enumerate(zip(x, y, strict=True)):
            folder = path / ("daisy", "rose", "tulip")[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number}.png")
    else:
        np.savez(path, x=x, y=y)
    name = "tulip" if is_named else "2"
    with pytest.raises(ValueError, match=f"5 images of each.* 4 .*'{name}'"):
        kr.Study(str(path), "small_cnn").run(tmp_path, verbose=0)


@pytest.mark.parametrize("size", [(8, 8), (12, 9)])
def test_resized_files_have_the_pixels_that_they_hold(tmp_path, size):
    """A network for bytes gets bytes, resized or not."""
    x, y = patterns(20, (*size, 3), 2)
    for number, (image, label) in enumerate(zip(x, y, strict=True)):
        folder = tmp_path / "images" / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.png")
    folder = str(tmp_path / "images")
    data = kr.Study(folder, "small_cnn", image_size=(8, 8)).read()
    assert data.value_range == (0, 255) and data.shape == (8, 8, 3)
    assert data.images.train[0].max() <= 1


@pytest.mark.thorough
def test_a_folder_of_images_and_preprocessing_inside(tmp_path):
    """96x96 PNG files of three classes, a body with its own preprocessing."""
    x, y = patterns(30, (96, 96, 3), 3)
    for number, (image, label) in enumerate(zip(x, y, strict=True)):
        folder = tmp_path / "flowers" / ("daisy", "rose", "tulip")[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.png")

    def make_model():
        images = keras.Input((96, 96, 3))
        scaled = keras.applications.mobilenet_v2.preprocess_input(images)
        body = keras.Sequential(
            [
                keras.Input((96, 96, 3)),
                layers.Conv2D(4, 3, strides=8, activation="relu"),
            ]
        )
        body.trainable = False
        pooled = layers.GlobalAveragePooling2D()(body(scaled))
        outputs = layers.Dense(3, activation="softmax")(pooled)
        return keras.Model(images, outputs)

    study = kr.Study(
        data=str(tmp_path / "flowers"),
        network=make_model,
        training=kr.Training(epochs=1, optimizer="adam", batch_size=8),
        epsilon=2.0,
        sets=("D_R",),
        **FEW,
    )
    results = study.run(tmp_path / "run", verbose=0)
    assert study.read().images.class_names == ("daisy", "rose", "tulip")
    # Every fifth image of each class is a test image.
    assert [len(part[1]) for part in study.read().images] == [24, 6]
    assert study.read().value_range == (0.0, 255.0)
    network = study.model("D_R")
    predicted = network.predict(x[:4].astype("float32"), verbose=0)
    np.testing.assert_allclose(predicted.sum(-1), 1, atol=1e-5)
    assert list(results["summary"]) == ["standard", "adversarial", "D_R"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["--dataset", "cifar100"], "--model-file build.py:make_model"),
        (["--network", "small_cnn"], "--dataset` must say which images"),
        (
            ["--dataset", "digits", "--network", "mlp", "--preset", "smoke"],
            "names a recipe",
        ),
        (["--dataset", "nothing_such", "--network", "mlp"], "Data must be"),
        (["--preset", "smoke", "--set", "D_rnd"], "Did you mean 'D_rand'"),
        (
            ["--dataset", "digits", "--model-file", "gone.py:make_model"],
            "must name a file that is there",
        ),
        (["--preset", "smoke", "--optimizer", "lino"], "Did you mean 'lion'"),
        (["--dataset", "digits", "--resize"], "`--model-file` must name"),
        (["--preset", "smoke", "--seed", "-1"], "`seed` must be an integer"),
    ],
)
def test_what_the_command_asks_for(command, message, capsys):
    assert cli.main(["replicate", *command, "--verbose", "0"]) == 2
    assert message in capsys.readouterr().err
