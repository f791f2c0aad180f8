import numpy as np
import pytest
from conftest import norms
from keras import ops

import keras_robust as kr
from keras_robust.attacks import compiled


def test_shrinking_a_batch_changes_nothing(varied, monkeypatch):
    """Finished examples leave; the result is that of whole batches."""
    model, x, y = varied
    x, y = np.tile(x, (3, 1, 1, 1)), np.tile(y, 3)

    def run():
        attack = kr.PGDAttack(
            "l2", 0.4, step_size=0.01, steps=35, early_stop=True
        )
        return attack.run(model, x, y, scored=True)

    shrunk = run()
    sizes = []
    original = compiled._Moving.shrink

    def spy(self, state, active):
        result = original(self, state, active)
        sizes.append(result["x"].shape[0])
        return result

    monkeypatch.setattr(compiled._Moving, "shrink", spy)
    run()
    assert sizes[-1] < len(x)
    monkeypatch.setattr(compiled, "WORTH_SHRINKING", -1.0)
    whole = run()
    for key, value in whole.items():
        np.testing.assert_allclose(shrunk[key], value, atol=1e-5)
    # An example stopped where it first succeeded.
    assert (norms(shrunk["x"] - x, "l2")[shrunk["success"]] < 0.4).any()


def test_rows_of_leaves_shared_alone():
    tree = {
        "x": ops.arange(4),
        "inner": {"y": ops.ones((4, 2))},
        "shared": {"i": 3},
    }
    rows = compiled.rows_of(tree, np.array([2, 0, 0]))
    assert ops.convert_to_numpy(rows["x"]).tolist() == [2, 0, 0]
    assert rows["inner"]["y"].shape == (3, 2)
    assert rows["shared"] == {"i": 3}


@pytest.mark.parametrize("name", ["PGDAttack", "APGDAttack"])
def test_the_cost_grows_with_survivors(varied, name, monkeypatch):
    """Broken examples are not computed on any more."""
    model, x, y = varied
    computed = []
    original = compiled.CompiledLoop.__init__

    def counting(self, loop, variables, jit_compile, fixed=False):
        original(self, loop, variables, jit_compile, fixed)
        advance = self._advance

        def counted(inputs, state, steps):
            computed.append(inputs["center"].shape[0] * steps)
            return advance(inputs, state, steps)

        self._advance = counted

    monkeypatch.setattr(compiled.CompiledLoop, "__init__", counting)
    easy, hard = (
        getattr(kr, name)("l2", epsilon, steps=50, early_stop=True)
        for epsilon in (3.0, 1e-3)
    )
    easy(model, x, y)
    cost = sum(computed)
    computed.clear()
    hard(model, x, y)
    assert cost <= sum(computed) / 3
