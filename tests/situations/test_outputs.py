"""How models end: the attack sees logits, wherever the softmax is.

An attack on a model that ends in probabilities must be the attack on the
same model that ends in logits; what is reported is the model's own answer.
"""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_robust as kr
from keras_robust.classifier import Classifier
from tests.helpers import mostly_slow
from tests.situations.helpers import check_report
from tests.situations.helpers import digits
from tests.situations.helpers import fit_head
from tests.situations.helpers import labels_of
from tests.situations.helpers import network
from tests.situations.helpers import predicted

# Every model is compiled anew.
pytestmark = pytest.mark.slow


def attack_of(**options):
    return kr.PGDAttack("l2", 0.3, steps=5, early_stop=True, **options)


def logits_network(classes=10):
    """A confident network: its probabilities are 0 and 1 to rounding."""
    (x, y), _ = digits()
    model = network(
        layers.Flatten(),
        layers.Dense(64, activation="relu"),
        layers.Dense(classes),
    )
    y = y if classes == 10 else (y > 4).astype(int)
    return fit_head(model, x, y, classes=classes, scale=300.0)


def ending(end, classes=10, policy=None):
    """The logits network with another end, `(model, logits network)`."""
    logits = logits_network(classes)
    inputs = keras.Input((8, 8, 1))
    h = layers.Flatten()(inputs)
    h = layers.Dense(64, activation="relu", dtype=policy)(h)
    model = keras.Model(inputs, end(h, classes, policy))
    model.set_weights(logits.get_weights())
    return model, logits


def dense(activation=None):
    def end(h, units, policy):
        return layers.Dense(units, activation=activation, dtype=policy)(h)

    return end


def then(*stack, first=None):
    """A last dense layer, by default of logits, and what comes behind."""

    def end(h, units, policy):
        h = dense(first)(h, units, policy)
        for function in stack:
            h = function(h)
        return h

    return end


def cast():
    """The usual end in mixed precision."""
    return layers.Activation("linear", dtype="float32")


def nested(*stack):
    """The last layers in a model of their own."""

    def end(h, units, policy):
        inner = keras.Sequential([keras.Input((64,)), *stack])
        return inner(h)

    return end


SOFTMAX = {
    "activation": dense("softmax"),
    "Softmax": then(layers.Softmax()),
    "Activation": then(layers.Activation("softmax")),
    "ops.softmax": then(ops.softmax),
    "keras.activations": then(keras.activations.softmax),
    "axis": then(lambda h: ops.softmax(h, axis=1)),
    "log_softmax": then(ops.log_softmax),
    "activation, cast": then(cast(), first="softmax"),
    "Softmax, cast": then(layers.Softmax(), cast()),
    "ops.softmax, cast": then(ops.softmax, cast()),
    "activation, ops.cast": then(
        lambda h: ops.cast(h, "float32"), first="softmax"
    ),
    "activation, Identity": then(layers.Identity(), first="softmax"),
    "activation, Dropout": then(layers.Dropout(0.2), first="softmax"),
    "activation, Reshape": then(layers.Reshape((10,)), first="softmax"),
    "activation, Flatten": then(layers.Flatten(), first="softmax"),
    "two casts": then(cast(), layers.Identity(), first="softmax"),
    "nested": nested(layers.Dense(10, activation="softmax")),
    "nested Softmax": nested(layers.Dense(10), layers.Softmax()),
    "nested Activation": nested(
        layers.Dense(10), layers.Activation("softmax"), cast()
    ),
    "nested, cast behind": lambda h, units, policy: cast()(
        nested(layers.Dense(10, activation="softmax"))(h, units, policy)
    ),
    "logits, cast": then(cast()),
}


def check_end(model, logits, y, labels=predicted):
    """The model's attack is that on the logits; the report is its own."""
    _, (x, _) = digits()
    found = attack_of()(model, x, y, verbose=0)
    expected = attack_of()(logits, x, y, verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    report = check_report(model, x, y, attack_of(), labels)
    assert not [f for f in report.flags if "probabilities" in str(f)]


@pytest.mark.parametrize(
    "name",
    mostly_slow(
        SOFTMAX, "activation, cast", "ops.softmax", "nested Softmax", "Softmax"
    ),
)
def test_a_softmax_near_the_end(name):
    check_end(*ending(SOFTMAX[name]), digits()[1][1])


@pytest.mark.parametrize(
    "policy", ["mixed_bfloat16", pytest.param("mixed_float16")]
)
def test_a_softmax_and_a_cast_in_mixed_precision(policy):
    """As strong as on the same network without the softmax."""
    _, (x, y) = digits()
    model, _ = ending(then(cast(), first="softmax"), policy=policy)
    logits, _ = ending(then(cast()), policy=policy)
    left = [
        (predicted(one, attack_of()(one, x, y, verbose=0)) == y).mean()
        for one in (model, logits)
    ]
    assert left[0] == pytest.approx(left[1], abs=0.1)
    report = kr.evaluate_robustness(
        model, (x, y), {"pgd": attack_of()}, probe=False, verbose=0
    )
    assert report.accuracy["pgd"] == pytest.approx(left[0], abs=2.5 / 60)


def test_layers_called_twice():
    """A model wired anew of the layers of another one ends as that one."""
    model, logits = ending(dense("softmax"))
    inputs = h = keras.Input((8, 8, 1))
    for layer in model.layers[1:]:
        h = layer(h)
    again = keras.Model(inputs, h)
    check_end(again, logits, digits()[1][1])


def test_a_part_taken_for_transfer_learning():
    """The softmax layer stays behind in the first model."""
    (x, y), (test_x, test_y) = digits()
    first, _ = ending(dense("softmax"))
    h = layers.Dense(2, activation="softmax")(first.layers[-2].output)
    model = keras.Model(first.inputs[0], h)
    labels = (y > 4).astype(int)
    fit_head(model, x, labels, classes=2, scale=300.0)
    logits = logits_network(2)
    logits.set_weights(model.get_weights())
    check_end(model, logits, (test_y > 4).astype(int))


class Odds(layers.Layer):
    """Probabilities by a layer that does not show what it is."""

    def call(self, h):
        return ops.softmax(h)


def test_probabilities_of_a_layer_of_ones_own():
    _, (x, y) = digits()
    model, _ = ending(then(Odds()))
    with pytest.raises(ValueError, match="from_logits.*Received"):
        attack_of()(model, x, y, verbose=0)
    with pytest.raises(ValueError, match="from_logits.*Received"):
        kr.evaluate_robustness(model, (x, y), {"pgd": attack_of()}, verbose=0)
    report = kr.evaluate_robustness(
        model,
        (x, y),
        attacks={"pgd": attack_of(from_logits=False)},
        probe=False,
        verbose=0,
    )
    right = predicted(model, x) == y
    np.testing.assert_array_equal(report.correct["clean"], right)


def test_a_softmax_in_the_middle_is_left_alone():
    """Attention, say: only what comes last counts."""
    _, (x, _) = digits()
    model = network(
        layers.Flatten(),
        layers.Dense(16, activation="softmax"),
        layers.Rescaling(16.0),
        layers.Dense(10),
    )
    fit_head(model)
    y = predicted(model, x)
    check_report(model, x, y, attack_of())


# Two classes, one unit.


def sigmoid_problem(end, policy=None):
    """A model with one unit, and the same with the two logits `[0, z]`."""
    two = logits_network(2)
    kernel, bias = two.layers[-1].get_weights()
    kernel, bias = kernel[:, 1] - kernel[:, 0], bias[1] - bias[0]
    inputs = keras.Input((8, 8, 1))
    h = layers.Dense(64, activation="relu")(layers.Flatten()(inputs))
    model = keras.Model(inputs, end(h, 1, policy))
    hidden = two.layers[1].get_weights()
    model.set_weights([*hidden, kernel[:, None], bias[None]])
    two.set_weights(
        [
            *hidden,
            np.stack([np.zeros_like(kernel), kernel], 1),
            np.array([0, bias]),
        ]
    )
    return model, two


def one_unit_labels(model, x):
    return (model.predict(x, verbose=0)[:, 0] > 0.5).astype(int)


SIGMOID = {
    "activation": dense("sigmoid"),
    "Activation": then(layers.Activation("sigmoid")),
    "ops.sigmoid": then(ops.sigmoid),
    "activation, cast": then(cast(), first="sigmoid"),
    "ops.sigmoid, cast": then(ops.sigmoid, cast()),
    "activation, Reshape": then(layers.Reshape((1,)), first="sigmoid"),
    "nested": nested(layers.Dense(1, activation="sigmoid")),
}


@pytest.mark.parametrize(
    "name", mostly_slow(SIGMOID, "activation", "ops.sigmoid, cast")
)
def test_one_sigmoid(name):
    model, two = sigmoid_problem(SIGMOID[name])
    check_end(model, two, (digits()[1][1] > 4).astype(int), one_unit_labels)


def test_one_logit():
    """A single number that is no probability is the second class's logit."""
    _, (x, y) = digits()
    y = (y > 4).astype(int)
    model, two = sigmoid_problem(dense())
    attack = attack_of()
    found = attack(model, x, y, verbose=0)
    np.testing.assert_allclose(
        found, attack_of()(two, x, y, verbose=0), atol=1e-4
    )
    report = kr.evaluate_robustness(
        model, (x, y), {"pgd": attack}, probe=False, verbose=0
    )
    for key, images in {"clean": x, "pgd": found}.items():
        labels = model.predict(images, verbose=0)[:, 0] > 0
        np.testing.assert_array_equal(report.correct[key], labels == y)


def test_ten_sigmoids():
    """One class is right; the largest sigmoid is the largest logit."""
    model, _ = ending(dense("sigmoid"))
    _, (x, y) = digits()
    # Saturated outputs tie; by the logits they do not.
    weights = [w / 300 for w in model.layers[-1].get_weights()]
    model.layers[-1].set_weights(weights)
    check_report(model, x, labels_of(model, x), attack_of())


ONE_SOFTMAX = {
    "activation": dense("softmax"),
    "Softmax": then(layers.Softmax()),
    "ops.softmax": then(ops.softmax),
    "activation, cast": then(cast(), first="softmax"),
    "nested": nested(layers.Dense(1, activation="softmax")),
}


@pytest.mark.parametrize("name", ONE_SOFTMAX)
def test_one_softmax_unit_is_a_mistake(name):
    """It says 1 for every image; the user meant a sigmoid, or two units."""
    _, (x, y) = digits()
    y = (y > 4).astype(int)
    model, _ = sigmoid_problem(ONE_SOFTMAX[name])
    np.testing.assert_allclose(model.predict(x, verbose=0), 1.0, atol=1e-6)
    with pytest.raises(ValueError, match="(?i)softmax.*sigmoid"):
        attack_of()(model, x, y, verbose=0)
    with pytest.raises(ValueError, match="(?i)softmax.*sigmoid"):
        kr.evaluate_robustness(model, (x, y), {"pgd": attack_of()}, verbose=0)
    with pytest.raises(ValueError, match="(?i)softmax.*sigmoid"):
        robust = kr.AdversarialModel(model, kr.PGDAttack())
        robust.compile("sgd", "binary_crossentropy")
        robust.fit(x, y, verbose=0)


# Dictionaries and several outputs.


def two_heads(pack, body=None):
    """A model of digits and of their parity, packed by a function."""
    (x, y), _ = digits()
    inputs = keras.Input((8, 8, 1), name="image")
    h = layers.Dense(64, activation="relu", name="body")(
        layers.Flatten()(inputs)
    )
    heads = (
        layers.Dense(10, name="digit")(h),
        layers.Dense(2, activation="softmax", name="even")(h),
    )
    model = keras.Model(inputs, pack(*heads))
    single = [keras.Model(inputs, head) for head in heads]
    body = logits_network().layers[1].get_weights()
    model.get_layer("body").set_weights(body)
    fit_head(single[0], x, y, scale=30.0)
    fit_head(single[1], x, y % 2, classes=2, scale=30.0)
    return model, dict(zip(("digit", "even"), single, strict=True))


class Subclass(keras.Model):
    """Gives a dictionary without a graph that shows it."""

    def __init__(self, heads):
        super().__init__()
        self.heads = heads

    def call(self, x):
        return {name: head(x) for name, head in self.heads.items()}


PACKS = {
    "dictionary": lambda digit, even: {"digit": digit, "even": even},
    "dictionary, other order": lambda digit, even: {
        "even": even,
        "digit": digit,
    },
    "list": lambda digit, even: [digit, even],
    "tuple, other order": lambda digit, even: (even, digit),
}


def answers(model, x, name):
    """The labels that one of the outputs says."""
    outputs = model.predict(x, verbose=0)
    if not isinstance(outputs, dict):
        outputs = dict(zip(model.output_names, outputs, strict=True))
    return outputs[name].argmax(-1)


@pytest.mark.parametrize("output", ["digit", "even"])
@pytest.mark.parametrize("name", mostly_slow(PACKS, "dictionary", "list"))
def test_several_outputs(name, output):
    _, (x, y) = digits()
    y = y if output == "digit" else y % 2
    model, single = two_heads(PACKS[name])
    attack = attack_of(output=output)
    found = attack(model, x, y, verbose=0)
    expected = attack_of()(single[output], x, y, verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    check_report(
        model,
        x,
        y,
        attack,
        labels=lambda model, images: answers(model, images, output),
    )


def test_several_outputs_of_a_subclass():
    _, (x, y) = digits()
    _, heads = two_heads(PACKS["list"])
    model = Subclass(heads)
    model(x[:1])
    found = attack_of(output="digit")(model, x, y, verbose=0)
    expected = attack_of()(heads["digit"], x, y, verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    with pytest.raises(ValueError, match="`output`.*digit.*Received"):
        attack_of()(model, x, y, verbose=0)


@pytest.mark.parametrize("name", ["dictionary", "list"])
def test_which_of_several_outputs_must_be_said(name):
    _, (x, y) = digits()
    model, _ = two_heads(PACKS[name])
    for options in ({}, {"output": "digits"}):
        with pytest.raises(ValueError, match="`output`.*digit.*even"):
            attack_of(**options)(model, x, y, verbose=0)
        with pytest.raises(ValueError, match="`output`.*digit.*even"):
            kr.evaluate_robustness(
                model, (x, y), attacks={"pgd": attack_of(**options)}, verbose=0
            )


def test_keys_count_not_the_names_of_layers():
    _, (x, y) = digits()
    model, single = two_heads(lambda digit, even: {"b": digit, "a": even})
    found = attack_of(output="b")(model, x, y, verbose=0)
    expected = attack_of()(single["digit"], x, y, verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("pack", [lambda h: {"digit": h}, lambda h: [h]])
def test_one_output_in_a_dictionary_or_list(pack):
    """It need not be chosen."""
    _, (x, y) = digits()
    logits = logits_network()
    model = keras.Model(logits.inputs[0], pack(logits.outputs[0]))
    found = attack_of()(model, x, y, verbose=0)
    expected = attack_of()(logits, x, y, verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    report = kr.evaluate_robustness(
        model, (x, y), {"pgd": attack_of()}, probe=False, verbose=0
    )
    for key, images in {"clean": x, "pgd": found}.items():
        right = predicted(logits, images) == y
        np.testing.assert_array_equal(report.correct[key], right)


@pytest.mark.slow_on_jax
def test_training_with_dictionaries():
    """Dictionaries in and out, as Keras takes them without us."""
    (x, y), (test_x, test_y) = digits()
    logits = logits_network()
    inputs = keras.Input((8, 8, 1), name="image")
    model = keras.Model({"image": inputs}, {"digit": logits(inputs)})
    robust = kr.AdversarialModel(model, kr.PGDAttack("l2", 0.3, steps=2))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    robust.compile(keras.optimizers.SGD(1e-4), loss)
    robust.fit({"image": x[:64]}, {"digit": y[:64]}, verbose=0)
    found = robust.evaluate(
        {"image": test_x}, {"digit": test_y}, verbose=0, return_dict=True
    )
    attack = kr.PGDAttack("l2", 0.3, steps=2)
    attacked = attack(model, {"image": test_x}, test_y, verbose=0)
    right = predicted(logits, attacked["image"]) == test_y
    assert found["robust_accuracy"] == pytest.approx(right.mean(), abs=0.04)


def test_the_classifier_counts_classes():
    _, (x, y) = digits()
    model, _ = two_heads(PACKS["dictionary"])
    for output, classes in (("digit", 10), ("even", 2)):
        classifier = Classifier.of(model, output=output)
        image, held = classifier.split(x)
        assert (
            classifier.check(image, held) == classes == (classifier.num_classes)
        )
        labels = classifier.predict_labels(x)
        np.testing.assert_array_equal(labels, answers(model, x, output))
