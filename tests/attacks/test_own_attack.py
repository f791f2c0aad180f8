from dataclasses import dataclass

import keras
import numpy as np
import pytest
from keras import ops

import keras_robust as kr
from tests.helpers import make_linear

EPSILON = 0.1


@keras.saving.register_keras_serializable("test_own_attack")
@dataclass(eq=False, repr=False)
class SignStep(kr.Attack):
    norm: str = "linf"
    epsilon: float = EPSILON
    targeted: bool = False
    seed: int | None = None

    def perturb_batch(self, batch):
        return sign_step(batch)


@keras.saving.register_keras_serializable("test_own_attack")
def sign_step(batch):
    step = batch.epsilon * ops.sign(batch.gradient(batch.start))
    return batch.project(batch.start + step)


@dataclass(eq=False, repr=False)
class RandomPoint(kr.Attack):
    norm: str = "l2"
    epsilon: float = 0.5
    seed: int | None = 0

    def perturb_batch(self, batch):
        return batch.random_point()


def images(count=20):
    random = np.random.default_rng(0)
    x = random.uniform(0.2, 0.8, (count, 4, 4, 1)).astype("float32")
    return x, random.integers(0, 3, count).astype("int32")


@pytest.fixture(scope="module")
def linear():
    weights = np.random.default_rng(1).normal(size=(16, 3))
    return make_linear(weights, np.zeros(3), shape=(4, 4, 1))


def network():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(8, activation="tanh"),
            keras.layers.Dense(3),
        ]
    )


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        SignStep,
        lambda **o: kr.attacks.from_function(sign_step, "linf", EPSILON, **o),
    ],
)
@pytest.mark.compiles_much
def test_a_sign_step_is_fgsm(make, targeted):
    x, y = images()
    model = network()
    found = make(targeted=targeted)(model, x, y, verbose=0)
    fgsm = kr.FGSMAttack("linf", EPSILON, targeted=targeted)
    expected = fgsm(model, x, y, verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.dtype == x.dtype and np.abs(found - x).max() > 0.9 * EPSILON


@pytest.mark.compiles_much
def test_results_do_not_depend_on_batches(linear):
    x, y = images()
    found = [
        RandomPoint(batch_size=size)(linear, x, y, verbose=0)
        for size in (3, 20)
    ]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)
    distance = np.linalg.norm((found[0] - x).reshape(len(x), -1), axis=-1)
    assert 0.1 < distance.min() and distance.max() <= 0.5 * (1 + 1e-6)
    assert len(np.unique(distance.round(6))) == len(x)
    other = RandomPoint(seed=1)(linear, x, y, verbose=0)
    assert np.abs(other - found[0]).max() > 0.01


@pytest.mark.compiles_much
def test_a_model_of_fixed_batch_size():
    x, y = images(5)
    inputs = keras.Input(batch_shape=(4, 4, 4, 1))
    outputs = keras.layers.Dense(3)(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, outputs)
    found = RandomPoint(batch_size=2)(model, x, y, verbose=0)
    free = RandomPoint()(network(), x, y, verbose=0)
    np.testing.assert_allclose(found, free, atol=1e-7)


def test_points_are_projected(linear):
    """The nearest point of the ball lies on the way to the center."""

    def far(batch):
        return batch.project(batch.x + 2.0)

    x, y = images()
    attack = kr.attacks.from_function(
        far, "l2", epsilon=0.4, value_range=(-9, 9)
    )
    found = attack(linear, x, y, verbose=0)
    # A step of 2 in each of 16 pixels, shortened to 0.4.
    np.testing.assert_allclose(found, x + 0.1, atol=1e-6)


def test_values_and_gradients(linear):
    weights = linear.get_weights()[0]
    seen = {}

    def look(batch):
        seen["logits"] = ops.convert_to_numpy(batch.logits(batch.x))
        total = batch.gradient(batch.x, lambda x: batch.logits(x)[:, 1])
        seen["gradient"] = ops.convert_to_numpy(total)
        seen["loss"] = ops.convert_to_numpy(batch.loss(batch.x))
        return batch.x

    x, y = images()
    kr.attacks.from_function(look, "l2", 0.1)(linear, x, y, verbose=0)
    flat = x.reshape(len(x), -1)
    np.testing.assert_allclose(seen["logits"], flat @ weights, atol=1e-5)
    # Of the sum over the batch: for each image the column of its class.
    expected = np.tile(weights[:, 1], (len(x), 1))
    np.testing.assert_allclose(
        seen["gradient"].reshape(len(x), -1), expected, atol=1e-5
    )
    shown = np.exp(flat @ weights)
    own = shown[np.arange(len(y)), y]
    log_odds = np.log((shown.sum(-1) - own) / own)
    np.testing.assert_allclose(seen["loss"], log_odds, atol=1e-4)


def test_evaluation(linear):
    x, y = images()
    y = kr.evaluation.predict_labels(linear, x)
    attacks = {"own": SignStep(), "fgsm": kr.FGSMAttack("linf", EPSILON)}
    report = kr.evaluate_robustness(
        linear, (x, y), attacks, verbose=0, probe=False, survivors_only=False
    )
    assert report.accuracy["own"] == report.accuracy["fgsm"] < 1
    curve = kr.robustness_curve(
        linear,
        (x, y),
        "linf",
        [0.05, 0.1],
        lambda epsilon: SignStep(epsilon=epsilon),
        verbose=0,
        probe=False,
    )
    assert curve.accuracy[2] == report.accuracy["own"]
    matrix = kr.transfer_matrix(
        {"a": linear}, {"b": network()}, (x, y), SignStep(), verbose=0
    )
    assert matrix is not None
    code = report.provenance["attacks"]["own"]["code"]
    assert len(code) == 64


def test_leaving_the_ball_is_flagged(linear):
    def far(batch):
        return batch.x + 0.15

    x, y = images()
    attack = kr.attacks.from_function(far, "linf", 0.1)
    report = kr.evaluate_robustness(
        linear, (x, y), attack, verbose=0, probe=False
    )
    assert "outside ball" in {flag.name for flag in report.flags}


@pytest.mark.parametrize("as_function", [False, True])
def test_training_is_that_with_fgsm(as_function):
    """An epoch of training and its validation give the same numbers."""
    x, y = images()
    own = SignStep()
    if as_function:
        own = kr.attacks.from_function(sign_step, "linf", EPSILON)
    histories = []
    for attack in (own, kr.FGSMAttack("linf", EPSILON)):
        robust = kr.AdversarialModel(
            network(), attack, validation_attack=attack
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        robust.compile("sgd", loss, metrics=["accuracy"])
        fit = robust.fit(
            x,
            y,
            batch_size=10,
            shuffle=False,
            verbose=0,
            epochs=2,
            validation_data=(x, y),
        )
        histories.append(fit.history)
    assert set(histories[0]) == set(histories[1])
    for key, values in histories[0].items():
        np.testing.assert_allclose(values, histories[1][key], rtol=1e-4)
    assert "val_robust_accuracy" in histories[0]


def test_training_by_a_schedule_and_saving(tmp_path):
    x, y = images()
    schedule = kr.training.LinearWarmup(epochs=2)
    robust = kr.AdversarialModel(
        network(), SignStep(), epsilon_schedule=schedule
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    robust.compile("sgd", loss)
    robust.fit(x, y, batch_size=10, verbose=0, epochs=1)
    robust.save(tmp_path / "robust.keras")
    loaded = keras.saving.load_model(tmp_path / "robust.keras")
    assert isinstance(loaded.attack, SignStep)
    assert loaded.attack.epsilon == EPSILON
    found = ops.convert_to_numpy(loaded.perturb(ops.convert_to_tensor(x), y))
    expected = SignStep()(loaded.model, x, y, verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_divergences_need_another_start():
    """At the image itself the divergence of TRADES has no gradient."""
    x, y = images()
    robust = kr.AdversarialModel(
        network(), SignStep(), objective=kr.objectives.TRADES(beta=6.0)
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    robust.compile("sgd", loss)
    found = ops.convert_to_numpy(robust.perturb(ops.convert_to_tensor(x), y))
    assert np.abs(found - x).min() > 0.5 * EPSILON


def test_a_random_start_in_training_differs_from_step_to_step():
    x, y = images()
    robust = kr.AdversarialModel(network(), RandomPoint())
    found = [
        ops.convert_to_numpy(robust.perturb(ops.convert_to_tensor(x), y))
        for _ in range(2)
    ]
    assert np.abs(found[0] - found[1]).max() > 0.01


def test_configuration():
    attack = SignStep(epsilon=0.3, seed=4)
    assert "SignStep(" in repr(attack) and "epsilon=0.3" in repr(attack)
    assert SignStep.from_config(attack.get_config()).seed == 4
    made = kr.attacks.from_function(sign_step, "linf", 0.3)
    again = type(made).from_config(made.get_config())
    assert again.function is sign_step and again.epsilon == 0.3


def test_other_arguments_are_part_of_the_configuration():
    class Passing(kr.Attack):
        def __init__(self, epsilon=0.1, **options):
            super().__init__(**options)
            self.epsilon = epsilon

        def perturb_batch(self, batch):
            return batch.x

    assert "batch_size=3" in repr(Passing(batch_size=3))


def test_mistakes(linear):
    x, y = images()

    @dataclass(eq=False, repr=False)
    class Empty(kr.Attack):
        epsilon: float = 0.1

    with pytest.raises(NotImplementedError, match="must define `perturb_batch"):
        Empty()(linear, x, y, verbose=0)
    with pytest.raises(ValueError, match="attack of your own that defines"):
        kr.AdversarialModel(linear, Empty())
    for wrong, message in (
        (lambda batch: None, "like batch.x.*Received: None"),
        (lambda batch: batch.y, "like batch.x"),
        (lambda batch: batch.x[:2], "like batch.x"),
        (lambda batch: batch.x[:1], "like batch.x"),
        (lambda batch: batch.x[:, :1], "like batch.x"),
    ):
        attack = kr.attacks.from_function(wrong, "linf", 0.1)
        with pytest.raises(ValueError, match=message):
            attack(linear, x, y, verbose=0)
    with pytest.raises(ValueError, match="function of an AttackBatch"):
        kr.attacks.from_function("pgd", "linf", 0.1)

    with pytest.raises(ValueError, match="finite .* L0.*Received: value_range"):
        RandomPoint("l0", 3, value_range=(-np.inf, np.inf))(
            linear, x, y, verbose=0
        )

    @dataclass(eq=False, repr=False)
    class WithoutNorm(kr.Attack):
        epsilon: float = 0.1

        def perturb_batch(self, batch):
            return batch.random_point()

    with pytest.raises(ValueError, match="settings `norm`"):
        WithoutNorm()(linear, x, y, verbose=0)


@pytest.mark.parametrize("high", [1, 255])
def test_a_random_point_of_the_l0_ball_moves_entries_anywhere(high):
    weights = np.zeros((16, 3))
    model = make_linear(weights, np.zeros(3), shape=(4, 4, 1))
    x = np.full((2000, 4, 4, 1), high / 4, "float32")
    y = np.zeros(2000, "int32")
    attack = RandomPoint("l0", 3, value_range=(0, high))
    found = attack(model, x, y, verbose=0)
    moved = found != x
    assert set(moved.sum((1, 2, 3))) == {3}
    # Five standard errors of a share of 3/16, and of the mean of a uniform
    # draw and its square.
    share = moved.mean(0)
    assert np.abs(share - 3 / 16).max() < 5 * np.sqrt(3 / 16 * 13 / 16 / 2000)
    values = found[moved] / high
    assert abs(values.mean() - 1 / 2) < 5 / np.sqrt(12 * 6000)
    assert abs((values**2).mean() - 1 / 3) < 5 * np.sqrt(4 / 45 / 6000)
