import json
import re
import zipfile

import numpy as np
import pytest

from keras_robust import cli
from keras_robust.evaluation.own_data import OwnData
from tests.helpers import make_linear

Y = np.array([0, 1, 2, 0])


def images(dtype="float32"):
    random = np.random.default_rng(0)
    x = random.random((4, 6, 6, 1))
    x[0, 0, 0] = (0,)
    x[0, 0, 1] = 1
    return (255 * x).round().astype(dtype) if dtype == "uint8" else x


def saved(folder, **arrays):
    path = folder / "images.npz"
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("names", [("x", "y"), ("images", "labels")])
def test_arrays(tmp_path, names):
    arrays = dict(zip(names, (images(), Y), strict=True))
    x, y = OwnData(saved(tmp_path, **arrays)).read()
    np.testing.assert_array_equal(x, images().astype("float32"))
    np.testing.assert_array_equal(y, Y)
    assert x.dtype == "float32" and y.dtype == "int32"


def test_test_images_come_first(tmp_path):
    both = {"x": images(), "y": Y, "x_test": images()[:2], "y_test": Y[:2]}
    x, y = OwnData(saved(tmp_path, **both)).read()
    assert len(x) == len(y) == 2


def test_bytes_and_one_hot_labels(tmp_path):
    stored = images("uint8")
    x, y = OwnData(saved(tmp_path, x=stored, y=np.eye(3)[Y])).read()
    np.testing.assert_allclose(x, stored / 255, atol=1e-6)
    np.testing.assert_array_equal(y, Y)


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"a": Y}, "one of the pairs .* Received: .*with the arrays"),
        ({"x": images()}, r"with the arrays \['x'\]"),
        ({"x": images(), "y": Y[:2]}, "4 images and 2 labels"),
        ({"x": images(), "y": Y - 1}, "class numbers"),
        ({"x": images() - 0.5, "y": Y}, r"in \[0, 1\] or 0 to 255"),
        ({"x": images() * np.nan, "y": Y}, "values in"),
        ({"x": images()[:0], "y": Y[:0]}, "N >= 1"),
        ({"x": Y, "y": Y}, r"shape \(4,\)"),
        ({"x": images().astype("O"), "y": Y}, "an array of numbers"),
        ({"x": (images() > 0.5).astype("uint8"), "y": Y}, "cast 0 and 1"),
        ({"x": 16 * images(), "y": Y}, r"divide them .* \[0, 16\]"),
    ],
)
def test_refused(tmp_path, arrays, message):
    with pytest.raises(ValueError, match=message):
        OwnData(saved(tmp_path, **arrays)).read()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_file(tmp_path, save):
    path = tmp_path / "images.npz"
    save(path, x=images(), y=Y)
    content = bytearray(path.read_bytes())
    content[200:400] = bytes(200)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="'x' of `--data`"):
        OwnData(path).read()


def test_an_archive_of_something_else(tmp_path):
    path = tmp_path / "images.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", "no array")
        archive.writestr("y", "no array")
    with pytest.raises(ValueError, match="a file that is not one"):
        OwnData(path).read()


def test_no_file_of_arrays(tmp_path):
    with pytest.raises(ValueError, match="nothing there"):
        OwnData(tmp_path / "no.npz")
    np.save(tmp_path / "x.npy", images())
    with pytest.raises(ValueError, match=r"no .npz file"):
        OwnData(tmp_path / "x.npy")


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.keras"
    weights = np.random.default_rng(1).normal(size=(36, 3))
    make_linear(weights, np.zeros(3), shape=(6, 6, 1)).save(path)
    return path


def test_the_command(model, tmp_path, capsys):
    data = saved(tmp_path, x=images("uint8"), y=Y)
    begin = ["evaluate", str(model), "--scaling", "unit", "--verbose", "0"]
    begin += ["--attack", "fgsm", "--output", str(tmp_path / "out")]
    assert cli.main([*begin, "--data", str(data), "--examples", "3"]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["examples"] == 3
    saved(tmp_path, x=images()[..., 0], y=Y)
    assert cli.main([*begin, "--data", str(data)]) == 2
    assert "x[..., None]" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main([*begin, "--data", str(data), "--dataset", "digits"])
    assert "not allowed with" in capsys.readouterr().err


@pytest.mark.parametrize(
    "labels, message",
    [(Y + 1, "0 ... 2, .* from 1 to 3"), (np.eye(4)[Y], "3 classes .* 4 col")],
)
def test_labels_are_of_the_model(model, tmp_path, capsys, labels, message):
    data = saved(tmp_path, x=images(), y=labels)
    command = ["evaluate", str(model), "--data", str(data)]
    assert cli.main([*command, "--output", str(tmp_path / "out")]) == 2
    # And not that no scaling fits.
    assert re.search(message, capsys.readouterr().err)


def test_the_file_is_looked_at_before_the_model(tmp_path, capsys):
    command = ["evaluate", "no.keras", "--data", str(tmp_path / "no.npz")]
    assert cli.main(command) == 2
    assert "`--data` must be an .npz file" in capsys.readouterr().err
