import pytest

from keras_robust.study.replication.am207_errors import AM207_ERRORS
from keras_robust.study.replication.training_sets import MODELS
from keras_robust.study.replication.training_sets import STREAMS
from keras_robust.study.replication.training_sets import TRAINING_SETS
from keras_robust.study.replication.training_sets import Kind
from keras_robust.study.replication.training_sets import sets_with_error
from keras_robust.study.replication.training_sets import training_set


def test_names_say_what_a_set_is():
    """The names of files and tables follow from base and variant."""
    suffixes = {"shortcut": "shortcut", "robust source": "robust"}
    for name, made in TRAINING_SETS.items():
        suffix = suffixes.get(made.variant, made.variant.replace(" ", "_"))
        assert name == (f"{made.base}_{suffix}" if suffix else made.base)
        base = training_set(made.base)
        assert (base.kind, base.target) == (made.kind, made.target)
        assert base.base == base.name
        assert made.is_generated == name.startswith("D_")
        assert (made.kind is Kind.RELABELLED) == (made.target is not None)
        assert made.control == name.endswith("_shortcut")


def test_every_set_has_random_numbers_of_its_own():
    assert set(STREAMS) == {*TRAINING_SETS, "leakage"}
    assert len(set(STREAMS)) == len(STREAMS)


def test_every_error_but_that_of_the_evaluation_has_a_set():
    for error in AM207_ERRORS:
        found = [made.error for made in sets_with_error(error)]
        assert found == ([] if error == "broken_linf" else [error])
    assert not any(training_set(name).error for name in MODELS)


def test_an_unknown_set():
    with pytest.raises(ValueError, match="D_rand_shortcut.*Received: 'D_rnd'"):
        training_set("D_rnd")
