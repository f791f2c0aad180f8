"""Common corruptions, and evaluations of them."""

import builtins
import io
import json

import keras
import numpy as np
import pytest
from scipy import ndimage

import keras_robust as kr
from keras_robust.corruptions import CORRUPTIONS
from keras_robust.corruptions import SEVERITIES
from keras_robust.corruptions import corrupt
from keras_robust.corruptions.functions import _plasma
from tests.helpers import make_linear

RANDOM = np.random.default_rng(0)
NOISES = ("gaussian_noise", "shot_noise", "impulse_noise", "fog")


def photos(count=3, height=12, width=9, channels=3):
    """Smooth images with edges, in [0, 1]."""
    rows = np.linspace(0, 3, height)[:, None, None]
    columns = np.linspace(0, 2, width)[:, None]
    phase = RANDOM.uniform(0, 6, (count, 1, 1, channels))
    x = 0.5 + 0.4 * np.sin(rows * columns + phase) * np.sign(columns - 0.7)
    return x.astype("float32")


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_promises(name):
    x = photos()
    change = []
    for severity in SEVERITIES:
        found = corrupt(x, name, severity)
        assert found.shape == x.shape and found.dtype == x.dtype
        assert found.min() >= 0 and found.max() <= 1
        change.append(np.abs(found - x).mean())
    assert change[0] > 0 and change[4] > change[0]
    np.testing.assert_array_equal(found, corrupt(x, name, 5))
    # A row's noise is its own.
    np.testing.assert_array_equal(
        corrupt(x[1:], name, 5, rows=[1, 2]), found[1:]
    )
    is_random = not np.array_equal(corrupt(x, name, 5, seed=1), found)
    assert is_random == (name in NOISES)
    # Other units, other layouts, other kinds of numbers.
    bytes_ = corrupt(255 * x, name, 5, value_range=(0, 255))
    np.testing.assert_allclose(bytes_, 255 * found, atol=1.01)
    symmetric = corrupt(2 * x - 1, name, 5, value_range=(-1, 1))
    np.testing.assert_allclose(symmetric, 2 * found - 1, atol=0.01)
    first = corrupt(
        x.transpose(0, 3, 1, 2), name, 5, data_format="channels_first"
    )
    np.testing.assert_array_equal(first.transpose(0, 2, 3, 1), found)
    assert corrupt(x.astype("float64"), name, 5).dtype == np.float64
    whole = np.round(255 * x).astype("uint8")
    assert corrupt(whole, name, 5, value_range=(0, 255)).dtype == np.float32
    grey = corrupt(x[..., :1], name, 3)
    assert grey.shape == (3, 12, 9, 1) and (grey != x[..., :1]).any()
    assert corrupt(x[:0], name, 1).shape == (0, 12, 9, 3)


def test_noise_has_the_published_size():
    x = np.full((40, 32, 32, 3), 0.5, "float32")
    for severity in SEVERITIES:
        noise = corrupt(x, "gaussian_noise", severity) - x
        expected = (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1]
        assert noise.std() == pytest.approx(expected, rel=0.01)
        assert abs(noise.mean()) < 1e-3
        photons = (500, 250, 100, 75, 50)[severity - 1]
        counts = corrupt(x, "shot_noise", severity) * photons
        np.testing.assert_allclose(counts, np.round(counts), atol=1e-3)
        assert counts.mean() == pytest.approx(photons / 2, rel=0.01)
        assert counts.var() == pytest.approx(photons / 2, rel=0.02)
        share = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
        impulses = corrupt(x, "impulse_noise", severity)
        for value in (0, 1):
            found = (impulses == value).mean()
            assert found == pytest.approx(share / 2, rel=0.1)
        assert set(np.unique(impulses)) == {0, 0.5, 1}


def test_a_point_is_defocused_to_the_kernel():
    """The disk of 5 or 9 pixels, smoothed by three taps."""
    point = np.zeros((1, 9, 9, 1), "float32")
    point[0, 4, 4] = 1
    found = corrupt(point, "defocus_blur", 5)[0, ..., 0]
    # Of deviation 0.1 the outer taps are exp(-50).
    expected = np.zeros((9, 9))
    expected[3:6, 3:6] = 1 / 9
    np.testing.assert_allclose(found, expected, atol=1e-6)
    found = corrupt(point, "defocus_blur", 4)[0, ..., 0]
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]]) / 5
    np.testing.assert_allclose(found[3:6, 3:6], cross, atol=1e-4)
    found = corrupt(point, "defocus_blur", 1)[0, ..., 0]
    taps = np.exp(-np.array([1, 0, 1]) / (2 * 0.4**2))
    taps /= taps.sum()
    np.testing.assert_allclose(found[3:6, 3:6], np.outer(taps, taps), atol=1e-6)
    flat = np.full((1, 5, 5, 1), 0.3, "float32")
    for severity in SEVERITIES:
        for name in ("defocus_blur", "zoom_blur", "contrast", "pixelate"):
            np.testing.assert_allclose(
                corrupt(flat, name, severity), flat, atol=1e-6
            )


@pytest.mark.parametrize("height, width", [(32, 32), (9, 14)])
def test_zoom_blur_is_a_mean_of_scipys_enlargements(height, width):
    x = photos(2, height, width).astype("float64")
    total, factors = x.copy(), np.arange(1, 1.21, 0.01)
    for factor in factors:
        part = []
        for side in (height, width):
            size = int(np.ceil(side / factor))
            part.append(slice((side - size) // 2, (side - size) // 2 + size))
        large = ndimage.zoom(
            x[:, part[0], part[1]], (1, factor, factor, 1), order=1
        )
        top, left = (
            (large.shape[1] - height) // 2,
            (large.shape[2] - width) // 2,
        )
        total += large[:, top : top + height, left : left + width]
    np.testing.assert_allclose(
        corrupt(x, "zoom_blur", 4), total / (len(factors) + 1), atol=1e-9
    )


def test_contrast_and_brightness_in_closed_form():
    x = photos(5, 8, 8)
    mean = x.mean((1, 2), keepdims=True, dtype="float64")
    np.testing.assert_allclose(
        corrupt(x, "contrast", 3), mean + 0.4 * (x - mean), atol=1e-6
    )
    from matplotlib.colors import hsv_to_rgb
    from matplotlib.colors import rgb_to_hsv

    x[0, 0] = 0
    hsv = rgb_to_hsv(x.astype("float64"))
    hsv[..., 2] = np.minimum(hsv[..., 2] + 0.15, 1)
    np.testing.assert_allclose(
        corrupt(x, "brightness", 3), hsv_to_rgb(hsv), atol=1e-6
    )


def test_fog_is_a_fractal_of_the_published_amplitudes():
    generators = [np.random.default_rng(i) for i in range(200)]
    clouds = _plasma(32, 3, generators)
    assert clouds.shape == (200, 32, 32)
    np.testing.assert_array_equal(clouds.min((1, 2)), 0)
    np.testing.assert_array_equal(clouds.max((1, 2)), 1)
    # Each scale is 9 times weaker than the one before.
    smooth = clouds[:, ::16, ::16].std((1, 2)).mean()
    rough = (clouds[:, 1::2, 1::2] - clouds[:, ::2, ::2]).std((1, 2)).mean()
    assert rough < smooth / 3
    x = photos(4, 10, 20)
    found = corrupt(x, "fog", 4)
    brightest = x.max((1, 2, 3), keepdims=True)
    added = found * (brightest + 1) / brightest - x
    # The same cloud in every channel.
    np.testing.assert_allclose(added[..., 0], added[..., 2], atol=1e-5)
    assert added.min() >= -1e-5 and added.max() <= 1 + 1e-5
    black = np.zeros((1, 4, 4, 3), "float32")
    np.testing.assert_array_equal(corrupt(black, "fog", 1), black)


def test_pillow_makes_the_same():
    from PIL import Image

    x = np.round(255 * photos(2, 32, 32)) / 255
    found = 255 * corrupt(x, "jpeg_compression", 4)
    coarse = 255 * corrupt(x, "pixelate", 5)
    for i, image in enumerate(np.round(255 * x).astype("uint8")):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=50)
        np.testing.assert_allclose(
            found[i], np.asarray(Image.open(file)), atol=1e-3
        )
        picture = Image.fromarray(image).resize((20, 20), Image.Resampling.BOX)
        picture = picture.resize((32, 32), Image.Resampling.BOX)
        # Which rounds to 8 bits, twice.
        np.testing.assert_allclose(coarse[i], np.asarray(picture), atol=1.01)


def test_without_pillow(monkeypatch):
    original = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "PIL":
            raise ImportError("no PIL")
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    x = photos()
    for name in ("jpeg_compression", "pixelate"):
        with pytest.raises(ImportError, match="Pillow.*Received"):
            corrupt(x, name, 1)
    corrupt(x, "fog", 1)


def test_errors():
    x = photos()
    for arguments in (
        {"name": "gaussian"},
        {"severity": 0},
        {"severity": 6},
        {"severity": 1.5},
        {"x": x[0]},
        {"x": 255 * x},
        {"value_range": "auto"},
        {"value_range": (1, 0)},
        {"seed": -1},
        {"rows": [1]},
        {"data_format": "NHWC"},
        {"x": x[..., :2], "name": "jpeg_compression"},
    ):
        settings = {"x": x, "name": "fog", "severity": 1, **arguments}
        with pytest.raises(ValueError, match="Received"):
            corrupt(**settings)
    for wrong in (
        {"names": ()},
        {"names": ("fog", "fog")},
        {"severities": ()},
        {"severities": (1, 1)},
        {"severities": (True,)},
    ):
        with pytest.raises(ValueError, match="Received"):
            kr.corruptions.Corruptions(**wrong)
    with pytest.raises(ValueError, match="Did you mean 'fog'"):
        corrupt(x, "fogg", 1)


@pytest.fixture(scope="module")
def problem():
    weights = RANDOM.normal(size=(64, 4))
    model = make_linear(weights, shape=(8, 8, 1))
    x = photos(40, 8, 8, 1)
    y = keras.ops.convert_to_numpy(model(x)).argmax(-1)
    return model, x, np.where(np.arange(40) % 10 == 0, (y + 1) % 4, y)


@pytest.mark.compiles_much
def test_an_evaluation(problem, tmp_path):
    model, x, y = problem
    attacks = {
        "l2": kr.PGDAttack("l2", 0.2, steps=3),
        "also l2": kr.APGDAttack("l2", 0.2, steps=3, seed=0),
        "linf": kr.PGDAttack("linf", 0.01, steps=3),
        "turned": kr.SpatialAttack(angles=3, shifts=3),
        "common": kr.corruptions.Corruptions(
            ("fog", "contrast"), severities=(2, 5)
        ),
    }
    options = {"probe": False, "verbose": 0, "state_path": tmp_path}
    report = kr.evaluate_robustness(model, (x, y), attacks, **options)
    right = {}
    for name in ("fog", "contrast"):
        for severity in (2, 5):
            found = keras.ops.convert_to_numpy(
                model(corrupt(x, name, severity))
            )
            right[name, severity] = found.argmax(-1) == y
            np.testing.assert_array_equal(
                report.corrupted[name][severity], right[name, severity]
            )
    mean = np.mean(list(right.values()))
    del attacks["common"]
    alone = kr.evaluate_robustness(model, (x, y), attacks, **options)
    # Corruptions change nothing else.
    assert report.accuracy == alone.accuracy and not alone.corrupted
    assert report.threats == {
        **{
            key: v
            for key, v in alone.threats.items()
            if key not in ("mean", "worst")
        },
        "corruptions": pytest.approx(mean),
        "mean": pytest.approx(
            np.mean(
                [alone.threats[k] for k in ("l2 0.2", "linf 0.01", "spatial")]
                + [mean]
            )
        ),
        "worst": min(report.threats.values()),
    }
    both = report.correct["l2"] & report.correct["also l2"]
    assert report.threats["l2 0.2"] == pytest.approx(both.mean())
    numbers = json.loads(report.to_json())
    assert set(numbers["corruptions"]) == {"fog", "contrast"}
    assert numbers["threats"]["corruptions"] == pytest.approx(mean)
    assert report.provenance["corruptions"]["severities"] == [2, 5]
    assert len(report.plot().axes) == 2
    table = report_text(report)
    assert "contrast" in table and "worst" in table and "spatial" in table


def report_text(report):
    from rich.console import Console

    with open("/dev/null", "w") as nowhere:
        console = Console(record=True, width=80, file=nowhere)
        report.table(console)
        return console.export_text()


def test_by_name_and_without_threats(problem):
    model, x, y = problem
    report = kr.evaluate_robustness(model, (x, y), "corruptions", verbose=0)
    assert list(report.corrupted) == list(CORRUPTIONS)
    assert list(report.corrupted["fog"]) == list(SEVERITIES)
    assert set(report.accuracy) == {"clean", "worst case"}
    assert report.threats == {}
    both = kr.evaluate_robustness(
        model,
        (255 * x, y),
        ["pgd", "corruptions"],
        norm="l2",
        epsilon=0.5,
        value_range=(0, 255),
        verbose=0,
        probe=False,
    )
    assert set(both.threats) == {"l2 0.5", "corruptions", "mean", "worst"}
    alone = kr.evaluate_robustness(
        model, (x, y), [kr.PGDAttack(steps=1)], verbose=0, probe=False
    )
    assert alone.threats == {} and "threats" not in alone.numbers()
    with pytest.raises(ValueError, match="once.*Received: 2"):
        kr.evaluate_robustness(model, (x, y), ["corruptions", "corruptions"])
    with pytest.raises(ValueError, match="Received"):
        kr.evaluate_robustness(model, (255 * x, y), "corruptions")
    bytes_ = kr.corruptions.Corruptions(value_range=(0, 255))
    with pytest.raises(ValueError, match="scaling.*Received"):
        kr.evaluate_robustness(model, (x, y), bytes_, scaling="unit")


def test_an_evaluation_resumes(problem, tmp_path, monkeypatch):
    model, x, y = problem
    chosen = kr.corruptions.Corruptions(("fog", "contrast"), severities=(1,))
    options = {"verbose": 0, "state_path": tmp_path}
    report = kr.evaluate_robustness(model, (x, y), chosen, **options)

    def never(*args, **kwargs):
        raise AssertionError

    monkeypatch.setattr(kr.corruptions.Corruptions, "apply", never)
    again = kr.evaluate_robustness(model, (x, y), chosen, **options)
    assert again.numbers()["corruptions"] == report.numbers()["corruptions"]
    other = kr.corruptions.Corruptions(("fog",), severities=(1,), seed=1)
    with pytest.raises(AssertionError):
        kr.evaluate_robustness(model, (x, y), other, **options)


def test_scaled_functions_and_channels_first(problem):
    model, x, y = problem
    chosen = kr.corruptions.Corruptions(severities=(3,))
    expected = kr.evaluate_robustness(model, (x, y), chosen, verbose=0)

    def first(images):
        # Of bytes, and channels first.
        assert images.shape[1:] == (1, 8, 8) and images.max() > 2
        x = images.transpose(0, 2, 3, 1) / 255
        return keras.ops.convert_to_numpy(model(x))

    report = kr.evaluate_robustness(
        kr.Classifier.from_function(first, 4),
        (x.transpose(0, 3, 1, 2), y),
        chosen,
        scaling="byte",
        verbose=0,
    )
    assert report.numbers()["corruptions"] == expected.numbers()["corruptions"]
