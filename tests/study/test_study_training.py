import keras
import numpy as np
import pytest
from keras import ops

import keras_robust as kr
from keras_robust.study.training import SmoothedCrossEntropy
from keras_robust.study.training import Training
from keras_robust.study.training import Triangle
from keras_robust.study.training import make_loss
from keras_robust.study.training import make_optimizer
from keras_robust.utils.files import json_hash


def rates(training, steps_per_epoch):
    schedule = make_optimizer(training, steps_per_epoch)._learning_rate
    steps = training.epochs * steps_per_epoch
    return [
        float(keras.ops.convert_to_numpy(schedule(step)))
        for step in range(steps + 1)
    ]


def test_one_cycle_warms_up_and_ends_at_zero():
    values = rates(Training(epochs=10, learning_rate=0.4), 5)
    assert values[0] == 0 and max(values) == pytest.approx(0.4)
    assert values.index(max(values)) == 10
    assert values[5] == pytest.approx(0.2)
    assert values[50] == pytest.approx(0, abs=1e-6)


def test_drops_of_the_paper():
    """A tenth after each third of the epochs."""
    training = Training(epochs=150, learning_rate=0.1, schedule="drops")
    values = rates(training, 2)
    assert values[50] == pytest.approx(0.1)
    assert values[150] == pytest.approx(0.01)
    assert values[250] == pytest.approx(0.001)


def test_a_triangle_is_that_of_airbench():
    """0.2 of the peak, the peak after 23 %, 0.07 at the end, linear between."""
    values = rates(Training(10, 0.75, schedule="triangle"), 100)
    expected = 0.75 * np.interp(
        np.arange(1001), [0, 230, 1000], [0.2, 1.0, 0.07]
    )
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    schedule = Triangle(0.75, 1000, start=0.5, end=0.0, rise=0.1)
    again = Triangle.from_config(schedule.get_config())
    assert float(ops.convert_to_numpy(again(0))) == pytest.approx(0.375)
    assert float(ops.convert_to_numpy(again(1000))) == pytest.approx(0.0)
    # A step beyond the end does not go below zero.
    assert float(ops.convert_to_numpy(again(2000))) == pytest.approx(0.0)


@pytest.mark.parametrize("arguments", [{"steps": 0}, {"rise": 1.0}])
def test_triangles_that_are_refused(arguments):
    with pytest.raises(ValueError, match="Received"):
        Triangle(**{"peak": 1.0, "steps": 10, **arguments})


def test_label_smoothing_is_that_of_one_hot_labels():
    random = np.random.default_rng(0)
    logits = random.normal(size=(6, 4)).astype("float32")
    labels = random.integers(0, 4, 6)
    rows = 0.8 * np.eye(4)[labels] + 0.2 / 4
    log = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -(rows * log).sum(-1).mean()
    loss = make_loss(Training(1, 0.1, label_smoothing=0.2))
    for y in (labels, labels[:, None]):
        found = float(ops.convert_to_numpy(loss(y, logits)))
        assert found == pytest.approx(expected, rel=1e-5)
    config = SmoothedCrossEntropy(0.2).get_config()
    assert SmoothedCrossEntropy.from_config(config).smoothing == 0.2
    with pytest.raises(ValueError, match="smoothing.*Received"):
        SmoothedCrossEntropy(1.0)


def network():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(5, name="first"),
            keras.layers.BatchNormalization(scale=False, name="norm"),
            keras.layers.Dense(3, name="last"),
        ],
        name="network",
    )


def trained(training, steps=1):
    """What `fit` makes of the weights, one full batch a step."""
    random = np.random.default_rng(0)
    x = random.normal(size=(8, 4)).astype("float32")
    y = random.integers(0, 3, 8)
    model = network()
    before = {
        v.path: ops.convert_to_numpy(v) for v in model.trainable_variables
    }
    model.compile(make_optimizer(training, 1), make_loss(training))
    model.fit(x, y, batch_size=8, epochs=steps, verbose=0, shuffle=False)
    return {
        variable.path: ops.convert_to_numpy(variable) - before[variable.path]
        for variable in model.trainable_variables
    }


def test_biases_learn_faster():
    """By `bias_rate`, and what is no bias as before."""
    plain = Training(1, 0.1, schedule="constant", momentum=0.0)
    faster = Training(1, 0.1, schedule="constant", momentum=0.0, bias_rate=64.0)
    slow, fast = trained(plain), trained(faster)
    assert len(slow) == 5
    for (path, one), other in zip(slow.items(), fast.values(), strict=True):
        is_bias = path.endswith(("bias", "beta"))
        factor = 64.0 if is_bias else 1.0
        np.testing.assert_allclose(other, factor * one, rtol=1e-3, atol=1e-6)


def test_averaged_weights_take_the_place_of_the_last():
    """Keras's average starts at the weights after the first step."""
    options = {"schedule": "constant", "momentum": 0.0}
    plain = Training(1, 0.1, **options)
    first, second = trained(plain), trained(plain, steps=2)
    averaging = Training(1, 0.1, weight_average=0.75, **options)
    for path, mean in trained(averaging, steps=2).items():
        expected = 0.75 * first[path] + 0.25 * second[path]
        np.testing.assert_allclose(mean, expected, rtol=1e-3, atol=1e-6)


class Slow(keras.optimizers.SGD):
    pass


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda steps: keras.optimizers.Lion(1 / steps),
        keras.optimizers.Lion(0.1),
        keras.optimizers.serialize(keras.optimizers.Lion(0.1)),
    ],
)
def test_an_optimizer_of_ones_own(optimizer):
    training = Training(2, optimizer=optimizer)
    first, second = (make_optimizer(training, 5) for _ in range(2))
    assert isinstance(first, keras.optimizers.Lion) and first is not second
    # Two epochs of five steps.
    rate = float(ops.convert_to_numpy(first.learning_rate))
    assert rate == pytest.approx(0.1)


def test_a_class_of_keras_is_no_function_of_steps():
    training = Training(2, optimizer=keras.optimizers.Adam)
    rate = make_optimizer(training, 100).learning_rate
    assert float(ops.convert_to_numpy(rate)) == pytest.approx(0.001)


def test_optimizers_of_keras_by_name():
    made = make_optimizer(Training(2, 0.5, "lion", schedule="constant"), 5)
    assert isinstance(made, keras.optimizers.Lion)
    assert float(ops.convert_to_numpy(made.learning_rate)) == 0.5
    # Without a rate, Keras's default is the peak.
    made = make_optimizer(Training(2, optimizer="adam", schedule="drops"), 5)
    assert float(ops.convert_to_numpy(made.learning_rate)) == pytest.approx(
        0.001
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "lino"}, "Did you mean 'lion'"),
        ({"optimizer": lambda steps: 3}, "must be a name.*which returns 3"),
        ({"optimizer": 3}, "must be a name.*Received: optimizer=3"),
        (
            {"optimizer": keras.optimizers.Adam, "learning_rate": 0.1},
            "`learning_rate` must be left out",
        ),
        ({"augment": 3}, "`augment` must be True, False"),
        ({"epochs": 0}, "`epochs` must be an integer >= 1"),
        ({"schedule": "cosine"}, "schedule must be one of.*Received"),
        ({"learning_rate": -0.1}, "`learning_rate` must be a number > 0"),
        ({"momentum": 1}, r"`momentum` must be in \[0, 1\)"),
        ({"label_smoothing": 2}, "`label_smoothing` must be a number >= 0"),
        ({"weight_average": 1.5}, r"`weight_average` must be in \(0, 1\)"),
        ({"bias_rate": None}, "`bias_rate` must be a number > 0"),
        (
            {"optimizer": lambda: keras.optimizers.Lion(0.1)},
            "must be a name, a function of the number of steps",
        ),
    ],
)
def test_a_wrong_training_is_refused_at_once(settings, message):
    with pytest.raises(ValueError, match=message):
        Training(**{"epochs": 1, **settings})


def cosine_adam(steps):
    """Adam with a schedule of that length."""
    return keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(1e-3, steps)
    )


def test_trainings_are_told_apart():
    """What a trained network depends on, by the values of its settings."""

    def described(**settings):
        return json_hash(Training(1, **settings).description())

    # Keras numbers the names of optimizers.
    same = [
        described(optimizer=lambda steps: keras.optimizers.Lion(0.1))
        for _ in range(2)
    ]
    assert same[0] == same[1]
    others = [
        described(optimizer=optimizer, augment=augment)
        for optimizer, augment in (
            (lambda steps: keras.optimizers.Lion(0.1), False),
            (lambda steps: keras.optimizers.Lion(0.2), False),
            (keras.optimizers.Lion(0.1, beta_1=0.5), False),
            (lambda steps: keras.optimizers.SGD(0.1), False),
            (lambda steps: Slow(0.1), False),
            (lambda steps: cosine_adam(1000), False),
            (lambda steps: cosine_adam(steps), False),
            ("lion", False),
            ("lion", keras.layers.RandomFlip("horizontal")),
            ("lion", keras.layers.RandomFlip("vertical")),
            ("lion", lambda images: images + 1),
            ("lion", lambda images: images + 2),
        )
    ]
    assert len(set(others)) == len(others) and others[0] == same[0]


def test_another_optimizer_for_one_network_has_a_rate_of_its_own():
    study = kr.Study(
        "digits",
        "mlp",
        training=Training(2, learning_rate=0.5, momentum=0.8),
        overrides={
            "D_rand": {"optimizer": "adam", "learning_rate": 0.01},
            "D_rand_robust": {"optimizer": "lion"},
            "D_det": {"optimizer": "nesterov", "momentum": 0.9},
            "D_other": {"epochs": 3},
        },
    )
    assert study.training_of("standard").learning_rate == 0.5
    assert study.training_of("D_rand").learning_rate == 0.01
    assert study.training_of("D_rand_robust").learning_rate is None
    assert study.training_of("D_det").learning_rate is None
    assert study.training_of("D_other").learning_rate == 0.5
