"""Studies of unusual data, networks and sets of one's own, from end to end."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_robust as kr
from keras_robust.study import Replication

# Steps that show that everything runs, and no more.
FEW = {
    "training": kr.Training(epochs=1, optimizer="adam", batch_size=32),
    "inversion_steps": 2,
    "relabel_steps": 2,
    "evaluation_steps": 2,
    "attack_steps": 1,
    "linf_radii": (),
    "controls": False,
}


def make_network(units, activation=None):
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Rescaling(1 / 255),
            layers.Flatten(),
            layers.Dense(16, activation="relu"),
            layers.Dense(units, activation=activation),
        ]
    )


def digits(classes, count, test_count):
    """Digits of some classes in bytes."""
    splits = kr.datasets.load("digits")
    found = []
    for (x, y), number in zip(splits, (count, test_count), strict=True):
        rows = np.isin(y, classes)
        found.append(
            ((255 * x[rows][:number]).astype("uint8"), y[rows][:number])
        )
    return found


def batches(x, y, size=20):
    """Yields batches, once."""
    for first in range(0, len(x), size):
        yield x[first : first + size], y[first : first + size]


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.parts = list(batches(x, y))

    @property
    def num_batches(self):
        return len(self.parts)

    def __getitem__(self, number):
        return self.parts[number]


@pytest.mark.parametrize("make", [batches, Batches])
def test_batches_are_read_once(make):
    splits = digits(range(10), 50, 30)
    study = kr.Study(
        tuple(make(x, y) for x, y in splits), lambda: make_network(10)
    )
    read = study.read()
    assert study.read() is read and read.value_range == (0, 255)
    for (x, y), (found, labels) in zip(splits, read.images, strict=True):
        np.testing.assert_allclose(255 * found, x, atol=1e-4)
        np.testing.assert_array_equal(labels, y)


class Watched(layers.Layer):
    """Returns images as they are; notes what it was called with."""

    calls = []

    def call(self, images, training=False):
        brightest = float(keras.ops.max(images))
        self.calls.append((tuple(images.shape), brightest, training))
        return images


@pytest.mark.parametrize("kind", ["identity", "translation"])
@pytest.mark.compiles_much
def test_a_layer_augments_on_any_backend(tmp_path, kind):
    def weights(augment, folder):
        study = kr.Study(
            digits(range(10), 64, 20),
            lambda: make_network(10),
            epsilon=0.5,
            **{
                **FEW,
                "training": kr.Training(
                    epochs=2, optimizer="adam", batch_size=32, augment=augment
                ),
            },
        )
        stages = study.replication(tmp_path / folder, verbose=0)
        return np.concatenate(
            [w.ravel() for w in stages.model("standard").get_weights()]
        )

    plain = weights(False, "plain")
    if kind == "identity":
        Watched.calls.clear()
        found = weights(Watched(), "watched")
        # Two batches in each of two epochs, in the units of the data.
        assert len(Watched.calls) >= 4
        assert set(Watched.calls) == {((32, 8, 8, 1), 255.0, True)}
        np.testing.assert_allclose(found, plain, atol=1e-4)
    else:
        moving = layers.RandomTranslation(0.3, 0.3)
        found = weights(moving, "moved")
        assert np.abs(found - plain).max() > 1e-3
        # The layer of the user is not used up: the same again.
        np.testing.assert_allclose(weights(moving, "again"), found, atol=1e-4)


@pytest.mark.on_one_backend
@pytest.mark.thorough
def test_one_sigmoid_a_generator_and_two_seeds(tmp_path):
    splits = digits([0, 1], 100, 40)
    study = kr.Study(
        tuple(batches(x, y) for x, y in splits),
        lambda: make_network(1, "sigmoid"),
        sets=("D_rand",),
        seeds=2,
        **FEW,
    )
    results = study.run(tmp_path, verbose=0)
    assert results["seeds"] == [0, 1]
    x, y = splits[1]
    for name in ("standard", "D_rand"):
        found = []
        for seed in (0, 1):
            answers = study.model(name, seed=seed).predict(x, verbose=0)
            assert answers.shape == (40, 1)
            found.append(100 * ((answers[:, 0] > 0.5) == y).mean())
        clean = results["summary"][name]["clean"]
        assert clean["mean"] == pytest.approx(np.mean(found))
        assert clean["deviation"] == pytest.approx(np.std(found, ddof=1))
    first, second = (study.generated("D_rand", seed=seed) for seed in (0, 1))
    assert set(first["y"]) == {0, 1} and (first["y"] != second["y"]).any()
    claims = {claim["name"]: claim for claim in results.claims()}
    assert "two classes" in claims["Random targets"]["reason"]


@pytest.mark.on_one_backend
def test_folders_that_were_generated_and_classes_without_test_images(
    tmp_path, monkeypatch
):
    (x, y), (x_test, y_test) = digits(range(10), 120, 60)
    few = y_test < 7
    standard = make_network(10)
    standard.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    standard.fit(x, y, epochs=3, verbose=0)
    bytes_ = {"value_range": (0, 255), "steps": 2, "seed": 0}
    relabel = {"epsilon": 100.0, "step_size": 50.0, **bytes_}
    folders = {
        "D_NR": (kr.Robustifier(standard, **bytes_), {"config": "non_robust"}),
        "D_rand": (kr.NonRobustifier(standard, **relabel), {}),
        "D_det": (
            kr.NonRobustifier(standard, "deterministic", **relabel),
            {"dtype": "uint8"},
        ),
    }
    study = kr.Study(
        ((x, y), (x_test[few], y_test[few])),
        lambda: make_network(10),
        sets=tuple(folders),
        **FEW,
    )
    study.use("standard", standard)
    for name, (transform, options) in folders.items():
        made = kr.datasets.generate(
            transform,
            (x, y),
            tmp_path / "data",
            name="mine",
            verbose=0,
            **options,
        )
        study.use(name, made["directory"])
    monkeypatch.setattr(Replication, "_generate", None)
    results = study.run(tmp_path / "run", verbose=0)
    assert results["recipe"]["classes"] == 10
    assert results["measured_radius"]["is_given"]
    right = standard.predict(x_test[few], verbose=0).argmax(-1) == y_test[few]
    clean = results["summary"]["standard"]["clean"]["mean"]
    assert clean == pytest.approx(100 * right.mean())
    # The images of the folders, with the labels that they were given.
    taken = study.generated("D_det")
    np.testing.assert_array_equal(taken["y"], (y + 1) % 10)
    moved = (taken["x"] - x).reshape(len(x), -1)
    assert 1 < np.linalg.norm(moved, axis=1).max() < 101
    assert results["summary"]["D_det"]["right labels"]["mean"] == 0
    assert results["runs"][0]["generated"]["D_NR"]["labels_right"] == 1
