"""What an attack of one's own returns is checked, and told in one line."""

from dataclasses import dataclass

import numpy as np
import pytest
from keras import ops

import keras_robust as kr
from keras_robust import attacks


@dataclass(frozen=True, kw_only=True)
class RandomLoop(attacks.ProjectedLoop):
    """A random point; `change` makes of it what is to be refused."""

    objective: object
    change: object = None

    def init(self, inputs):
        x = self.random_point(inputs)
        loss, success = self.objective(inputs.rows, x)
        rows = {"x": x, "loss": loss, "success": success}
        if self.early_stop:
            rows["active"] = ops.logical_not(success)
        return attacks.State(rows=rows, shared={"step": ops.zeros((), "int32")})

    def step(self, inputs, state):
        return state

    def finish(self, inputs, state):
        found = {key: state.rows[key] for key in ("x", "loss", "success")}
        return self.change(found) if self.change else found


@dataclass(eq=False, repr=False)
class RandomPoint(attacks.LoopAttack):
    epsilon: float = 0.4
    restarts: int = 2
    steps: int = 3
    change: object = None
    make_loop: object = None
    change_inputs: object = None
    make_runs: object = None
    early_stop: bool = False

    seed = 0

    def runs(self, num_classes):
        if self.make_runs is not None:
            return self.make_runs
        return super().runs(num_classes)

    def loop(self, problem, run):
        objective = attacks.LabelObjective(
            problem.classifier.logits, loss=attacks.margin, targeted=False
        )
        return (self.make_loop or RandomLoop)(
            objective=objective,
            ball=self.ball,
            value_range=self.value_range,
            change=self.change,
            early_stop=self.early_stop,
        )

    def inputs(self, problem, run, batch):
        inputs = super().inputs(problem, run, batch)
        inputs.rows["noise"] = self.noise(problem, batch)
        if self.change_inputs:
            return self.change_inputs(inputs, len(batch.rows))
        return inputs


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda found: {"x": found["x"]}, "`success`, by which"),
        (lambda found: {k: found[k] for k in ("loss", "success")}, "`x` and"),
        (lambda found: {**found, "clean": found["loss"]}, "clean"),
        (lambda found: found["x"], "dictionary of `x`.*an array"),
        (lambda found: {**found, "x": found["x"][:1]}, "`x` of shape"),
        (lambda found: {**found, "loss": found["loss"][:1]}, "`loss` of"),
        (lambda found: {**found, "loss": found["loss"][:, None]}, "`loss` of"),
        (
            lambda found: {
                **found,
                "success": ops.cast(found["success"], "float32"),
            },
            "bool",
        ),
    ],
)
def test_results_that_numpy_would_broadcast(varied, change, message):
    model, x, y = varied
    with pytest.raises(ValueError, match=f"RandomLoop.finish.*{message}"):
        RandomPoint(change=change)(model, x, y, verbose=0)


@pytest.mark.parametrize(
    "change",
    [
        lambda inputs, size: inputs.rows,
        lambda inputs, size: None,
        lambda inputs, size: attacks.Inputs({**inputs.rows, "a": np.ones(3)}),
        lambda inputs, size: attacks.Inputs({**inputs.rows, "a": 0.5}),
        lambda inputs, size: attacks.Inputs({**inputs.rows, "a": None}),
        lambda inputs, size: attacks.Inputs(
            {**inputs.rows, "a": {"b": np.ones((size + 1, 2))}}
        ),
    ],
)
def test_inputs_with_a_row_for_each_example(varied, change):
    model, x, y = varied
    with pytest.raises(ValueError, match="RandomPoint.inputs must return"):
        RandomPoint(change_inputs=change)(model, x, y, verbose=0)


@pytest.mark.parametrize("runs", [[], [0], 3, iter([attacks.Run()])])
def test_runs(varied, runs):
    model, x, y = varied
    with pytest.raises(ValueError, match="RandomPoint.runs must.*Received"):
        RandomPoint(make_runs=runs)(model, x, y, verbose=0)


@pytest.mark.parametrize("steps", [-1, 2.5])
def test_steps(varied, steps):
    model, x, y = varied
    with pytest.raises(ValueError, match="`steps`.*>= 0. Received"):
        RandomPoint(steps=steps)(model, x, y, verbose=0)


class WithHiddenState(RandomLoop):
    def __init__(self, **fields):
        super().__init__(**fields)
        object.__setattr__(self, "strength", 2)


class WithHiddenDefault(RandomLoop):
    early_stop = True


class WithoutActive(RandomLoop):
    def init(self, inputs):
        state = super().init(inputs)
        state.rows.pop("active")
        return state


def test_loops_are_told_apart_by_their_fields(varied):
    """Two with another attribute would share what is compiled for one."""
    model, x, y = varied
    for kind, name in ((WithHiddenState, "strength"),) + (
        (WithHiddenDefault, "early_stop"),
    ):
        with pytest.raises(ValueError, match=f"must be fields.*{name}"):
            RandomPoint(make_loop=kind)(model, x, y, verbose=0)
    with pytest.raises(ValueError, match="hashable.*Received: change"):
        RandomPoint(change=np.ones(2))(model, x, y, verbose=0)
    with pytest.raises(ValueError, match="must return a Loop. Received: None"):
        RandomPoint(make_loop=lambda **fields: None)(model, x, y, verbose=0)


def test_a_loop_that_stops_tells_who_moves(varied):
    model, x, y = varied
    RandomPoint(early_stop=True)(model, x, y, verbose=0)
    attack = RandomPoint(early_stop=True, make_loop=WithoutActive)
    with pytest.raises(ValueError, match="`active`.*Received: active=None"):
        attack(model, x, y, verbose=0)


@pytest.mark.parametrize("value", [ops.zeros(()), None])
def test_a_loop_that_stops_has_rows_of_the_batch(value, varied):
    """What belongs to no example cannot stay as it was for some."""

    @dataclass(frozen=True, kw_only=True)
    class WithMore(RandomLoop):
        def init(self, inputs):
            state = super().init(inputs)
            return state._replace(rows={**state.rows, "more": value})

    model, x, y = varied
    attack = RandomPoint(early_stop=True, make_loop=WithMore)
    with pytest.raises(ValueError, match="one entry for each.*more="):
        attack(model, x, y, verbose=0)


@pytest.mark.slow_on_jax
def test_noise_may_be_drawn_twice(varied):
    """Other numbers, that do not depend on the size of batches either."""
    model, x, y = varied
    seen = {}

    def again(name):
        def change(inputs, size):
            noise = seen["attack"].noise(seen["problem"], seen["batch"])
            seen.setdefault(name, []).append(inputs.rows["noise"]["uniform"])
            inputs.rows["noise"] = noise
            return inputs

        return change

    class Twice(RandomPoint):
        def inputs(self, problem, run, batch):
            seen.update(attack=self, problem=problem, batch=batch)
            return super().inputs(problem, run, batch)

    whole, split = (
        Twice(change_inputs=again(size), batch_size=size)(
            model, x, y, verbose=0
        )
        for size in (24, 5)
    )
    np.testing.assert_allclose(whole, split, atol=1e-6)
    once = RandomPoint()(model, x, y, verbose=0)
    assert np.abs(whole - once).max() > 0.01


@pytest.mark.parametrize(
    "loss",
    [
        lambda y, logits: logits,
        lambda y, logits: ops.mean(logits),
        lambda y, logits: logits[:, :1],
        lambda y, logits: None,
    ],
)
def test_losses_are_one_number_for_each_example(varied, loss):
    """The sum of others has a gradient, too."""
    model, x, y = varied
    for kind in (kr.PGDAttack, kr.APGDAttack, kr.SquareAttack):
        attack = kind(epsilon=0.1, loss=loss)
        with pytest.raises(ValueError, match="loss must be.*Received"):
            attack(model, x, y, verbose=0)


@dataclass(eq=False, repr=False)
class OwnObjective(kr.PGDAttack):
    objective: object = None

    def loop(self, problem, run):
        fields = vars(super().loop(problem, run))
        return attacks.GradientLoop(**{**fields, "objective": self.objective})


def total(inputs, x):
    return ops.sum(x, axis=(1, 2, 3)), ops.sum(x, axis=(1, 2, 3)) > 40


@pytest.mark.parametrize(
    "objective, message",
    [
        (lambda inputs, x: total(inputs, x)[0], "tuple"),
        (lambda inputs, x: (total(inputs, x)[0], None), "one number"),
        (lambda inputs, x: (ops.sum(x), total(inputs, x)[1]), "one number"),
        (lambda inputs, x: (total(inputs, x)[0],) * 2, "bools"),
    ],
)
def test_objectives_are_a_pair(varied, objective, message):
    model, x, y = varied
    with pytest.raises(ValueError, match=f"bjective.*{message}.*Received"):
        OwnObjective(objective=objective)(model, x, y, verbose=0)


def test_an_objective_may_ignore_labels(varied):
    model, x, y = varied
    attack = OwnObjective("linf", 0.1, objective=total, keep_best=True)
    attacked = attack(model, x, y, verbose=0)
    np.testing.assert_allclose(attacked, np.clip(x + 0.1, 0, 1), atol=1e-5)


@dataclass(eq=False, repr=False)
class Returns(attacks.Attack):
    found: object = None

    def attack(self, problem, verbose, scored, checkpoint):
        return self.found(problem.x)


@pytest.mark.parametrize(
    "found, message",
    [
        (lambda x: None, "dictionary"),
        (lambda x: {}, "dictionary"),
        (lambda x: x, "dictionary"),
        (lambda x: {"x": x[:3]}, r"shape \(24, 6, 6, 2\)"),
        (lambda x: {"x": 3}, r"shape \(24, 6, 6, 2\)"),
    ],
)
def test_attacks_that_are_no_loop(varied, found, message):
    model, x, y = varied
    with pytest.raises(ValueError, match=f"Returns.attack must.*{message}"):
        Returns(found=found)(model, x, y, verbose=0)


@pytest.mark.parametrize(
    "found", [ops.convert_to_tensor, lambda x: x.astype("float64")]
)
def test_images_come_back_as_they_went_in(varied, found):
    model, x, y = varied
    attack = Returns(found=lambda x: {"x": found(x)})
    attacked = attack(model, x, y, verbose=0)
    assert isinstance(attacked, np.ndarray) and attacked.dtype == x.dtype
    np.testing.assert_array_equal(attacked, x)


def test_no_losses_where_none_were_computed(varied):
    """Only `scored` promises them; made-up ones would pass for results."""
    model, x, y = varied
    plain = kr.PGDAttack("linf", 0.1).run(model, x, y, verbose=0)
    assert set(plain) == {"x"}
    scored = kr.PGDAttack("linf", 0.1).run(model, x, y, verbose=0, scored=True)
    assert {"x", "loss", "success"} <= set(scored)
    np.testing.assert_array_equal(plain["x"], scored["x"])
