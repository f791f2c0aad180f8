from dataclasses import dataclass
from dataclasses import fields

import keras
import numpy as np
import pytest
from keras import ops

import keras_robust as kr
from keras_robust.attacks import objectives
from keras_robust.attacks.balls import Box
from keras_robust.attacks.engine import compiled
from keras_robust.attacks.engine import search
from keras_robust.attacks.engine.gradient_loop import GradientLoop
from keras_robust.classifier import folding
from keras_robust.classifier import rewriting
from tests.helpers import norms


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
    original = compiled._ActiveRows.drop_finished

    def spy(self, state, active):
        result = original(self, state, active)
        sizes.append(result.rows["x"].shape[0])
        return result

    monkeypatch.setattr(compiled._ActiveRows, "drop_finished", spy)
    run()
    assert sizes[-1] < len(x)
    monkeypatch.setattr(compiled, "WORTH_SHRINKING", -1.0)
    whole = run()
    for key, value in whole.items():
        np.testing.assert_allclose(shrunk[key], value, atol=1e-5)
    # An example stopped where it first succeeded.
    assert (norms(shrunk["x"] - x, "l2")[shrunk["success"]] < 0.4).any()


@pytest.mark.parametrize(
    "attack",
    [
        kr.DDNAttack(0.5, early_stop=True),
        pytest.param(
            kr.FABAttack("linf", 0.03, steps=12, early_stop=True),
            marks=pytest.mark.compiles_much,
        ),
        pytest.param(
            kr.FMNAttack("linf", 0.15, steps=40, early_stop=True),
            marks=pytest.mark.compiles_much,
        ),
        pytest.param(
            kr.SigmaZeroAttack(20, steps=40, early_stop=True),
            marks=pytest.mark.compiles_much,
        ),
    ],
    ids=lambda attack: type(attack).__name__,
)
def test_what_has_stopped_stays_where_it_is(varied, attack):
    """However long the rest of its batch moves on."""
    model, x, y = varied
    together, apart = (
        attack.replace(batch_size=size).run(model, x, y, scored=True)
        for size in (len(x), 3)
    )
    assert together["success"].mean() > 0.5
    for key, value in together.items():
        np.testing.assert_allclose(apart[key], value, atol=1e-3)


def test_take_rows_of_nested_tensors():
    tree = {"x": ops.arange(4), "inner": {"y": ops.ones((4, 2))}}
    rows = compiled.take_rows(tree, np.array([2, 0, 0]))
    assert ops.convert_to_numpy(rows["x"]).tolist() == [2, 0, 0]
    assert rows["inner"]["y"].shape == (3, 2)


@pytest.mark.parametrize("name", ["PGDAttack", "APGDAttack"])
def test_the_cost_grows_with_survivors(varied, name, monkeypatch):
    """Broken examples are not computed on any more."""
    model, x, y = varied
    computed = []
    original = compiled.CompiledLoop.__init__

    def counting(self, *args, **kwargs):
        original(self, *args, **kwargs)
        advance = self._advance

        def counted(inputs, state, steps):
            computed.append(inputs.rows["center"].shape[0] * steps)
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


ATTACKS = {
    "pgd": lambda: kr.PGDAttack("l2", 0.4, steps=2),
    "pgd early stop": lambda: kr.PGDAttack("l2", 0.4, steps=2, early_stop=True),
    "pgd, one radius per feature": lambda: kr.PGDAttack(
        "linf", np.full((6, 6, 2), 0.1), steps=2
    ),
    "pgd, a box per feature": lambda: kr.PGDAttack(
        "l2",
        0.4,
        steps=2,
        value_range=(np.zeros((6, 6, 2)), np.ones((6, 6, 2))),
    ),
    "pgd, a loss of Keras": lambda: kr.PGDAttack(
        "l2", 0.4, steps=2, loss="compiled"
    ),
    "apgd": lambda: kr.APGDAttack("l1", 4.0, steps=2, seed=0),
    "apgd-t": lambda: kr.APGDAttack(
        "l2", 0.4, steps=2, loss="targeted_margin", seed=0
    ),
    "fab": lambda: kr.FABAttack("l2", 0.4, steps=2, seed=0),
    "square": lambda: kr.SquareAttack("l2", 0.4, queries=2, seed=0),
    "carlini-wagner": lambda: kr.CarliniWagnerL2(steps=2),
    "spatial": lambda: kr.SpatialAttack(angles=5, shifts=3),
}


@pytest.mark.slow_on_jax
@pytest.mark.parametrize("name", ATTACKS)
def test_equal_attacks_share_what_is_compiled(name, varied, monkeypatch):
    _, x, y = varied
    # For which nothing is compiled yet.
    model = keras.models.clone_model(varied[0])
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(True))
    made = []

    class Counted(compiled.CompiledLoop):
        def __init__(self, loop, *args, **options):
            made.append(loop)
            super().__init__(loop, *args, **options)

    monkeypatch.setattr(search, "CompiledLoop", Counted)
    first = ATTACKS[name]()
    expected = first(model, x, y)
    count = len(made)
    assert count >= 1
    first(model, x, y)
    found = ATTACKS[name]()(model, x, y)
    assert len(made) == count
    np.testing.assert_array_equal(found, expected)
    if first.epsilon is not None:
        # The radius is an input of the loop.
        first.replace(epsilon=np.asarray(first.epsilon) / 2)(model, x, y)
        assert len(made) == count


def test_loops_of_one_name_share_nothing(varied):
    """A subclass of a user may have the name of ours, or of another one."""
    model, x, y = varied

    def make(sign):
        @dataclass(frozen=True, kw_only=True)
        class Loop(GradientLoop):
            def step(self, inputs, state):
                moved = state.rows["x"] + sign * 0.01
                state = super().step(inputs, state)
                return state._replace(rows={**state.rows, "x": moved})

        class Attack(kr.PGDAttack):
            def loop(self, problem, run):
                loop = super().loop(problem, run)
                return Loop(
                    **{f.name: getattr(loop, f.name) for f in fields(loop)}
                )

        return Attack("linf", 0.4, steps=1)

    up, down = make(1.0), make(-1.0)
    assert type(up).__name__ == type(down).__name__
    inside = np.clip(x, 0.1, 0.9)
    np.testing.assert_allclose(up(model, inside, y), inside + 0.01, atol=1e-6)
    np.testing.assert_allclose(down(model, inside, y), inside - 0.01, atol=1e-6)


def test_a_box_of_arrays_is_a_key():
    low, high = np.zeros((2, 1)), np.ones((2, 1))
    first, second = Box((low, high)), Box((low.copy(), high.copy()))
    assert first == second and hash(first) == hash(second)
    assert first != Box((low, high * 2)) and first != Box((0.0, 1.0))
    assert Box((0, 1)) == Box((0.0, 1.0))
    assert first != (low, high)


@pytest.mark.slow_on_jax
@pytest.mark.parametrize(
    "attack",
    [
        kr.PGDAttack("l2", 0.3, steps=50),
        kr.APGDAttack("l2", 0.3, steps=50),
        kr.FABAttack("l2", 0.3, steps=50, targets=1),
        kr.SquareAttack("l2", 0.3, queries=50),
        kr.SpatialAttack(angles=5, shifts=3),
        kr.CarliniWagnerL2(steps=25, search_steps=2),
        kr.DDNAttack(steps=50),
    ],
    ids=lambda attack: type(attack).__name__,
)
def test_weights_are_folded_once_for_many_steps(
    attack, cnn, cnn_data, monkeypatch
):
    """Not once per step, which would be most of the cost of a small network."""
    folded = []
    for module in (folding, rewriting):
        original = module.folded_weights

        def counted(*args, original=original):
            folded.append(args)
            return original(*args)

        monkeypatch.setattr(module, "folded_weights", counted)
    attack(cnn, cnn_data[0][:4], cnn_data[1][:4], verbose=0)
    assert len(folded) < 20


@pytest.mark.parametrize("make", [lambda value: [value], keras.Variable])
def test_a_loss_is_compiled_with_what_it_reads_now(make, linear_problem):
    """A change of it counts, also where the loss itself changes things."""
    model, x, y = linear_problem
    signs, calls = make(1.0), []

    def loss(labels, logits):
        calls.append(1)
        sign = signs[0] if isinstance(signs, list) else signs.value
        return sign * objectives.margin(labels, logits)

    attack = kr.PGDAttack("linf", 0.05, steps=2, loss=loss)
    up = attack(model, x, y)
    if isinstance(signs, list):
        signs[0] = -1.0
    else:
        signs.assign(-1.0)
    down = attack(model, x, y)
    fresh = keras.models.clone_model(model)
    fresh.set_weights(model.get_weights())
    np.testing.assert_allclose(down, attack(fresh, x, y), atol=1e-6)
    assert np.abs(up - down).max() > 0.05


def test_the_compiled_loss_is_compiled_with_what_it_reads_now(linear_problem):
    """A change of what the loss of the model reads counts."""
    model, x, y = linear_problem
    model, sign = keras.models.clone_model(model), [1.0]

    def loss(labels, logits):
        return sign[0] * keras.losses.sparse_categorical_crossentropy(
            labels, logits, from_logits=True
        )

    model.compile(loss=loss)
    attack = kr.PGDAttack("linf", 0.05, steps=2, loss="compiled")
    up = attack(model, x, y)
    sign[0] = -1.0
    down = attack(model, x, y)
    np.testing.assert_allclose(up - x, x - down, atol=1e-6)
    assert np.abs(up - x).min() > 0.04


def test_a_loss_may_keep_its_values(linear_problem):
    """They have no numbers where the loss is compiled."""
    model, x, y = linear_problem
    kept = []

    def loss(labels, logits):
        kept.append(objectives.margin(labels, logits))
        return kept[-1]

    attack = kr.PGDAttack("linf", 0.05, steps=2, loss=loss)
    found = attack(model, x, y)
    assert kept
    np.testing.assert_allclose(attack(model, x, y), found, atol=1e-6)
    plain = kr.PGDAttack("linf", 0.05, steps=2, loss="margin")
    np.testing.assert_allclose(found, plain(model, x, y), atol=1e-6)


def test_backward_is_compiled_with_what_it_reads_now():
    """The gradient of a layer turns round between two attacks."""
    model = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Activation("linear", name="same"),
            keras.layers.Dense(2),
        ]
    )
    model.set_weights([np.array([[-1, 1], [1, -1]]), np.zeros(2)])
    sign = [1.0]
    attack = kr.PGDAttack(
        "linf", 0.1, steps=1, backward={"same": lambda h: sign[0] * h}
    )
    x, y = np.full((3, 2), 0.5, "float32"), np.zeros(3, int)
    up = attack(model, x, y)
    np.testing.assert_allclose(up - x, [[0.1, -0.1]] * 3, atol=1e-6)
    sign[0] = -1.0
    down = attack(model, x, y)
    np.testing.assert_allclose(down - x, [[-0.1, 0.1]] * 3, atol=1e-6)
