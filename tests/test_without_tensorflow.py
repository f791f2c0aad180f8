from pathlib import Path

import keras
import pytest

from tests.helpers import run_python

SCRIPT = Path(__file__).with_name("without_tensorflow.py")


@pytest.mark.on_one_backend
@pytest.mark.thorough
def test_every_package_works_where_tensorflow_is_not_installed(tmp_path):
    backend = keras.backend.backend()
    if backend == "tensorflow":
        backend = "torch"
    printed = run_python(SCRIPT, tmp_path, KERAS_BACKEND=backend)
    assert printed.splitlines()[-1] == "done"
