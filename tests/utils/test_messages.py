import keras
import numpy as np
import pytest

from keras_robust.utils.messages import did_you_mean
from keras_robust.utils.messages import shown
from keras_robust.utils.messages import shown_places


@pytest.mark.parametrize(
    "value, expected",
    [
        (0.5, "0.5"),
        (np.float32(0.5), "0.5"),
        (None, "None"),
        ("l2", "'l2'"),
        ((0.0, 1.0), "(0.0, 1.0)"),
        ((1,), "(1,)"),
        ([1, 2], "[1, 2]"),
        ({"a": 1}, "{'a': 1}"),
        (np.array(0.25), "0.25"),
        (np.array([-1, 2]), "[-1,  2]"),
        (
            np.full((20, 3), 2.0),
            "an array of shape (20, 3) and dtype float64, values from 2 to 2",
        ),
        (
            (np.zeros(20), np.ones(20)),
            "(an array of shape (20,) and dtype float64, values from 0 to 0, "
            "an array of shape (20,) and dtype float64, values from 1 to 1)",
        ),
        (
            [*range(100)],
            "a list of 100 elements, [0, 1, 2, 3, 4, 5, 6, 7, ...]",
        ),
    ],
)
def test_shown(value, expected):
    assert shown(value) == expected


def test_values_that_are_no_numbers_are_counted():
    values = np.ones(20)
    values[:3] = np.nan, np.inf, np.nan
    assert shown(values).endswith("from 1 to 1, and 3 NaN or infinite")
    assert shown(np.full(20, np.nan)).endswith("without a finite value")
    names = np.array(["a"] * 20)
    assert shown(names).startswith("an array of shape (20,) and dtype")


def test_tensors():
    told = shown(keras.ops.ones((20,)))
    assert told.startswith("an array of shape (20,) and dtype float32")
    assert shown(keras.Input((20,))).startswith("an array of shape (None, 20)")


def test_what_is_long_is_cut():
    class Long:
        def __repr__(self):
            return "x" * 1000

    assert shown(Long()) == "x" * 200 + "..."
    assert len(shown({number: number for number in range(100)})) < 100
    assert len(shown([[*range(100)]] * 3)) < 250


def test_places():
    where = np.zeros(13, bool)
    where[[3, 7]] = True
    assert shown_places(where) == "2 of 13 features: 3, 7"
    assert shown_places(~where).startswith("11 of 13 features: 0, 1, 2, 4")
    assert shown_places(~where).endswith(", ...")
    assert shown_places(np.eye(2, dtype=bool)).endswith("(0, 0), (1, 1)")


def test_names_that_were_meant():
    known = ["epsilon", "steps"]
    assert did_you_mean("epsilom", known) == " Did you mean 'epsilon'?"
    assert did_you_mean("foo", known) == ""


@pytest.mark.parametrize(
    ("name", "meant"),
    [("eps", "epsilon"), ("iterations", "steps"), ("alpha", "step_size")],
)
def test_names_of_other_libraries(name, meant):
    known = ["epsilon", "step_size", "steps", "scale"]
    assert did_you_mean(name, known) == f" Did you mean {meant!r}?"
    assert meant not in did_you_mean(name, ["scale", "name"])
