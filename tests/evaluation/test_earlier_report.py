import json

import numpy as np
import pytest

from keras_robust.evaluation.earlier_report import check_folder
from keras_robust.evaluation.earlier_report import write_report
from keras_robust.evaluation.report import RobustnessReport


def report(seed, right=(True, False)):
    correct = {"clean": np.array(right)}
    facts = {"seed": seed, "date": str(np.random.default_rng().random())}
    return RobustnessReport(correct, (), {}, facts)


def accuracy(path):
    return json.loads(path.read_text())["accuracy"]["clean"]


def test_a_report_of_other_settings_is_kept(tmp_path):
    assert write_report(tmp_path, report(0)) is None
    kept = write_report(tmp_path, report(1, (True, True)))
    assert accuracy(tmp_path / "report.json") == 1
    assert accuracy(tmp_path / kept) == 0.5
    for ending in (".png", ".html"):
        assert (tmp_path / kept).with_suffix(ending).exists()
    # Back again: one report of either.
    other = write_report(tmp_path, report(0))
    assert accuracy(tmp_path / "report.json") == 0.5
    assert accuracy(tmp_path / other) == 1
    names = {path.name for path in tmp_path.glob("*.json")}
    assert names == {"report.json", other}


def test_the_same_settings_replace_their_report(tmp_path):
    write_report(tmp_path, report(0))
    assert write_report(tmp_path, report(0, (True, True))) is None
    assert accuracy(tmp_path / "report.json") == 1
    assert len(list(tmp_path.iterdir())) == 3


def test_files_of_others_are_kept(tmp_path):
    (tmp_path / "report.json").write_text("[1, 2]")
    kept = write_report(tmp_path, report(0))
    assert (tmp_path / kept).read_text() == "[1, 2]"


def test_files_of_others_that_are_no_text_are_kept(tmp_path):
    (tmp_path / "report.json").write_bytes(b"\xff\x00")
    kept = write_report(tmp_path, report(0))
    assert (tmp_path / kept).read_bytes() == b"\xff\x00"
    assert accuracy(tmp_path / "report.json") == 0.5


@pytest.mark.parametrize("name", ["report.json", "report.html"])
def test_a_folder_in_the_way_is_seen_at_once(tmp_path, name):
    check_folder(tmp_path / "new")
    check_folder(tmp_path)
    (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=f"where {name} is a folder"):
        check_folder(tmp_path)
