import importlib.util
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from keras_robust import backend
from keras_robust.backend.protocol import Backend
from tests.backend import run_attacks
from tests.helpers import run_python

RING = {"tensorflow": "jax", "jax": "torch", "torch": "tensorflow"}
SCRIPT = Path(__file__).with_name("run_attacks.py")


# One of the three suites is enough.
@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow's suite has it"
)
@pytest.mark.thorough
def test_three_backends_agree(cnn, cnn_data, tmp_path):
    """Each backend against the next one, on the same weights."""
    other = RING[backend.name]
    if importlib.util.find_spec(other) is None:
        pytest.skip(f"{other} is not installed")
    x, y = cnn_data
    np.savez(tmp_path / "data.npz", x=x, y=y)
    cnn.save(tmp_path / "model.keras")
    run_python(SCRIPT, tmp_path, KERAS_BACKEND=other)
    theirs = np.load(tmp_path / "results.npz")
    for name, ours in run_attacks.run(cnn, x, y).items():
        np.testing.assert_allclose(ours, theirs[name], atol=1e-5, err_msg=name)


@pytest.mark.thorough
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


# PyTorch compiles with a C++ compiler, which need not be there.
JIT_COMPILE = (False, "auto") + (() if backend.name == "torch" else (True,))


def tensor(values, dtype="float32"):
    return ops.convert_to_tensor(np.asarray(values, dtype))


def array(value):
    return np.asarray(ops.convert_to_numpy(value))


def test_every_part_of_the_protocol_is_there():
    parts = [name for name in vars(Backend) if not name.startswith("_")]
    assert len(parts) == 15
    assert all(hasattr(backend, name) for name in parts)
    assert isinstance(backend.folds_batch_norm, bool)
    assert isinstance(backend.runs_lookups, bool)
    assert isinstance(backend.compiles_image_transforms, bool)


def test_gradient_of_a_sum_not_a_mean():
    x = tensor(np.ones((5, 2)))
    (values, auxiliary), gradient = backend.value_and_gradient(
        lambda x: (ops.sum(x**2, axis=-1), {"twice": 2 * x}), x
    )
    assert array(values).tolist() == [2] * 5
    assert array(auxiliary["twice"]).tolist() == [[2, 2]] * 5
    assert array(gradient).tolist() == [[2, 2]] * 5


def test_gradient_of_a_constant_is_zero():
    x = tensor(np.ones((5, 2)))
    _, gradient = backend.value_and_gradient(
        lambda x: (tensor(np.ones(5)), 0), x
    )
    assert not array(gradient).any()


def test_gradients_of_a_scalar():
    values = [tensor([1.0, 2.0]), tensor([[3.0]]), tensor([4.0])]
    found = backend.gradients(
        lambda parts: ops.sum(parts[0] ** 2) * ops.sum(parts[1]), values
    )
    assert [array(part).tolist() for part in found] == [
        [6.0, 12.0],
        [[5.0]],
        [0.0],
    ]


def test_value_and_gradients_and_a_step_of_an_optimizer():
    variable = keras.Variable([1.0, 2.0])
    optimizer = keras.optimizers.SGD(0.5, momentum=0.5)
    optimizer.build([variable])
    for expected in ([0.0, 0.0], [-0.5, -1.0]):
        (value, auxiliary), gradients = backend.value_and_gradients(
            lambda parts: (ops.sum(parts[0] ** 2), {"first": parts[0][0]}),
            [ops.convert_to_tensor(variable)],
        )
        assert float(array(value)) == (array(variable) ** 2).sum()
        assert float(array(auxiliary["first"])) == array(variable)[0]
        assert array(gradients[0]).tolist() == (2 * array(variable)).tolist()
        own = [variable, *optimizer.variables]
        # As a training step on JAX does.
        with keras.StatelessScope([(v, v.value) for v in own]) as scope:
            backend.apply_gradients(optimizer, gradients, [variable])
            changed = [scope.get_current_value(v) for v in own]
        for one, new in zip(own, changed, strict=True):
            if new is not None:
                one.assign(new)
        np.testing.assert_allclose(array(variable), expected, atol=1e-6)


@pytest.mark.parametrize("jit_compile", JIT_COMPILE)
def test_gradient_in_a_compiled_function(jit_compile):
    """And of variables, whose values are those at the time of the call."""
    scale = keras.Variable(1.0)

    def function(inputs):
        (values, _), gradient = backend.value_and_gradient(
            lambda x: (ops.sum(scale * x**2, axis=-1), 0), inputs["x"]
        )
        return {"values": values, "gradient": [gradient]}

    compiled = backend.compile(function, [scale], jit_compile)
    for value, size in ((1.0, 3), (2.0, 3), (2.0, 4)):
        scale.assign(value)
        result = compiled({"x": tensor(np.ones((size, 2)))})
        assert array(result["values"]).tolist() == [2 * value] * size
        (gradient,) = result["gradient"]
        assert array(gradient).tolist() == [[2 * value] * 2] * size


def count_to_three(state):
    """A step that does nothing to rows that have reached 3."""
    return {
        "n": ops.minimum(state["n"] + 1, 3.0),
        "steps": state["steps"] + ops.cast(state["n"] < 3, "int32"),
    }


def is_counting(state):
    return ops.any(state["n"] < 3)


@pytest.mark.parametrize("steps", [0, 1, 2, 5])
@pytest.mark.parametrize("jit_compile", [None, *JIT_COMPILE])
def test_iterate_until_nothing_runs(steps, jit_compile):
    def run(start, steps):
        state = {"n": start["n"], "steps": ops.zeros_like(start["i"])}
        return backend.iterate(count_to_three, is_counting, state, steps)

    start = {"n": tensor([0, 2]), "i": tensor([0, 0], "int32")}
    if jit_compile is not None:
        run = backend.compile(run, [], jit_compile, takes_steps=True)
    state = run(start, steps)
    assert array(state["n"]).tolist() == [min(steps, 3), min(2 + steps, 3)]
    assert array(state["steps"]).tolist() == [min(steps, 3), min(steps, 1)]


@pytest.mark.parametrize("steps", [0, 1, 8, 49, 50, 51, 120])
def test_chunks_add_up(steps):
    for jit_compile in ("auto", True, False):
        for unrolls in (True, False):
            chunks = backend.chunks(steps, jit_compile, unrolls=unrolls)
            assert sum(chunks) == steps
            assert all(chunk > 0 for chunk in chunks) or chunks == [0]


def test_padding_is_needed_where_shapes_are_compiled():
    assert backend.needs_padding(False) is False
    assert backend.needs_padding(True) is True
    assert isinstance(backend.needs_padding(), bool)


def test_an_accelerator_is_known():
    # Of JAX and TensorFlow, whose devices Keras can name.
    kinds = {"cpu", "gpu", "tpu"}
    found = backend.has_accelerator()
    assert isinstance(found, bool)
    if backend.name == "tensorflow":
        devices = keras.distribution.list_devices()
        assert {device.partition(":")[0] for device in devices} <= kinds
        assert found == any(not name.startswith("cpu") for name in devices)


def test_a_batch_without_a_distribution_stays():
    batch = {"x": tensor(np.ones((3, 2))), "i": [tensor(1, "int32")]}
    result = backend.shard_batch(batch)
    assert array(result["x"]).tolist() == [[1, 1]] * 3
    assert array(result["i"][0]) == 1


def test_values_can_be_read_unless_traced():
    seen = []

    def function(inputs):
        if not backend.is_traced(inputs["x"]):
            seen.append(array(inputs["x"]).tolist())
        return inputs["x"]

    assert not backend.is_traced(tensor([1.0]))
    backend.compile(function, [])({"x": tensor([1.0])})
    expected = [[1.0]] if backend.name == "torch" else []
    assert seen == expected


class DoublingTrainer(backend.Trainer):
    """Its "attack" doubles inputs."""

    replays = 1

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(
            1, use_bias=False, kernel_initializer="ones"
        )
        self.shifts = None

    def call(self, x):
        return self.dense(x)

    def attacked_batch(self, data):
        x, y = data
        return (2 * x, y), {"finding": ops.ones(())}

    def weight_shifts(self, data):
        shifts = self.shifts
        return shifts and [ops.full((1, 1), shift) for shift in shifts]

    def safe_batch(self, data):
        x, y = data
        return x, y + 1

    def robust_test_step(self, data):
        x, y = data
        return {"largest": ops.max(self(2 * x, training=False) - y)}


def test_trainer_attacks_before_its_steps():
    x, y = np.ones((4, 1), "float32"), np.full((4, 1), 2.0, "float32")
    model = DoublingTrainer()
    model.compile(keras.optimizers.SGD(0.0), "mse")
    history = model.fit(x, y, verbose=0).history
    assert history == {"loss": [0.0], "finding": [1.0]}
    model.sync_state()
    # Labels are 3 now.
    logs = model.evaluate(x, y, verbose=0, return_dict=True)
    assert logs == {"loss": 4.0, "largest": -1.0}
    assert model.dense.kernel.shape == (1, 1)


def test_trainer_takes_gradients_at_shifted_weights():
    """At 2 the output is 4 and the derivative of (2 w - 2)**2 is 8."""
    x, y = np.ones((4, 1), "float32"), np.full((4, 1), 2.0, "float32")
    model = DoublingTrainer()
    model(x)
    model.shifts = (1.0,)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    history = model.fit(x, y, verbose=0).history
    assert history["loss"] == pytest.approx([4.0])
    kernel = array(model.dense.kernel.value)
    assert kernel == pytest.approx(1.0 - 0.1 * 8, abs=1e-6)
