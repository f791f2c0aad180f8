import keras
import numpy as np
import pytest

import keras_robust as kr
from keras_robust.attacks.engine.search import OneRun
from keras_robust.evaluation import checkpoint
from keras_robust.evaluation import outcomes
from tests.helpers import make_linear


class Stopped(BaseException):
    """As Ctrl-C is."""


def attacks(**options):
    return {
        "pgd": kr.PGDAttack("l2", 0.1, steps=3),
        "auto/attack": kr.AutoAttack(
            "l2", 0.3, steps=4, queries=6, seed=0, batch_size=16, **options
        ),
    }


@pytest.mark.slow_on_jax
@pytest.mark.compiles_much
def test_a_stopped_evaluation_goes_on(linear_problem, tmp_path, monkeypatch):
    """Stopped after each of its batches in turn, it ends as if never."""
    model, x, y = linear_problem
    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN_SAVES", 0.0)
    whole = kr.evaluate_robustness(
        model, (x, y), attacks(), probe=False, verbose=0
    )
    original = OneRun.attack_batch
    done = []

    def one_more(self, *args):
        if len(done) >= 1:
            done.clear()
            raise Stopped
        done.append(self.attack.name)
        batches.append(self.attack.name)
        original(self, *args)

    batches = []
    monkeypatch.setattr(OneRun, "attack_batch", one_more)
    stops = 0
    while stops < 100:
        try:
            report = kr.evaluate_robustness(
                model,
                (x, y),
                attacks(),
                probe=False,
                verbose=0,
                state_path=tmp_path / "state",
            )
            break
        except Stopped:
            stops += 1
    assert stops >= 5
    # No batch was run twice: as many as there are in a run without stops.
    monkeypatch.setattr(OneRun, "attack_batch", original)
    for name, rows in whole.correct.items():
        np.testing.assert_array_equal(report.correct[name], rows)
    assert report.stages == whole.stages
    assert len(batches) == count_batches(model, x, y, monkeypatch)
    # And a finished one is read back, not run.
    monkeypatch.setattr(OneRun, "attack_batch", lambda *args: 1 / 0)
    again = kr.evaluate_robustness(
        model,
        (x, y),
        attacks(),
        probe=False,
        verbose=0,
        state_path=tmp_path / "state",
    )
    assert again.accuracy == report.accuracy


def count_batches(model, x, y, monkeypatch):
    calls = []
    original = OneRun.attack_batch

    def counted(self, *args):
        calls.append(1)
        original(self, *args)

    monkeypatch.setattr(OneRun, "attack_batch", counted)
    kr.evaluate_robustness(model, (x, y), attacks(), probe=False, verbose=0)
    return len(calls)


def test_other_evaluations_may_use_the_same_folder(linear_problem, tmp_path):
    model, x, y = linear_problem
    attack = {"pgd": kr.PGDAttack("l2", 0.1, steps=3)}
    options = {"probe": False, "verbose": 0}
    first = kr.evaluate_robustness(
        model, (x, y), attack, state_path=tmp_path, **options
    )
    other = make_linear(2 * model.get_weights()[0], shape=(4, 4, 1))
    stronger = {"pgd": kr.PGDAttack("l2", 0.2, steps=3)}
    for changed in (
        (other, (x, y), attack),
        (model, (x[:50], y[:50]), attack),
        (model, (x, y), stronger),
    ):
        fresh = kr.evaluate_robustness(*changed, **options)
        mixed = kr.evaluate_robustness(*changed, state_path=tmp_path, **options)
        assert mixed.accuracy == fresh.accuracy
    assert len(list(tmp_path.iterdir())) == 4
    again = kr.evaluate_robustness(
        model, (x, y), attack, state_path=tmp_path, **options
    )
    assert again.accuracy == first.accuracy


@pytest.mark.parametrize("inside", [False, True])
def test_a_compiled_loss_is_part_of_the_state(inside, linear_problem, tmp_path):
    """Another loss of `compile` gives another attack on the same weights."""
    linear, x, y = linear_problem
    model = make_linear(linear.get_weights()[0], shape=(4, 4, 1))
    if inside:
        model = kr.AdversarialModel(model, kr.FGSMAttack("l2", 0.1))
    attack = {"pgd": kr.PGDAttack("l2", 0.1, steps=3, loss="compiled")}
    options = {"probe": False, "verbose": 0}
    losses = keras.losses
    for count, loss in enumerate(
        (
            losses.SparseCategoricalCrossentropy(from_logits=True),
            losses.SparseCategoricalCrossentropy(from_logits=False),
            lambda labels, outputs: -outputs[:, 0],
        )
    ):
        model.compile(loss=loss)
        fresh = kr.evaluate_robustness(model, (x, y), attack, **options)
        kept = kr.evaluate_robustness(
            model, (x, y), attack, state_path=tmp_path, **options
        )
        assert kept.accuracy == fresh.accuracy
        assert len(list(tmp_path.iterdir())) == count + 1


def test_a_write_cut_short_leaves_the_last_state(tmp_path, monkeypatch):
    section = checkpoint.Checkpoint(tmp_path, "x").section("a/b")
    section.save(force=True, value=1, rows=np.arange(3))

    def fails(file, **arrays):
        file.write(b"half")
        raise Stopped

    monkeypatch.setattr(checkpoint.np, "savez", fails)
    with pytest.raises(Stopped):
        section.save(force=True, value=2)
    restored = section.restore()
    assert restored["value"] == 1 and restored["rows"].tolist() == [0, 1, 2]
    assert section.section("part").restore() is None


def test_a_damaged_state_is_named(linear_problem, tmp_path):
    model, x, y = linear_problem
    attack = {"fgsm": kr.FGSMAttack(epsilon=0.1)}
    options = {"state_path": tmp_path, "probe": False, "verbose": 0}
    kr.evaluate_robustness(model, (x, y), attack, **options)
    (state,) = tmp_path.rglob("fgsm+done.npz")
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(
        ValueError, match="remove it to start again.*fgsm.done.npz"
    ):
        kr.evaluate_robustness(model, (x, y), attack, **options)


def test_an_outcome_is_kept_by_the_names_of_its_numbers(tmp_path):
    """These names are in states of earlier versions."""
    section = checkpoint.Checkpoint(tmp_path, "x").section("apgd")
    kept = {
        **{"nan": 0, "outside_box": 1, "outside_ball": 2},
        **{"largest_excess": 0.5, "denied": 3, "missed": 4},
        **{"zero_gradient": True, "correct": np.array([True, False])},
    }
    section.save(force=True, **kept)
    outcome = outcomes.Outcome.from_arrays(section.restore())
    assert outcome.arrays().keys() == kept.keys() | {"nan_answers"}
    assert outcome.nan_answers == 0
    for name, value in kept.items():
        np.testing.assert_array_equal(outcome.arrays()[name], value)
    assert outcome.broken_by is None
    with pytest.raises(ValueError, match="remove it to start again.*'at'"):
        outcomes.Outcome.from_arrays({"go": 0, "at": 0})
