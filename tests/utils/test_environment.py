import os

import pytest

from keras_robust.utils import environment


def test_the_gpus_of_a_driver_are_named(tmp_path):
    text = "Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 82\n"
    for name in ("0000:00:05.0", "0000:00:06.0"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "information").write_text(text)
    assert environment.gpus(tmp_path) == ["NVIDIA H100 80GB HBM3"] * 2
    assert environment.gpus(tmp_path / "none") == []
    assert environment.machine().startswith(f"{os.cpu_count()} x ")


@pytest.mark.parametrize(
    "package, known", [("numpy", True), ("no_such_package", False)]
)
def test_packages_are_found_without_an_import(package, known):
    assert environment.is_installed(package) is known
