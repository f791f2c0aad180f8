"""Element-wise agreement with other libraries."""

import numpy as np
import pytest

import keras_robust as kr
from keras_robust import backend
from tests.helpers import foolbox_run


@pytest.fixture
def peer_data(cnn_data):
    x, y = cnn_data
    # A third of the images lies on the edges of the box, see `cnn_data`.
    return x, y.astype("int64")


def test_foolbox_pgd_l2(cnn, peer_data):
    x, y = peer_data
    theirs = foolbox_run(
        lambda fb: fb.attacks.L2PGD(
            abs_stepsize=0.1, steps=6, random_start=False
        ),
        cnn,
        x,
        y,
        0.5,
    )
    ours = kr.PGDAttack(epsilon=0.5, step_size=0.1, steps=6)(cnn, x, y)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_foolbox_pgd_linf(cnn, peer_data):
    x, y = peer_data
    theirs = foolbox_run(
        lambda fb: fb.attacks.LinfPGD(
            abs_stepsize=0.01, steps=6, random_start=False
        ),
        cnn,
        x,
        y,
        0.03,
    )
    ours = kr.PGDAttack("linf", 0.03, step_size=0.01, steps=6)(cnn, x, y)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_foolbox_fgsm(cnn, peer_data):
    x, y = peer_data
    theirs = foolbox_run(
        lambda fb: fb.attacks.LinfFastGradientAttack(random_start=False),
        cnn,
        x,
        y,
        0.03,
    )
    ours = kr.FGSMAttack("linf", 0.03)(cnn, x, y)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.skipif(
    backend.name != "torch", reason="torchattacks takes PyTorch models only"
)
@pytest.mark.parametrize("name", ["PGDL2", "PGD", "FGSM"])
def test_torchattacks(cnn, peer_data, name):
    torchattacks = pytest.importorskip("torchattacks")
    import torch

    x, y = peer_data
    if name == "PGDL2":
        theirs = torchattacks.PGDL2(
            cnn, eps=0.5, alpha=0.1, steps=6, random_start=False
        )
        ours = kr.PGDAttack(epsilon=0.5, step_size=0.1, steps=6)
    elif name == "PGD":
        theirs = torchattacks.PGD(
            cnn, eps=0.03, alpha=0.01, steps=6, random_start=False
        )
        ours = kr.PGDAttack("linf", 0.03, step_size=0.01, steps=6)
    else:
        theirs = torchattacks.FGSM(cnn, eps=0.03)
        ours = kr.FGSMAttack("linf", 0.03)
    # Its own check of the range does not like what Keras calls a parameter.
    expected = theirs(torch.from_numpy(x), torch.from_numpy(y))
    np.testing.assert_allclose(
        ours(cnn, x, y), expected.detach().numpy(), atol=1e-5
    )
