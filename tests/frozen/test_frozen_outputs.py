import numpy as np
import pytest

from tests.frozen import frozen_outputs


@pytest.fixture(
    scope="module",
    params=["few", pytest.param("all", marks=pytest.mark.slow_on_jax)],
)
def found(request):
    return frozen_outputs.outputs(few=request.param == "few")


@pytest.fixture(scope="module")
def frozen():
    with np.load(frozen_outputs.path()) as arrays:
        return dict(arrays)


def test_nothing_is_left_out(found, frozen):
    few = {
        *(*frozen_outputs.FEW, "robustifier polyak", "shortcut"),
        *("non-robustifier other", "labels other"),
    }
    assert found.keys() in (frozen.keys(), few)


def test_outputs_are_what_they_were(found, frozen):
    """To 1e-6 where they were frozen; elsewhere sums are rounded otherwise."""
    differing = {}
    for name, output in found.items():
        expected = frozen[name]
        difference = np.abs(output - expected).reshape(len(expected), -1)
        same = difference.max(axis=1) < 1e-5
        if same.mean() < (0.5 if name in frozen_outputs.SENSITIVE else 1):
            differing[name] = difference.max(axis=1)
    assert not differing


def test_the_frozen_outputs_are_adversarial(frozen):
    """They would hold nothing if attacks did nothing."""
    model = frozen_outputs.make_model()
    x, y = frozen_outputs.make_data(model)
    for name in frozen_outputs.make_attacks():
        moved = np.abs(frozen[name] - x).reshape(len(x), -1).max(1)
        assert moved.any(), name
        assert frozen[name].min() >= 0 and frozen[name].max() <= 1, name
    before = (model.predict(x, verbose=0).argmax(-1) == y).mean()
    after = model.predict(frozen["autoattack l2"], verbose=0).argmax(-1) == y
    assert after.mean() < before
