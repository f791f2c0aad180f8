import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import run_attacks
from keras import ops

from keras_robust import backend

RING = {"tensorflow": "jax", "jax": "torch", "torch": "tensorflow"}
HERE = Path(__file__).parent


def run_python(*arguments, **environment):
    """Runs a script in a process of its own and returns what it printed."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        cwd=HERE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# One of the three suites is enough.
@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow's suite has it"
)
def test_three_backends_agree(cnn, cnn_data, tmp_path):
    """Each backend against the next one, on the same weights."""
    other = RING[backend.name]
    if importlib.util.find_spec(other) is None:
        pytest.skip(f"{other} is not installed")
    x, y = cnn_data
    np.savez(tmp_path / "data.npz", x=x, y=y)
    cnn.save(tmp_path / "model.keras")
    run_python(HERE / "run_attacks.py", tmp_path, KERAS_BACKEND=other)
    theirs = np.load(tmp_path / "results.npz")
    for name, ours in run_attacks.run(cnn, x, y).items():
        np.testing.assert_allclose(ours, theirs[name], atol=1e-5, err_msg=name)


def test_works_without_tensorflow(tmp_path):
    """On JAX and PyTorch nothing imports TensorFlow, attacks included."""
    name = "jax" if backend.name == "tensorflow" else backend.name
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "sys.modules['tensorflow'] = None\n"
        "import numpy as np\n"
        "import keras_robust as kr\n"
        "model = kr.models.small_cnn((8, 8, 1), filters=(4,))\n"
        "x, y = np.full((3, 8, 8, 1), 0.5, 'float32'), np.arange(3)\n"
        "attack = kr.PGDAttack(steps=2)\n"
        "assert attack(model, x, y).shape == x.shape\n"
        "robust = kr.AdversarialModel(model, attack)\n"
        "robust.compile('sgd', 'sparse_categorical_crossentropy')\n"
        "robust.fit(x, y, verbose=0)\n"
        "kr.Robustifier(robust, steps=2)(x)\n"
        "kr.evaluate_robustness(model, (x, y), 'apgd', norm='l2',\n"
        "    epsilon=0.1, probe=False)\n"
        "(x, y), _ = kr.datasets.load('digits')\n"
    )
    run_python(script, KERAS_BACKEND=name)


def test_gradient_of_a_sum_not_a_mean():
    x = ops.convert_to_tensor(np.ones((5, 2), "float32"))
    (values, _), gradient = backend.value_and_gradient(
        lambda x: (ops.sum(x**2, axis=-1), 0), x
    )
    assert ops.convert_to_numpy(values).tolist() == [2] * 5
    assert ops.convert_to_numpy(gradient).tolist() == [[2, 2]] * 5


def test_gradient_of_a_constant_is_zero():
    x = ops.convert_to_tensor(np.ones((5, 2), "float32"))
    _, gradient = backend.value_and_gradient(
        lambda x: (ops.convert_to_tensor(np.ones(5, "float32")), 0), x
    )
    assert not ops.convert_to_numpy(gradient).any()


@pytest.mark.parametrize("steps", [0, 1, 8, 49, 50, 51, 120])
def test_chunks_add_up(steps):
    for jit_compile in ("auto", True, False):
        assert sum(backend.chunks(steps, jit_compile)) == steps
        single = backend.chunks(steps, jit_compile, unrolls=False)
        assert sum(single) == steps
