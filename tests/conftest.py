"""Fixtures that the tests share, and which tests are slow on which backend."""

import atexit
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if os.environ.get("KERAS_BACKEND") == "jax":
    # Many tests compile the same small networks; XLA need not do it twice.
    cache = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, cache, ignore_errors=True)
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", cache)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    # Compiling takes most of the time, and the networks are tiny.
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")
if importlib.util.find_spec("torch"):
    # Before TensorFlow, or the two crash on some machines.
    import torch

    # The processes of pytest-xdist share the cores.
    torch.set_num_threads(1)

import keras
import numpy as np
import pytest

from tests.helpers import make_cnn
from tests.helpers import make_linear

# Whole runs that several tests look at, with the marks of those tests.
FIXTURES = {
    "smoke_run": ("on_one_backend", "thorough"),
    "swept": ("on_one_backend", "thorough"),
    "own_run": ("thorough",),
}
# Whose code asks nothing of the backend but what others test: files, texts,
# pictures, layout. Run on one backend, elsewhere by `-m slow`.
SAME_ON_ALL = {
    f"test_{name}.py"
    for name in (
        "am207_errors",
        "annotations",
        "architecture",
        "beam",
        "claims",
        "earlier_report",
        "examples",
        "figures",
        "files",
        "generate_command",
        "html_report",
        "inspection",
        "measures",
        "messages",
        "optimizer_space",
        "overview",
        "peers",
        "planted",
        "radii",
        "released",
        "processes",
        "repository",
        "restricted_imagenet",
        "results",
        "row_file",
        "sources",
        "study",
        "style",
        "sweep",
        "sweep_summary",
        "theory",
        "threads",
        "training_sets",
    )
}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Marks what takes long on this backend; the longest file comes first."""
    # Workers take whole files; one that is long and last leaves the other idle.
    # Those that look at what it made come last, or they would wait.
    place = {
        "test_study.py": -1,
        "test_figures.py": 1,
        "test_html_report.py": 1,
    }
    items.sort(key=lambda item: place.get(item.path.name, 0))
    slow, thorough = set(), {"thorough"}
    compiled = keras.backend.backend() != "torch"
    if compiled:
        # Where they are fastest: little in them depends on the backend.
        slow.add("on_one_backend")
        thorough.add("compiles_much")
    if keras.backend.backend() == "jax":
        # On its CPU every program is compiled, about half a second each.
        slow.add("slow_on_jax")
    first_cases = set()
    for item in items:
        marks = {marker.name for marker in item.iter_markers()}
        # What a test is given may take longer than the test.
        for name in item.fixturenames:
            marks.update(FIXTURES.get(name, ()))
        if item.path.name in SAME_ON_ALL:
            marks.add("on_one_backend")
        if slow & marks:
            item.add_marker(pytest.mark.slow)
        elif thorough & marks or (compiled and _test(item) in first_cases):
            item.add_marker(pytest.mark.thorough)
        else:
            first_cases.add(_test(item))


def _test(item):
    """Names the test of which `item` is one case."""
    return item.path, item.cls, item.originalname


@pytest.fixture(autouse=True)
def seeded():
    """A test draws the same numbers whatever ran before it."""
    keras.utils.set_random_seed(0)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


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


@pytest.fixture(scope="session")
def varied():
    """A network of three classes that all occur, images, mostly right labels.

    Like the images of `cnn_data`, a third lies on the edges of the box.
    """
    random = np.random.default_rng(5)
    inputs = keras.Input((6, 6, 2))
    h = keras.layers.Flatten()(inputs)
    h = keras.layers.Dense(8, activation="tanh")(h)
    model = keras.Model(inputs, keras.layers.Dense(3)(h))
    x = random.random((24, 6, 6, 2), dtype="float32")
    x[:8] = np.round(x[:8])
    first = random.normal(size=(72, 8)) * 0.4
    second = random.normal(size=(8, 3))
    bias = -x.reshape(24, 72).mean(0) @ first
    model.set_weights([first, bias, second, np.zeros(3)])
    y = model.predict(x, verbose=0).argmax(-1)
    assert len(set(y)) == 3
    y[::8] = (y[::8] + 1) % 3
    return model, x, y.astype("int32")


@pytest.fixture(scope="session")
def linear_problem():
    """A linear model of two classes whose data stay inside the box."""
    random = np.random.default_rng(4)
    model = make_linear(random.normal(size=(4 * 4, 2)), shape=(4, 4, 1))
    x = random.uniform(0.3, 0.7, (60, 4, 4, 1)).astype("float32")
    logits = x.reshape(60, -1) @ model.get_weights()[0]
    # A tenth of the labels is wrong.
    y = np.where(np.arange(60) % 10 == 0, logits.argmin(-1), logits.argmax(-1))
    return model, x, y.astype("int32")


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory):
    """The command line's smoke run on digits: `(folder, what it printed)`.

    One for all processes of pytest-xdist: whoever needs it first makes it.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    folder, printed = root / "smoke", root / "smoke.txt"
    try:
        folder.mkdir()
    except FileExistsError:
        until = time.monotonic() + 300
        while not printed.exists() and time.monotonic() < until:
            time.sleep(0.5)
        return folder, printed.read_text()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "keras_robust.cli",
            "replicate",
            "--preset",
            "smoke",
            "--output",
            str(folder),
            "--seed",
            "3",
            "--workers",
            "2",
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    printed.write_text(done.stdout)
    return folder, done.stdout
