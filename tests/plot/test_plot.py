"""Pictures of images, curves and inversions: what they show."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

import keras_robust as kr
from keras_robust.evaluation.flags import Flag
from keras_robust.plot.images import as_picture
from keras_robust.plot.units import Units

X = np.linspace(0, 1, 48, dtype="float32").reshape(3, 4, 4, 1)
FACTS = {
    "attacks": {
        "pgd": {"class": "PGDAttack", "config": {"value_range": [0, 1]}}
    },
    "norm": "linf",
    "epsilon": 8 / 255,
    "input_shape": [4, 4, 1],
    "model": "net <1>",
}


def titles(picture, rows=3):
    names = [axes.get_title() for axes in picture.axes]
    return np.array(names).reshape(rows, -1)


def test_images_show_what_changed():
    moved = np.clip(X + 0.1, 0, 1)
    scores = np.eye(5)[[1, 3, 2]]
    picture = kr.plot.images(X, moved, [1, 2, 2], scores, count=2)
    assert titles(picture).tolist() == [["1", "2"], ["", ""], ["1", "3 ✗"]]
    grid = np.array(picture.axes).reshape(3, 2)
    drawn = [[axes.images[0].get_array() for axes in row] for row in grid]
    np.testing.assert_allclose(drawn[0][1], X[1, ..., 0])
    np.testing.assert_allclose(drawn[2][1], moved[1, ..., 0])
    # 5 is the largest of 1, 2, 5, ... with which 0.1 fits into half the range.
    assert grid[1, 0].get_ylabel() == "change\n× 5"
    np.testing.assert_allclose(
        drawn[1][1], 5 * (moved - X)[1, ..., 0], atol=1e-6
    )
    assert "L∞ 0.1 (25.5 of 255)" in picture.get_supxlabel()
    assert "[0, 1]" in picture.get_supxlabel()


def test_images_of_bytes_have_the_same_picture():
    moved = np.clip(X + 0.02, 0, 1)
    unit = kr.plot.images(X, moved)
    byte = kr.plot.images(255 * X, 255 * moved, value_range=(0, 255))
    for one, other in zip(unit.axes, byte.axes, strict=True):
        np.testing.assert_allclose(
            one.images[0].get_array(), other.images[0].get_array(), atol=1e-4
        )
    assert "L∞ 5.1 (5.1 of 255)" in byte.get_supxlabel()


def test_images_in_color_and_unchanged(tmp_path):
    colors = np.random.default_rng(0).random((2, 3, 8, 8))
    picture = kr.plot.images(
        colors,
        colors,
        [0, 1],
        class_names=["cat", "dog"],
        path=tmp_path / "colors.png",
    )
    change = picture.axes[2].images[0].get_array()
    assert change.shape == (8, 8, 3) and (change == 0.5).all()
    assert titles(picture)[0].tolist() == ["cat", "dog"]
    with Image.open(tmp_path / "colors.png") as image:
        assert image.format == "PNG"
    with Image.open(io.BytesIO(picture._repr_png_())) as image:
        assert image.format == "PNG" and image.size > (200, 200)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"x_adv": X[:2]}, "same shape.*Received"),
        ({"labels": [1]}, "`labels` must.*Received: shape"),
        ({"predictions": [1, 2, 9], "class_names": ["a"] * 5}, "1, 2, 9"),
        ({"value_range": (1, 0)}, "low < high.*Received"),
        ({"x": 255 * X, "x_adv": 255 * X}, "must hold the images.*to 255"),
        ({"x": 2 * X - 1, "x_adv": X}, "must hold the images.*from -1"),
        ({"predictions": [[0.9], [0.2], [0.6]]}, "class numbers.*0.5"),
        ({"count": 0}, "`count` must be >= 1.*Received: count=0"),
        ({"x": X[0], "x_adv": X[0]}, r"image\[None\].*\(4, 4, 1\)"),
        ({"x": X[0], "x_adv": X[0], "labels": 3}, r"pass one image as"),
        ({"x": X[0], "x_adv": X[0], "labels": [3]}, r"pass one image as"),
    ],
)
def test_images_say_what_does_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        kr.plot.images(**{"x": X, "x_adv": X, **options})


def test_sequences_with_labels_are_drawn():
    sequences = X[:, 0]
    picture = kr.plot.images(sequences, sequences, [0, 1, 2])
    assert titles(picture)[0].tolist() == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((4, 5), (4, 5)),
        ((4, 5, 1), (4, 5)),
        ((4, 5, 3), (4, 5, 3)),
        ((3, 6, 5), (6, 5, 3)),
        ((1, 12, 100), (12, 100)),
        ((2, 9, 8), (9, 8)),
        ((4, 9, 8), (9, 8, 4)),
        ((9, 8, 2), (9, 8)),
        ((4, 5, 7), (4, 5)),
        ((6,), (1, 6)),
        ((2, 3, 4, 5), (2, 60)),
    ],
)
def test_inputs_of_any_shape_become_a_picture(shape, expected):
    assert as_picture(np.zeros(shape)).shape == expected


def test_units_of_radii():
    units = Units.of(FACTS, "linf")
    assert units.text(8 / 255) == "L∞ 0.0314 (8 of 255)"
    assert units.levels == 255
    byte = Units("linf", (0.0, 255.0), 16)
    assert byte.text(8) == "L∞ 8 (8 of 255)"
    # A change of 1 in L2 that is the same everywhere is 1/4 in each of 16.
    assert Units.of(FACTS, "l2").levels == pytest.approx(255 / 4)
    assert Units.of(FACTS, "l1").levels == pytest.approx(255 / 16)
    for without in (
        Units.of(FACTS, "l0"),
        Units.of({}, "linf"),
        Units.of({**FACTS, "input_shape": [16]}, "linf"),
        Units.of({**FACTS, "attacks": {"a": {"config": {}}}}, "linf"),
    ):
        assert without.levels is None
    assert "value_range" in Units.of({}, "linf").axis_label()


def curve(**facts):
    return kr.RobustnessCurve(
        [0, 0.1, 0.2],
        np.arange(8) < [[8], [4], [2]],
        "linf",
        "pgd",
        provenance={**FACTS, **facts},
    )


def test_curves_in_one_diagram():
    picture = kr.plot.curves({"a": curve(), "b": curve()})
    axes = picture.axes[0]
    assert [line.get_label() for line in axes.lines] == ["a", "b"]
    assert axes.lines[0].get_color() != axes.lines[1].get_color()
    assert axes.lines[0].get_marker() != axes.lines[1].get_marker()
    assert axes.lines[1].get_ydata().tolist() == [100, 50, 25]
    assert axes.get_xlabel() == "L∞ radius, for values in [0, 1]"
    above = axes.child_axes[0]
    assert "of 255" in above.get_xlabel()
    picture.to_png()
    np.testing.assert_allclose(
        above.get_xlim(), 255 * np.array(axes.get_xlim())
    )
    other = curve(attacks={"pgd": {"config": {"value_range": [0, 255]}}})
    with pytest.raises(ValueError, match="one norm and one range.*Received"):
        kr.plot.curves({"a": curve(), "b": other})
    with pytest.raises(ValueError, match="at least one"):
        kr.plot.curves({})


def results():
    """A result of each kind, without running anything."""
    from keras_robust.certify.result import IntervalResult
    from keras_robust.certify.result import SmoothingResult
    from keras_robust.features import FeatureUsefulness

    right, labels = np.arange(8) < 6, np.arange(8)
    flags = [Flag("randomized", "<b>it changes</b>")]
    return [
        kr.RobustnessReport(
            {"clean": right, "pgd": right & (labels < 2)}, flags, {}, FACTS
        ),
        kr.RobustnessReport(
            {"clean": right},
            corrupted={"fog": {1: right, 2: ~right}},
        ),
        curve(),
        kr.MinimumDistance({"a": [0.0, 1.0], "b": [0.0, np.inf]}, "l2", flags),
        kr.TransferMatrix(
            ["a"], ["a", "b"], [[1.0, np.nan]], None, [[8, 0]], flags
        ),
        SmoothingResult(labels, right, np.full(8, 0.9), 0.25, right),
        IntervalResult(labels, right, labels - 4.0, labels > 5, 0.1),
        FeatureUsefulness([3, 7], [[0.5], [0.0]], [[-0.1], [0.0]]),
    ]


@pytest.mark.parametrize("number", range(8))
def test_every_result_has_a_picture_a_table_and_a_frame(number, tmp_path):
    result = results()[number]
    picture = result.plot(tmp_path / "result.png")
    assert (tmp_path / "result.png").read_bytes()[1:4] == b"PNG"
    assert all(axes.get_xlabel() for axes in picture.axes)
    # Stored notebooks hold it: no addresses, which differ from run to run.
    assert repr(result).startswith(f"{type(result).__name__}([{{")
    assert "0x" not in repr(result)
    shown = result._repr_html_()
    assert "<table>" in shown and 'src="data:image/png;base64,' in shown
    if getattr(result, "flags", ()):
        assert "&lt;b&gt;it changes" in shown and "<b>" not in shown
    frame = result.to_dataframe()
    assert len(frame) == len(result.records()) > 0
    assert list(frame.columns) == list(result.records()[0])


def test_data_frames_hold_the_numbers():
    report, _, curve, distances, matrix = results()[:5]
    frame = report.to_dataframe().set_index("attack")
    assert frame.accuracy.to_dict() == report.accuracy
    assert frame.low["pgd"] == report.intervals["pgd"][0]
    assert curve.to_dataframe().accuracy.tolist() == [1, 0.5, 0.25]
    assert distances.to_dataframe().nearest.tolist() == [0, 1]
    assert matrix.to_dataframe().untargeted.tolist()[0] == 1


def test_without_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        curve().to_dataframe()


def robustifier(**options):
    return kr.Robustifier(
        kr.models.small_cnn((8, 8, 1), filters=(4,)), **options
    )


@pytest.mark.parametrize("optimizer", ["gradient_descent", "polyak"])
@pytest.mark.compiles_much
def test_frames_are_what_calls_return(optimizer, tmp_path):
    x = kr.datasets.load("digits").test[0][:5]
    make = robustifier(steps=12, seed=0, optimizer=optimizer)
    frames = make.frames(x, verbose=0)
    assert frames.steps.tolist() == [0, 1, 3, 10, 12]
    x_r, details = make(x, verbose=0, return_details=True)
    np.testing.assert_array_equal(frames.x[-1], x_r)
    np.testing.assert_array_equal(
        frames.distance[-1], details["distance_after"]
    )
    np.testing.assert_array_equal(
        frames.distance[0], details["distance_before"]
    )
    np.testing.assert_array_equal(frames.x[0], x[details["start_index"]])
    np.testing.assert_array_equal(frames.target, x)
    assert make.steps == 12
    picture = frames.plot(tmp_path / "frames.png", count=2)
    assert titles(picture, 2)[0].tolist() == [
        "start",
        "1 step",
        "3 steps",
        "10 steps",
        "12 steps",
        "target",
    ]
    frames.animate(tmp_path / "frames.gif")
    with Image.open(tmp_path / "frames.gif") as image:
        assert image.n_frames == 5


def test_frames_without_a_seed_begin_at_one_start():
    x = kr.datasets.load("digits").test[0][:2]
    make = robustifier(start="noise", step_size=0.0)
    frames = make.frames(x, steps=[5, 0], verbose=0)
    assert frames.steps.tolist() == [0, 5] and make.seed is None
    np.testing.assert_array_equal(frames.x[0], frames.x[1])
    again = make.frames(x, steps=[0], verbose=0)
    assert (again.x[0] != frames.x[0]).any()
    for steps in ([], [-1], [0.5], 3):
        with pytest.raises(ValueError, match="`steps` must.*Received"):
            make.frames(x, steps=steps)
