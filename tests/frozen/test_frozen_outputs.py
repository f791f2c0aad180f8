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


def read_by_the_model(output):
    """Without the last row and column of images, which the stride skips.

    There every proposal of a random search ties, and rounding decides.
    """
    return output[:, :-1, :-1] if output.ndim == 4 else output


def test_the_model_reads_all_that_is_compared(frozen):
    model = frozen_outputs.make_model()
    x, _ = frozen_outputs.make_data(model)
    skipped = np.array(x)
    read_by_the_model(skipped)[...] = 0
    logits = model.predict(np.stack([skipped[0], 0 * x[0]]), verbose=0)
    np.testing.assert_array_equal(logits[0], logits[1])
    for row, column in np.ndindex(x.shape[1] - 1, x.shape[2] - 1):
        changed = np.array(x[:1])
        changed[0, row, column] += 0.1
        both = model.predict(np.concatenate([x[:1], changed]), verbose=0)
        assert np.abs(both[1] - both[0]).max() > 1e-4, (row, column)


def test_outputs_are_what_they_were(found, frozen):
    """To 1e-6 where they were frozen; elsewhere sums are rounded otherwise."""
    differing = {}
    for name, output in found.items():
        difference = np.abs(read_by_the_model(output - frozen[name]))
        largest = difference.reshape(len(difference), -1).max(axis=1)
        same = largest < 1e-5
        if same.mean() < (0.5 if name in frozen_outputs.SENSITIVE else 1):
            differing[name] = largest
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
