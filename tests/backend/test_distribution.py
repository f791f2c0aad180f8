from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from keras_robust import backend
from tests.helpers import run_python

SCRIPT = Path(__file__).with_name("run_distributed.py")


@pytest.mark.slow_on_jax
@pytest.mark.skipif(
    backend.name == "torch", reason="Keras distributes TensorFlow and JAX only"
)
@pytest.mark.thorough
def test_two_devices_train_and_generate_like_one(tmp_path):
    """MirroredStrategy on TensorFlow, DataParallel on JAX."""

    def train(devices):
        path = tmp_path / f"{devices}.npz"
        flags = f"--xla_force_host_platform_device_count={devices}"
        run_python(SCRIPT, devices, path, XLA_FLAGS=flags)
        with np.load(path) as arrays:
            return [arrays[key] for key in arrays]

    with ThreadPoolExecutor() as pool:
        results = list(pool.map(train, (1, 2)))
    assert len(results[0]) == len(results[1]) == 20
    for one, two in zip(*results, strict=True):
        np.testing.assert_allclose(two, one, atol=2e-5)
