"""Sets of one's own in a study."""

import keras
import numpy as np
import pytest

import keras_robust as kr
from keras_robust import cli
from keras_robust.study import OwnSet
from keras_robust.study.replication.training_sets import TRAINING_SETS
from keras_robust.study.replication.training_sets import stream_of
from keras_robust.transforms import Transform

SETS = """
import keras_robust as kr


def nine():
    return kr.study.OwnSet(
        "D_nine",
        "adversarial examples, labelled 9 - y",
        transform=lambda model: kr.NonRobustifier(
            model, target=lambda y, classes, random: 9 - y, steps=2
        ),
        new_labels=True,
    )
"""


class Darker(Transform):
    """Images of half the brightness.

    Labels stay.
    """

    def make(self, batch):
        x = batch.images / 2
        distance = abs(batch.images - x).max((1, 2, 3))
        return {"x": x, "distance": distance, "success": distance > 0}


class Noisy(Darker):
    """Images with noise, labelled by chance."""

    def make(self, batch):
        noise = np.random.default_rng(self.seed).normal(size=1)
        x = np.clip(batch.images + 0.01 * noise, 0, 1).astype("float32")
        distance = abs(batch.images - x).max((1, 2, 3))
        return {"x": x, "distance": distance, "success": distance > 0}

    def draw_targets(self, y, num_classes, random=None):
        return random.integers(0, num_classes, len(y))

    def count_classes(self, images):
        return 10


def make_study(*sets, **changes):
    recipe = kr.study.get_recipe("digits", "smoke")
    return kr.Study(
        "digits",
        "small_cnn",
        network_options={"filters": (4,)},
        training=recipe.training,
        epsilon=1.0,
        train_images=60,
        test_images=20,
        evaluation_steps=2,
        attack_steps=1,
        linf_radii=(),
        sets=sets,
        **changes,
    )


def test_rows_of_sets_of_ones_own():
    study = make_study("D_det", Darker(), Noisy())
    models = study.models
    assert list(models) == [
        *("standard", "adversarial", "D_det", "D_det_robust"),
        *("D_det_shortcut", "darker", "noisy", "noisy_shortcut"),
    ]
    assert models["darker"] == "Images of half the brightness."
    assert study.source_of("darker") is None
    plain = make_study("D_det", Darker(), Noisy(), controls=False)
    assert list(plain.models)[2:] == ["D_det", "darker", "noisy"]
    # A control of one's own stands beside the other.
    control = OwnSet(
        "noisy_dark",
        "dark, labelled as the others",
        transform=Darker(),
        base="noisy",
        control=True,
    )
    given = make_study(Noisy(), control)
    assert list(given.models)[2:] == ["noisy", "noisy_shortcut", "noisy_dark"]


def test_a_transform_makes_a_set(tmp_path):
    stages = make_study(Darker(), Noisy()).replication(tmp_path, verbose=0)
    x, y = stages.data.train
    made = stages.generated("darker")
    np.testing.assert_allclose(made["x"], x / 2, atol=1e-6)
    np.testing.assert_array_equal(made["y"], y)
    # Each seed has labels of its own, and the control has the same ones.
    noisy, control = (
        stages.generated(name) for name in ("noisy", "noisy_shortcut")
    )
    np.testing.assert_array_equal(noisy["y"], control["y"])
    changed = (control["x"] != x).any((1, 2, 3))
    np.testing.assert_array_equal(changed, control["y"] != y)
    other = make_study(Darker(), Noisy()).replication(
        tmp_path, seed=1, verbose=0
    )
    assert (other.generated("noisy")["y"] != noisy["y"]).any()


class InPlace(Darker):
    """Images that are changed where they lie."""

    def make(self, batch):
        images = batch.images
        images /= 2
        distance = abs(images).max((1, 2, 3))
        return {"x": images, "distance": distance, "success": distance > 0}


def test_a_transform_cannot_change_the_images_of_a_study(tmp_path):
    """All stages and seeds share them."""
    study = make_study(InPlace())
    before = study.read().images.train[0].copy()
    with pytest.raises(ValueError, match="read-only"):
        study.replication(tmp_path, verbose=0).generated("in_place")
    np.testing.assert_array_equal(study.read().images.train[0], before)


def test_a_changed_transform_is_not_found_again():
    def described(transform):
        return OwnSet("one", "", transform=transform).description_of()

    assert described(Darker()) == described(Darker())
    options = (Darker(), Darker(seed=1), Noisy())
    hashes = {described(each)["sha256"] for each in options}
    assert len(hashes) == 3
    functions = [
        OwnSet(
            "one",
            "",
            transform=lambda m, s=s: kr.NonRobustifier(m, steps=s),
            new_labels=True,
        )
        for s in (1, 2)
    ]
    assert functions[0].description_of() != functions[1].description_of()


def test_names_have_random_numbers_of_their_own():
    names = [f"D_{letter}" for letter in "abcdefgh"]
    taken = {stream_of(name) for name in TRAINING_SETS}
    assert not taken & {stream_of(name) for name in names}
    assert all(stream_of(name) < 100 for name in names)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "a/b", "transform": Darker()}, "letters, digits"),
        ({"transform": 3}, "must be a Transform"),
        ({"transform": Darker}, "must be a Transform.*the class Darker"),
        ({"transform": lambda model: Darker()}, "`new_labels`"),
        ({"transform": Darker(), "source": "D_R"}, "`source`"),
    ],
)
def test_a_wrong_set_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        OwnSet(**{"name": "one", "description": "", **settings})


def test_wrong_sets_of_a_study(tmp_path):
    with pytest.raises(ValueError, match="a name of its own.*'D_R'"):
        make_study(OwnSet("D_R", "", transform=Darker()))
    for made, message in (
        (lambda model: 3, "must return a Transform"),
        (lambda model: Darker(value_range=(0, 255)), r"images in \[0, 1\]"),
    ):
        study = make_study(
            OwnSet("one", "", transform=made, source=None, new_labels=False)
        )
        with pytest.raises(ValueError, match=message):
            study.replication(tmp_path, verbose=0).generated("one")


@pytest.mark.thorough
def test_a_set_of_ones_own_by_the_command(tmp_path):
    path = tmp_path / "own_sets_of_the_test.py"
    path.write_text(SETS)
    command = [
        *("replicate", "--preset", "smoke", "--set", f"{path}:nine"),
        *("--epochs", "1", "--verbose", "0", "--output", str(tmp_path / "run")),
    ]
    assert cli.main(command) == 0
    results = kr.utils.files.read_json(tmp_path / "run" / "results.json")
    own = ["D_nine", "D_nine_shortcut"]
    assert list(results["models"]) == ["standard", "adversarial", *own]
    report = (tmp_path / "run" / "report.html").read_text()
    table = (tmp_path / "run" / "table.md").read_text()
    for name in own:
        assert f"<b>{name}</b>" in report and f"| {name} |" in table
    assert results["runs"]["0"]["generated"]["D_nine"]["labels_right"] == 0
    assert keras.config.dtype_policy().name == "float32"
