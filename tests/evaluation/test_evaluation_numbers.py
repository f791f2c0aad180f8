"""What is reported is what `model.predict` says, whatever a search says."""

import json
from dataclasses import dataclass

import keras
import numpy as np
import pytest
from keras import ops

import keras_robust as kr
from keras_robust.attacks.attack import Attack
from keras_robust.evaluation.data import check_data
from tests.helpers import make_linear


def predicted(model, x):
    labels = model.predict(x, verbose=0)
    return labels.argmax(-1)


def names(report):
    return {flag.name for flag in report.flags}


@dataclass(eq=False, repr=False)
class Lying(Attack):
    """Moves what it is told, and claims what it likes."""

    norm = "linf"
    epsilon: float = 0.3
    moved: int = 0
    claim: bool = True

    def attack(self, problem, verbose, scored, checkpoint):
        x = np.array(problem.x)
        x[: self.moved] = np.roll(x, 1, axis=0)[: self.moved]
        claims = np.full(len(x), self.claim)
        return {"x": x, "success": claims, "loss": np.zeros(len(x))}


@pytest.mark.parametrize("only", [True, False])
@pytest.mark.parametrize("claim", [True, False])
def test_the_model_decides_and_a_flag_says_so(varied, claim, only):
    model, x, y = varied
    attack = Lying(0.9, moved=12, claim=claim)
    report = kr.evaluate_robustness(
        model,
        (x, y),
        {"lying": attack},
        verbose=0,
        probe=False,
        survivors_only=only,
    )
    moved = np.concatenate([np.roll(x, 1, axis=0)[:12], x[12:]])
    clean, after = predicted(model, x) == y, predicted(model, moved) == y
    attacked = clean if only else np.ones(len(y), bool)
    expected = np.where(only & ~clean, False, after)
    np.testing.assert_array_equal(report.correct["lying"], expected)
    (flag,) = [f for f in report.flags if f.name == "search disagrees"]
    wrong = attacked & (after if claim else ~after)
    assert flag.evidence["attack"] == "lying"
    assert flag.evidence["examples"] == wrong.sum() > 0
    kind = (
        "broken by the search alone" if claim else "broken by the model alone"
    )
    assert flag.evidence[kind] == wrong.sum()


def test_what_has_not_moved_is_not_predicted_again(linear_problem):
    model, x, y = linear_problem
    seen = []

    class Seen(keras.layers.Layer):
        def call(self, z):
            seen.append(1)
            return z

    inputs = keras.Input(x.shape[1:])
    counted = keras.Model(inputs, model(Seen()(inputs)))
    classifier = check_data(counted, (x, y))[0]
    rows = []
    real = type(classifier).predict_outputs

    def predict_outputs(self, image, *args, **kwargs):
        rows.append(len(image))
        return real(self, image, *args, **kwargs)

    type(classifier).predict_outputs = predict_outputs
    try:
        kr.evaluate_robustness(
            counted,
            (x, y),
            {"lying": Lying(0.9, moved=7, claim=False)},
            verbose=0,
            probe=False,
            survivors_only=False,
        )
    finally:
        type(classifier).predict_outputs = real
    # All once, a few for randomness, and then what moved; no more than 7 of
    # those that moved are looked at again for the flag.
    assert rows.count(len(x)) == 1 and 7 in rows
    assert max(rows[rows.index(len(x)) + 1 :]) <= 8


def test_a_tie_is_no_disagreement():
    """Both logits are equal at the image: nobody is right about that."""
    model = make_linear([[1.0, 1.0]])
    x, y = np.full((4, 1), 0.5, "float32"), np.zeros(4, int)
    report = kr.evaluate_robustness(
        model, (x, y), Lying(0.9, moved=4, claim=True), verbose=0, probe=False
    )
    assert report.accuracy["Lying"] == 1 and "search disagrees" not in names(
        report
    )


@pytest.mark.parametrize(
    "activation, units",
    [
        ("softmax", 3),
        pytest.param("sigmoid", 1, marks=pytest.mark.slow_on_jax),
        pytest.param(None, 3, marks=pytest.mark.slow_on_jax),
    ],
)
def test_numbers_are_those_of_predict(activation, units, rng):
    inputs = keras.Input((6, 6, 1))
    h = keras.layers.Flatten()(inputs)
    h = keras.layers.Dense(8, activation="relu")(h)
    outputs = keras.layers.Dense(units, activation=activation)(h)
    model = keras.Model(inputs, outputs)
    x = rng.random((40, 6, 6, 1), dtype="float32")

    def answers(images):
        z = model.predict(images, verbose=0)
        return z.argmax(-1) if units > 1 else (z[:, 0] > 0.5).astype(int)

    y = answers(x)
    y[:5] = 1 - np.minimum(y[:5], 1)
    attacks = {
        "pgd": kr.PGDAttack("l2", 0.4, steps=3),
        "apgd": kr.APGDAttack("linf", 0.05, steps=5, seed=0),
    }
    report = kr.evaluate_robustness(
        model, (x, y), attacks, verbose=0, probe=False, survivors_only=False
    )
    np.testing.assert_array_equal(report.correct["clean"], answers(x) == y)
    for name, attack in attacks.items():
        attacked = attack(model, x, y, verbose=0)
        right = answers(attacked) == y
        np.testing.assert_array_equal(report.correct[name], right)
    assert not names(report)


@pytest.fixture(scope="module")
def byte_problem():
    """A linear model that takes pixels of 0 to 255, and such pixels."""
    random = np.random.default_rng(1)
    weights = random.normal(size=(16, 3))
    x = random.integers(60, 190, (60, 4, 4, 1)).astype("uint8")
    bias = -(x.reshape(60, 16) / 255).mean(0) @ weights
    model = make_linear(weights / 255, bias, shape=(4, 4, 1))
    y = predicted(model, x.astype("float32"))
    assert len(set(y)) == 3
    return model, x, y


@pytest.mark.slow_on_jax
def test_bytes_by_scaling_and_by_range_are_the_same(byte_problem):
    model, x, y = byte_problem
    options = {"norm": "linf", "verbose": 0, "probe": False}
    attack = kr.PGDAttack("linf", 8, steps=5, value_range=(0, 255))
    attacked = attack(model, x.astype("float32"), y, verbose=0)
    exact = (predicted(model, attacked) == y).mean()
    assert 0.05 < exact < 0.95
    by_range, by_name, by_scaling, by_floats, by_unit = (
        kr.evaluate_robustness(model, (x, y), attack, verbose=0, probe=False),
        kr.evaluate_robustness(
            model,
            (x, y),
            "pgd",
            epsilon=8,
            value_range=(0, 255),
            **options,
        ),
        kr.evaluate_robustness(
            model, (x, y), "pgd", epsilon=8 / 255, scaling="byte", **options
        ),
        kr.evaluate_robustness(
            model,
            (x.astype("float64"), y),
            "pgd",
            epsilon=8 / 255,
            scaling="byte",
            **options,
        ),
        kr.evaluate_robustness(
            model,
            ((x / 255).astype("float32"), y),
            "pgd",
            epsilon=8 / 255,
            scaling="byte",
            **options,
        ),
    )
    for report in (by_range, by_name, by_scaling, by_floats, by_unit):
        assert report.accuracy["clean"] == 1
        assert report.accuracy["worst case"] == pytest.approx(exact, abs=0.05)
    assert by_scaling.accuracy == by_unit.accuracy == by_floats.accuracy
    assert by_scaling.provenance["scaling"] == "byte"


@pytest.mark.slow_on_jax
def test_standardized_takes_the_statistics_of_the_data(byte_problem):
    _, x, _ = byte_problem
    unit = (x / 255).astype("float32")
    standardized = (unit - unit.mean()) / unit.std()
    weights = np.random.default_rng(2).normal(size=(16, 3))
    model = make_linear(weights, shape=(4, 4, 1))
    y = predicted(model, standardized)
    y[::7] = (y[::7] + 1) % 3
    report = kr.evaluate_robustness(
        model,
        (x, y),
        "pgd",
        norm="linf",
        epsilon=0.05,
        scaling="standardized",
        verbose=0,
        probe=False,
    )
    assert (
        report.accuracy["clean"] == (predicted(model, standardized) == y).mean()
    )
    # 0.05 of the range is 0.05 / deviation of what the model takes.
    attack = kr.PGDAttack(
        "linf",
        0.05 / unit.std(),
        steps=20,
        value_range=(-unit.mean() / unit.std(), (1 - unit.mean()) / unit.std()),
    )
    attacked = attack(model, standardized, y, verbose=0)
    right = (predicted(model, attacked) == y).mean()
    assert report.accuracy["worst case"] == pytest.approx(right, abs=0.05)


MESSAGE = r"The pixels lie in \[0, 255\]. Pass scaling='byte' \(radii stay"


def test_pixels_in_the_wrong_units(byte_problem):
    model, x, y = byte_problem
    for images in (x, x.astype("float32"), x.astype("int64")):
        with pytest.raises(ValueError, match=MESSAGE):
            kr.evaluate_robustness(
                model, (images, y), "pgd", norm="linf", epsilon=8
            )
        with pytest.raises(ValueError, match=MESSAGE):
            kr.robustness_curve(model, (images, y), "l2", [0.1], "pgd")
        with pytest.raises(ValueError, match=MESSAGE):
            kr.transfer_matrix(
                {"a": model}, {"a": model}, (images, y), kr.PGDAttack()
            )
    with pytest.raises(ValueError, match="With `scaling`.*value_range"):
        kr.evaluate_robustness(
            model,
            (x, y),
            kr.PGDAttack("linf", 8, value_range=(0, 255)),
            scaling="byte",
        )
    with pytest.raises(ValueError, match="With `scaling`.*values in"):
        kr.evaluate_robustness(
            model,
            (x.astype("float32") - 128, y),
            kr.PGDAttack(),
            scaling="byte",
        )
    with pytest.raises(ValueError, match="`scaling` must be one of"):
        kr.evaluate_robustness(model, (x, y), kr.PGDAttack(), scaling="bytes")


@pytest.mark.slow_on_jax
def test_integers_are_taken_where_they_fit(rng):
    model = make_linear(rng.normal(size=(5, 2)))
    x = rng.integers(0, 2, (30, 5))
    y = predicted(model, x.astype("float32"))
    report = kr.evaluate_robustness(
        model, (x, y), kr.PGDAttack("linf", 0.1), verbose=0, probe=False
    )
    assert report.accuracy["clean"] == 1


def test_misuse_is_told(linear_problem):
    model, x, y = linear_problem
    attack = kr.PGDAttack()
    for arguments, message in (
        ((model, x, y, "pgd"), "`data` must be a pair.*in one argument"),
        (((x, y), model, attack), "`model` must be a built Keras model.*tuple"),
        ((x, (x, y), attack), "`model` must be a built Keras model.*shape"),
        ((model, (x, y), kr.PGDAttack), r"call the class: PGDAttack\(...\)"),
        ((model, (x, y), y), "`attacks` must be an attack.*array of shape"),
        ((model, (x, y), None), "`attacks` must be an attack.*None"),
        ((model, (x, y), [attack, 3]), "`attacks` must be an attack.*3"),
        ((model, (x, y), {"a": "pgd"}), "`attacks` must be an attack.*'pgd'"),
        ((model, (x, y), "best"), "name must be one of"),
        ((model, (x, y), "pgd"), "needs `norm` and `epsilon`"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            kr.evaluate_robustness(*arguments)
        # No arrays in it.
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    with pytest.raises(ValueError, match="must come with the name"):
        kr.evaluate_robustness(model, (x, y), attack, value_range=(0, 255))
    with pytest.raises(ValueError, match="`from_logits` must be the same"):
        kr.evaluate_robustness(
            model,
            (x, y),
            kr.PGDAttack(from_logits=True),
            from_logits=False,
        )


def test_lists_of_attacks_and_of_names(linear_problem):
    model, x, y = linear_problem
    options = {"verbose": 0, "probe": False}
    attacks = [
        kr.PGDAttack("linf", 0.02),
        kr.FGSMAttack("linf", 0.02),
        kr.PGDAttack("linf", 0.05),
    ]
    report = kr.evaluate_robustness(model, (x, y), attacks, **options)
    assert list(report.accuracy) == [
        *("clean", "PGDAttack", "FGSMAttack", "PGDAttack 2", "worst case")
    ]
    one = kr.evaluate_robustness(model, (x, y), attacks[2], **options)
    assert report.accuracy["PGDAttack 2"] == one.accuracy["PGDAttack"]
    named = kr.evaluate_robustness(
        model, (x, y), ("fgsm", "pgd"), norm="linf", epsilon=0.05, **options
    )
    assert list(named.accuracy) == ["clean", "fgsm", "pgd", "worst case"]


@pytest.mark.slow_on_jax
def test_options_of_named_attacks(rng):
    """Probabilities that do not show: the names need `from_logits`."""
    weights = rng.normal(size=(6, 3))
    inner = make_linear(weights)
    inputs = keras.Input((6,))
    soft = keras.layers.Lambda(ops.softmax)(inner(inputs))
    model = keras.Model(inputs, soft)
    x = rng.uniform(0.3, 0.7, (40, 6)).astype("float32")
    y = predicted(model, x)
    options = {"norm": "l2", "epsilon": 0.1, "verbose": 0, "probe": False}
    with pytest.raises(ValueError, match="from_logits"):
        kr.evaluate_robustness(model, (x, y), "pgd", **options)
    told = kr.evaluate_robustness(
        model, (x, y), "pgd", from_logits=False, **options
    )
    plain = kr.evaluate_robustness(inner, (x, y), "pgd", **options)
    assert told.accuracy == plain.accuracy
    curve = kr.robustness_curve(
        model,
        (x, y),
        "l2",
        [0.1],
        "pgd",
        from_logits=False,
        verbose=0,
        probe=False,
    )
    assert curve.accuracy[1] == plain.accuracy["pgd"]


@pytest.fixture(scope="module")
def two_inputs():
    """Linear in an image and in other numbers, three classes."""
    random = np.random.default_rng(3)
    image = keras.Input((4, 4, 1), name="image")
    meta = keras.Input((2,), name="meta")
    flat = keras.layers.Flatten()(image)
    joined = keras.layers.Concatenate()([flat, meta])
    model = keras.Model(
        {"image": image, "meta": meta},
        {"kind": keras.layers.Dense(3)(joined)},
    )
    model.set_weights([random.normal(size=(18, 3)), np.zeros(3)])
    x = {
        "image": random.uniform(0.3, 0.7, (40, 4, 4, 1)).astype("float32"),
        "meta": random.normal(size=(40, 2)).astype("float32"),
    }
    y = model.predict(x, verbose=0)["kind"].argmax(-1)
    assert len(set(y)) == 3
    return model, x, y


def in_tensors(x, y):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((x, y)).batch(25)


@pytest.mark.parametrize("form", ["dictionary", "list", "batches", "tf.data"])
@pytest.mark.compiles_much
def test_several_inputs(two_inputs, form):
    model, x, y = two_inputs
    data = {
        "tf.data": in_tensors(x, y),
        "dictionary": (x, {"kind": y}),
        "list": ([x["image"], x["meta"]], y),
        "batches": [
            ({key: part[rows] for key, part in x.items()}, y[rows])
            for rows in (np.s_[:25], np.s_[25:])
        ],
    }[form]
    attack = kr.PGDAttack("linf", 0.1, steps=5)
    report = kr.evaluate_robustness(
        model, data, attack, attacked="image", verbose=0
    )
    weights = model.get_weights()[0]
    logits = model.predict(x, verbose=0)["kind"]
    # The exact answer: only the image moves.
    gap = logits[np.arange(40), y][:, None] - logits
    slopes = np.abs(weights[:16, y].T[:, :, None] - weights[None, :16]).sum(1)
    exact = ((gap > 0.1 * slopes) | (slopes == 0)).all(-1).mean()
    assert report.accuracy["clean"] == 1
    assert report.accuracy["PGDAttack"] == pytest.approx(exact, abs=0.03)
    assert 0 < exact < 1 and not names(report)
    assert report.provenance["input_shape"] == [4, 4, 1]


def test_which_input_must_be_said(two_inputs):
    model, x, y = two_inputs
    with pytest.raises(ValueError, match="`attacked`.*image.*meta"):
        kr.evaluate_robustness(model, (x, y), kr.PGDAttack(), verbose=0)


@pytest.mark.slow_on_jax
def test_one_radius_per_feature(rng):
    """Features that may not move stay; the others move by their own radius."""
    weights = rng.normal(size=(6, 2))
    model = make_linear(weights)
    x = rng.uniform(0.3, 0.7, (60, 6)).astype("float32")
    y = predicted(model, x)
    radii = np.array([[0.0, 0.01, 0.02, 0.05, 0.0, 0.1]])
    attacks = {
        "rows": kr.PGDAttack("linf", radii, steps=5),
        "half": kr.PGDAttack("linf", radii / 2, steps=5),
    }
    report = kr.evaluate_robustness(model, (x, y), attacks, verbose=0)
    w = weights[:, 1] - weights[:, 0]
    margin = np.where(y == 1, 1, -1) * (x @ w)
    for name, share in (("rows", 1), ("half", 0.5)):
        exact = (margin > share * (radii[0] * np.abs(w)).sum()).mean()
        assert report.accuracy[name] == pytest.approx(exact, abs=0.02)
    assert not names(report)


@pytest.mark.parametrize(
    "epsilon, bounds, flagged",
    [
        (8, (0, 1), True),
        (0.5, (0, 1), True),
        (0.49, (0, 1), False),
        (8 / 255, (0, 1), False),
        (8 / 255, (0, 255), True),
        (8, (0, 255), False),
        (0, (0, 1), False),
    ],
)
def test_radii_that_are_likely_mistaken(
    linear_problem, epsilon, bounds, flagged
):
    model, x, y = linear_problem
    attack = kr.PGDAttack("linf", epsilon, steps=1, value_range=bounds)
    report = kr.evaluate_robustness(
        model, (x, y), attack, verbose=0, probe=False
    )
    assert ("radius" in names(report)) == flagged


@pytest.mark.slow_on_jax
def test_autoattack_without_images(rng):
    model = make_linear(rng.normal(size=(6, 2)))
    x = rng.uniform(0.3, 0.7, (40, 6)).astype("float32")
    y = predicted(model, x)
    attack = kr.AutoAttack("linf", 0.05, steps=5, queries=5, seed=0)
    with pytest.warns(UserWarning, match="square"):
        report = kr.evaluate_robustness(
            model, (x, y), attack, verbose=0, probe=False
        )
    flag = next(flag for flag in report.flags if flag.name == "left out")
    assert flag.evidence["parts"] == "square"
    assert list(report.stages["AutoAttack"]) == ["apgd-ce", "apgd-t", "fab-t"]
    last = report.stages["AutoAttack"]["fab-t"]
    assert last == pytest.approx(report.accuracy["AutoAttack"])


@pytest.mark.compiles_much
def test_provenance(linear_problem, tmp_path):
    model, x, y = linear_problem
    attack = kr.PGDAttack("l2", 0.25, steps=3, random_start=True, seed=7)
    report = kr.evaluate_robustness(
        model, (x, y), {"pgd": attack}, verbose=0, probe=False
    )
    written = json.loads(report.to_json(tmp_path / "report.json"))
    found = written["provenance"]
    assert (found["norm"], found["epsilon"], found["seed"]) == ("l2", 0.25, 7)
    assert found["attacks"]["pgd"]["config"]["steps"] == 3
    assert found["attacks"]["pgd"]["class"] == "PGDAttack"
    assert found["backend"] == keras.backend.backend()
    assert found["versions"]["keras"] == keras.__version__
    assert found["date"].startswith("20")
    assert (found["examples"], found["classes"]) == (60, 2)

    def marks(*arguments, **options):
        made = kr.evaluate_robustness(
            *arguments, attack, verbose=0, probe=False, **options
        ).provenance
        return made["model_fingerprint"], made["data_fingerprint"]

    same = marks(model, (x, y))
    assert same == (found["model_fingerprint"], found["data_fingerprint"])
    scaled = marks(model, (x, y), scaling="unit")
    assert scaled[0] != same[0] and scaled[1] == same[1]
    other = marks(model, (x, 1 - y))
    assert other[0] == same[0] and other[1] != same[1]
    heavier = make_linear(2 * model.get_weights()[0], shape=(4, 4, 1))
    assert marks(heavier, (x, y))[0] != same[0]


@pytest.mark.slow_on_jax
@pytest.mark.compiles_much
def test_augmentation_that_is_active_in_predict():
    """Without `training` in `call`, Keras leaves augmentation layers on."""

    class Augmented(keras.Model):
        def __init__(self):
            super().__init__()
            self.invert = keras.layers.RandomInvert(
                factor=0.5, value_range=(0, 1), seed=0
            )
            self.flat = keras.layers.Flatten()
            self.head = keras.layers.Dense(2)

        def call(self, x):
            return self.head(self.flat(self.invert(x)))

    model = Augmented()
    # Bright images are of class 0, dark ones of class 1.
    x = np.full((40, 4, 4, 1), 0.9, "float32")
    model(x)
    signs = np.array([[1.0, -1.0]]) * np.ones((16, 1))
    model.head.set_weights([signs, np.array([-8.0, 8.0])])
    first = model.predict(x, verbose=0).argmax(-1)
    assert 0 < first.mean() < 1
    report = kr.evaluate_robustness(
        model,
        (x, np.zeros(40, int)),
        {"pgd": kr.PGDAttack(epsilon=0.1, steps=2)},
        verbose=0,
    )
    # Some are inverted, as in `predict`.
    assert 0 < report.accuracy["clean"] < 1
    assert "randomized" in names(report)
