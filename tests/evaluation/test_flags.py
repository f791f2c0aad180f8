"""Each flag, on a model built to trip it, and none on a sound one."""

import io
from dataclasses import dataclass

import keras
import numpy as np
import pytest
from keras import ops

import keras_robust as kr
from keras_robust.attacks.attack import Attack
from tests.helpers import make_linear

PGD = {"pgd": kr.PGDAttack("linf", 0.05, steps=10)}


def flags(model, x, y, attacks=None, **options):
    report = kr.evaluate_robustness(
        model, (x, y), attacks or PGD, verbose=0, **options
    )
    return {flag.name: flag for flag in report.flags}


def behind(layer, model, shape):
    inputs = keras.Input(shape)
    return keras.Model(inputs, model(layer(inputs)))


@keras.saving.register_keras_serializable("tests")
class Noise(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seeds = keras.random.SeedGenerator(0)

    def call(self, x):
        return x + keras.random.normal(ops.shape(x), 0, 0.05, seed=self.seeds)


@pytest.mark.slow_on_jax
@pytest.mark.compiles_much
def test_a_sound_model_has_none(linear_problem, varied):
    model, x, y = varied
    assert not flags(model, x, y)
    attacks = {
        "autoattack": kr.AutoAttack("l2", 0.2, steps=10, queries=20, seed=0),
        "pgd 0.1": kr.PGDAttack("l2", 0.1),
        "pgd 0.2": kr.PGDAttack("l2", 0.2),
        "square": kr.SquareAttack("l2", 0.2, queries=20, seed=0),
    }
    # Three classes: the targeted DLR loss alone is out of its depth.
    assert set(flags(model, x, y, attacks)) == {"few classes"}


@pytest.mark.slow_on_jax
def test_randomized(linear_problem):
    model, x, y = linear_problem
    found = flags(behind(Noise(), model, x.shape[1:]), x, y)
    assert set(found) == {"randomized"}
    evidence = found["randomized"].evidence
    assert evidence["largest difference"] > 0.01


@pytest.mark.slow_on_jax
def test_batch_norm_in_training_mode(linear_problem):
    model, x, y = linear_problem

    class Wrong(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.norm = keras.layers.BatchNormalization()

        def call(self, x):
            return self.norm(x, training=True)

    wrong = behind(Wrong(), model, x.shape[1:])
    y = ops.convert_to_numpy(wrong(x)).argmax(-1)
    assert "batch dependent" in flags(wrong, x, y)


@pytest.mark.slow_on_jax
@pytest.mark.compiles_much
def test_probabilities_as_logits(linear_problem):
    model, x, y = linear_problem
    inputs = keras.Input(x.shape[1:])
    soft = keras.layers.Lambda(ops.softmax)(model(inputs))
    hidden = keras.Model(inputs, soft)
    attack = kr.PGDAttack("linf", 0.05, from_logits=True)
    assert "probabilities as logits" in flags(hidden, x, y, {"pgd": attack})
    attack = kr.PGDAttack("linf", 0.05, from_logits=False)
    assert not flags(hidden, x, y, {"pgd": attack})


@pytest.mark.slow_on_jax
@pytest.mark.compiles_much
def test_masked_gradients(linear_problem):
    """Rounded pixels: no gradient, so search and noise do better."""
    model, x, y = linear_problem
    rounding = keras.layers.Lambda(lambda z: ops.round(z * 20) / 20)
    masked = behind(rounding, model, x.shape[1:])
    attacks = {
        "pgd": kr.PGDAttack("linf", 0.1, steps=10),
        "square": kr.SquareAttack("linf", 0.1, queries=100, seed=0),
    }
    found = flags(masked, x, y, attacks)
    assert set(found) == {
        "vanishing gradients",
        "black box beats white box",
        "noise beats gradients",
        "unbounded radius survived",
        "zero gradient",
    }
    assert found["vanishing gradients"].evidence["share of examples"] == 1
    assert found["unbounded radius survived"].evidence["accuracy"] == 1
    # AutoAttack sees it by itself, without probes.
    attack = kr.AutoAttack("linf", 0.1, steps=5, queries=100, seed=0)
    found = flags(masked, x, y, {"aa": attack}, probe=False)
    assert set(found) == {"black box beats white box", "few classes"}


def test_more_attack_raises_accuracy(linear_problem):
    """Beyond a short distance this model's gradient points back."""
    model, x, y = linear_problem

    @dataclass(eq=False, repr=False)
    class Overshoots(Attack):
        """Works at a small radius only, like a step that is too long."""

        epsilon: float

        def attack(self, problem, verbose, scored, checkpoint):
            adversarial = kr.PGDAttack("linf", 0.2)(
                problem.classifier, problem.x, problem.y, verbose=0
            )
            return {"x": adversarial if self.epsilon < 0.3 else problem.x}

    attacks = {"near": Overshoots(0.2), "far": Overshoots(0.4)}
    found = flags(model, x, y, attacks, probe=False)
    assert set(found) == {"more attack raises accuracy"}
    evidence = found["more attack raises accuracy"].evidence
    assert evidence["accuracy of far"] > evidence["accuracy of near"]
    turned = {"far": Overshoots(0.2), "near": Overshoots(0.2)}
    assert not flags(model, x, y, turned, probe=False)


@pytest.mark.slow_on_jax
def test_a_larger_radius_that_leaves_more(linear_problem):
    """A bump of wrong class near the data: PGD at 4 radii jumps over it."""
    model, x, y = linear_problem
    x, y = np.full((20, 4, 4, 1), 0.5, "float32"), np.zeros(20, int)

    class Bump(keras.layers.Layer):
        def call(self, z):
            far = ops.mean(ops.abs(z - 0.5), axis=(1, 2, 3))
            wrong = ops.where(far < 0.2, 10 * far, -1.0 - 0 * far)
            return ops.stack([0 * far + 0.5, wrong], axis=-1)

    inputs = keras.Input((4, 4, 1))
    model = keras.Model(inputs, Bump()(inputs))
    attacks = {
        # Logits in [0, 1] are asked about.
        f"pgd {epsilon}": kr.PGDAttack(
            "linf",
            epsilon,
            steps=5,
            random_start=True,
            seed=0,
            from_logits=True,
        )
        for epsilon in (0.1, 0.45)
    }
    assert "more attack raises accuracy" in flags(
        model, x, y, attacks, probe=False
    )


@pytest.mark.slow_on_jax
@pytest.mark.compiles_much
def test_few_classes(linear_problem):
    model, x, y = linear_problem
    attack = kr.AutoAttack("linf", 0.01, steps=3, queries=3)
    found = flags(model, x, y, {"aa": attack}, probe=False)
    assert found["few classes"].evidence["classes"] == 2
    rand = kr.AutoAttack("linf", 0.01, "rand", steps=1)
    three = make_linear(np.eye(3), shape=None)
    images = np.eye(3, dtype="float32")
    assert not flags(three, images, [0, 1, 2], {"aa": rand}, probe=False)


@pytest.mark.parametrize(
    "step, name",
    [(0.2, "outside ball"), (np.nan, "nan"), (0.8, "outside box")],
)
def test_outputs_out_of_bounds(linear_problem, step, name):
    model, x, y = linear_problem

    @dataclass(eq=False, repr=False)
    class Careless(Attack):
        norm = "linf"
        epsilon: float

        def attack(self, problem, verbose, scored, checkpoint):
            return {"x": problem.x + np.float32(step)}

    attack = Careless(0.1 if name == "outside ball" else 0.9)
    found = flags(model, x, y, {"careless": attack}, probe=False)
    # A radius of 0.9 lets any image become grey.
    assert set(found) - {"radius"} == {name}
    assert ("radius" in found) == (name != "outside ball")
    assert found[name].evidence["examples"] > 0


@keras.saving.register_keras_serializable("tests")
class OffWhite(keras.layers.Layer):
    """A number in place of all scores for images without a white pixel."""

    def __init__(self, number, **kwargs):
        super().__init__(**kwargs)
        self.number = number

    def call(self, x, scores):
        brightest = ops.max(x, axis=(1, 2, 3))
        return ops.where(brightest[:, None] < 1.0, self.number, scores)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_nan_on_attacked_images_alone(varied, number):
    """NaN counts as the first class: for its images as a right answer."""
    model, x, _ = varied
    inputs = keras.Input(x.shape[1:])
    outputs = OffWhite(number)(inputs, model(inputs))
    unsound = keras.Model(inputs, outputs)
    x = np.array(x)
    x[:, 0, 0, 0] = 1.0
    y = unsound.predict(x, verbose=0).argmax(-1)
    assert 0 < np.mean(y == 0) < 1

    @dataclass(eq=False, repr=False)
    class Darker(Attack):
        norm = "linf"
        epsilon: float

        def attack(self, problem, verbose, scored, checkpoint):
            return {"x": problem.x * np.float32(0.9)}

    report = kr.evaluate_robustness(
        unsound, (x, y), {"darker": Darker(0.2)}, verbose=0, probe=False
    )
    flag = next(flag for flag in report.flags if flag.name == "nan outputs")
    assert flag.evidence == {"attack": "darker", "examples": len(x)}
    assert report.accuracy["darker"] == np.mean(y == 0)


def test_flags_in_table_and_json(linear_problem):
    import json

    from rich.console import Console

    report = kr.RobustnessReport(
        {"clean": np.ones(4), "aa": np.zeros(4)},
        [kr.evaluation.Flag("a flag", "that means [this]", {"share": 0.5})],
        {"aa": {"apgd-ce": 0.25, "square": 0.0}},
    )
    console = Console(record=True, width=80, file=io.StringIO())
    report.table(console)
    text = console.export_text()
    assert "a flag: that means [this] (share 0.5)" in text
    assert "after apgd-ce" in text and "25.00" in text
    written = json.loads(report.to_json())
    assert written["flags"][0]["evidence"] == {"share": 0.5}
    assert written["stages"]["aa"]["apgd-ce"] == 0.25
