"""Functions in the place of models: `Classifier.from_function`."""

import numpy as np
import pytest
from keras import ops

import keras_robust as kr
from tests.helpers import norms

RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.normal(size=(16, 3)).astype("float32")


def scores(images):
    return images.reshape(len(images), -1) @ WEIGHTS


def labels(images):
    return scores(images).argmax(-1)


def probabilities(images):
    e = np.exp(scores(images))
    return e / e.sum(-1, keepdims=True)


class Counted:
    """A function that knows how it was called."""

    def __init__(self, function):
        self.function = function
        self.sizes = []
        self.kinds = set()

    def __call__(self, images):
        self.sizes.append(len(images))
        self.kinds.add((type(images), str(images.dtype), images.shape[1:]))
        answer = self.function(images)
        # What a function does to its arguments must not matter.
        images[...] = np.nan
        return answer


def make(function, num_classes=3, **options):
    return kr.Classifier.from_function(function, num_classes, **options)


@pytest.fixture
def images():
    x = RANDOM.uniform(0.3, 0.7, (12, 4, 4, 1)).astype("float32")
    return x, labels(x)


def test_answers_are_the_functions_own(images):
    x, y = images
    for function in (scores, labels, probabilities):
        classifier = make(Counted(function), batch_size=5)
        np.testing.assert_array_equal(classifier.predict_labels(x), y)
        np.testing.assert_array_equal(
            kr.evaluation.predict_labels(classifier, x), y
        )
    counted = Counted(scores)
    classifier = make(counted, batch_size=5)
    np.testing.assert_allclose(classifier.predict_logits(x), scores(x))
    assert counted.sizes == [5, 5, 2]
    assert counted.kinds == {(np.ndarray, "float32", (4, 4, 1))}


@pytest.mark.parametrize("offset", [-1e9, 1e5, 1e9])
def test_differences_of_large_scores_decide(images, offset):
    """Sums of logarithms, whose differences get lost in float32."""
    x, _ = images

    def answer(images):
        return scores(images).astype("float64") + offset

    found = make(answer)
    rows = np.random.default_rng(1).uniform(size=(500, 4, 4, 1))
    rows = rows.astype("float32")
    own = answer(rows).argmax(-1)
    np.testing.assert_array_equal(found.predict_labels(rows), own)
    logits = found.predict_logits(rows).astype("float64")
    margins = np.ptp(logits, -1), np.ptp(scores(rows), -1)
    np.testing.assert_allclose(margins[0], margins[1], rtol=1e-4, atol=1e-4)
    # Large integers, and probabilities that are all but equal.
    whole = make(lambda x: np.round(1e6 * answer(x)).astype("int64"))
    np.testing.assert_array_equal(whole.predict_labels(rows), own)
    level = make(lambda x: np.full((len(x), 3), 1 / 3))
    level.check(x)
    np.testing.assert_allclose(level.predict_logits(x), np.log(1 / 3))


def test_logarithms_of_probabilities(images):
    x, _ = images
    found = make(probabilities)
    found.check(x)
    np.testing.assert_allclose(
        found.predict_logits(x), np.log(probabilities(x)), atol=1e-5
    )
    given = make(probabilities, from_logits=True)
    given.check(x)
    np.testing.assert_allclose(given.predict_logits(x), probabilities(x))
    plain = make(scores)
    plain.check(x)
    np.testing.assert_allclose(plain.predict_logits(x), scores(x))


@pytest.mark.parametrize("norm, epsilon", [("l2", 0.8), ("linf", 0.15)])
@pytest.mark.compiles_much
def test_square_does_the_same_to_a_function_and_a_model(images, norm, epsilon):
    x, y = images
    model = make_model()
    attack = kr.SquareAttack(norm, epsilon, queries=60, seed=0)
    expected = attack.run(model, x, y, scored=True, verbose=0)
    counted = Counted(scores)
    found = attack.run(make(counted), x, y, scored=True, verbose=0)
    np.testing.assert_allclose(found["x"], expected["x"], atol=1e-5)
    np.testing.assert_array_equal(found["success"], expected["success"])
    assert 0 < found["success"].sum()
    np.testing.assert_array_equal(labels(found["x"]) != y, found["success"])
    assert norms(found["x"] - x, norm).max() <= epsilon * (1 + 1e-6)
    # Checked and predicted once, the start and the proposals.
    assert sum(counted.sizes) <= 8 + 12 + 12 * 61


def make_model():
    import keras

    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(3, use_bias=False),
        ]
    )
    model.set_weights([WEIGHTS])
    return model


@pytest.mark.compiles_much
def test_spatial_needs_labels_only(images):
    x, y = images
    attack = kr.SpatialAttack(rotation=40, translation=1, angles=5, shifts=3)
    expected = attack.run(make_model(), x, y, scored=True, verbose=0)
    found = attack.run(make(labels), x, y, scored=True, verbose=0)
    np.testing.assert_array_equal(found["success"], expected["success"])
    assert found["success"].any()


def test_gradient_attacks_are_refused_before_any_call(images):
    counted = Counted(scores)
    classifier = make(counted, name="service")
    for attack in (
        kr.PGDAttack(),
        kr.APGDAttack(),
        kr.AutoAttack(),
        kr.FABAttack(),
        kr.DDNAttack(),
        kr.CarliniWagnerL2(),
    ):
        with pytest.raises(ValueError, match="gradients.*SquareAttack.*serv"):
            attack(classifier, *images)
        with pytest.raises(ValueError, match="gradients.*Hop.*Received"):
            kr.evaluate_robustness(classifier, images, attack)
    with pytest.raises(ValueError, match="gradients.*Received"):
        kr.robustness_curve(classifier, images, "l2", [0.1])
    with pytest.raises(ValueError, match="gradients.*Received"):
        kr.transfer_matrix(
            {"a": classifier}, {"a": classifier}, images, kr.PGDAttack()
        )
    assert counted.sizes == []


def test_score_attacks_refuse_labels(images):
    counted = Counted(labels)
    square = kr.SquareAttack(queries=10)
    for call in (
        lambda: square(make(counted), *images),
        lambda: kr.evaluate_robustness(make(counted), images, square),
    ):
        counted.sizes.clear()
        with pytest.raises(ValueError, match="gives scores.*labels.*HopSkip"):
            call()
        assert sum(counted.sizes) <= 8


@pytest.mark.compiles_much
def test_an_evaluation(images):
    x, y = images
    y = np.where(np.arange(12) < 2, (y + 1) % 3, y)
    attack = kr.SquareAttack("linf", 0.1, queries=40, seed=0)
    report = kr.evaluate_robustness(make(scores), (x, y), attack, verbose=0)
    expected = kr.evaluate_robustness(
        make_model(), (x, y), attack, verbose=0, probe=False
    )
    assert report.accuracy == expected.accuracy
    assert report.accuracy["clean"] == pytest.approx(10 / 12)
    assert report.accuracy["SquareAttack"] < report.accuracy["clean"]
    assert [flag.name for flag in report.flags] == []
    assert report.provenance["model"] == "scores"
    assert report.provenance["model_fingerprint"] is None


@pytest.mark.compiles_much
def test_curves_and_scaling(images):
    x, y = images

    def of_bytes(images):
        assert images.max() > 2
        return scores(images / 255)

    curve = kr.robustness_curve(
        make(of_bytes),
        (x, y),
        "linf",
        [0.05, 0.2],
        attack=lambda epsilon: kr.SquareAttack(
            "linf", epsilon, queries=30, seed=0
        ),
        scaling="byte",
        verbose=0,
    )
    expected = kr.robustness_curve(
        make_model(),
        (x, y),
        "linf",
        [0.05, 0.2],
        attack=lambda epsilon: kr.SquareAttack(
            "linf", epsilon, queries=30, seed=0
        ),
        verbose=0,
        probe=False,
    )
    np.testing.assert_array_equal(curve.correct, expected.correct)


def test_targets_of_transfer(images):
    model, attack = make_model(), kr.PGDAttack("linf", 0.1, steps=3)
    found = kr.transfer_matrix(
        {"model": model},
        {"model": model, "service": make(labels)},
        images,
        attack,
        verbose=0,
    )
    np.testing.assert_allclose(found.untargeted[0, 0], found.untargeted[0, 1])
    np.testing.assert_allclose(found.targeted[0, 0], found.targeted[0, 1])
    assert found.untargeted[0, 0] > 0


def test_random_functions_are_found_out(images):
    x, y = images
    random = np.random.default_rng(0)

    def noisy(images):
        return scores(images) + random.normal(size=(len(images), 3))

    attack = kr.SquareAttack("linf", 0.1, queries=5, seed=0)
    report = kr.evaluate_robustness(make(noisy), (x, y), attack, verbose=0)
    assert "randomized" in {flag.name for flag in report.flags}


def test_an_evaluation_resumes_by_name(images, tmp_path):
    x, y = images
    attack = kr.SquareAttack("linf", 0.1, queries=40, seed=0)
    nameless = Counted(scores)
    with pytest.raises(ValueError, match="name.*Received: 'function'"):
        kr.evaluate_robustness(
            make(nameless), (x, y), attack, state_path=tmp_path
        )
    assert nameless.sizes == []
    calls = []
    for name in ("one", "one", "two"):
        counted = Counted(scores)
        kr.evaluate_robustness(
            make(counted, name=name),
            (x, y),
            attack,
            state_path=tmp_path,
            probe=False,
            verbose=0,
        )
        calls.append(sum(counted.sizes))
    assert calls[1] < calls[0] / 3 and calls[2] == calls[0]


def test_what_functions_may_not_return(images):
    x, y = images
    attack = kr.SquareAttack(queries=3)
    for wrong in (
        lambda images: scores(images)[:, :2],
        lambda images: scores(images)[:3],
        lambda images: scores(images).max(-1),
        lambda images: labels(images)[:, None],
        lambda images: labels(images) + 1,
        lambda images: labels(images) - 1,
        lambda images: None,
        lambda images: [[1.0], [1.0, 2.0]],
        lambda images: ["cat"] * len(images),
    ):
        with pytest.raises(ValueError, match="Received"):
            attack(make(wrong), x, y)
    turn = iter([labels, scores])
    changing = make(lambda images: next(turn)(images), batch_size=4)
    with pytest.raises(ValueError, match="labels or scores.*scores after"):
        changing.predict_labels(x)


def test_arguments():
    for wrong in (
        {"predict": None},
        {"predict": make_model()},
        {"num_classes": 1},
        {"batch_size": 0},
        {"name": ""},
        {"value_range": (1, 0)},
        {"value_range": "auto"},
    ):
        options = {"predict": scores, "num_classes": 3, **wrong}
        with pytest.raises(ValueError, match="Received"):
            kr.Classifier.from_function(**options)
    classifier = make(scores, input_shape=(4, 4, 1), value_range=(0, 255))
    assert classifier.value_range() == (0, 255)
    with pytest.raises(ValueError, match="shape.*Received"):
        classifier.check(np.zeros((2, 5, 4, 1), "float32"))
    for needs_model in (
        lambda: kr.AdversarialModel(classifier, kr.PGDAttack()),
        lambda: kr.Robustifier(classifier),
        lambda: classifier.model,
        lambda: classifier.representation(),
        lambda: classifier.layer_outputs("dense"),
        lambda: kr.Classifier.of(classifier, attacked="image"),
    ):
        with pytest.raises(ValueError, match="Received"):
            needs_model()
    with pytest.raises(ValueError, match="from_function.*Received"):
        kr.evaluate_robustness(scores, None, kr.SquareAttack())


def test_tensors_and_no_examples(images):
    x, y = images
    attack = kr.SquareAttack("linf", 0.1, queries=5, seed=0)
    tensor = attack(make(scores), ops.convert_to_tensor(x), y, verbose=0)
    assert ops.is_tensor(tensor)
    array = attack(make(scores), x, y, verbose=0)
    np.testing.assert_array_equal(ops.convert_to_numpy(tensor), array)
    as_tensors = make(lambda images: ops.convert_to_tensor(scores(images)))
    np.testing.assert_array_equal(attack(as_tensors, x, y, verbose=0), array)
    assert attack(make(scores), x[:0], y[:0]).shape == (0, 4, 4, 1)
    one = attack(make(scores), x[:1], y[:1], verbose=0)
    np.testing.assert_allclose(one, array[:1], atol=1e-6)


def test_certificates_need_predictions_or_a_graph(rng):
    """Smoothing asks for labels only; interval bounds read layers."""
    weights = np.eye(3, dtype="float32")
    service = kr.Classifier.from_function(
        lambda images: (images @ weights).argmax(-1), num_classes=3
    )
    x = np.array([[0.9, 0.1, 0.1], [0.1, 0.8, 0.2]], "float32")
    y = np.array([0, 1], "int32")
    result = kr.certify.randomized_smoothing(
        service, (x, y), sigma=0.1, samples=200, verbose=0
    )
    assert result.correct.all() and (result.radii > 0.1).all()
    with pytest.raises(ValueError, match="needs a Keras model"):
        kr.certify.interval_bounds(service, (x, y), 0.01, verbose=0)
