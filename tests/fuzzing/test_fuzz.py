"""Random models and data; `fuzzing/properties.py` says what must hold.

A seed that fails says what it is made of, and how to run it again:
`python -m tests.fuzzing SEED`.
"""

import collections
import functools

import keras
import numpy as np
import pytest

import keras_robust as kr
from tests.fuzzing import blocks
from tests.fuzzing import bodies
from tests.fuzzing import heads
from tests.fuzzing import layer_table
from tests.fuzzing import properties
from tests.fuzzing import structures
from tests.fuzzing.draws import level
from tests.fuzzing.random_models import draw_factors

SEEDS = 30
MANY = 300


def faults_of(outcomes):
    return "\n".join(str(found) for found in outcomes if found.faults)


@pytest.mark.parametrize("first", range(0, SEEDS, 5))
@pytest.mark.compiles_much
def test_random_models(first):
    outcomes = [
        properties.run_seed(seed, quick=True)
        for seed in range(first, first + 5)
    ]
    assert not faults_of(outcomes), faults_of(outcomes)


@pytest.fixture(scope="module")
def status():
    """What came of each seed of the long run."""
    return {}


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, MANY, 20))
def test_many_random_models(first, status):
    outcomes = [properties.run_seed(seed) for seed in range(first, first + 20)]
    status.update({found.seed: found.status for found in outcomes})
    assert not faults_of(outcomes), faults_of(outcomes)


@pytest.mark.slow
def test_most_models_are_attacked(status):
    if len(status) < MANY:
        pytest.skip("counts what all of `test_many_random_models` found")
    counts = collections.Counter(status.values())
    assert counts["refused"] < MANY / 3, counts
    assert counts["no model"] < MANY / 20, counts


def test_every_layer_is_in_the_table_or_has_a_reason():
    found = layer_table.layer_classes()
    listed = {
        found[name]
        for name in (
            *layer_table.TABLE,
            *layer_table.TOKENS,
            *layer_table.EXCLUDED,
        )
    }
    missing = [name for name, kind in found.items() if kind not in listed]
    assert not missing
    both = layer_table.EXCLUDED.keys() & layer_table.TABLE.keys()
    assert not both


def test_every_level_of_a_factor_comes():
    features = {bodies.pick_feature(seed) for seed in range(MANY)}
    assert features == set(bodies.features())
    factors = [draw_factors(seed) for seed in range(2 * len(heads.HEADS))]
    assert {f["head"] for f in factors} == set(heads.HEADS)
    assert {f["structure"] for f in factors} == set(structures.STRUCTURES)
    assert [level(seed, "a", "xyz") for seed in range(6)] == [
        level(seed, "a", "xyz") for seed in range(6)
    ]
    assert sorted(level(seed, "a", "xyz") for seed in range(3, 6)) == [*"xyz"]


@functools.cache
def plain_seed():
    """A case that nothing is special about."""
    wanted = {
        "policy": "float32",
        "change": "none",
        "inputs": "one",
        "outputs": "one",
        "dtype": "float32",
        "range": (0, 1),
        "random": False,
        "batch": None,
    }
    for seed in range(10_000):
        factors = draw_factors(seed)
        head = heads.HEADS[factors["head"]]
        if (
            all(factors[key] == value for key, value in wanted.items())
            and factors["feature"] in blocks.ANY
            and head.reads == "logits"
        ):
            return seed
    raise AssertionError("no plain case")


def broken(monkeypatch, method, change):
    """The outcome of a plain case with a method of the library broken."""
    owner, name = method
    right = getattr(owner, name)

    def wrong(self, *args, **kwargs):
        return change(self, right(self, *args, **kwargs))

    monkeypatch.setattr(owner, name, wrong)
    return " ".join(properties.run_seed(plain_seed()).faults)


@pytest.mark.compiles_much
def test_a_right_library_passes():
    assert properties.run_seed(plain_seed()).status == "ok"


@pytest.mark.compiles_much
def test_wrong_labels_are_found(monkeypatch):
    method = kr.classifier.Classifier, "predict_labels"
    faults = broken(monkeypatch, method, lambda self, labels: labels[::-1] + 1)
    assert "(a) predict_labels" in faults


def test_wrong_logits_are_found(monkeypatch):
    method = kr.classifier.Classifier, "predict_logits"
    faults = broken(monkeypatch, method, lambda self, logits: logits * 1.01)
    assert "(a) predict_logits" in faults


def changed_result(change):
    def wrong(attack, result):
        return {**result, "x": change(np.asarray(result["x"]))}

    return wrong


def test_an_attack_outside_is_found(monkeypatch):
    method = kr.PGDAttack, "run"
    wrong = changed_result(lambda x: (x + 2).astype("float32"))
    faults = broken(monkeypatch, method, wrong)
    assert "(c) norm" in faults
    assert "(c) values" in faults


@pytest.mark.compiles_much
def test_an_attack_that_lowers_the_loss_is_found(monkeypatch):
    plain = kr.PGDAttack

    class Lowering(plain):
        """Towards the labels."""

        def run(self, *args, **kwargs):
            twin = plain(**{**self.get_config(), "targeted": True})
            return twin.run(*args, **kwargs)

    monkeypatch.setattr(kr, "PGDAttack", Lowering)
    faults = " ".join(properties.run_seed(plain_seed()).faults)
    assert "(b) loss by predict" in faults


@pytest.mark.compiles_much
def test_a_changed_model_is_found(monkeypatch):
    seed = plain_seed()
    right = kr.PGDAttack.run

    def wrong(self, model, *args, **kwargs):
        result = right(self, model, *args, **kwargs)
        model.trainable_variables[0].assign_add(
            keras.ops.ones(model.trainable_variables[0].shape)
        )
        model.layers[-1].trainable = False
        return result

    monkeypatch.setattr(kr.PGDAttack, "run", wrong)
    faults = " ".join(properties.run_seed(seed).faults)
    assert "(d) the attack changed the model: variable" in faults
    assert "trainable" in faults
