"""Small models and data that the tests share."""

import atexit
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if os.environ.get("KERAS_BACKEND") == "jax":
    # Many tests compile the same small networks; XLA need not do it twice.
    cache = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, cache, ignore_errors=True)
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", cache)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
if importlib.util.find_spec("torch"):
    # Before TensorFlow, or the two crash on some machines.
    import torch

    # Two processes of pytest-xdist share two cores.
    torch.set_num_threads(1)

import keras
import numpy as np
import pytest


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def make_linear(weights, bias=None, shape=None):
    """Logits `x W + b` as a Keras model."""
    weights = np.asarray(weights, "float32")
    inputs = keras.Input(shape or weights.shape[:1])
    hidden = keras.layers.Flatten()(inputs) if shape else inputs
    model = keras.Model(inputs, keras.layers.Dense(weights.shape[1])(hidden))
    bias = np.zeros(weights.shape[1]) if bias is None else bias
    model.set_weights([weights, np.asarray(bias, "float32")])
    return model


def make_cnn(classes=3, activation=None, shape=(6, 6, 2)):
    """A convolution, BatchNorm with real statistics, a dense layer."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input(shape)
    h = keras.layers.Conv2D(4, 3)(inputs)
    h = keras.layers.BatchNormalization()(h)
    h = keras.layers.ReLU()(h)
    h = keras.layers.Dropout(0.5, seed=0)(h)
    h = keras.layers.GlobalAveragePooling2D()(h)
    outputs = keras.layers.Dense(classes, activation=activation)(h)
    model = keras.Model(inputs, outputs)
    random = np.random.default_rng(2)
    for variable in model.variables:
        if "seed" in variable.name:
            continue
        value = random.normal(size=variable.shape, scale=0.5)
        if "variance" in variable.name:
            value = np.abs(value) + 0.1
        variable.assign(value)
    return model


@pytest.fixture(scope="session")
def cnn():
    return make_cnn()


@pytest.fixture(scope="session")
def cnn_data():
    random = np.random.default_rng(3)
    x = random.random((21, 6, 6, 2), dtype="float32")
    # Pixels at the edges of the box, where the order of projections shows.
    x[:7] = np.round(x[:7])
    return x, random.integers(0, 3, 21).astype("int32")


def norms(step, norm):
    flat = np.asarray(step, "float32").reshape(len(step), -1)
    order = 2 if norm == "l2" else np.inf
    return np.linalg.norm(flat, ord=order, axis=1)


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory):
    """The command line's smoke run on digits: `(folder, what it printed)`."""
    folder = tmp_path_factory.mktemp("smoke")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "keras_robust.cli", "replicate"),
            *("--preset", "smoke", "--output", str(folder), "--seed", "3"),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout
