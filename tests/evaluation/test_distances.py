"""Distances to adversarial examples: closed forms, judging, resuming."""

import io
import json
from dataclasses import dataclass
from typing import ClassVar

import keras
import numpy as np
import pytest

import keras_robust as kr
from keras_robust.attacks.engine.search import OneRun
from keras_robust.evaluation import checkpoint
from tests.helpers import exact_accuracy
from tests.helpers import exact_distances

QUIET = {"probe": False, "verbose": 0}


def test_exact_distances_of_a_linear_model(linear_problem):
    model, x, y = linear_problem
    found = kr.minimum_distance(model, (x, y), ["ddn", "fmn"], norm=2, **QUIET)
    exact = exact_distances(model, x, y)["l2"]
    assert found.norm == "l2" and list(found.by_attack) == ["ddn", "fmn"]
    np.testing.assert_array_equal(found.distances == 0, exact == 0)
    right = exact > 0.02
    ratio = found.distances[right] / exact[right]
    assert (ratio > 1 - 1e-4).all() and np.median(ratio) < 1.01
    assert found.median == pytest.approx(np.median(exact), rel=0.02)
    np.testing.assert_array_equal(
        found.distances, np.minimum(*found.by_attack.values())
    )
    assert not found.flags


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_the_whole_curve_from_one_run(linear_problem, norm):
    model, x, y = linear_problem
    found = kr.minimum_distance(
        model, (x, y), kr.FMNAttack(norm, steps=60), **QUIET
    )
    radii = {"l1": [1.0, 0.2], "l2": [0.2, 0.05], "linf": [0.05, 0.02]}[norm]
    curve = found.curve(radii)
    assert curve.epsilons.tolist() == [0.0, *sorted(radii)]
    for radius, accuracy in zip(curve.epsilons, curve.accuracy, strict=True):
        exact = exact_accuracy(model, x, y, norm, radius)
        assert abs(accuracy - exact) <= 2.5 / len(x)
    whole = found.curve()
    assert whole.accuracy[0] == exact_accuracy(model, x, y, norm, 0)
    assert whole.accuracy[-1] == 0 and whole.epsilons[-1] == max(
        found.distances
    )
    # At a distance that was found the example no longer counts.
    for radius, accuracy in zip(whole.epsilons, whole.accuracy, strict=True):
        assert accuracy == (found.distances > radius).mean()
    assert whole.norm == norm


def test_what_was_not_found_is_infinitely_far(linear_problem, tmp_path):
    model, x, y = linear_problem
    # A single step evaluates nothing but the image itself.
    attacks = {"ddn": kr.DDNAttack(steps=60), "short": kr.DDNAttack(steps=1)}
    found = kr.minimum_distance(model, (x, y), attacks, **QUIET)
    right = exact_distances(model, x, y)["l2"] > 0
    short = found.by_attack["short"]
    np.testing.assert_array_equal(short, np.where(right, np.inf, 0))
    assert np.isfinite(found.distances).all()
    (flag,) = found.flags
    assert flag.name == "not found" and flag.evidence["attack"] == "short"
    assert flag.evidence["examples"] == right.sum()
    alone = kr.MinimumDistance({"short": short}, "l2")
    assert alone.median == np.inf
    assert (alone.curve([1e9]).accuracy == right.mean()).all()
    assert alone.curve().epsilons.tolist() == [0.0]
    written = json.loads(found.to_json(tmp_path / "distances.json"))
    assert written["by_attack"]["short"][1] is None
    assert written["distances"] == found.distances.tolist()
    assert written["provenance"]["attacks"]["ddn"]["config"]["steps"] == 60
    assert written["summary"]["short"]["not found"] == right.mean()
    figure = found.plot(tmp_path / "distances.png")
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert lines["short"].get_ydata()[-1] == pytest.approx(100 * right.mean())
    assert lines["nearest"].get_ydata()[-1] == 0
    kr.MinimumDistance({"a": [np.inf]}, "l2").plot()


def test_a_radius_ends_the_search(linear_problem):
    model, x, y = linear_problem
    attack = kr.FMNAttack("linf", steps=30)
    everywhere = kr.minimum_distance(model, (x, y), attack, **QUIET).distances
    radius = 1.0001 * float(np.median(everywhere))
    near = kr.minimum_distance(
        model, (x, y), attack.replace(epsilon=radius), **QUIET
    )
    np.testing.assert_array_equal(
        near.distances, np.where(everywhere <= radius, everywhere, np.inf)
    )
    assert not near.flags


def test_table(linear_problem):
    from rich.console import Console

    found = kr.MinimumDistance(
        {"a": [0.0, 1.0, 2.0, 3.0], "b": [0.0, 0.5, np.inf, np.inf]}, "l1"
    )
    console = Console(record=True, width=80, file=io.StringIO())
    found.table(console)
    rows = [
        line.replace("│", "").split()
        for line in console.export_text().splitlines()
        if "│" in line
    ]
    assert rows == [
        ["a", "0", "1", "2", "0.00"],
        ["b", "0", "0.5", "inf", "50.00"],
        ["nearest", "0", "0.5", "2", "0.00"],
    ]


@keras.saving.register_keras_serializable("test_minimum_distance")
@dataclass(eq=False, repr=False)
class Claims(kr.attacks.Attack):
    """Moves every image by `step`, and claims success for all."""

    any_distance: ClassVar[bool] = True
    norm = "linf"

    step: float = 0.0
    epsilon: float | None = None

    def attack(self, problem, verbose, scored, checkpoint):
        count = problem.shape[0]
        return {
            "x": problem.x + np.float32(self.step),
            "loss": np.zeros(count),
            "success": np.ones(count, bool),
        }


def test_the_model_judges_the_final_images(linear_problem):
    model, x, y = linear_problem
    labels = model.predict(x, verbose=0).argmax(-1)
    for step in (0.0, -0.3):
        found = kr.minimum_distance(model, (x, y), Claims(step=step), **QUIET)
        moved = model.predict(x + np.float32(step), verbose=0).argmax(-1)
        fooled = (labels == y) & (moved != y)
        assert fooled.any() == (step != 0)
        np.testing.assert_allclose(
            found.distances,
            np.where(labels != y, 0, np.where(fooled, abs(step), np.inf)),
            atol=1e-6,
        )
        assert {f.name for f in found.flags} == {
            "not found",
            "search disagrees",
        }
    wild = Claims(step=np.nan)
    found = kr.minimum_distance(model, (x, y), wild, **QUIET)
    assert set(found.distances) == {0, np.inf}
    assert "nan" in {flag.name for flag in found.flags}


@pytest.mark.compiles_much
def test_kinds_of_data_and_models(linear_problem):
    """Bytes, data sets, several inputs: the same distances."""
    import tensorflow as tf

    model, x, y = linear_problem
    attack = kr.FMNAttack("linf", steps=15)
    x = np.round(255 * x[:12]) / np.float32(255)
    y = y[:12]
    plain = kr.minimum_distance(model, (x, y), attack, **QUIET).distances
    assert np.isfinite(plain).all()
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(5)
    found = kr.minimum_distance(model, batches, attack, **QUIET)
    np.testing.assert_array_equal(found.distances, plain)
    inputs = keras.Input((4, 4, 1))
    byte = keras.Model(inputs, model(inputs / 255))
    pixels = np.round(255 * x).astype("uint8")
    for data in ((pixels, y), (x, y)):
        found = kr.minimum_distance(byte, data, attack, scaling="byte", **QUIET)
        np.testing.assert_allclose(found.distances, plain, rtol=1e-3)
    other = keras.Input((2,), name="other")
    image = keras.Input((4, 4, 1), name="image")
    several = keras.Model(
        {"image": image, "other": other},
        keras.layers.Add()([model(image), 0 * other]),
    )
    data = {"image": x.astype("float64"), "other": np.ones((12, 2), "float32")}
    found = kr.minimum_distance(
        several, (data, y), attack, attacked="image", **QUIET
    )
    np.testing.assert_allclose(found.distances, plain, rtol=1e-5)
    assert found.distances.dtype == "float64"
    one = kr.minimum_distance(model, (x[:1], y[:1]), attack, **QUIET)
    np.testing.assert_allclose(one.distances, plain[:1], rtol=1e-5)
    assert one.curve().accuracy[-1] == 0


def test_entries_are_counted(linear_problem):
    model, x, y = linear_problem
    found = kr.minimum_distance(
        model,
        (x[:20].astype("float64"), y[:20]),
        kr.FMNAttack("l0", steps=40),
        **QUIET,
    )
    assert set(found.distances) <= set(range(17))
    assert 1 <= np.median(found.distances[found.distances > 0]) <= 4


class Stopped(BaseException):
    """As Ctrl-C is."""


def test_a_stopped_measurement_is_resumed(
    linear_problem, tmp_path, monkeypatch
):
    """Stopped after each of its batches in turn, it ends as if never."""
    model, x, y = linear_problem
    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN_SAVES", 0.0)
    attacks = {
        "fmn": kr.FMNAttack("l2", steps=5, batch_size=16),
        "fab/t": kr.FABAttack("l2", steps=2, targets=1, batch_size=32),
    }
    whole = kr.minimum_distance(model, (x, y), attacks, **QUIET)
    original, done, batches = OneRun.attack_batch, [], []

    def one_more(self, *args):
        if done:
            done.clear()
            raise Stopped
        done.append(1)
        batches.append(self.attack.name)
        original(self, *args)

    monkeypatch.setattr(OneRun, "attack_batch", one_more)
    stops = 0
    while stops < 20:
        try:
            found = kr.minimum_distance(
                model, (x, y), attacks, state_path=tmp_path, **QUIET
            )
            break
        except Stopped:
            stops += 1
    # 54 examples are classified correctly.
    assert stops == 5 and batches == ["FMN"] * 4 + ["FAB"] * 2
    # A finished one is read back.
    monkeypatch.setattr(OneRun, "attack_batch", lambda *args: 1 / 0)
    again = kr.minimum_distance(
        model, (x, y), attacks, state_path=tmp_path, **QUIET
    )
    for name, distances in whole.by_attack.items():
        np.testing.assert_array_equal(found.by_attack[name], distances)
        np.testing.assert_array_equal(again.by_attack[name], distances)
    assert again.flags == whole.flags


@pytest.mark.compiles_much
def test_names(linear_problem):
    model, x, y = linear_problem
    for name, norm in (
        ("fab", "linf"),
        ("fab-t", 1),
        ("ddn", None),
        ("sigma-zero", "l0"),
        ("pdpgd", None),
        ("hopskipjump", "l2"),
    ):
        images = 1 if name == "hopskipjump" else 4
        data = x[:images], y[:images]
        found = kr.minimum_distance(model, data, name, norm=norm, **QUIET)
        config = found.provenance["attacks"][name]["config"]
        assert config.get("epsilon") is None and not config["early_stop"]
        assert np.isfinite(found.distances).all()


def unread():
    raise AssertionError("The data were read.")
    yield


@pytest.mark.parametrize(
    "attacks, options, message",
    [
        (kr.PGDAttack(), {}, "minimum-norm attacks.*robustness_curve"),
        (kr.SpatialAttack(), {}, "minimum-norm attacks"),
        ([], {}, "at least one attack"),
        ("pgd", {"norm": "l2"}, "must be one of .'ddn'.*Received: 'pgd'"),
        ("fmn", {}, "'fmn' needs `norm`"),
        ("ddn", {"norm": "linf"}, "must come with norm='l2'"),
        (kr.DDNAttack(early_stop=True), {}, "early_stop=False.*Received"),
        (kr.DDNAttack(targeted=True), {}, "must be untargeted"),
        (kr.DDNAttack(), {"norm": "l2"}, "`norm` must come with the name"),
        (
            [kr.DDNAttack(), kr.FMNAttack("linf")],
            {},
            "of one norm.*'FMNAttack': 'linf'",
        ),
    ],
)
def test_what_is_refused(linear_problem, attacks, options, message):
    model, _, _ = linear_problem
    with pytest.raises(ValueError, match=message):
        kr.minimum_distance(model, unread(), attacks, **options, **QUIET)


def test_a_curve_ends_where_the_attacks_did(linear_problem):
    model, x, y = linear_problem
    near, far = (kr.DDNAttack(epsilon=e, steps=20) for e in (0.05, [0.2] * 2))
    found = kr.minimum_distance(model, (x[:2], y[:2]), near, **QUIET)
    assert found.searched == 0.05 and len(found.curve([0.05]).accuracy) == 2
    # Nobody looked there: those not found would count as robust.
    with pytest.raises(ValueError, match="must not exceed the `epsilon`"):
        found.curve([0.05, 0.1])
    attacks = {"near": near, "far": far}
    both = kr.minimum_distance(model, (x[:2], y[:2]), attacks, **QUIET)
    assert both.searched == pytest.approx(0.2)
    free = kr.minimum_distance(model, (x[:2], y[:2]), "ddn", **QUIET)
    assert free.searched == np.inf and free.curve([9.0]).accuracy[-1] == 0


def test_wrong_radii_of_a_curve():
    found = kr.MinimumDistance({"a": [1.0]}, "l2")
    for radii in ([-1], [[1.0]], [np.inf], "far"):
        with pytest.raises(ValueError, match="`radii` must be numbers >= 0"):
            found.curve(radii)
    assert found.curve(0.5).accuracy.tolist() == [1, 1]


def test_an_evaluation_without_a_radius_says_so(linear_problem):
    model, x, y = linear_problem
    report = kr.evaluate_robustness(
        model, (x, y), kr.DDNAttack(steps=40), **QUIET
    )
    assert report.accuracy["DDNAttack"] == 0
    (flag,) = report.flags
    assert flag.name == "radius" and "minimum_distance" in flag.message
    report = kr.evaluate_robustness(
        model, (x, y), kr.DDNAttack(epsilon=0.2, steps=40), **QUIET
    )
    assert not report.flags and report.accuracy["DDNAttack"] > 0


def test_experiments_of_an_evaluation_in_l0(linear_problem):
    model, x, y = linear_problem
    report = kr.evaluate_robustness(
        model, (x[:20], y[:20]), "fmn", norm="l0", epsilon=2, verbose=0
    )
    assert report.accuracy["fmn"] < report.accuracy["clean"]
