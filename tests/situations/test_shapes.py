"""Shapes: channels first, fixed batches, no images, several inputs."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_robust as kr
from keras_robust.attacks.image_attack import channels_first
from tests.helpers import make_linear
from tests.situations.helpers import check_report
from tests.situations.helpers import digits
from tests.situations.helpers import fit_head
from tests.situations.helpers import network
from tests.situations.helpers import predicted
from tests.situations.helpers import settle

# Every model is compiled anew.
pytestmark = pytest.mark.slow


def attack_of(norm="l2", epsilon=0.5, **options):
    return kr.PGDAttack(norm, epsilon, steps=4, early_stop=True, **options)


# Channels first.


def first(x):
    """Three equal channels, in front."""
    return np.repeat(x, 3, -1).transpose(0, 3, 1, 2).copy()


def channels_first_networks():
    """A network of channels first, and the same of channels last."""
    stack = layers.Flatten(), layers.Dense(64, "relu"), layers.Dense(10)
    (x, y), _ = digits()
    last = network(*stack, shape=(8, 8, 3))
    fit_head(last, np.repeat(x, 3, -1), y)
    inputs = keras.Input((3, 8, 8))
    model = keras.Model(inputs, last(layers.Permute((2, 3, 1))(inputs)))
    return model, last


def test_rotations_of_channels_first():
    """Each channel turns; what was equal in all channels stays equal."""
    _, (x, y) = digits()
    model, last = channels_first_networks()
    attack = kr.SpatialAttack(rotation=30, translation=1, angles=5, shifts=3)
    found = attack(model, first(x), y, verbose=0)
    for channel in (1, 2):
        np.testing.assert_allclose(found[:, 0], found[:, channel], atol=1e-6)
    expected = attack(last, np.repeat(x, 3, -1), y, verbose=0)
    np.testing.assert_allclose(found, expected.transpose(0, 3, 1, 2), atol=1e-4)
    assert np.abs(found - first(x)).max() > 0.1


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8)])
def test_rotations_of_a_convolution_on_channels_first(shape):
    if keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow convolves channels first on GPUs only")
    _, (x, _) = digits()
    x = np.repeat(x, shape[0], -1).transpose(0, 3, 1, 2).copy()
    model = network(
        layers.Conv2D(4, 3, data_format="channels_first"),
        layers.ReLU(),
        layers.Flatten(),
        layers.Dense(3),
        shape=shape,
    )
    y = predicted(model, x)
    found = kr.SpatialAttack(20, 1, 3, 3)(model, x, y, verbose=0)
    # Turned about the middle of rows and columns: the sum of the black border
    # and the ink stays about the same, channel by channel.
    for channel in range(1, shape[0]):
        np.testing.assert_allclose(found[:, 0], found[:, channel], atol=1e-6)
    ink = found.sum((1, 2, 3)) / x.sum((1, 2, 3))
    assert 0.7 < np.median(ink) < 1.1
    # Rows and columns both move, or neither of an upright digit's.
    assert np.abs(found - x).max() > 0.05


@pytest.mark.parametrize(
    ("shape", "data_format", "expected"),
    [
        # Few rows of many channels.
        ((3, 32, 8), "channels_last", False),
        ((8, 32, 3), "channels_first", True),
        ((3, 8, 8), "channels_first", True),
        ((8, 8, 3), "channels_last", False),
    ],
)
def test_layers_tell_where_channels_are(shape, data_format, expected):
    """Whichever axis is as short as channels usually are."""
    model = keras.Sequential(
        [
            keras.Input(shape),
            # TensorFlow convolves channels first on GPUs only.
            layers.GlobalAveragePooling2D(data_format=data_format),
            layers.Dense(2),
        ]
    )
    nested = keras.Sequential([keras.Input(shape), model])
    for each in (model, nested):
        assert channels_first(each, (None, *shape), None) == expected


def test_layers_behind_a_permute_do_not_tell_where_channels_are():
    convolved = [
        layers.Permute((2, 3, 1)),
        layers.Conv2D(2, 3),
        layers.GlobalAveragePooling2D(),
    ]
    model = keras.Sequential([keras.Input((3, 8, 8)), *convolved])
    assert channels_first(model, (5, 3, 8, 8), None)


def test_square_on_channels_first():
    """Squares lie on rows and columns; all channels of one are moved."""
    _, (x, y) = digits()
    model, _ = channels_first_networks()
    attack = kr.SquareAttack("linf", 0.1, queries=30, seed=0)
    found = attack(model, first(x), y, verbose=0)
    assert np.abs(found - first(x)).max() <= 0.1 * (1 + 1e-5)
    right = (predicted(model, found) == y).mean()
    assert right < (predicted(model, first(x)) == y).mean() - 0.1


def test_reports_of_channels_first():
    _, (x, y) = digits()
    model, _ = channels_first_networks()
    check_report(model, first(x), y, attack_of())


# A batch size that is part of the model.


def fixed_network(batch=32):
    """A reshape with the number of examples in it."""
    inputs = keras.Input(batch_shape=(batch, 8, 8, 1))
    h = layers.Dense(64, "relu")(ops.reshape(inputs, (batch, 64)))
    model = keras.Model(inputs, layers.Dense(10)(h))
    free = network(layers.Flatten(), layers.Dense(64, "relu"), layers.Dense(10))
    model.set_weights(fit_head(free).get_weights())
    return model, free


@pytest.mark.parametrize("batch_size", [32, 128])
@pytest.mark.parametrize("examples", [64, 50, 20])
def test_a_fixed_batch_size(examples, batch_size):
    """Any number of examples, filled up and cut off again."""
    (x, y), _ = digits()
    x, y = x[:examples], y[:examples]
    model, free = fixed_network()
    attack = attack_of(batch_size=batch_size)
    found = attack(model, x, y, verbose=0)
    assert found.shape == x.shape
    expected = attack_of()(free, x, y, verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    report = kr.evaluate_robustness(
        model, (x, y), {"pgd": attack}, probe=False, verbose=0
    )
    for key, images in {"clean": x, "pgd": found}.items():
        right = predicted(free, images) == y
        np.testing.assert_array_equal(report.correct[key], right)


@pytest.mark.slow_on_jax
def test_other_attacks_on_a_fixed_batch_size():
    (x, y), _ = digits()
    x, y = x[:40], y[:40]
    model, free = fixed_network()
    for attack in (
        kr.FGSMAttack("linf", 0.1),
        kr.APGDAttack("linf", 0.1, steps=3, seed=0),
        kr.SquareAttack("linf", 0.1, queries=5, seed=0),
    ):
        found = attack(model, x, y, verbose=0)
        assert np.abs(found - x).max() <= 0.1 * (1 + 1e-5)
        np.testing.assert_allclose(
            found, attack(free, x, y, verbose=0), atol=1e-4
        )


@pytest.mark.slow_on_jax
def test_a_curve_and_probes_on_a_fixed_batch_size():
    (x, y), _ = digits()
    x, y = x[:40], y[:40]
    model, free = fixed_network()
    curve = kr.robustness_curve(
        model,
        (x, y),
        norm="l2",
        epsilons=[0.2, 0.5],
        attack=lambda epsilon: attack_of(epsilon=epsilon),
        verbose=0,
    )
    same = kr.robustness_curve(
        free,
        (x, y),
        norm="l2",
        epsilons=[0.2, 0.5],
        attack=lambda epsilon: attack_of(epsilon=epsilon),
        verbose=0,
    )
    np.testing.assert_array_equal(curve.correct, same.correct)
    assert [f.name for f in curve.flags] == [f.name for f in same.flags]


# Not images.

STACKS = {
    "(N, D)": ((12,), [layers.Dense(16, "tanh")]),
    "(N, T, D)": (
        (6, 4),
        [layers.Conv1D(8, 3, padding="causal"), layers.ReLU()],
    ),
    "(N, T, D), recurrent": ((6, 4), [layers.GRU(8)]),
    "(N, H, W)": ((8, 8), [layers.Dense(16, "tanh")]),
    "(N, H, W), as sequence": ((8, 8), [layers.SimpleRNN(8)]),
    "(N, H, W), with a channel": (
        (8, 8),
        [layers.Reshape((8, 8, 1)), layers.Conv2D(4, 3, activation="relu")],
    ),
    "(N, D, H, W, C)": ((4, 4, 4, 2), [layers.Conv3D(4, 2)]),
    "(N, 1)": ((1,), [layers.Dense(16, "tanh")]),
}


@pytest.mark.parametrize("name", STACKS)
def test_ranks(name):
    shape, stack = STACKS[name]
    model = network(*stack, layers.Flatten(), layers.Dense(3), shape=shape)
    x = np.random.default_rng(0).random((30, *shape), "float32")
    head = model.layers[-1]
    mean = model.predict(x, verbose=0).mean(0)
    head.bias.assign(ops.convert_to_numpy(head.bias) - mean)
    check_report(model, x, predicted(model, x), attack_of())


# Several inputs.


def two_inputs(pack=list, embedded=False):
    """Digits with a hint, a row of numbers or a list of words.

    The hint says the digit to a part; the image says it as well.
    """
    (x, y), (test_x, test_y) = digits()
    image = keras.Input((8, 8, 1), name="image")
    if embedded:
        hint = keras.Input((3,), name="hint", dtype="int32")
        row = layers.Flatten()(layers.Embedding(12, 4)(hint))
    else:
        hint = keras.Input((10,), name="hint")
        row = layers.Rescaling(1 / 100)(hint)
    h = layers.Dense(64, "relu")(layers.Flatten()(image))
    h = layers.Concatenate()([h, row])
    inputs = [image, hint]
    if pack is dict:
        inputs = {"image": image, "hint": hint}
    model = settle(keras.Model(inputs, layers.Dense(10)(h)))
    view = keras.Model([image, hint], h)
    hints = hints_for(y, embedded)
    fit_head_of(model, view.predict([x, hints], verbose=0), y)
    return model, test_x, hints_for(test_y, embedded), test_y


def hints_for(y, embedded):
    random = np.random.default_rng(0)
    if embedded:
        words = random.integers(0, 12, (len(y), 3)).astype("int32")
        words[::2, 0] = y[::2]
        return words
    # Far outside the box of the image: it is no image.
    rows = random.normal(size=(len(y), 10)) * 30
    rows[np.arange(len(y)), y] += 50
    return rows.astype("float32")


def fit_head_of(model, h, y):
    h = np.concatenate([h, np.ones((len(h), 1))], axis=1)
    squares = h.T @ h + 0.1 * np.eye(h.shape[1])
    weights = np.linalg.solve(squares, h.T @ np.eye(10)[y]) * 10
    model.layers[-1].set_weights([weights[:-1], weights[-1]])


def packed(pack, image, hint):
    if pack is dict:
        return {"image": image, "hint": hint}
    return pack([image, hint])


@pytest.mark.parametrize("embedded", [False, True])
@pytest.mark.parametrize("pack", [list, tuple, dict])
def test_one_of_two_inputs(pack, embedded):
    """The image moves, the hint is held, and the number is the model's."""
    model, x, hints, y = two_inputs(pack, embedded)
    data = packed(pack, x, hints)
    attack = attack_of(attacked="image")
    found = attack(model, data, y, verbose=0)
    assert type(found) is type(data)
    image, held = (
        (found["image"], found["hint"]) if pack is dict else tuple(found)
    )
    np.testing.assert_array_equal(held, hints)
    assert held.dtype == hints.dtype and image.dtype == x.dtype
    length = np.linalg.norm((image - x).reshape(len(x), -1), axis=-1)
    assert 0.1 < length.max() <= 0.5 * (1 + 1e-5)
    report = kr.evaluate_robustness(
        model, (data, y), {"pgd": attack}, probe=False, verbose=0
    )
    right = [predicted(model, rows) == y for rows in (data, found)]
    np.testing.assert_array_equal(report.correct["clean"], right[0])
    np.testing.assert_array_equal(report.correct["pgd"], right[1])
    assert right[1].mean() < right[0].mean() - 0.1


def test_each_example_with_its_own_hint():
    """Batches keep images and hints together: the closed form of a line."""
    random = np.random.default_rng(0)
    image, meta = keras.Input((5,), name="a"), keras.Input((3,), name="b")
    # A gate: which way the image must move depends on its own hint.
    gate = layers.Dense(5, activation="tanh")(meta)
    h = layers.Multiply()([image, gate])
    model = settle(keras.Model([image, meta], layers.Dense(2)(h)))
    x = random.random((50, 5), "float32")
    held = random.normal(size=(50, 3)).astype("float32") * 3
    y = predicted(model, [x, held])
    gates = np.tanh(held @ model.get_weights()[0] + model.get_weights()[1])
    weights = model.get_weights()[2]
    slope = gates * (weights[:, 1] - weights[:, 0])
    direction = np.sign(slope) * np.where(y == 1, -1, 1)[:, None]
    expected = np.clip(x + 0.2 * direction, 0, 1)
    attack = kr.FGSMAttack("linf", 0.2, attacked="a", batch_size=16)
    found = attack(model, [x, held], y, verbose=0)
    np.testing.assert_allclose(found[0], expected, atol=1e-5)
    report = kr.evaluate_robustness(
        model, ([x, held], y), {"fgsm": attack}, probe=False, verbose=0
    )
    right = predicted(model, [expected, held]) == y
    np.testing.assert_array_equal(report.correct["fgsm"], right)
    assert 0 < right.mean() < 1


def test_the_other_of_two_inputs():
    """A row of a table is attacked in its own box; the image is held."""
    model, x, hints, y = two_inputs()
    attack = kr.PGDAttack(
        "linf",
        60.0,
        steps=5,
        attacked="hint",
        value_range=(-np.inf, np.inf),
        early_stop=True,
    )
    image, found = attack(model, [x, hints], y, verbose=0)
    np.testing.assert_array_equal(image, x)
    assert np.abs(found - hints).max() <= 60 * (1 + 1e-5)
    before = (predicted(model, [x, hints]) == y).mean()
    assert (predicted(model, [x, found]) == y).mean() < before - 0.1


def test_which_of_two_inputs_must_be_said():
    model, x, hints, y = two_inputs()
    for options in ({}, {"attacked": "picture"}):
        with pytest.raises(ValueError, match="`attacked`.*image.*hint"):
            attack_of(**options)(model, [x, hints], y, verbose=0)
        with pytest.raises(ValueError, match="`attacked`.*image.*hint"):
            kr.evaluate_robustness(
                model,
                ([x, hints], y),
                attacks={"pgd": attack_of(**options)},
                verbose=0,
            )
    with pytest.raises(ValueError, match="`attacked`.*image.*hint"):
        kr.AdversarialModel(model, kr.PGDAttack())
    with pytest.raises(ValueError, match="image.*hint.*Received"):
        attack_of(attacked="image")(model, x, y, verbose=0)


@pytest.mark.slow_on_jax
@pytest.mark.parametrize("pack", [list, dict])
def test_curves_and_names_with_two_inputs(pack):
    model, x, hints, y = two_inputs(pack)
    data = packed(pack, x, hints)
    curve = kr.robustness_curve(
        model,
        (data, y),
        norm="l2",
        epsilons=[0.3],
        attack=lambda epsilon: attack_of(epsilon=epsilon, attacked="image"),
        probe=False,
        verbose=0,
    )
    found = attack_of(epsilon=0.3, attacked="image")(model, data, y, verbose=0)
    for rows, images in zip(curve.correct, (data, found), strict=True):
        np.testing.assert_array_equal(rows, predicted(model, images) == y)
    report = kr.evaluate_robustness(
        model,
        (data, y),
        attacks="apgd",
        norm="l2",
        epsilon=0.3,
        attacked="image",
        probe=False,
        verbose=0,
    )
    assert report.accuracy["apgd"] <= curve.accuracy[1] + 0.02


@pytest.mark.slow_on_jax
@pytest.mark.parametrize("pack", [list, dict])
def test_training_with_two_inputs(pack):
    """What `evaluate` logs is the model's accuracy on attacked images."""
    model, x, hints, y = two_inputs(pack)
    (train_x, train_y), _ = digits()
    rows = packed(pack, train_x[:64], hints_for(train_y[:64], False))
    attack = kr.PGDAttack("l2", 0.5, steps=3, attacked="image")
    robust = kr.AdversarialModel(model, attack)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    robust.compile(keras.optimizers.SGD(1e-4), loss, metrics=["accuracy"])
    robust.fit(rows, train_y[:64], verbose=0)
    data = packed(pack, x, hints)
    logged = robust.evaluate(data, y, verbose=0, return_dict=True)
    clean = (predicted(model, data) == y).mean()
    found = attack(model, data, y, verbose=0)
    right = (predicted(model, found) == y).mean()
    assert logged["accuracy"] == pytest.approx(clean, abs=1e-6)
    assert logged["robust_accuracy"] == pytest.approx(right, abs=0.04)
    assert right < clean - 0.1


def test_a_subclass_with_two_inputs():
    """No graph tells the names; the data do."""
    functional, x, hints, y = two_inputs(dict)

    class Both(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = functional

        def call(self, inputs):
            return self.inner(inputs)

    model = Both()
    data = {"image": x, "hint": hints}
    model(data)
    attack = attack_of(attacked="image")
    found = attack(model, data, y, verbose=0)
    expected = attack(functional, data, y, verbose=0)
    np.testing.assert_allclose(found["image"], expected["image"], atol=1e-4)


def test_text_by_its_embeddings():
    """Word vectors move, the mask of padding is held."""
    random = np.random.default_rng(0)
    vectors = keras.Input((5, 4), name="vectors")
    mask = keras.Input((5,), name="mask")
    weights = layers.Reshape((5, 1))(mask)
    h = layers.Flatten()(layers.Multiply()([vectors, weights]))
    model = settle(keras.Model([vectors, mask], layers.Dense(3)(h)))
    x = random.normal(size=(30, 5, 4)).astype("float32")
    held = (np.arange(5) < random.integers(2, 6, (30, 1))).astype("float32")
    y = predicted(model, [x, held])
    attack = kr.PGDAttack(
        "l2",
        1.0,
        steps=4,
        attacked="vectors",
        value_range=(-np.inf, np.inf),
        early_stop=True,
    )
    found, same = attack(model, [x, held], y, verbose=0)
    np.testing.assert_array_equal(same, held)
    # No gradient comes through padding.
    np.testing.assert_array_equal(found[held == 0], x[held == 0])
    assert (predicted(model, [found, held]) == y).mean() < 0.9


def test_a_dictionary_of_one_input():
    """Arrays and dictionaries are both taken, as by Keras."""
    weights = np.random.default_rng(0).normal(size=(6, 2))
    plain = make_linear(weights)
    inputs = keras.Input((6,), name="row")
    model = keras.Model({"row": inputs}, plain(inputs))
    x = np.random.default_rng(1).random((20, 6), "float32")
    y = predicted(plain, x)
    expected = attack_of()(plain, x, y, verbose=0)
    found = attack_of()(model, {"row": x}, y, verbose=0)
    assert list(found) == ["row"]
    np.testing.assert_allclose(found["row"], expected, atol=1e-5)
    found = attack_of()(model, x, y, verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-5)
