import json
import weakref
from types import SimpleNamespace

import numpy as np
import pytest

from keras_robust.study.replication import figures


@pytest.fixture(scope="module")
def results(smoke_run):
    folder, _ = smoke_run
    return json.loads((folder / "results.json").read_text())


def test_bars_have_the_heights_of_the_table(results):
    axes = figures.draw_bars(results).axes[0]
    attacks = ["clean", "pgd-l2-0.25", "pgd-l2-0.5", "pgd-l2-1"]
    bars = [c for c in axes.containers if hasattr(c, "patches")]
    for bar, attack in zip(bars, attacks, strict=True):
        heights = [patch.get_height() for patch in bar.patches]
        expected = [
            results["summary"][name][attack]["mean"]
            for name in results["models"]
        ]
        np.testing.assert_allclose(heights, expected)


def test_curves_mark_the_escape_from_chance(results):
    run = next(iter(results["runs"].values()))
    run["curves"]["D_rand"] = {
        "curve": {
            "accuracy": [0.1, 0.1, 0.6, 0.9],
            "val_accuracy": [0.1, 0.1, 0.3, 0.4],
        },
        "chance": 0.1,
        "escape_epoch": 3,
    }
    figure = figures.draw_curves(results)
    panels = {axes.get_title(): axes for axes in figure.axes}
    assert len(panels) == len(results["models"])
    marks = [
        line.get_xdata()
        for line in panels["D_rand"].get_lines()
        if line.get_marker() == "^"
    ]
    assert marks == [[3]]
    training = panels["D_rand"].get_lines()[0]
    np.testing.assert_allclose(training.get_ydata(), [10, 10, 60, 90])


def test_transfer_has_a_point_per_architecture(results):
    axes = figures.draw_transfer(results).axes[0]
    run = next(iter(results["runs"].values()))
    found = run["measured"]["transfer"]
    untargeted = axes.get_lines()[0]
    np.testing.assert_allclose(
        untargeted.get_xdata(),
        [100 * found["D_det"][name] for name in found["names"]],
    )


def test_readable_names():
    assert figures.readable("D_rand") == "D_rand"
    assert figures.readable("D_rand_robust") == "D_rand\nrobust source"
    assert figures.readable("standard_frozen_flips") == "standard\nfrozen flips"
    assert figures.readable("D_R_unpooled") == "D_R\nunpooled"


def test_no_set_is_kept_by_the_images_that_are_drawn_of_it():
    x = np.random.default_rng(0).random((100, 2, 2, 1))
    images, labels = figures._first({"x": x, "y": np.arange(100)}, 3)
    np.testing.assert_array_equal(images, x[:3])
    np.testing.assert_array_equal(labels, [0, 1, 2])
    assert images.base is None


class Drawn:
    """Stages that make a set anew at each call, as a `Replication` does."""

    def __init__(self, count=100):
        x = np.random.default_rng(0).random((count, 4, 4, 1), "float32")
        y = np.arange(count) % 2
        self.data = SimpleNamespace(train=(x, y), class_names=("zero", "one"))
        self.recipe = SimpleNamespace(
            models=("standard", "D_R", "D_NR", "D_rand"),
            training_set=lambda name: SimpleNamespace(
                is_generated=name != "standard"
            ),
        )
        self.made = []

    def generated(self, name):
        assert all(earlier() is None for earlier in self.made)
        x, y = self.data.train
        made = {"x": x / 2, "y": 1 - y}
        self.made.append(weakref.ref(made["x"]))
        return made


def test_images_are_drawn_of_one_set_after_the_other():
    study = Drawn()
    figure = figures.draw_images(study, columns=3)
    assert len(study.made) == 3
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["zero", "one", "zero"] + 3 * ["one", "zero", "one"]
    # No more than there are.
    assert len(figures.draw_images(Drawn(count=2)).axes) == 2 * 4


def test_labels_tell_which_images_are_judged(results):
    def labels(validation_images):
        recipe = results["recipe"] | {"validation_images": validation_images}
        changed = results | {"recipe": recipe}
        (legend,) = figures.draw_curves(changed).legends
        return (
            figures.draw_bars(changed).axes[0].get_ylabel(),
            legend.get_texts()[1].get_text(),
        )

    assert labels(0) == ("accuracy on test images, %", "on test images")
    held_out = "on held-out training images"
    assert labels(50) == (f"accuracy {held_out}, %", held_out)
