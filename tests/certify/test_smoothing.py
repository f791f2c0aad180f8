import json

import keras
import numpy as np
import pytest
from scipy.stats import binom
from scipy.stats import binomtest
from scipy.stats import kstest
from scipy.stats import norm

import keras_robust as kr
from keras_robust.certify import votes as votes_module
from keras_robust.certify.votes import Noise
from tests.helpers import exact_accuracy
from tests.helpers import make_linear

SMALL = {"samples": 2000, "selection_samples": 20, "verbose": 0}


def smoothing(model, data, sigma=0.3, **options):
    return kr.certify.randomized_smoothing(
        model, data, sigma, **{**SMALL, **options}
    )


def exact_radii(model, x, y):
    """Distance to the boundary, negative for wrong labels; `x W` only."""
    weights = model.get_weights()[0]
    w = weights[:, 1] - weights[:, 0]
    margin = x.reshape(len(x), -1) @ w * np.where(y == 1, 1, -1)
    return margin / np.linalg.norm(w)


@pytest.mark.parametrize("sigma", [0.1, 0.5])
def test_radii_of_a_linear_classifier(linear_problem, sigma):
    model, x, y = linear_problem
    exact = exact_radii(model, x, y)
    found = smoothing(model, (x, y), sigma, selection_samples=1000)
    # Of 60 certificates 0.06 are wrong on average.
    assert (found.radii <= np.maximum(exact, 0)).all()
    np.testing.assert_array_equal(found.radii > 0, found.correct)
    assert not found.correct[exact < 0].any()
    # Not far below either: 4 standard deviations of the share of votes.
    p = norm.cdf(exact / sigma)
    least = np.floor(2000 * p - 4 * np.sqrt(2000 * p * (1 - p)))
    bounds = kr.certify.clopper_pearson(np.maximum(least, 0), 2000, 0.001)
    # Where hardly 1000 votes choose another class.
    clear = bounds > 0.55
    assert clear.sum() > 20
    lowest = sigma * norm.ppf(bounds[clear])
    assert (found.radii[clear] >= lowest * (1 - 1e-9)).all()
    # The smoothed classifier of a linear one is the linear one.
    for radius in (0.0, 0.05, 0.1, 0.2):
        attacked = exact_accuracy(model, x, y, "l2", radius, (-9, 9))
        assert found.accuracy(radius)[0] <= attacked
    largest = sigma * norm.ppf(0.001 ** (1 / 2000))
    assert found.radii.max() <= largest * (1 + 1e-9)


@pytest.mark.parametrize("alpha", [0.001, 0.05])
@pytest.mark.parametrize("samples", [10, 137])
def test_clopper_pearson_is_scipys_and_covers(alpha, samples):
    counts = np.arange(samples + 1)
    found = kr.certify.clopper_pearson(counts, samples, alpha)
    expected = [
        binomtest(int(k), samples, alternative="greater")
        .proportion_ci(1 - alpha, method="exact")
        .low
        for k in counts
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)
    for p in (0.02, 0.5, 0.8, 0.999):
        missed = binom.pmf(counts, samples, p)[found > p].sum()
        assert missed <= alpha * (1 + 1e-9)


def test_certificates_are_wrong_at_most_alpha_of_the_time():
    """By simulation, from the noise on: a point of known probability."""
    model = make_linear([[-1.0, 1.0]], bias=[0.0, 0.0])
    sigma, alpha = 0.5, 0.1
    distance = 0.3
    x = np.full((400, 1), distance, "float32")
    found = smoothing(
        model,
        (x, np.ones(400, int)),
        sigma,
        samples=200,
        alpha=alpha,
        value_range=(-5, 5),
    )
    wrong = (found.radii > distance).mean()
    # The exact level for these numbers, and 4 standard deviations.
    counts = np.arange(201)
    bounds = kr.certify.clopper_pearson(counts, 200, alpha)
    p = norm.cdf(distance / sigma)
    level = binom.pmf(counts, 200, p)[bounds > p].sum()
    assert abs(wrong - level) <= 4 * np.sqrt(level * (1 - level) / 400)
    assert 0 < level <= alpha


def test_noise_is_gaussian_and_belongs_to_example_and_draw():
    shape, samples = (40, 50), 70
    noise = Noise(3, shape, samples)
    whole = noise(5, 0, samples)
    assert whole.shape == (samples, *shape) and whole.dtype == np.float32
    # Blocks of 32 draws.
    again = Noise(3, shape, samples)
    parts = [again(5, a, b) for a, b in ((0, 7), (7, 33), (33, 34), (34, 70))]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(Noise(3, shape, 40)(5, 30, 40), whole[30:40])
    others = (noise(6, 0, 1)[0], Noise(4, shape, 1)(5, 0, 1)[0], *whole[1:])
    correlations = [np.corrcoef(whole[0].flat, o.flat)[0, 1] for o in others]
    assert np.abs(correlations).max() < 5 / np.sqrt(2000)
    assert kstest(whole[::7].ravel(), "norm").pvalue > 1e-3


def test_noise_is_not_clipped():
    inputs = keras.Input((1,))
    # Class 1 above 1, where pixels end.
    model = keras.Model(inputs, keras.layers.Dense(2, name="logits")(inputs))
    model.set_weights([np.array([[0.0, 1.0]]), np.array([1.0, 0.0])])
    smoothed = kr.certify.SmoothedClassifier(model, 2.0, samples=4000)
    votes = smoothed.votes(np.full((1, 1), 0.5, "float32"), verbose=0)
    p = norm.sf(0.25)
    assert abs(votes[0, 1] / 4000 - p) < 4 * np.sqrt(p * (1 - p) / 4000)
    assert votes.sum() == 4000


def test_the_same_at_any_batch_size(varied):
    model, x, y = varied
    options = {"samples": 90, "selection_samples": 10}
    first = smoothing(model, (x, y), batch_size=1000, **options)
    assert len(set(first.lower_bounds)) > 5
    for batch_size in (64, 333):
        found = smoothing(model, (x, y), batch_size=batch_size, **options)
        np.testing.assert_array_equal(found.lower_bounds, first.lower_bounds)
        np.testing.assert_array_equal(found.predictions, first.predictions)
    # The draws of an example do not depend on those after it.
    part = smoothing(model, (x[:4], y[:4]), **options)
    np.testing.assert_array_equal(part.lower_bounds, first.lower_bounds[:4])
    other = smoothing(model, (x, y), seed=1, **options)
    assert (other.lower_bounds != first.lower_bounds).any()
    again = smoothing(model, (x, y), seed=None, **options)
    assert (again.lower_bounds != first.lower_bounds).any()


class Stop(Exception):
    pass


def test_resumes_after_a_stop(varied, tmp_path, monkeypatch, capsys):
    """Also after a short time: votes are written when it is stopped."""
    model, x, y = varied
    x, y = x[:21], y[:21]
    options = {"samples": 90, "selection_samples": 10, "batch_size": 64}
    whole = smoothing(model, (x, y), **options)
    labels, calls = votes_module._labels, []

    def counted(*args):
        calls.append(None)
        if len(calls) == 12:
            raise Stop
        return labels(*args)

    monkeypatch.setattr(votes_module, "_labels", counted)
    with pytest.raises(Stop):
        smoothing(model, (x, y), state_path=tmp_path, **options)
    options |= {"batch_size": 100, "verbose": 1}
    capsys.readouterr()
    found = smoothing(model, (x, y), state_path=tmp_path, **options)
    assert "704 of 2100 noisy inputs were there" in capsys.readouterr().out
    assert len(calls) == 12 + int(np.ceil((2100 - 11 * 64) / 100))
    np.testing.assert_array_equal(found.lower_bounds, whole.lower_bounds)
    # Nothing is left to do, and other settings start anew.
    smoothing(model, (x, y), state_path=tmp_path, **options)
    before = len(calls)
    assert before == 12 + 14
    smoothing(model, (x, y), sigma=0.2, state_path=tmp_path, **options)
    assert len(calls) == before + 21


def test_predictions_and_abstentions():
    model = make_linear([[-1.0, 1.0]])
    x = np.array([[1.0], [0.0], [-1.0], [0.02]], "float32")
    smoothed = kr.certify.SmoothedClassifier(model, 0.5, samples=1000)
    np.testing.assert_array_equal(
        smoothed.predict(x, verbose=0), [1, -1, 0, -1]
    )
    assert smoothed.predict(x[:0], verbose=0).shape == (0,)
    # The two-sided test of the paper.
    counts = smoothed.votes(x, verbose=0)
    for votes, label in zip(counts, [1, -1, 0, -1], strict=True):
        p = binomtest(int(votes.max()), int(votes.sum())).pvalue
        assert (p <= 0.001) == (label >= 0)
    found = smoothing(
        model, (x, np.array([1, 1, 1, 1])), 0.5, value_range=(-2, 2)
    )
    np.testing.assert_array_equal(found.predictions, [1, -1, 0, -1])
    np.testing.assert_array_equal(found.abstained, [0, 1, 0, 1])
    np.testing.assert_array_equal(found.correct, [1, 0, 0, 0])
    np.testing.assert_array_equal(found.clean, [1, 0, 0, 1])
    # The radius around a wrong answer counts for nothing; its bound is known.
    assert (found.radii[1:] == 0).all() and 0 < found.radii[0] < 1
    assert found.lower_bounds[2] > 0.9


@keras.saving.register_keras_serializable("tests")
class NanAbove(keras.layers.Layer):
    """NaN where the first number is above 0."""

    def call(self, x):
        nan = keras.ops.full_like(x, float("nan"))
        return keras.ops.where(x[:, :1] > 0, nan, x)


def test_outputs_of_nan_vote_for_no_class():
    inputs = keras.Input((2,))
    model = keras.Model(
        inputs, keras.layers.Activation("linear")(NanAbove()(inputs))
    )
    x = np.array([[0.0, 3.0], [-5.0, 3.0]], "float32")
    smoothed = kr.certify.SmoothedClassifier(
        model, 0.5, samples=1000, from_logits=True
    )
    votes = smoothed.votes(x, verbose=0)
    assert votes[:, 0].tolist() == [0, 0] and votes[1, 1] == 1000
    assert abs(votes[0, 1] - 500) < 4 * np.sqrt(250)
    found = smoothing(
        model,
        (x, np.ones(2, int)),
        0.5,
        value_range=(-5, 5),
        from_logits=True,
    )
    assert found.predictions.tolist() == [-1, 1]


def test_several_inputs_and_outputs(rng):
    image, meta = keras.Input((4,), name="image"), keras.Input((2,), name="m")
    h = keras.layers.Concatenate()([image, meta])
    model = keras.Model(
        {"image": image, "m": meta},
        {"a": keras.layers.Dense(3, name="a")(h), "b": image},
    )
    x = {
        "image": rng.random((9, 4), dtype="float32"),
        "m": rng.random((9, 2), dtype="float32"),
    }
    y = np.arange(9) % 3
    options = {"attacked": "image", "output": "a"}
    found = smoothing(model, (x, y), samples=300, **options)
    # Held inputs get no noise: the same as one input with their logits added.
    weights, bias = model.get_weights()
    for row in (0, 8):
        own = make_linear(weights[:4], bias + x["m"][row] @ weights[4:])
        noise = Noise(0, (4,), 320)(row, 0, 320)
        logits = (x["image"][row] + 0.3 * noise) @ weights[:4]
        logits = logits + own.get_weights()[1]
        top = np.bincount(logits[:20].argmax(-1), minlength=3).argmax()
        count = (logits[20:].argmax(-1) == top).sum()
        bound = kr.certify.clopper_pearson(count, 300, 0.001)
        np.testing.assert_allclose(found.lower_bounds[row], bound)
    smoothed = kr.certify.SmoothedClassifier(model, 0.3, samples=300, **options)
    assert smoothed.votes(x, verbose=0).sum(-1).tolist() == [300] * 9


def test_units_of_pixels(linear_problem):
    """Bytes, `scaling` and a Rescaling inside: radii in units of the data."""
    model, x, y = linear_problem
    x = np.round(255 * x).astype("uint8")
    options = {"samples": 400}
    unit = smoothing(model, (x / np.float32(255), y), 0.2, **options)
    inputs = keras.Input((4, 4, 1))
    h = keras.layers.Rescaling(1 / 255)(inputs)
    byte = keras.Model(inputs, model(h))
    found = smoothing(byte, (x, y), 51.0, value_range=(0, 255), **options)
    np.testing.assert_allclose(found.radii / 255, unit.radii, atol=2e-3)
    auto = smoothing(byte, (x, y), 51.0, value_range="auto", **options)
    np.testing.assert_array_equal(auto.radii, found.radii)
    scaled = smoothing(byte, (x, y), 0.2, scaling="byte", **options)
    np.testing.assert_allclose(scaled.radii, unit.radii, atol=2e-3)
    whole = keras.Input((4, 4, 1), dtype="uint8")
    h = keras.layers.Rescaling(1 / 255)(keras.ops.cast(whole, "float32"))
    whole = keras.Model(whole, model(h))
    # Rounded and cut off at 0 and 255: a classifier of its own, but one that
    # is not far from the other in the middle of the range.
    stored = smoothing(whole, (x, y), 25.0, value_range=(0, 255), **options)
    other = smoothing(byte, (x, y), 25.0, value_range=(0, 255), **options)
    np.testing.assert_allclose(stored.radii, other.radii, atol=3.0)
    with pytest.raises(ValueError, match="value_range"):
        smoothing(byte, (x, y), 0.2, **options)


def test_labels_and_data_of_all_kinds(linear_problem):
    import tensorflow as tf

    model, x, y = linear_problem
    options = {"samples": 50, "selection_samples": 5}
    expected = smoothing(model, (x, y), **options)
    data = tf.data.Dataset.from_tensor_slices((x, np.eye(2)[y])).batch(7)
    for given in (data, (x.astype("float64"), y[:, None])):
        found = smoothing(model, given, **options)
        np.testing.assert_array_equal(found.radii, expected.radii)
    outputs = keras.layers.Softmax()(model.output)
    found = smoothing(keras.Model(model.input, outputs), (x, y), **options)
    np.testing.assert_array_equal(found.radii, expected.radii)
    one = smoothing(model, (x[:1], y[:1]), **options)
    np.testing.assert_array_equal(one.radii, expected.radii[:1])


def test_one_sigmoid_unit():
    inputs = keras.Input((1,))
    layer = keras.layers.Dense(1, activation="sigmoid")
    model = keras.Model(inputs, layer(inputs))
    model.set_weights([np.array([[2.0]]), np.array([-1.0])])
    x, y = np.array([[0.1], [0.9]], "float32"), np.array([0, 1])
    found = smoothing(model, (x, y), 0.5)
    assert found.predictions.tolist() == [0, 1]
    assert (found.radii <= 0.4).all() and (found.radii > 0.3).all()


def test_a_fixed_batch_size(linear_problem):
    model, x, y = linear_problem
    fixed = keras.Input(batch_shape=(8, 4, 4, 1))
    found = smoothing(keras.Model(fixed, model(fixed)), (x, y), samples=50)
    expected = smoothing(model, (x, y), samples=50)
    np.testing.assert_array_equal(found.radii, expected.radii)


def test_the_state_of_the_model_stays(cnn, cnn_data):
    before = cnn.get_weights()
    smoothing(cnn, cnn_data, samples=10)
    for old, new in zip(before, cnn.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.compiles_much
def test_random_models_are_flagged(linear_problem):
    model, x, y = linear_problem
    inputs = keras.Input((4, 4, 1))

    @keras.saving.register_keras_serializable("tests")
    class Noisy(keras.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.seed_generator = keras.random.SeedGenerator(0)

        def call(self, x):
            shape = keras.ops.shape(x)
            noise = keras.random.normal(shape, seed=self.seed_generator)
            return x + 0.4 * noise

    random = keras.Model(inputs, model(Noisy()(inputs)))
    options = {"samples": 1000, "selection_samples": 500}
    found = smoothing(random, (x, y), 0.3, **options)
    assert [flag.name for flag in found.flags] == ["randomized"]
    # Noise inside adds to the noise outside: radii of sigma 0.5, over 0.5 / 0.3
    both = smoothing(model, (x, y), 0.5, **options)
    clear = both.radii > 0.1
    assert clear.sum() > 20
    np.testing.assert_allclose(
        found.radii[clear], 0.6 * both.radii[clear], atol=0.1
    )


def test_result_as_table_json_and_figure(linear_problem, tmp_path):
    model, x, y = linear_problem
    found = smoothing(model, (x, y), 0.2)
    table = found.table()
    names = list(table.columns[0].cells)
    assert names[:3] == ["without noise", "smoothed", "l2 < 0.1"]
    shares = [float(cell) for cell in table.columns[1].cells]
    assert shares[1:] == sorted(shares[1:], reverse=True) and shares[-1] == 0
    path = tmp_path / "result.json"
    found.to_json(path)
    numbers = json.loads(path.read_text())
    assert numbers["radii"] == found.radii.tolist()
    assert numbers["accuracy"]["l2 < 0.1"] == found.accuracy(0.1)[0]
    assert numbers["provenance"]["sigma"] == 0.2
    assert numbers["mean_radius"] == pytest.approx(found.radii.mean())
    found.plot(tmp_path / "curve.png")
    np.testing.assert_allclose(
        found.accuracy([0.0, found.radii.max(), 9.0]),
        [found.correct.mean(), (found.radii == found.radii.max()).mean(), 0],
    )
    with pytest.raises(ValueError, match="radius.*-1"):
        found.certified(-1)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"sigma": 0}, "sigma.*> 0.*sigma=0"),
        ({"sigma": [0.1, 0.2]}, "sigma"),
        ({"sigma": float("nan")}, "sigma"),
        ({"samples": 0}, "samples.*>= 1"),
        ({"selection_samples": 1.5}, "selection_samples"),
        ({"alpha": 1}, "alpha"),
        ({"batch_size": 0}, "batch_size"),
        ({"seed": -1}, "seed"),
        ({"value_range": (1, 0)}, "value_range"),
        ({"value_range": (0, 0.1)}, "value_range"),
        ({"scaling": "unit", "value_range": (0, 255)}, "value_range"),
    ],
)
def test_refusals(linear_problem, options, message):
    model, x, y = linear_problem
    with pytest.raises(ValueError, match=message):
        smoothing(model, (x, y), **options)


def test_refusals_of_the_smoothed_classifier(linear_problem):
    model, x, _ = linear_problem
    make = kr.certify.SmoothedClassifier
    for options in ({"sigma": -1}, {"sigma": 1, "samples": 0}):
        with pytest.raises(ValueError, match="must be"):
            make(model, **options)
    with pytest.raises(ValueError, match="model"):
        make(lambda x: x, 0.1)
    with pytest.raises(ValueError, match="shape"):
        make(model, 0.1).predict(x[:, :3])
