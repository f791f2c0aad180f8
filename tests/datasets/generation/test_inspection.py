import json

import keras
import numpy as np
import pytest

import keras_robust as kr
from keras_robust.cli import main
from keras_robust.datasets import ImageDataset
from keras_robust.datasets import generate
from keras_robust.datasets.generation.inspection import find
from keras_robust.datasets.generation.inspection import inspect
from keras_robust.datasets.labels import labels_sha256
from keras_robust.study.optimizer.data import of_directory
from tests.helpers import make_cnn


@pytest.fixture(scope="module")
def source():
    random = np.random.default_rng(7)
    x = random.random((90, 6, 6, 1), dtype="float32")
    return x, np.arange(90, dtype="int32") % 3


@pytest.fixture(scope="module")
def model():
    return make_cnn(shape=(6, 6, 1))


@pytest.fixture
def made(model, source, tmp_path):
    transform = kr.NonRobustifier(model, "other", steps=2, seed=1)
    done = generate(transform, source, tmp_path, shard_size=40, verbose=0)
    return done["directory"]


def edit(folder, change):
    path = folder / "description.json"
    description = json.loads(path.read_text())
    change(description)
    path.write_text(json.dumps(description))


def failed(folder):
    _, checks = inspect(folder, verbose=0)
    return {key for key, (passed, _) in checks.items() if not passed}


def test_a_sound_set(made, capsys):
    facts, checks = inspect(made, made / "grid.png")
    assert set(checks) == {"files", "order", "box", "ball", "labels"}
    assert all(passed for passed, _ in checks.values()), checks
    assert facts["right labels"] == "0.00%"
    assert facts["name"] == "constructed_images/other"
    assert (made / "grid.png").stat().st_size > 0
    printed = capsys.readouterr().out
    assert "weights SHA-256" in printed and "chi-square" in printed
    assert find(made.parent.parent.parent) == [made]


class Shifted(kr.transforms.Transform):
    """Its radius is one of its own kind, without a norm."""

    def __init__(self, epsilon, seed=None):
        super().__init__(seed=seed)
        self.epsilon = epsilon

    def make(self, batch):
        x = np.clip(batch.images + self.epsilon, 0, 1)
        moved = np.full(len(batch), 2 * self.epsilon)
        return {"x": x, "distance": moved, "success": moved > 0}


def test_a_radius_without_a_norm(source, tmp_path):
    done = generate(
        Shifted(0.1, seed=0), source, tmp_path, class_names="abc", verbose=0
    )
    _, checks = inspect(done["directory"], verbose=0)
    assert set(checks) == {"files", "order", "box", "labels"}
    assert all(passed for passed, _ in checks.values()), checks


@pytest.mark.parametrize("kind", ["rand", "det", "robust"])
def test_labels_that_are_not_those_of_the_definition(made, kind):
    """D_other's labels are neither y + 1 nor y; uniform they are."""
    edit(made, lambda description: description.update(config=kind))
    assert failed(made) == (set() if kind == "rand" else {"labels"})


def test_a_set_that_is_not_uniform(model, tmp_path):
    x = np.zeros((90, 6, 6, 1), "float32")
    transform = kr.NonRobustifier(model, "deterministic", steps=1, seed=1)
    folder = generate(
        transform, (x, np.r_[np.zeros(89), 2]), tmp_path, verbose=0
    )["directory"]
    assert not failed(folder)
    edit(folder, lambda description: description.update(config="rand"))
    assert failed(folder) == {"labels"}


class Nine(kr.NonRobustifier):
    """A set of a user's own: neither random nor y + 1."""

    config_name = "nine"

    def draw_targets(self, y, num_classes, random=None):
        return from_the_end(np.asarray(y), num_classes, random)


def from_the_end(y, num_classes, random):
    del random
    return num_classes - 1 - y


def swap(folder, first, second):
    """Exchanges two labels in the planned ones, as another plan has them."""
    path = folder / "description.json"
    description = json.loads(path.read_text())
    labels = np.array([e["label"] for e in records(folder)])
    labels[[first, second]] = labels[[second, first]]
    description["plan"]["labels_sha256"] = labels_sha256(labels)
    path.write_text(json.dumps(description))


def records(folder):
    import tensorflow_datasets as tfds

    data = tfds.builder_from_directory(folder).as_dataset(split="train")
    return list(data.as_numpy_iterator())


@pytest.mark.parametrize("kind", ["subclass", "function", "shortcut"])
def test_a_plan_of_ones_own_is_what_counts(model, source, tmp_path, kind):
    """Such a set is not wrong for being neither random nor as it was."""
    x, y = source
    transform = {
        "subclass": lambda: Nine(model, steps=1, seed=1),
        "function": lambda: kr.NonRobustifier(
            model, from_the_end, steps=1, seed=1
        ),
        "shortcut": lambda: kr.Shortcut(3, from_the_end, seed=1),
    }[kind]()
    folder = generate(transform, source, tmp_path, verbose=0)["directory"]
    made = [example["label"] for example in records(folder)]
    np.testing.assert_array_equal(made, 2 - y)
    passed, found = inspect(folder, verbose=0)[1]["labels"]
    assert passed and "as planned; by a rule of" in found
    # Any other label than the planned one shows.
    swap(folder, 0, 1)
    assert inspect(folder, verbose=0)[1]["labels"] == (False, "not as planned")


@pytest.mark.parametrize("config", ["mine", "nine_targets"])
def test_the_plan_counts_and_not_the_name(model, source, tmp_path, config):
    transform = kr.NonRobustifier(model, "deterministic", steps=1, seed=1)
    folder = generate(transform, source, tmp_path, config=config, verbose=0)
    folder = folder["directory"]
    assert inspect(folder, verbose=0)[1]["labels"] == (
        True,
        "as planned; y + 1 for all",
    )
    # A rule that the planned labels do not follow.
    edit(folder, lambda d: d["plan"].update(rule="kept"))
    assert failed(folder) == {"labels"}


def test_classes_that_do_not_occur(model, source, tmp_path):
    """y + 1 of the last class that occurs is the next one, not the first."""
    x, y = source
    few = y < 2
    transform = kr.NonRobustifier(model, "deterministic", steps=1, seed=1)
    folder = generate(transform, (x[few], y[few]), tmp_path, verbose=0)
    folder = folder["directory"]
    assert not failed(folder)
    assert inspect(folder, verbose=0)[0]["labels per class"] == "0 30 30"


def test_sets_without_a_recorded_plan(model, source, made, tmp_path):
    """Those that were made before plans were recorded."""
    own = generate(
        Nine(model, steps=1, seed=1), source, tmp_path / "own", verbose=0
    )["directory"]
    kept = generate(
        kr.Robustifier(model, steps=1, seed=1),
        source,
        tmp_path / "kept",
        config="mine",
        verbose=0,
    )["directory"]
    for folder in (made, own, kept):
        edit(folder, lambda description: description.pop("plan"))
        assert not failed(folder)
    edit(made, lambda d: d["arguments"].update(target="deterministic"))
    assert failed(made) == {"labels"}


def test_one_broken_set_does_not_hide_the_others(made, capsys):
    broken = made.parent.parent / "broken" / "1.0.0"
    broken.mkdir(parents=True)
    text = (made / "description.json").read_text()
    (broken / "description.json").write_text(text)
    assert main(["inspect", str(made.parent.parent), "--verbose", "0"]) == 2
    error = capsys.readouterr().err
    assert "broken/1.0.0: cannot be read" in error and "other" not in error
    assert (made / "images.png").exists()


@pytest.mark.parametrize(
    "shape, dtype",
    [
        *(((6, 6, 1), "float32"), ((6, 6, 3), "uint8")),
        *(((6, 6, 2), "float32"), ((3, 6, 6), "float32")),
        *(((5,), "float32"), ((4, 4, 2, 2), "uint8")),
    ],
)
def test_the_picture_shows_the_images(tmp_path, shape, dtype):
    """Each image is of one grey, which fills a panel of the picture."""
    from matplotlib.image import imread

    greys = np.linspace(0.1, 0.9, 9, dtype="float32")
    x = np.ones((9, *shape), "float32") * greys.reshape(-1, *[1] * len(shape))
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    # No steps: start images, which are given here by the plan, in order.
    transform = kr.Robustifier(model, steps=0, seed=0)
    transform.draw_index = np.arange
    folder = generate(
        transform, (x, np.arange(9) % 3), tmp_path, dtype=dtype, verbose=0
    )["directory"]
    inspect(folder, folder / "grid.png", verbose=0)
    pixels = imread(folder / "grid.png")[..., :3]
    # White paper and black text are no greys.
    for grey in greys:
        panel = (np.abs(pixels - grey) < 0.01).all(-1)
        assert panel.sum() > 1000, grey


def test_pixels_without_bounds(source, tmp_path):
    """A range may be infinite; then the picture goes from least to most."""
    from matplotlib.image import imread

    x = 100 * (source[0] - 0.5)
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input(x.shape[1:]), keras.layers.Flatten()]
        + [keras.layers.Dense(3)]
    )
    transform = kr.NonRobustifier(
        model, steps=1, epsilon=1.0, value_range=(-np.inf, np.inf), seed=0
    )
    data = x, source[1]
    folder = generate(transform, data, tmp_path, verbose=0)["directory"]
    assert all(
        passed for passed, _ in inspect(folder, folder / "g.png", 0)[1].values()
    )
    pixels = imread(folder / "g.png")[..., 0]
    assert len(np.unique(np.round(pixels, 2))) > 50
    with pytest.raises(ValueError, match="dtype.*no bounds"):
        generate(transform, data, tmp_path, dtype="uint8", verbose=0)
    with pytest.raises(ValueError, match="uint8 must come with a finite"):
        transform(np.zeros((2, 6, 6, 1), "uint8"), [0, 1], verbose=0)


def test_the_box_of_a_transform_without_that_argument(source, tmp_path):
    """The range of a mixture is that of the transform inside it."""
    model = keras.Sequential(
        [
            keras.Input(source[0].shape[1:]),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    to_robust = kr.Robustifier(model, steps=1, value_range=(0, 255), seed=0)
    x, y = (255 * source[0]).astype("float32"), source[1]
    folder = generate(
        kr.Mixture(to_robust, alpha=0.5), (x, y), tmp_path, verbose=0
    )["directory"]
    assert failed(folder) == set()
    data = of_directory(folder, ImageDataset((x / 255, y), (x / 255, y), ()))
    assert 0.5 < data.train[0].max() <= 1


def test_ball_box_and_files(made):
    def smaller(description):
        description["arguments"].update(epsilon=0.1)
        description["value_range"] = [0.2, 1.0]

    edit(made, smaller)
    shard = next(made.glob("*.tfrecord-00001*"))
    edit(made, lambda d: d["shards"][1].update(sha256="0" * 64))
    assert failed(made) == {"ball", "box", "files"}
    assert shard.name in inspect(made, verbose=0)[1]["files"][1]


def test_the_ball_from_the_source_itself(tmp_path):
    """What is recorded is not believed where the source can be read."""
    model = kr.models.small_cnn((8, 8, 1), filters=(4,))
    transform = kr.NonRobustifier(model, steps=2, epsilon=0.2, seed=1)
    folder = generate(transform, "digits", tmp_path, examples=80, verbose=0)
    folder = folder["directory"]
    passed, found = inspect(folder, verbose=0)[1]["ball"]
    assert passed and "from the source" in found
    x, y = kr.datasets.load("digits").train
    x_n = transform(x[:80], y[:80], verbose=0)[0]
    largest = np.linalg.norm((x_n - x[:80]).reshape(80, -1), axis=1).max()
    assert f"{largest:.6g}"[:6] in found
    edit(folder, lambda d: d["source"].update(sha256="0" * 64))
    assert "as recorded" in inspect(folder, verbose=0)[1]["ball"][1]


def test_command(made, capsys):
    assert main(["inspect", str(made)]) == 0
    assert (made / "images.png").stat().st_size > 0
    edit(made, lambda description: description.update(config="det"))
    assert main(["inspect", str(made), "--verbose", "0"]) == 2
    assert "labels: not always y + 1" in capsys.readouterr().err
    assert main(["inspect", str(made / "generation")]) == 2
    assert "description.json" in capsys.readouterr().err
