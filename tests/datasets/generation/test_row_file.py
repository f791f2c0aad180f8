import numpy as np
import pytest

import keras_robust as kr
from keras_robust.datasets.generation.indexed_source import IndexedSource
from keras_robust.datasets.generation.row_file import RowFile


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_rows_in_any_order(tmp_path, rng, dtype):
    rows = (255 * rng.random((17, 3, 4, 2))).astype(dtype)
    file = RowFile.write(tmp_path / "rows", [rows[:8], rows[8:]])
    assert len(file) == 17
    chosen = np.array([16, 0, 3, 3])
    np.testing.assert_array_equal(file[chosen], rows[chosen])
    assert file[chosen].dtype == dtype
    with pytest.raises(OSError, match="row 17"):
        file[[17]]


def test_it_appears_when_it_is_whole(tmp_path):
    def broken():
        yield np.zeros((2, 3))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        RowFile.write(tmp_path / "rows", broken())
    assert not list(tmp_path.iterdir())


def test_bytes_are_scaled_to_the_box(rng):
    x = rng.integers(0, 256, (4, 2, 2, 1)).astype("uint8")
    source = IndexedSource(x, np.arange(4), value_range=(-1, 1))
    np.testing.assert_allclose(source[np.arange(4)], x / 127.5 - 1, atol=1e-6)
    # How many classes there are does not follow from those that occur.
    assert source.class_names is None
    one, other = (
        IndexedSource(images, np.arange(4)).description()["sha256"]
        for images in (x, x[::-1])
    )
    assert one != other


def test_errors(tmp_path):
    x = np.zeros((4, 2, 2, 1), "float32")
    with pytest.raises(ValueError, match="4 images and 3 labels"):
        IndexedSource(x, np.arange(3))
    with pytest.raises(ValueError, match="0 to 3"):
        IndexedSource(x, np.arange(4), ["a", "b"])
    with pytest.raises(ValueError, match=r"\(3,\) of float64, then \(2,\)"):
        RowFile.write(
            tmp_path / "rows", iter([np.ones((2, 3)), np.ones((2, 2))])
        )
    with pytest.raises(ValueError, match="Received: none"):
        RowFile.write(tmp_path / "rows", iter([]))
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="Received: 7"):
        IndexedSource.open(7, tmp_path)


@pytest.mark.parametrize("seed", range(8))
def test_digits_lie_in_any_range(tmp_path, seed):
    low, high = np.sort(np.random.default_rng(seed).normal(size=2)).tolist()
    source = IndexedSource.open("digits", tmp_path, value_range=(low, high))
    # Raises where an image is outside.
    assert source.description()["examples"] == len(source)
    expected = kr.datasets.load("digits").train[0][:9] * (high - low) + low
    np.testing.assert_allclose(source[np.arange(9)], expected, atol=1e-6)
