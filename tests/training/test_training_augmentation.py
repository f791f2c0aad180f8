"""Random layers in front of a model: drawn once, attacked, trained on."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_robust as kr
from keras_robust.classifier import Classifier
from keras_robust.training.augmentation import search_front


def data(shape=(8, 8, 1), examples=32, seed=0):
    random = np.random.default_rng(seed)
    x = random.random((examples, *shape)).astype("float32")
    return x, random.integers(0, 3, examples)


def rest_layers():
    return [
        layers.Conv2D(4, 3, name="conv"),
        layers.BatchNormalization(name="norm"),
        layers.ReLU(name="relu"),
        layers.GlobalAveragePooling2D(name="pool"),
        layers.Dense(3, activation="softmax", name="dense"),
    ]


def sequential(*parts, shape=(8, 8, 1)):
    return keras.Sequential([keras.Input(shape), *parts])


def functional(*parts, shape=(8, 8, 1)):
    inputs = h = keras.Input(shape)
    for part in parts:
        h = part(h)
    return keras.Model(inputs, h)


def flip_and_turn():
    return [layers.RandomFlip(seed=1), layers.RandomRotation(0.1, seed=2)]


def flip_and_noise():
    # Keras calls a Pipeline as in training to find out its shapes, which takes
    # long for rotations.
    return [layers.RandomFlip(seed=1), layers.GaussianNoise(0.02, seed=2)]


def scaling():
    return layers.Rescaling(1 / 255)


CASES = {
    "sequential": (flip_and_turn, sequential, [], (8, 8, 1), 1.0),
    "functional": (flip_and_turn, functional, [], (8, 8, 1), 1.0),
    "scaled before": (
        lambda: [layers.Rescaling(1 / 255), *flip_and_turn()],
        functional,
        [],
        (8, 8, 1),
        255.0,
    ),
    "scaled after": (
        flip_and_turn,
        functional,
        [layers.Rescaling(1 / 255)],
        (8, 8, 1),
        255.0,
    ),
    "normalized before": (
        lambda: [
            layers.Normalization(mean=[0.5], variance=[0.25]),
            layers.RandomTranslation(0.2, 0.2, "nearest", seed=3),
        ],
        functional,
        [],
        (8, 8, 1),
        1.0,
    ),
    "pipeline": (
        lambda: [layers.Pipeline([layers.RandomFlip(seed=1), scaling()])],
        functional,
        [],
        (8, 8, 1),
        255.0,
    ),
    "scaled first in a pipeline": (
        lambda: [layers.Pipeline([scaling(), *flip_and_noise()])],
        sequential,
        [],
        (8, 8, 1),
        255.0,
    ),
    "nested": (
        lambda: [keras.Sequential(flip_and_turn())],
        functional,
        [],
        (8, 8, 1),
        1.0,
    ),
    "crop": (
        lambda: [layers.RandomCrop(6, 6, seed=4)],
        functional,
        [],
        (6, 6, 1),
        1.0,
    ),
    "noise": (
        lambda: [layers.GaussianNoise(0.2, seed=5)],
        sequential,
        [],
        (8, 8, 1),
        1.0,
    ),
}


def weights_of(model):
    names = ("conv", "norm", "dense")
    return [w for name in names for w in model.get_layer(name).get_weights()]


@pytest.mark.slow_on_jax
@pytest.mark.parametrize("name", CASES)
def test_one_step_is_sgd_on_the_attacked_drawn_image(name):
    """As if the layers were in the data, batch statistics included."""
    make_front, build, behind, drawn_shape, width = CASES[name]
    loss = "sparse_categorical_crossentropy"
    keras.utils.set_random_seed(0)
    model = build(*make_front(), *behind, *rest_layers())
    reference = functional(*behind, *rest_layers(), shape=drawn_shape)
    reference.set_weights(weights_of(model))
    x, y = data()
    x = x * width
    attack = kr.PGDAttack("linf", 0.05 * width, steps=2, value_range=(0, width))
    front = make_front()
    drawn = ops.convert_to_tensor(x)
    for layer in front:
        drawn = layer(drawn, training=True)
    drawn = ops.convert_to_numpy(drawn)
    own_attack = attack
    if name == "scaled before" or "pipeline" in name:
        own_attack = kr.PGDAttack("linf", 0.05, steps=2)
    if name == "normalized before":
        own_attack = kr.PGDAttack("linf", 0.1, steps=2, value_range=(-1, 1))
    if name == "noise":
        assert drawn.min() < 0
        drawn = drawn.clip(0, 1)
    # Interpolation rounds.
    drawn = drawn.clip(*own_attack.value_range)
    attacked = own_attack(reference, drawn, y, verbose=0)
    reference.compile(keras.optimizers.SGD(0.1), loss)
    reference.train_on_batch(attacked, y)
    robust = kr.AdversarialModel(model, attack)
    robust.compile(keras.optimizers.SGD(0.1), loss)
    robust.train_on_batch(x, y)
    for ours, theirs in zip(
        weights_of(model), reference.get_weights(), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_layers_at_the_front_of_a_nested_network():
    """`Model(i, body(i))`, the random layers first in the body."""
    keras.utils.set_random_seed(0)
    body = sequential(*flip_and_turn(), *rest_layers())
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, body(inputs))
    front, _ = search_front(Classifier.of(model))
    assert [type(layer) for layer in front.layers] == [
        layers.RandomFlip,
        layers.RandomRotation,
    ]
    x = ops.convert_to_tensor(data()[0])
    # Without the layers in front this is the model in inference.
    np.testing.assert_allclose(
        ops.convert_to_numpy(front.finish(x, {}, training=False)),
        model.predict(x, verbose=0),
        atol=1e-6,
    )
    logits = kr.training.augmentation.plain_logits(front)
    probabilities = ops.softmax(logits(x))
    np.testing.assert_allclose(
        ops.convert_to_numpy(probabilities),
        model.predict(x, verbose=0),
        atol=1e-5,
    )


def test_nothing_is_added_to_the_layers():
    """Views of the user's model work as before."""
    model = functional(*flip_and_turn(), *rest_layers())
    kr.AdversarialModel(model, kr.PGDAttack())
    view = keras.Model(model.input, model.get_layer("pool").output)
    assert view.output_shape == (None, 4)


@pytest.mark.slow_on_jax
def test_evaluation_sees_the_whole_model():
    x, y = data()
    keras.utils.set_random_seed(0)
    model = functional(*flip_and_turn(), *rest_layers())
    attack = kr.PGDAttack("linf", 0.1, steps=2)
    robust = kr.AdversarialModel(model, attack)
    robust.compile("sgd", "sparse_categorical_crossentropy")
    logs = robust.evaluate(x, y, verbose=0, return_dict=True)
    attacked = attack(model, x, y, verbose=0)
    right = model.predict(attacked, verbose=0).argmax(-1) == y
    assert logs["robust_accuracy"] == pytest.approx(right.mean(), abs=1e-6)


@pytest.mark.compiles_much
def test_the_attack_survives_the_training_pass():
    """Labels that the attack makes wrong are wrong in the logs of training."""
    x, y = data(examples=64)
    keras.utils.set_random_seed(0)
    model = functional(
        layers.RandomFlip(seed=1),
        layers.RandomTranslation(0.3, 0.3, seed=2),
        layers.Flatten(),
        layers.Dense(3),
    )
    y = model.predict(x, verbose=0).argmax(-1)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    attack = kr.PGDAttack("linf", 0.3, steps=3)
    accuracy = {}
    for augmentation in ("auto", None):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            robust = kr.AdversarialModel(
                model, attack, augmentation=augmentation
            )
        robust.compile(keras.optimizers.SGD(0.0), loss, metrics=["accuracy"])
        logs = robust.train_on_batch(x, y, return_dict=True)
        accuracy[augmentation] = logs["accuracy"]
    assert accuracy["auto"] < 0.1 < accuracy[None]


@pytest.mark.slow_on_jax
def test_each_step_has_its_own_draw():
    x, y = data()
    model = functional(
        layers.RandomTranslation(0.4, 0.4, seed=0),
        layers.Flatten(),
        layers.Dense(3),
    )
    robust = kr.AdversarialModel(model, kr.PGDAttack(epsilon=0.0, steps=1))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    robust.compile(keras.optimizers.SGD(0.0), loss)
    history = robust.fit(x, y, batch_size=32, epochs=3, verbose=0).history
    assert len(set(np.round(history["loss"], 5))) == 3


def test_warnings_name_layers():
    inside = functional(
        layers.Conv2D(2, 3),
        layers.RandomRotation(0.1, name="turned"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(3),
    )
    with pytest.warns(UserWarning, match="turned"):
        kr.AdversarialModel(inside, kr.PGDAttack())
    front = functional(
        layers.RandomFlip(name="flipped"), layers.Flatten(), layers.Dense(3)
    )
    with pytest.warns(UserWarning, match="flipped"):
        kr.AdversarialModel(front, kr.PGDAttack(), augmentation=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        kr.AdversarialModel(front, kr.PGDAttack())
        kr.AdversarialModel(
            functional(layers.Flatten(), layers.Dropout(0.5), layers.Dense(3)),
            kr.PGDAttack(),
        )

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.flip = layers.RandomFlip(name="hidden")
            self.flatten = layers.Flatten()
            self.dense = layers.Dense(3)

        def call(self, x, training=None):
            return self.dense(self.flatten(self.flip(x, training=training)))

    own = Own()
    own(np.zeros((1, 8, 8, 1)))
    with pytest.warns(UserWarning, match="hidden"):
        kr.AdversarialModel(own, kr.PGDAttack())


def test_a_layer_of_ones_own():
    class Darken(layers.Layer):
        def __init__(self):
            super().__init__()
            self.generator = keras.random.SeedGenerator(0)

        def call(self, x, training=False):
            if not training:
                return x
            return x * keras.random.uniform((), seed=self.generator)

    model = functional(Darken(), layers.Flatten(), layers.Dense(3))
    front, _ = search_front(Classifier.of(model))
    assert [type(layer) for layer in front.layers] == [Darken]
    branched = keras.Input((8, 8, 1))
    h = layers.RandomFlip()(branched)
    both = layers.Concatenate()(
        [layers.Flatten()(h), layers.Flatten()(branched)]
    )
    assert search_front(Classifier.of(keras.Model(branched, both)))[0] is None


class DarkenAndScale(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.generator = keras.random.SeedGenerator(0)

    def call(self, x, training=False):
        x = x / 255.0
        if not training:
            return x
        return x - keras.random.uniform((), 0.0, 0.1, seed=self.generator)


class FlipAndScale(layers.RandomFlip):
    def call(self, x, training=True):
        return super().call(x, training=training) / 255.0


class CropAndScale(layers.RandomCrop):
    def call(self, x, training=True):
        return super().call(x, training=training) / 255.0


class ResizeAndScale(layers.Resizing):
    def call(self, x):
        return super().call(x) / 255.0


FRONTS = {
    # Layers in front, which of them are drawn, which are warned of.
    "own": (lambda: [DarkenAndScale(name="own")], None, ["own"]),
    "own behind another": (
        lambda: [layers.RandomFlip(), DarkenAndScale(name="own")],
        ["RandomFlip"],
        ["own"],
    ),
    "own in a nested model": (
        lambda: [
            keras.Sequential([layers.RandomFlip(), DarkenAndScale(name="own")])
        ],
        ["RandomFlip"],
        ["own"],
    ),
    "own in a pipeline": (
        lambda: [layers.Pipeline([DarkenAndScale()], name="chain")],
        None,
        ["chain"],
    ),
    "subclass": (lambda: [FlipAndScale(name="own")], None, ["own"]),
    "subclass of a crop": (lambda: [CropAndScale(8, 8, name="o")], None, ["o"]),
    "behind a subclass": (
        lambda: [ResizeAndScale(8, 8), layers.RandomFlip(name="flip")],
        None,
        ["flip"],
    ),
    "unknown units": (
        lambda: [
            layers.Pipeline(
                [layers.RandomFlip(name="flip"), layers.AutoContrast()],
                name="chain",
            )
        ],
        None,
        ["flip", "chain"],
    ),
    "chains": (
        lambda: [
            layers.Pipeline(
                [
                    layers.Pipeline([layers.RandomFlip(), layers.RandomHue(0)]),
                    scaling(),
                    layers.Resizing(6, 6),
                ]
            ),
            layers.RandomCrop(5, 5),
        ],
        ["RandomFlip", "RandomHue", "Rescaling", "Resizing", "RandomCrop"],
        [],
    ),
    "of many layers": (
        lambda: [layers.RandAugment(value_range=(0, 255))],
        ["RandAugment"],
        [],
    ),
    "mixed": (
        lambda: [layers.MixUp(), layers.CutMix(), scaling()],
        ["MixUp", "CutMix"],
        [],
    ),
}


@pytest.mark.parametrize("name", FRONTS)
def test_what_stands_in_front(name):
    """Layers that change units in an unknown way are not drawn first."""
    make_front, drawn, warned_of = FRONTS[name]
    network = [layers.GlobalAveragePooling2D(), layers.Dense(3)]
    model = functional(*make_front(), *network, shape=(8, 8, 3))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        kr.AdversarialModel(model, kr.PGDAttack(value_range=(0, 255)))
    told = [str(w.message) for w in caught if "Random layers" in str(w.message)]
    assert len(told) == bool(warned_of)
    assert all(text.startswith(f"Random layers {warned_of}") for text in told)
    front, _ = search_front(Classifier.of(model))
    assert (front and [type(layer).__name__ for layer in front.layers]) == drawn


def test_trying_layers_out_draws_nothing():
    layer = layers.RandomFlip(seed=7)
    model = functional(layer, *rest_layers())
    before = ops.convert_to_numpy(layer.generator.state.value)
    assert search_front(Classifier.of(model))[0] is not None
    after = ops.convert_to_numpy(layer.generator.state.value)
    np.testing.assert_array_equal(before, after)


@pytest.mark.slow_on_jax
@pytest.mark.parametrize("make_layer", [DarkenAndScale, FlipAndScale])
def test_a_layer_that_changes_units_is_attacked_through(make_layer):
    """The attack's radius and box are in the units of the input."""
    keras.utils.set_random_seed(0)
    model = functional(make_layer(), layers.Flatten(), layers.Dense(3))
    x, y = data()
    x = x * 255
    attack = kr.PGDAttack("linf", 8.0, steps=2, value_range=(0, 255))
    with pytest.warns(UserWarning, match="Random layers"):
        robust = kr.AdversarialModel(model, attack)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    robust.compile(keras.optimizers.SGD(0.0), loss)
    clean = robust.evaluate(x, y, verbose=0, return_dict=True)
    (trained,) = robust.fit(x, y, verbose=0).history["loss"]
    assert trained < 1.5 * clean["robust_loss"]


def test_without_a_radius_it_is_plain_training():
    """Also where the layers in front lead out of the box of the input."""
    x, y = data()
    keras.utils.set_random_seed(0)
    found = []
    weights = None
    for is_robust in (False, True):
        bright = layers.RandomBrightness(0.3, value_range=(0, 1), seed=1)
        front = layers.Pipeline([bright, layers.Rescaling(2.0, -3.0)])
        model = functional(front, layers.Flatten(), layers.Dense(3))
        weights = weights or model.get_weights()
        model.set_weights(weights)
        trained = model
        if is_robust:
            attack = kr.PGDAttack("linf", 0.0, steps=1)
            trained = kr.AdversarialModel(model, attack)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        trained.compile(keras.optimizers.SGD(0.1), loss)
        for _ in range(2):
            trained.train_on_batch(x, y)
        found.append(model.get_weights())
    for plain, robust in zip(*found, strict=True):
        np.testing.assert_allclose(plain, robust, atol=1e-5)
    assert np.abs(found[0][0] - weights[0]).max() > 0.01


@pytest.mark.slow_on_jax
def test_several_inputs_and_outputs():
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 1), name="image")
    meta = keras.Input((2,), name="meta")
    h = layers.Flatten()(layers.RandomFlip(seed=1)(image))
    h = layers.Concatenate()([h, meta])
    model = keras.Model(
        {"image": image, "meta": meta},
        {"digit": layers.Dense(3)(h), "size": layers.Dense(1)(h)},
    )
    robust = kr.AdversarialModel(
        model, kr.PGDAttack("linf", 0.1, steps=2), attacked="image"
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    robust.compile(keras.optimizers.Adam(0.01), {"digit": loss, "size": "mse"})
    x, y = data()
    inputs = {"image": x, "meta": np.ones((32, 2), "float32")}
    labels = {"digit": y, "size": np.zeros((32, 1), "float32")}
    history = robust.fit(inputs, labels, epochs=6, verbose=0).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]


def test_errors():
    model = functional(layers.RandomCrop(6, 6), *rest_layers())
    mask = np.ones((8, 8, 1))
    with pytest.raises(ValueError, match="mask.*Received"):
        kr.AdversarialModel(model, kr.PGDAttack(mask=mask))
    with pytest.raises(ValueError, match="augmentation.*Received"):
        kr.AdversarialModel(model, kr.PGDAttack(), augmentation="always")


def test_save_and_load(tmp_path):
    model = functional(layers.RandomFlip(), layers.Flatten(), layers.Dense(3))
    robust = kr.AdversarialModel(model, kr.PGDAttack())
    robust.save(tmp_path / "a.keras")
    again = keras.saving.load_model(tmp_path / "a.keras")
    assert again.augmentation == "auto"
    x = data()[0]
    np.testing.assert_allclose(
        again.predict(x, verbose=0), robust.predict(x, verbose=0), atol=1e-6
    )
