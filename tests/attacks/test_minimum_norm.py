"""DDN, FMN, PDPGD and sigma-zero: the nearest adversarial example."""

import itertools
import pickle

import keras
import numpy as np
import pytest
from keras import ops

import keras_robust as kr
from keras_robust.attacks.l0_ball import L0Ball
from tests.attacks import minimum_norm_reference as reference
from tests.helpers import exact_distances
from tests.helpers import make_linear
from tests.helpers import norms

NORMS = ("l0", "l1", "l2", "linf")


def distances(moved, x, norm):
    if norm == "l0":
        return (moved != x).reshape(len(x), -1).sum(-1)
    return norms(moved - x, norm)


@pytest.fixture(scope="module")
def smooth():
    """A network of one hidden layer of tanh, images inside the box."""
    random = np.random.default_rng(0)
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(12, activation="tanh"),
            keras.layers.Dense(4),
        ]
    )
    shapes = [w.shape for w in model.get_weights()]
    weights = [random.normal(size=s).astype("float32") for s in shapes]
    model.set_weights(weights)
    x = random.uniform(0.2, 0.8, (30, 4, 4, 1)).astype("float32")
    y = ops.convert_to_numpy(model(x)).argmax(-1).astype("int32")
    return model, x, y, reference.Network(weights)


CASES = {
    "ddn": (
        kr.DDNAttack(steps=25),
        lambda n, x, y: reference.ddn(n, x, y, steps=25),
    ),
    "sigma-zero": (
        kr.SigmaZeroAttack(steps=30),
        lambda n, x, y: reference.sigma_zero(n, x, y, steps=30),
    ),
    "pdpgd": (
        kr.PDPGDAttack(steps=40),
        lambda n, x, y: reference.pdpgd(n, x, y, steps=40),
    ),
    **{
        f"fmn {norm}": (
            kr.FMNAttack(norm, steps=25),
            lambda n, x, y, norm=norm: reference.fmn(n, x, y, norm, steps=25),
        )
        for norm in NORMS
    },
}


@pytest.mark.parametrize("case", CASES)
def test_like_a_reference_in_numpy(smooth, case):
    model, x, y, network = smooth
    attack, expected = CASES[case]
    found = attack(model, x, y)
    flat = x.reshape(len(x), -1).astype("float64")
    expected = expected(network, flat, y).reshape(x.shape)
    apart = np.abs(found - expected).reshape(len(x), -1).max(-1)
    # Rounding may decide whether a point on the boundary counts.
    assert (apart < 1e-3).mean() >= 0.85
    ours = distances(found, x, attack.norm)
    theirs = distances(expected.astype("float32"), x, attack.norm)
    assert ours.mean() == pytest.approx(theirs.mean(), rel=0.02, abs=0.1)
    assert (ours > 0).mean() > 0.9


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_exact_distance_to_a_linear_boundary(linear_problem, norm):
    model, x, y = linear_problem
    exact = exact_distances(model, x, y)[norm]
    attacks = [kr.FMNAttack(norm, steps=60)]
    if norm == "l2":
        attacks.append(kr.DDNAttack(steps=100))
    for attack in attacks:
        result = attack.run(model, x, y, scored=True)
        assert result["success"].all()
        found = norms(result["x"] - x, norm)
        assert not found[exact == 0].any()
        right = exact > 0.02
        assert (found[right] > exact[right] * (1 - 1e-4)).all()
        assert np.median(found[right] / exact[right]) < 1.02


def gains(model, x, y):
    """Of a linear model: margins, slopes of the pixels, room to move."""
    weights = model.get_weights()[0]
    w = (weights[:, 1] - weights[:, 0])[None] * np.where(y == 1, -1, 1)[:, None]
    flat = x.reshape(len(x), -1)
    return -(flat * w).sum(-1), np.abs(w), np.where(w > 0, 1 - flat, flat)


def fewest_entries(model, x, y):
    """By how many pixels a linear model of two classes can be turned."""
    margin, slope, room = gains(model, x, y)
    gain = np.sort(slope * room, axis=-1)[:, ::-1].cumsum(-1)
    return np.where(margin > 0, 1 + (gain <= margin[:, None]).sum(-1), 0)


@pytest.mark.parametrize(
    "attack",
    [kr.FMNAttack("l0", steps=60), kr.SigmaZeroAttack(steps=150)],
    ids=["fmn", "sigma-zero"],
)
def test_fewest_entries_of_a_linear_model(linear_problem, attack):
    model, x, y = linear_problem
    exact = fewest_entries(model, x, y)
    result = attack.run(model, x, y, scored=True)
    found = distances(result["x"], x, "l0")
    assert result["success"].all() and (found >= exact).all()
    assert (found == exact).mean() > 0.8
    assert found.mean() < exact.mean() + 0.4


def shortest_in_l1(model, x, y):
    """The L1 distance: the steepest pixels move first, as far as they can."""
    margin, slope, room = gains(model, x, y)
    order = np.argsort(-np.broadcast_to(slope, room.shape), axis=-1)
    slope, room = (
        np.take_along_axis(np.broadcast_to(part, room.shape), order, -1)
        for part in (slope, room)
    )
    gain = slope * room
    before = gain.cumsum(-1) - gain
    missing = np.clip(margin[:, None] - before, 0, gain)
    return (missing / slope).sum(-1)


def test_shortest_in_l1_of_a_linear_model(linear_problem):
    model, x, y = linear_problem
    exact = shortest_in_l1(model, x, y)
    result = kr.PDPGDAttack(steps=200).run(model, x, y, scored=True)
    found = distances(result["x"], x, "l1")
    assert result["success"].all()
    right = exact > 0.02
    assert not found[exact == 0].any()
    assert (found[right] > exact[right] * (1 - 1e-4)).all()
    assert np.median(found[right] / exact[right]) < 1.07


def attacks(**options):
    return [
        kr.DDNAttack(steps=20, **options),
        kr.SigmaZeroAttack(steps=40, **options),
        kr.PDPGDAttack(steps=40, **options),
        *(kr.FMNAttack(norm, steps=20, **options) for norm in NORMS),
    ]


@pytest.mark.parametrize("number", range(7))
def test_promises(varied, number):
    model, x, y = varied
    attack = attacks()[number]
    result = attack.run(model, x, y, scored=True)
    x_adv = result["x"]
    assert x_adv.min() >= 0 and x_adv.max() <= 1
    predicted = ops.convert_to_numpy(model(x_adv, training=False)).argmax(-1)
    np.testing.assert_array_equal(predicted != y, result["success"])
    clean = ops.convert_to_numpy(model(x, training=False)).argmax(-1)
    np.testing.assert_array_equal(x_adv[clean != y], x[clean != y])
    distance = distances(x_adv, x, attack.norm)
    attacked = result["success"] & (clean == y)
    np.testing.assert_allclose(
        -result["loss"][attacked], distance[attacked], rtol=1e-4
    )
    # Inside a radius: those that are nearer, the others as they were.
    radius = 1.001 * float(np.median(distance[attacked]))
    inside = attack.replace(epsilon=radius).run(model, x, y, scored=True)
    assert (distances(inside["x"], x, attack.norm) <= radius * 1.00001).all()
    near = distance <= radius
    np.testing.assert_array_equal(inside["success"], near & result["success"])
    stopped = attack.replace(epsilon=radius, early_stop=True)
    found = stopped.run(model, x, y, scored=True)["success"]
    assert (found == inside["success"]).mean() > 0.9
    copy = pickle.loads(pickle.dumps(attack))
    assert copy.get_config() == attack.get_config()
    config = keras.saving.serialize_keras_object(attack)
    assert (
        keras.saving.deserialize_keras_object(config).get_config()
        == attack.get_config()
    )


@pytest.mark.slow_on_jax
@pytest.mark.parametrize("number", range(7))
def test_targets_masks_and_other_boxes(varied, number):
    model, x, y = varied
    target = (y + 1) % 3
    attack = attacks(targeted=True)[number]
    result = attack.run(model, x, target, scored=True)
    predicted = ops.convert_to_numpy(model(result["x"])).argmax(-1)
    np.testing.assert_array_equal(predicted == target, result["success"])
    assert result["success"].mean() > 0.5
    mask = np.zeros((6, 6, 1), "float32")
    mask[:3] = 1
    moved = attacks(mask=mask)[number](model, x, y)
    np.testing.assert_array_equal(moved[:, 3:], x[:, 3:])
    assert np.abs(moved - x).max() > 0
    # The same network of pixels up to 255.
    inputs = keras.Input(x.shape[1:])
    wide = keras.Model(inputs, model(inputs / 255))
    far = attacks(value_range=(0, 255))[number].run(
        wide, 255 * x, y, scored=True
    )
    near = attacks()[number].run(model, x, y, scored=True)
    scale = 1 if attack.norm == "l0" else 255
    ours = distances(far["x"] / 255, x, attack.norm)
    if attack.norm == "l0":
        ours = distances(far["x"], 255 * x, "l0")
    theirs = distances(near["x"], x, attack.norm)
    assert scale and np.median(np.abs(ours - theirs)) < 1e-3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_points_on_the_boundary_are_stretched_until_the_model_errs(dtype):
    """Where two logits are equal the first class wins, which is the label."""
    model = make_linear(np.eye(2))
    x = np.array([[0.6, 0.4], [0.75, 0.25], [0.9, 0.1], [0.6, 0.4]], dtype)
    found = np.array([[0.5, 0.5], [0.5, 0.5], [0.8, 0.2], [0.4, 0.6]], dtype)
    y = np.zeros(4, int)
    result = {"x": found, "loss": np.full(4, -0.3), "success": np.ones(4, bool)}
    epsilon = np.array([1.0, 0.25 * 2**0.5, 1.0, 1.0])
    attack = kr.DDNAttack(epsilon=epsilon)
    confirmed = attack.confirm(attack.prepare(model, x, y), result)
    # The second would leave its radius, the third is far from the boundary.
    assert confirmed["success"].tolist() == [True, False, False, True]
    np.testing.assert_array_equal(confirmed["x"][1:3], x[1:3])
    np.testing.assert_array_equal(confirmed["x"][3], found[3])
    assert confirmed["x"].dtype == dtype
    first = confirmed["x"][0]
    assert first[1] > first[0] and np.abs(first - 0.5).max() < 1e-5
    length = np.linalg.norm(first - x[0])
    assert confirmed["loss"][0] == pytest.approx(-length, rel=1e-6)
    assert confirmed["loss"][3] == -0.3


def test_points_that_fool_the_model_by_rounding_alone_are_stretched_too():
    """A batch of another size may round the other way."""
    model = make_linear(np.eye(2))
    x = np.array([[0.6, 0.4]] * 3, "float32")
    found = np.array([[0.5, 0.5 + 1.2e-7]] * 3, "float32")
    assert found[0, 1] > found[0, 0]
    y = np.zeros(3, int)
    result = {"x": found, "loss": np.full(3, -0.3), "success": np.ones(3, bool)}
    # The others are at their radius, and stay as they were found.
    length = np.linalg.norm(found[1] - x[1])
    epsilon = np.array([1.0, length, length])
    attack = kr.DDNAttack(epsilon=epsilon)
    confirmed = attack.confirm(attack.prepare(model, x, y), result)
    assert confirmed["success"].all()
    first = confirmed["x"][0]
    assert 1e-6 < first[1] - first[0] < 1e-5
    np.testing.assert_array_equal(confirmed["x"][1:], found[1:])
    assert confirmed["loss"].tolist()[1:] == [-0.3, -0.3]


@pytest.mark.parametrize(
    "attack",
    [
        kr.DDNAttack(steps=20),
        kr.FMNAttack("linf", steps=20),
        kr.FABAttack("l2", steps=5),
        kr.HopSkipJumpAttack("l2", queries=100, seed=0),
    ],
    ids=lambda attack: type(attack).__name__,
)
def test_the_distance_of_what_is_wrong_already_is_0(attack):
    model = make_linear(np.eye(2))
    x = np.array([[0.6, 0.4], [0.2, 0.7], [0.9, 0.1]], "float32")
    result = attack.run(model, x, np.zeros(3, int), scored=True)
    assert result["success"].all() and result["loss"][1] == 0
    np.testing.assert_array_equal(result["x"][1], x[1])
    distance = distances(result["x"], x, attack.norm)
    np.testing.assert_allclose(-result["loss"], distance, rtol=1e-5)


def test_a_success_of_the_frozen_model_alone_does_not_count():
    """On the boundary it may err at an image that the model gets right."""
    model = make_linear(np.eye(2))
    x = np.array([[0.5, 0.5], [0.4, 0.5]], "float32")
    result = {"x": x.copy(), "loss": np.zeros(2), "success": np.ones(2, bool)}
    attack = kr.DDNAttack()
    problem = attack.prepare(model, x, np.zeros(2, int))
    confirmed = attack.confirm(problem, result)
    assert confirmed["success"].tolist() == [False, True]
    assert confirmed["loss"][0] < -1e29 and confirmed["loss"][1] == 0


def test_the_l0_ball(rng):
    delta = rng.normal(size=(20, 3, 2)).astype("float32")
    delta[0] = 1.0
    count = np.array([2, 0, 6, 1, 3] * 4, "float32")
    found = ops.convert_to_numpy(
        L0Ball.project(
            ops.convert_to_tensor(delta), ops.convert_to_tensor(count)
        )
    )
    np.testing.assert_array_equal(
        ops.convert_to_numpy(L0Ball.norm(ops.convert_to_tensor(found))), count
    )
    for before, after, kept in zip(delta, found, count, strict=True):
        # No other choice of entries is nearer.
        left = [
            np.linalg.norm(np.delete(before.ravel(), chosen))
            for chosen in map(list, itertools.combinations(range(6), int(kept)))
        ]
        assert np.linalg.norm(before - after) <= min(left) + 1e-6


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (kr.SigmaZeroAttack, "sigma"),
        (kr.SigmaZeroAttack, "learning_rate"),
        (kr.PDPGDAttack, "learning_rate"),
        (kr.PDPGDAttack, "dual_rate"),
        (kr.FMNAttack, "step_size"),
        (kr.DDNAttack, "first_radius"),
        (kr.CarliniWagnerL2, "learning_rate"),
        (kr.CarliniWagnerL2, "first_constant"),
    ],
)
@pytest.mark.parametrize("value", [0, [0.1, 0.2]])
def test_settings_are_positive_numbers(kind, name, value):
    """A sigma of 0 made images of NaN, and called them adversarial."""
    with pytest.raises(ValueError, match=f"`{name}` must be a number > 0"):
        kind(**{name: value})


def test_what_is_refused():
    for kind in (kr.DDNAttack, kr.FMNAttack):
        with pytest.raises(ValueError, match="`gamma` must be in"):
            kind(gamma=1.0)
    with pytest.raises(ValueError, match="`norm` must be 'l0' .or 0. or 'l1'"):
        kr.FMNAttack("l3")
    with pytest.raises(ValueError, match="`norm` must be 'l1'"):
        kr.PGDAttack("l0")
    with pytest.raises(ValueError, match="`steps` must be"):
        kr.SigmaZeroAttack(steps=0)
    model = make_linear(np.ones((4, 2)))
    with pytest.raises(
        ValueError, match="value_range. of DDNAttack must be fin"
    ):
        kr.DDNAttack(value_range=(-np.inf, np.inf))(
            model, np.ones((1, 4), "float32"), np.zeros(1, int)
        )


@pytest.mark.parametrize("name", ["ddn", "fmn", "sigma-zero"])
def test_in_an_evaluation(varied, name):
    model, x, y = varied
    norm = "l0" if name == "sigma-zero" else "l2"
    epsilon = 4 if norm == "l0" else 0.4
    report = kr.evaluate_robustness(
        model,
        (x, y),
        name,
        norm=norm,
        epsilon=epsilon,
        probe=False,
        verbose=0,
    )
    assert report.accuracy[name] < report.accuracy["clean"]
    assert {flag.name for flag in report.flags} <= {"few classes"}
