import numpy as np
import pytest
from keras import ops

import keras_robust as kr
from keras_robust import backend
from keras_robust.attacks.engine.batches import as_tensors
from keras_robust.attacks.engine.randomness import RowDraws
from keras_robust.attacks.engine.search import Batch
from keras_robust.attacks.engine.search import Run
from tests.helpers import exact_accuracy
from tests.helpers import make_linear
from tests.helpers import mostly_slow
from tests.helpers import norms

NORMS = ("l1", "l2", "linf")
RADII = {"l1": 1.0, "l2": 0.4, "linf": 0.1}


@pytest.mark.parametrize("norm", mostly_slow(NORMS, "linf"))
def test_exact_robust_accuracy_of_a_linear_model(linear_problem, norm):
    model, x, y = linear_problem
    attack = kr.APGDAttack(norm, RADII[norm], steps=30, seed=0)
    result = attack.run(model, x, y, scored=True)
    exact = exact_accuracy(model, x, y, norm, RADII[norm])
    # One example may sit on the boundary itself.
    assert abs((~result["success"]).mean() - exact) <= 1.5 / len(x)


@pytest.mark.parametrize(
    "norm, loss",
    [
        pytest.param("l1", "cross_entropy", marks=pytest.mark.slow_on_jax),
        ("l2", "cross_entropy"),
        ("linf", "cross_entropy"),
        pytest.param("l2", "targeted_margin", marks=pytest.mark.slow_on_jax),
    ],
)
@pytest.mark.compiles_much
def test_promises(varied, norm, loss):
    model, x, y = varied
    options = {"steps": 8, "loss": loss, "seed": 1, "targets": 2}
    attack = kr.APGDAttack(norm, RADII[norm], batch_size=32, **options)
    result = attack.run(model, x, y, scored=True)
    x_adv = result["x"]
    assert x_adv.dtype == x.dtype and x_adv.min() >= 0 and x_adv.max() <= 1
    assert norms(x_adv - x, norm).max() <= RADII[norm] * (1 + 1e-6)
    says = ops.convert_to_numpy(model(x_adv, training=False)).argmax(-1)
    np.testing.assert_array_equal(says != y, result["success"])
    # Wrong from the start: left alone.
    clean = ops.convert_to_numpy(model(x, training=False)).argmax(-1)
    np.testing.assert_array_equal(x_adv[clean != y], x[clean != y])
    again = kr.APGDAttack(norm, RADII[norm], batch_size=5, **options)(
        model, x, y
    )
    np.testing.assert_allclose(again, x_adv, atol=1e-5)


@pytest.mark.slow_on_jax
def test_early_stop_finds_what_the_whole_run_finds(varied):
    model, x, y = varied
    whole, stopped = (
        kr.APGDAttack(
            epsilon=0.3, steps=25, seed=0, early_stop=early, batch_size=32
        ).run(model, x, y, scored=True)
        for early in (False, True)
    )
    np.testing.assert_array_equal(whole["success"], stopped["success"])
    assert (whole["loss"] >= stopped["loss"] - 1e-5).all()


def torch_network(model):
    import torch

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, images):
            return self.inner(images.permute(0, 2, 3, 1), training=False)

    return Network().eval()


@pytest.mark.skipif(backend.name != "torch", reason="torchattacks needs torch")
@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("loss", ["cross_entropy", "dlr"])
def test_paths_of_torchattacks_from_a_shared_start(
    cnn, cnn_data, norm, loss, monkeypatch
):
    torchattacks = pytest.importorskip("torchattacks")
    import torch

    x, y = cnn_data
    says = ops.convert_to_numpy(cnn(x, training=False)).argmax(-1)
    x, y = x[says == y], y[says == y].astype("int64")
    steps, epsilon = 30, {"l2": 0.3, "linf": 0.03}[norm]
    noise = np.random.default_rng(0).random(x.shape).astype("float32")
    draw = torch.from_numpy(np.moveaxis(noise, -1, 1).copy())
    monkeypatch.setattr(torch, "randn", lambda *args, **options: draw)
    monkeypatch.setattr(torch, "rand", lambda *args, **options: draw)
    peer = torchattacks.APGD(
        torch_network(cnn),
        norm={"l2": "L2", "linf": "Linf"}[norm],
        eps=epsilon,
        steps=steps,
        loss={"cross_entropy": "ce", "dlr": "dlr"}[loss],
    )
    images = torch.from_numpy(np.moveaxis(x, -1, 1).copy())
    best, _, _, _ = peer.attack_single_run(images, torch.from_numpy(y))
    monkeypatch.undo()
    if norm == "linf":
        cube = 2 * noise - 1
        point = cube / np.abs(cube).max((1, 2, 3), keepdims=True)
    else:
        point = noise / norms(noise, "l2")[:, None, None, None]
    start = np.clip(x + epsilon * point, 0, 1)
    attack = kr.APGDAttack(norm, epsilon, steps, loss=loss)
    problem = attack.prepare(cnn, x, y)
    ours = final_state(attack, problem, start).rows["best"].x
    np.testing.assert_allclose(
        ops.convert_to_numpy(ours),
        np.moveaxis(best.detach().numpy(), 1, -1),
        atol=2e-5,
    )


def final_state(attack, problem, start):
    """The loop's last state, where `best` is by loss as in the paper."""
    run, index = Run(0, 0), np.arange(len(problem.x))
    loop = attack.loop(problem, run)
    draws = RowDraws(0).for_rows(index)
    inputs = attack.inputs(problem, run, Batch(index, draws, None))
    inputs.rows["start"] = start
    inputs = as_tensors(inputs)
    return loop.advance(inputs, loop.init(inputs), attack.steps)


def test_restarts_and_targets_only_help(varied):
    model, x, y = varied

    def left(**options):
        attack = kr.APGDAttack(epsilon=0.15, steps=5, seed=0, **options)
        return ~attack.run(model, x, y, scored=True)["success"]

    once, often = left(), left(restarts=3)
    assert not (often & ~once).any()
    one = left(loss="targeted_margin", targets=1)
    both = left(loss="targeted_margin", targets=2)
    assert not (both & ~one).any()


def test_targeted_reaches_its_labels(linear_problem):
    model, x, y = linear_problem
    attack = kr.APGDAttack("l2", 3.0, steps=20, targeted=True, seed=0)
    x_adv = attack(model, x, 1 - y)
    says = ops.convert_to_numpy(model(x_adv)).argmax(-1)
    np.testing.assert_array_equal(says, 1 - y)


@pytest.mark.slow_on_jax
def test_mask_and_per_example_radii(varied):
    model, x, y = varied
    mask = np.zeros((6, 6, 1), "float32")
    mask[2:4] = 1
    epsilon = np.linspace(0, 0.5, len(x))
    for norm in NORMS:
        attack = kr.APGDAttack(norm, epsilon, steps=4, mask=mask, seed=0)
        step = attack(model, x, y) - x
        assert not step[:, [0, 1, 4, 5]].any()
        assert (norms(step, norm) <= epsilon * (1 + 1e-6) + 1e-9).all()


def test_errors(varied):
    model, x, y = varied
    for wrong in (
        {"epsilon": -1},
        {"loss": "best"},
        {"restarts": 2, "random_start": False},
        {"loss": "targeted_dlr", "targeted": True},
        {"steps": 0},
        {"targets": 0},
    ):
        with pytest.raises(ValueError, match="Received"):
            kr.APGDAttack(**wrong)
    with pytest.raises(ValueError, match="at least 4 classes.*Received"):
        kr.APGDAttack(loss="targeted_dlr")(model, x, y)
    two = make_linear(np.eye(2))
    with pytest.raises(ValueError, match="at least 3 classes.*Received"):
        kr.APGDAttack(loss="dlr")(two, np.zeros((1, 2), "float32"), [0])


def test_config_round_trip():
    attack = kr.APGDAttack("l1", 3.0, steps=7, loss="dlr", mask=[1.0, 0.0])
    copy = type(attack).from_config(attack.get_config())
    assert copy.get_config() == attack.get_config()
