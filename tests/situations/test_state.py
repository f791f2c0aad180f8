"""States on disk, commands, and numbers that are the model's own.

Two evaluations share a state only where nothing differs that the result
depends on; and what any report, curve or matrix says is what `predict` says.
"""

import json

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_robust as kr
from keras_robust import cli
from keras_robust.attacks.loop_attack import LoopAttack
from keras_robust.classifier import Classifier
from tests.situations.helpers import dense
from tests.situations.helpers import digits
from tests.situations.helpers import fit_head
from tests.situations.helpers import pgd
from tests.situations.helpers import predicted
from tests.situations.helpers import settle

# Every model is compiled anew.
pytestmark = pytest.mark.slow

EXAMPLES = 60


# The command.


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Classifiers of bytes, of real numbers and of integers, on disk."""
    folder = tmp_path_factory.mktemp("saved")
    for dtype in ("float32", "uint8"):
        inputs = keras.Input((8, 8, 1), dtype=dtype)
        h = layers.Rescaling(1 / 255)(inputs)
        model = keras.Model(inputs, dense()(h))
        model.save(folder / f"{dtype}.keras")
    inputs = keras.Input((8, 8, 1))
    h = layers.Flatten()(ops.round(inputs * 3) / 3)
    model = keras.Model(inputs, layers.Dense(10)(h))
    fit_head(model).save(folder / "rounded.keras")
    return folder


def command(model, output, *more, epsilon=("8/255",), examples=EXAMPLES):
    """Runs `keras-robust evaluate` and returns what it wrote."""
    status = cli.main(
        [
            *("evaluate", str(model), "--dataset", "digits"),
            *("--attack", "pgd", "--examples", str(examples)),
            *("--output", str(output), "--verbose", "0"),
            *("--epsilon", *epsilon, *more),
        ]
    )
    assert status == 0
    return json.loads((output / "report.json").read_text())


def test_examples():
    _, (x, y) = kr.datasets.load("digits")
    np.testing.assert_array_equal(x[:EXAMPLES], digits()[1][0])
    np.testing.assert_array_equal(y[:EXAMPLES], digits()[1][1])


@pytest.mark.slow_on_jax
def test_the_wrong_scaling_and_then_the_right_one(saved, tmp_path):
    """The second command must not go on with the numbers of the first."""
    _, (x, y) = digits()
    path = saved / "float32.keras"
    model = keras.saving.load_model(path)
    wrong = command(path, tmp_path / "a", "--scaling", "unit")
    right = command(path, tmp_path / "a", "--scaling", "byte")
    fresh = command(path, tmp_path / "b", "--scaling", "byte")
    assert right["accuracy"] == fresh["accuracy"]
    for found, pixels in ((wrong, x), (right, 255 * x)):
        clean = (predicted(model, pixels) == y).mean()
        assert found["accuracy"]["clean"] == pytest.approx(clean)
    assert wrong["accuracy"]["clean"] < right["accuracy"]["clean"] - 0.3
    # And back again: what was found first is not lost or mixed up.
    again = command(path, tmp_path / "a", "--scaling", "unit")
    assert again["accuracy"] == wrong["accuracy"]


@pytest.mark.slow_on_jax
def test_twice_into_the_same_folder(saved, tmp_path):
    """More examples, another radius, other logits: each a run of its own."""
    path = saved / "float32.keras"
    scaling = "--scaling", "byte"
    for number, (more, options) in enumerate(
        [
            ((), {"examples": 30}),
            ((), {"examples": 40}),
            (("--from-logits", "true"), {"examples": 40}),
            (("--seed", "5"), {"examples": 40}),
            ((), {"examples": 40, "epsilon": ["16/255"]}),
        ]
    ):
        shared = command(path, tmp_path / "one", *scaling, *more, **options)
        fresh = command(
            path, tmp_path / f"fresh {number}", *scaling, *more, **options
        )
        assert shared["examples"] == options["examples"]
        assert shared["accuracy"] == fresh["accuracy"]


@pytest.mark.slow_on_jax
def test_the_curve_of_a_model_of_integers(saved, tmp_path):
    """The command with several radii, where nothing moved before."""
    radii = ("0.05", "0.1", "0.2")
    found = command(saved / "uint8.keras", tmp_path / "a", epsilon=radii)
    real = command(saved / "float32.keras", tmp_path / "b", epsilon=radii)
    np.testing.assert_allclose(found["accuracy"], real["accuracy"], atol=0.1)
    assert found["accuracy"][3] < found["accuracy"][0] - 0.3
    assert [f["name"] for f in found["flags"]] == [
        f["name"] for f in real["flags"]
    ]


@pytest.mark.slow_on_jax
@pytest.mark.parametrize("radii", [("0.05",), ("0.02", "0.05")])
def test_the_command_prints_flags(saved, tmp_path, capsys, radii):
    """One radius or several: a model without gradients is told of."""
    found = command(
        saved / "rounded.keras",
        tmp_path,
        "--scaling",
        "unit",
        epsilon=radii,
    )
    assert any("gradient" in flag["message"] for flag in found["flags"])
    assert "gradient" in capsys.readouterr().out


def test_flags_of_a_curve_of_models_that_hide():
    """Probabilities said to be logits, and a radius that was not meant."""
    _, (x, y) = digits()
    model = dense(end="softmax", scale=300.0)
    curve = kr.robustness_curve(
        model,
        (x, y),
        norm="linf",
        epsilons=[8 / 255, 8.0],
        attack=lambda epsilon: kr.PGDAttack(
            "linf", epsilon, steps=2, from_logits=True
        ),
        verbose=0,
    )
    text = " | ".join(map(str, curve.flags))
    assert "probabilities" in text and "did you mean" in text.lower()


# What a state depends on.


def power(exponent):
    """Networks that differ in a constant of their graph alone."""
    inputs = keras.Input((8, 8, 1))
    h = ops.power(layers.Dense(64)(layers.Flatten()(inputs)), exponent)
    model = settle(keras.Model(inputs, layers.Dense(10)(h)))
    weights = fit_head(settle(power_body())).get_weights()
    model.set_weights(weights)
    return model


def power_body():
    inputs = keras.Input((8, 8, 1))
    h = ops.power(layers.Dense(64)(layers.Flatten()(inputs)), 3.0)
    return keras.Model(inputs, layers.Dense(10)(h))


def wired(turned):
    """Networks of the same layers, wired in another order."""
    inputs = keras.Input((8, 8, 1))
    h = layers.Flatten()(inputs)
    first = layers.Dense(64, activation="relu", name="a")
    second = layers.Dense(64, activation="tanh", name="b")
    parts = [first(h), second(h)]
    h = layers.Subtract()(parts[::-1] if turned else parts)
    return settle(keras.Model(inputs, layers.Dense(10)(h)))


def quantized(model):
    model.quantize("int8")
    return model


def rounded_policy():
    model = dense()
    model.layers[1].dtype_policy = "mixed_bfloat16"
    return model


def case(model=None, attack=None, **options):
    return {
        "model": model or dense(),
        "attack": attack or pgd(),
        "options": options,
    }


CHANGES = {
    "activation": lambda: [case(), case(dense("tanh"))],
    "last activation": lambda: [case(), case(dense(end="softmax"))],
    "constant": lambda: [case(power(3.0)), case(power(2.0))],
    "wiring": lambda: [case(wired(False)), case(wired(True))],
    "quantization": lambda: [case(), case(quantized(dense()))],
    "precision": lambda: [case(), case(rounded_policy())],
    "weights": lambda: [case(), case(dense(scale=11.0))],
    "from_logits": lambda: [
        case(dense(end="softmax", scale=300.0), pgd(from_logits=logits))
        for logits in (True, None)
    ],
    "value_range": lambda: [
        case(attack=pgd(value_range=box)) for box in ((0, 1), (-1, 2))
    ],
    "epsilon": lambda: [case(attack=pgd(epsilon)) for epsilon in (0.1, 0.5)],
    "scaling": lambda: [case(scaling=name) for name in ("unit", "symmetric")],
    "survivors": lambda: [case(survivors_only=only) for only in (True, False)],
}


def evaluated(made, state=None):
    _, (x, y) = digits()
    return kr.evaluate_robustness(
        made["model"],
        (x, y),
        attacks={"pgd": made["attack"]},
        probe=False,
        verbose=0,
        state_path=state,
        **made["options"],
    )


@pytest.mark.slow_on_jax
@pytest.mark.parametrize("name", CHANGES)
def test_a_state_belongs_to_one_evaluation(name, tmp_path):
    first, second = CHANGES[name]()
    evaluated(first, tmp_path)
    expected = evaluated(second)
    try:
        found = evaluated(second, tmp_path)
    except ValueError as error:
        # To refuse the folder is right as well.
        assert "state_path" in str(error)
        return
    for key, rows in expected.correct.items():
        np.testing.assert_array_equal(found.correct[key], rows)


@pytest.mark.slow_on_jax
def test_the_same_evaluation_goes_on(tmp_path, monkeypatch):
    """With the model read from disk again nothing is attacked again."""
    _, (x, y) = digits()
    made = case()
    made["model"].save(tmp_path / "model.keras")
    whole = evaluated(made, tmp_path / "state")
    monkeypatch.setattr(LoopAttack, "attack", lambda *a, **k: 1 / 0)
    monkeypatch.setattr(kr.PGDAttack, "attack", lambda *a, **k: 1 / 0)
    copy = keras.saving.load_model(tmp_path / "model.keras")
    again = evaluated({**made, "model": copy}, tmp_path / "state")
    for key, rows in whole.correct.items():
        np.testing.assert_array_equal(again.correct[key], rows)


@pytest.mark.slow_on_jax
def test_states_of_curves_and_matrices(tmp_path):
    """Networks of equal weights and other activations do not share them."""
    _, (x, y) = digits()
    first, second = dense(), dense("tanh")

    def curve(model, state):
        return kr.robustness_curve(
            model,
            (x, y),
            norm="l2",
            epsilons=[0.2, 0.5],
            attack=pgd,
            probe=False,
            verbose=0,
            state_path=state,
        ).correct

    def matrix(model, state):
        return kr.transfer_matrix(
            {"a": model},
            {"a": model},
            data=(x, y),
            attack=pgd(seed=0),
            probe=False,
            verbose=0,
            state_path=state,
        ).untargeted

    for number, of in enumerate((curve, matrix)):
        state = tmp_path / str(number)
        before = of(first, state)
        after = of(second, state)
        np.testing.assert_array_equal(after, of(second, None))
        assert not np.array_equal(before, after)
        np.testing.assert_array_equal(of(first, state), before)


# The numbers are the model's own.


def test_a_report_is_what_the_model_says():
    _, (x, y) = digits()
    model = dense()
    attacks = {
        "weak": kr.FGSMAttack("l2", 0.2),
        "strong": kr.PGDAttack("l2", 0.5, steps=3),
    }
    report = kr.evaluate_robustness(
        model,
        (x, y),
        attacks=attacks,
        probe=False,
        verbose=0,
        survivors_only=False,
    )
    clean = predicted(model, x) == y
    np.testing.assert_array_equal(report.correct["clean"], clean)
    worst = clean
    for name, attack in attacks.items():
        rows = predicted(model, attack(model, x, y, verbose=0)) == y
        np.testing.assert_array_equal(report.correct[name], rows)
        worst = worst & rows
    np.testing.assert_array_equal(report.correct["worst case"], worst)
    assert report.accuracy["worst case"] == pytest.approx(worst.mean())


def test_a_curve_is_what_the_model_says():
    _, (x, y) = digits()
    model = dense()
    curve = kr.robustness_curve(
        model,
        (x, y),
        norm="l2",
        epsilons=[0.5, 0.2],
        attack=pgd,
        probe=False,
        verbose=0,
    )
    right = predicted(model, x) == y
    np.testing.assert_array_equal(curve.correct[0], right)
    for rows, epsilon in zip(curve.correct[1:], (0.2, 0.5), strict=True):
        attacked = pgd(epsilon)(model, x, y, verbose=0)
        right = right & (predicted(model, attacked) == y)
        np.testing.assert_array_equal(rows, right)


def test_a_matrix_is_what_the_models_say():
    """Of the images both get right, what the target gets wrong."""
    _, (x, y) = digits()
    models = {"a": dense(), "b": quantized(dense("tanh"))}
    attack = kr.PGDAttack("l2", 0.7, steps=3)
    matrix = kr.transfer_matrix(
        models,
        models,
        data=(x, y),
        attack=attack,
        targeted=False,
        probe=False,
        verbose=0,
    )
    right = {key: predicted(model, x) == y for key, model in models.items()}
    for row, source in enumerate(models):
        found = attack(models[source], x, y, verbose=0)
        for column, target in enumerate(models):
            both = right[source] & right[target]
            wrong = (predicted(models[target], found) != y)[both].mean()
            assert matrix.examples[row, column] == both.sum()
            assert matrix.untargeted[row, column] == pytest.approx(wrong)


# Where the search sees something else than the model.


@pytest.fixture
def lying(monkeypatch):
    """A search that sees the classes in another order from some image on."""
    kind = type(Classifier.of(dense()).logits)
    original = kind.__call__

    def other(self, x, *args, **kwargs):
        return ops.roll(original(self, x, *args, **kwargs), 1, axis=-1)

    monkeypatch.setattr(kind, "__call__", other)
    # As if the proof had been fooled.
    monkeypatch.setattr(kind, "agrees_with", lambda *args: True)


def disagreements(result):
    return [f for f in result.flags if "disagree" in f"{f.name} {f.message}"]


def test_a_search_that_disagrees_is_told_of(lying):
    """The numbers stay the model's own, and a flag tells of the search."""
    _, (x, y) = digits()
    model = dense()
    report = kr.evaluate_robustness(
        model, (x, y), {"pgd": pgd()}, probe=False, verbose=0
    )
    np.testing.assert_array_equal(
        report.correct["clean"], predicted(model, x) == y
    )
    found = pgd()(model, x, y, verbose=0)
    np.testing.assert_array_equal(
        report.correct["pgd"], predicted(model, found) == y
    )
    assert disagreements(report)


def test_a_curve_whose_search_disagrees(lying):
    _, (x, y) = digits()
    model = dense()
    curve = kr.robustness_curve(
        model,
        (x, y),
        norm="l2",
        epsilons=[0.5],
        attack=pgd,
        probe=False,
        verbose=0,
    )
    np.testing.assert_array_equal(curve.correct[0], predicted(model, x) == y)
    found = pgd()(model, x, y, verbose=0)
    right = predicted(model, found) == y
    np.testing.assert_array_equal(curve.correct[1], right & curve.correct[0])
    assert disagreements(curve)


def test_no_disagreement_without_a_reason():
    _, (x, y) = digits()
    report = kr.evaluate_robustness(
        dense(), (x, y), {"pgd": pgd()}, probe=False, verbose=0
    )
    assert not report.flags
