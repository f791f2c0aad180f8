"""HopSkipJump, against distances that are known."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_robust as kr
from tests.helpers import make_linear
from tests.helpers import norms

DUAL = {"l2": 2, "linf": 1}
# Of two classes, so that the boundary is one hyperplane; and of three.
THREE = np.random.default_rng(1).normal(size=(12, 3)).astype("float32")
WEIGHTS = THREE[:, :2]


class Counted:
    """A linear classifier that tells labels only and counts images."""

    def __init__(self, weights=WEIGHTS):
        self.weights = weights
        self.asked = []

    def __call__(self, images):
        self.asked.append(images.copy())
        flat = images.reshape(len(images), -1)
        return ((flat - 0.5) @ self.weights).argmax(-1)

    @property
    def count(self):
        return sum(map(len, self.asked))


@pytest.fixture
def problem():
    x = np.random.default_rng(0).uniform(0.35, 0.65, (8, 12)).astype("float32")
    return x, Counted()(x)


def function(counted, **options):
    classes = counted.weights.shape[1]
    return kr.Classifier.from_function(counted, classes, **options)


def exact_distances(x, y, norm, targets=None, weights=WEIGHTS):
    """To the hyperplane between labels and targets."""
    targets = 1 - y if targets is None else targets
    z, rows = (x - 0.5) @ weights, np.arange(len(y))
    normal = (weights[:, y] - weights[:, targets]).T
    width = np.linalg.norm(normal, ord=DUAL[norm], axis=1)
    return (z[rows, y] - z[rows, targets]) / width


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_distance_to_a_hyperplane(problem, norm):
    x, y = problem
    counted = Counted()
    attack = kr.HopSkipJumpAttack(norm, queries=3000, seed=0)
    result = attack.run(function(counted), x, y, scored=True, verbose=0)
    assert result["success"].all()
    distance = norms(result["x"] - x, norm)
    np.testing.assert_allclose(-result["loss"], distance, rtol=1e-4)
    exact = exact_distances(x, y, norm)
    # No point is adversarial nearer than the boundary.
    assert (distance >= exact * (1 - 1e-4)).all()
    assert (distance <= exact * 1.06).all()
    assert (Counted()(result["x"]) != y).all()
    for asked in counted.asked:
        assert asked.min() >= 0 and asked.max() <= 1
    # 8 for the check, 8 for the images themselves.
    assert counted.count <= 16 + 8 * 3000


@pytest.mark.parametrize("queries", [1, 2, 17, 60, 130])
def test_queries_are_bounded(problem, queries):
    x, y = problem
    counted = Counted()
    attack = kr.HopSkipJumpAttack(queries=queries, seed=0)
    result = attack.run(function(counted), x, y, scored=True, verbose=0)
    assert counted.count <= 16 + 8 * queries
    assert counted.count >= 16 + 8 * (queries - 12)
    moved = (result["x"] != x).any(-1)
    np.testing.assert_array_equal(moved, result["success"])
    assert (Counted()(result["x"]) != y)[moved].all()


def test_more_queries_come_nearer(problem):
    x, y = problem
    distance = [
        norms(
            kr.HopSkipJumpAttack(queries=queries, seed=0)(
                function(Counted()), x, y, verbose=0
            )
            - x,
            "l2",
        )
        for queries in (50, 300, 2000)
    ]
    assert np.median(distance[0]) > np.median(distance[1])
    assert np.median(distance[1]) > np.median(distance[2])


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_models_functions_and_batches_give_the_same(problem, norm):
    x, y = problem
    model = make_linear(WEIGHTS, bias=-0.5 * WEIGHTS.sum(0))
    attack = kr.HopSkipJumpAttack(norm, queries=250, seed=3)
    found = attack(model, x, y, verbose=0)
    for other in (
        attack.replace(batch_size=3)(model, x, y, verbose=0),
        attack(function(Counted(), batch_size=7), x, y, verbose=0),
        attack(model, ops.convert_to_tensor(x), y, verbose=0),
    ):
        np.testing.assert_allclose(
            ops.convert_to_numpy(other), found, atol=1e-5
        )
    # A row's numbers are its own: other rows may be missing.
    first = attack(model, x[:3], y[:3], verbose=0)
    np.testing.assert_allclose(first, found[:3], atol=1e-5)
    again = attack.replace(seed=4)(model, x, y, verbose=0)
    assert (again != found).any()


def test_targets_are_reached(problem):
    x, _ = problem
    x = np.concatenate([x, np.random.default_rng(5).random((8, 12))])
    x = x.astype("float32")
    counted = Counted(THREE)
    y = counted(x)
    assert set(y) == {0, 1, 2}
    targets = (y + 1) % 3
    attack = kr.HopSkipJumpAttack(queries=3000, targeted=True, seed=0)
    result = attack.run(function(counted), x, targets, scored=True, verbose=0)
    right = counted(result["x"]) == targets
    np.testing.assert_array_equal(right, result["success"])
    assert right.all()
    # The region of a class is an intersection of half spaces.
    distance = norms(result["x"] - x, "l2")
    exact = exact_distances(x, y, "l2", targets, THREE)
    assert (distance >= exact * (1 - 1e-4)).all()
    assert np.median(distance / exact) < 1.2


def test_a_radius_decides_what_counts(problem):
    x, y = problem
    exact = exact_distances(x, y, "l2")
    radius = float(np.median(exact)) * 1.05
    attack = kr.HopSkipJumpAttack(epsilon=radius, queries=2000, seed=0)
    result = attack.run(function(Counted()), x, y, scored=True, verbose=0)
    near, far = exact < radius / 1.06, exact > radius
    assert result["success"][near].all() and not result["success"][far].any()
    assert near.any() and far.any()
    np.testing.assert_array_equal(result["x"][far], x[far])
    assert norms(result["x"] - x, "l2").max() <= radius * (1 + 1e-6)
    counted = Counted()
    stopping = attack.replace(early_stop=True)
    early = stopping.run(function(counted), x, y, scored=True, verbose=0)
    np.testing.assert_array_equal(early["success"], result["success"])
    assert counted.count < 16 + 2000 * (far.sum() + 0.7 * near.sum())


def test_a_mask_and_what_is_wrong_already(problem):
    x, y = problem
    mask = (np.arange(12) % 3 > 0).astype("float32")
    wrong = np.where(np.arange(8) == 2, 1 - y, y)
    attack = kr.HopSkipJumpAttack(queries=800, mask=mask, seed=0)
    result = attack.run(function(Counted()), x, wrong, scored=True, verbose=0)
    moved = result["x"] != x
    assert not moved[:, mask == 0].any() and moved[:, mask > 0].any()
    assert result["success"].all() and not moved[2].any()


def test_no_adversarial_example_is_infinitely_far(problem):
    x, y = problem

    def always(images):
        return np.full(len(images), 1)

    attack = kr.HopSkipJumpAttack(queries=60, seed=0)
    result = attack.run(
        kr.Classifier.from_function(always, 3),
        x,
        np.ones(8, int),
        scored=True,
        verbose=0,
    )
    assert not result["success"].any() and (result["loss"] <= -1e29).all()
    np.testing.assert_array_equal(result["x"], x)


def test_whole_pixels_are_asked_about(problem):
    x, _ = problem
    pixels = np.round(255 * x).astype("uint8")

    class Bytes(Counted):
        def __call__(self, images):
            assert (images == np.round(images)).all()
            return super().__call__(images / 255)

    y = Bytes()(pixels)
    for norm in ("l2", "linf"):
        attack = kr.HopSkipJumpAttack(
            norm, queries=1500, value_range=(0, 255), seed=0
        )
        result = attack.run(
            function(Bytes()), pixels, y, scored=True, verbose=0
        )
        assert result["x"].dtype == np.uint8 and result["success"].all()
        assert (Bytes()(result["x"]) != y).all()
        step = result["x"].astype("float32") - pixels
        exact = 255 * exact_distances(pixels / 255, y, norm)
        # Rounding costs up to half a step in each entry.
        slack = {"l2": 0.5 * 12**0.5, "linf": 1.0}[norm]
        assert (norms(step, norm) <= 1.25 * exact + slack).all()


def test_float64_points_are_those_that_were_asked_about(problem):
    x, y = problem
    x = x.astype("float64") + np.random.default_rng(2).uniform(0, 1e-9, x.shape)
    attack = kr.HopSkipJumpAttack(queries=400, seed=0)
    result = attack.run(function(Counted()), x, y, scored=True, verbose=0)
    assert result["x"].dtype == np.float64 and result["success"].all()
    assert (Counted()(result["x"].astype("float32")) != y).all()


def test_an_evaluation_resumes_and_leaves_survivors(problem, tmp_path):
    x, y = problem
    radius = float(np.median(exact_distances(x, y, "linf"))) * 1.05
    options = {
        "norm": "linf",
        "epsilon": radius,
        "verbose": 0,
        "state_path": tmp_path,
    }
    counts = []
    for _ in range(2):
        counted = Counted()
        classifier = function(counted, name="linear")
        report = kr.evaluate_robustness(
            classifier, (x, y), "hopskipjump", **options
        )
        counts.append(counted.count)
    exact = (exact_distances(x, y, "linf") > radius).mean()
    assert abs(report.accuracy["hopskipjump"] - exact) <= 1 / 8
    assert report.flags == []
    assert counts[1] < counts[0] / 10
    white = kr.evaluate_robustness(
        make_linear(WEIGHTS, bias=-0.5 * WEIGHTS.sum(0)),
        (x, y),
        {
            "hopskipjump": kr.HopSkipJumpAttack("linf", radius, seed=0),
            "pgd": kr.PGDAttack("linf", radius, steps=5),
        },
        verbose=0,
        probe=False,
    )
    assert white.accuracy["pgd"] == exact and white.flags == []


def test_arguments():
    for wrong in (
        {"norm": "l1"},
        {"queries": 0},
        {"probes": 0},
        {"epsilon": -1},
    ):
        with pytest.raises(ValueError, match="Received"):
            kr.HopSkipJumpAttack(**wrong)
    unbounded = kr.HopSkipJumpAttack(value_range=(-np.inf, np.inf))
    with pytest.raises(ValueError, match="finite.*Received"):
        unbounded(function(Counted()), np.zeros((1, 12)), [0])
    config = kr.HopSkipJumpAttack("linf", queries=7).get_config()
    assert kr.HopSkipJumpAttack.from_config(config).queries == 7


def test_a_class_that_noise_never_leaves():
    """Most of the box is of one class; other images show the way out."""
    narrow = np.random.default_rng(3).normal(size=12)
    narrow /= np.linalg.norm(narrow)

    def label(images):
        return (np.abs((images - 0.5) @ narrow) < 0.7).astype(int)

    x = 0.5 + np.float32([[0.1], [-0.2], [0.9]]) * narrow
    x = np.clip(x, 0, 1).astype("float32")
    y = label(x)
    assert y.tolist() == [1, 1, 0]
    noise = np.random.default_rng(4).random((2000, 12))
    assert label(noise).mean() > 0.9
    classifier = kr.Classifier.from_function(label, 2)
    attack = kr.HopSkipJumpAttack(queries=400, seed=0)
    for rows in (slice(0, 3), slice(0, 1)):
        result = attack.run(
            classifier, x[rows], y[rows], scored=True, verbose=0
        )
        assert result["success"].all()


def test_a_model_with_two_inputs_and_a_fixed_batch(problem):
    x, y = problem
    image = keras.Input(batch_shape=(3, 12), name="image")
    meta = keras.Input(batch_shape=(3, 2), name="meta")
    model = keras.Model(
        {"image": image, "meta": meta},
        keras.layers.Dense(2)(keras.layers.Concatenate()([image, meta])),
    )
    bias = -0.5 * WEIGHTS.sum(0)
    model.set_weights([np.concatenate([WEIGHTS, [[1, 0], [0, 1]]]), bias])
    # Of which the second shifts the boundary of each example.
    z = (x - 0.5) @ WEIGHTS
    meta = np.stack([np.zeros(8), 0.5 * (z[:, 0] - z[:, 1])], 1)
    meta = meta.astype("float32")
    x, y, meta, exact = (
        part[:4] for part in (x, y, meta, exact_distances(x, y, "l2") / 2)
    )
    attack = kr.HopSkipJumpAttack(queries=300, seed=0, attacked="image")
    moved = attack(model, {"image": x, "meta": meta}, y, verbose=0)
    np.testing.assert_array_equal(moved["meta"], meta)
    distance = norms(moved["image"] - x, "l2")
    assert (distance >= exact * (1 - 1e-4)).all()
    assert (distance <= exact * 1.25).all()


def test_a_table_whose_columns_have_ranges_of_their_own(problem):
    x, y = problem
    low = np.linspace(-3, 1, 12).astype("float32")
    width = np.linspace(0.5, 2, 12).astype("float32")
    counted = Counted()
    table = low + x * width
    attack = kr.HopSkipJumpAttack(
        queries=3000, seed=0, value_range=(low, low + width)
    )
    predict = kr.Classifier.from_function(
        lambda rows: counted((rows - low) / width), 2
    )
    moved = attack(predict, table, y, verbose=0)
    assert (moved >= low).all() and (moved <= low + width).all()
    distance = norms(moved - table, "l2")
    exact = exact_distances(x, y, "l2")
    exact *= np.linalg.norm(WEIGHTS[:, 0] - WEIGHTS[:, 1])
    exact /= np.linalg.norm((WEIGHTS[:, 0] - WEIGHTS[:, 1]) / width)
    assert (distance >= exact * (1 - 1e-3)).all()
    assert (distance <= exact * 1.1).all()


@pytest.mark.slow
@pytest.mark.on_one_backend
@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_as_near_as_foolbox_at_equal_queries(norm):
    """In the median over images of three networks.

    The walk of a single image may end in another valley, with either library.
    """
    mine, theirs = np.concatenate(
        [distances_beside_foolbox(norm, seed) for seed in range(3)]
    ).T
    assert np.median(mine) <= 1.1 * np.median(theirs)
    assert np.median(mine / theirs) <= 1.1


def distances_beside_foolbox(norm, seed):
    """Distances of both, `(images, 2)`, at as many queries for each image."""
    (x, y), (x_test, y_test) = kr.datasets.load("digits")
    keras.utils.set_random_seed(seed)
    model = kr.models.mlp((8, 8, 1), widths=(128, 64))
    model.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    model.fit(x, y, epochs=20, batch_size=64, verbose=0)
    counted = CountedNetwork(model.get_weights())
    predicted = counted(x_test)
    rows = np.flatnonzero(predicted == y_test)[::22][:16]
    classifier = kr.Classifier.from_function(counted, 10)
    classifier.predict_labels(x_test[:8])
    np.random.seed(seed)
    found = []
    for row in rows:
        # One at a time: foolbox divides gradients by the norm of the batch.
        image, label = x_test[[row]], y_test[[row]]
        counted.asked.clear()
        attack = kr.HopSkipJumpAttack(norm, queries=60, seed=seed)
        attack(classifier, image, label, verbose=0)
        asked = np.concatenate(counted.asked)
        # Both from the first point that ours finds.
        start = asked[[np.flatnonzero(counted(asked) != label)[0]]]
        counted.asked.clear()
        theirs = foolbox_hop_skip_jump(counted, image, label, start, norm)
        count = counted.count
        counted.asked.clear()
        # Its prediction of the image itself is one of the queries.
        mine = attack.replace(queries=count - 1)(
            classifier, image, label, verbose=0
        )
        assert count - 12 <= counted.count <= count
        assert (counted(mine) != label).all()
        found.append(
            [norms(moved - image, norm)[0] for moved in (mine, theirs)]
        )
    return np.array(found)


class CountedNetwork(Counted):
    """Labels of dense layers with ReLU."""

    def __call__(self, images):
        self.asked.append(images)
        *hidden, (kernel, bias) = zip(
            self.weights[::2], self.weights[1::2], strict=True
        )
        h = images.astype("float32").reshape(len(images), -1)
        for weights, shift in hidden:
            h = np.maximum(h @ weights + shift, 0)
        return (h @ kernel + bias).argmax(-1)


def foolbox_hop_skip_jump(predict, x, y, starts, norm):
    """The nearest images that foolbox finds in eight steps."""
    import foolbox

    model = foolbox.models.NumPyModel(
        lambda images: np.eye(10, dtype="float32")[predict(images)], (0, 1)
    )
    attack = foolbox.attacks.HopSkipJumpAttack(steps=8, constraint=norm)
    found = attack.run(model, x, y.astype("int64"), starting_points=starts)
    return found.astype("float32")
