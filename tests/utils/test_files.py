import hashlib
import json

import numpy as np
import pytest

from keras_robust.utils import files


def test_a_file_is_there_as_a_whole_or_not_at_all(tmp_path):
    path = tmp_path / "numbers.json"

    def fails(part):
        part.write_text("half")
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError):
        files.write_atomically(path, fails)
    assert not list(tmp_path.iterdir())
    files.write_json(path, {"b": [1], "a": None})
    assert files.read_json(path) == {"b": [1], "a": None}
    with pytest.raises(RuntimeError):
        files.write_atomically(path, fails)
    assert files.read_json(path) == {"b": [1], "a": None}
    assert list(tmp_path.iterdir()) == [path]


def test_a_format_may_need_its_suffix(tmp_path):
    path = tmp_path / "arrays.npz"
    files.write_atomically(
        path, lambda part: np.savez(part, x=np.arange(3)), suffix=".npz"
    )
    assert np.load(path)["x"].tolist() == [0, 1, 2]
    assert list(tmp_path.iterdir()) == [path]


def test_equal_values_have_equal_hashes():
    one = {"a": (1, 2), "b": {"c": 0.1, "d": None}}
    other = {"b": {"d": None, "c": 0.1}, "a": [1, 2]}
    assert files.json_hash(one) == files.json_hash(other)
    assert files.json_hash(one) != files.json_hash({**one, "a": (2, 1)})
    text = json.dumps({"x": 1}).encode()
    expected = hashlib.sha256(text).hexdigest()
    assert files.json_hash({"x": 1}, digits=64) == expected
    assert files.json_hash({"x": 1}) == expected[:12]
