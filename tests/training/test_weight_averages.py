"""Adversarial weight perturbation, and averages of weights."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_robust as kr
from tests.training import objective_reference as reference

CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    x = random.uniform(0.2, 0.8, (12, 5)).astype("float32")
    return x, random.integers(0, 3, 12).astype("int32")


def linear(regularizer=None):
    random = np.random.default_rng(1)
    inputs = keras.Input((5,))
    outputs = layers.Dense(3, kernel_regularizer=regularizer)(inputs)
    model = keras.Model(inputs, outputs)
    model.set_weights([random.normal(size=(5, 3)), random.normal(size=3)])
    return model


def adversarial(model, gamma=0.0, optimizer=None, **options):
    robust = kr.AdversarialModel(
        model,
        kr.PGDAttack("linf", 0.0, steps=1),
        weight_perturbation=gamma,
        **options,
    )
    robust.compile(optimizer or keras.optimizers.SGD(0.1), CROSS_ENTROPY)
    return robust


@pytest.mark.parametrize("regularizer", [None, keras.regularizers.L2(0.1)])
def test_weight_perturbation_is_that_of_the_paper(data, regularizer):
    """Radius 0, so that attacked images are the clean ones."""
    x, y = data
    model = linear(regularizer)
    kernel, bias = (part.astype("float64") for part in model.get_weights())

    def entropy(kernel, bias):
        return reference.cross_entropy(y, x @ kernel + bias).mean()

    def loss(kernel):
        penalty = 0.1 * (kernel**2).sum() if regularizer else 0.0
        return entropy(kernel, bias) + penalty

    gradient = reference.derivative(lambda k: entropy(k, bias), kernel)
    gamma = 0.2
    moved = kernel + gamma * np.linalg.norm(kernel) * gradient / np.linalg.norm(
        gradient
    )
    logs = adversarial(model, gamma).train_on_batch(x, y, return_dict=True)
    assert float(logs["loss"]) == pytest.approx(loss(moved), rel=1e-5)
    assert entropy(moved, bias) > entropy(kernel, bias) + 0.05
    step = 0.1 * reference.derivative(loss, moved)
    found = model.get_weights()
    np.testing.assert_allclose(found[0], kernel - step, atol=2e-6)
    # Biases are not perturbed, but have a gradient at the perturbed kernel.
    step = 0.1 * reference.derivative(lambda b: entropy(moved, b), bias)
    np.testing.assert_allclose(found[1], bias - step, atol=2e-6)


@pytest.mark.compiles_much
@pytest.mark.parametrize(
    "objective",
    ["adversarial", kr.objectives.TRADES(), kr.objectives.Mixed(0.5)],
)
def test_what_layers_add_does_not_perturb_weights(data, objective):
    """As what regularizers of weights add does not."""
    x, y = (ops.convert_to_tensor(part) for part in data)
    shifts = []
    for regularizer in (None, keras.regularizers.L2(10.0)):
        inputs = keras.Input((5,))
        outputs = layers.Dense(3, activity_regularizer=regularizer)(inputs)
        model = keras.Model(inputs, outputs)
        model.set_weights(linear().get_weights())
        robust = adversarial(model, 0.1, objective=objective)
        batch, _ = robust.attacked_batch((x, y))
        shifts.append(ops.convert_to_numpy(robust.weight_shifts(batch)[0]))
    assert np.abs(shifts[0]).max() > 0.01
    np.testing.assert_allclose(shifts[0], shifts[1], atol=1e-5)


@pytest.mark.compiles_much
def test_state_moves_once_with_a_weight_perturbation(data):
    """BatchNorm and the noise of dropout, as without it."""
    x, y = data
    states = []
    for gamma in (0.0, 0.01):
        inputs = keras.Input((5,))
        h = layers.BatchNormalization(momentum=0.5)(inputs)
        h = layers.Dropout(0.5, seed=0)(h)
        model = keras.Model(inputs, layers.Dense(3)(h))
        robust = adversarial(model, gamma, keras.optimizers.SGD(0.0))
        robust.fit(x, y, batch_size=4, shuffle=False, verbose=0)
        states.append(model.non_trainable_variables)
    for found, expected in zip(*states, strict=True):
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(found.value),
            keras.ops.convert_to_numpy(expected.value),
            atol=1e-6,
        )


def test_weight_perturbation_with_an_objective_is_saved(data, tmp_path):
    x, y = data
    robust = adversarial(linear(), 0.1, objective=kr.objectives.IKL())
    robust.fit(x, y, epochs=2, verbose=0)
    robust.save(tmp_path / "robust.keras")
    loaded = keras.saving.load_model(tmp_path / "robust.keras")
    assert loaded.weight_perturbation == 0.1
    histories = [
        model.fit(x, y, verbose=0, shuffle=False).history["loss"]
        for model in (robust, loaded)
    ]
    assert histories[0] == pytest.approx(histories[1], rel=1e-5)


def test_small_gradients_in_half_precision_have_a_direction():
    """They round to zero in float16, unless the loss is scaled."""
    scale, gamma, copies = 12.0, 0.2, 400
    kernel = scale * np.eye(3)
    x = np.tile(np.eye(3, dtype="float32"), (copies, 1))
    y = np.tile(np.arange(3), copies)
    # By symmetry the gradient of the kernel is p on all places but the
    # diagonal, where it is -2 p.
    gradient = np.ones((3, 3)) - 3 * np.eye(3)
    unit = gradient / np.linalg.norm(gradient)
    moved = kernel + gamma * np.linalg.norm(kernel) * unit
    expected = reference.cross_entropy(y, x @ moved).mean()
    model = keras.Sequential(
        [
            keras.Input((3,)),
            layers.Dense(3, use_bias=False, dtype="mixed_float16"),
        ]
    )
    model.set_weights([kernel])
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.0))
    robust = adversarial(model, gamma, optimizer)
    found = robust.train_on_batch(x, y, return_dict=True)["loss"]
    assert found == pytest.approx(expected, rel=0.02)
    assert expected > 10 * reference.cross_entropy(y, x @ kernel).mean()


class Interrupted(keras.optimizers.SGD):
    """Stops in the training pass, as a key that is pressed then."""

    def apply(self, grads, trainable_variables=None):
        raise KeyboardInterrupt


def test_an_interruption_leaves_no_perturbation(data):
    x, y = data
    model = linear()
    before = model.get_weights()
    robust = adversarial(model, 0.1, Interrupted(0.1))
    with pytest.raises(KeyboardInterrupt):
        robust.fit(x, y, verbose=0)
    for found, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_two_optimizers(data):
    """Kernels by one, biases by the other, from where weights were before."""
    x, y = data
    found = []
    for optimizer in (
        keras.optimizers.SGD(0.1),
        several(keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.1)),
    ):
        model = linear()
        adversarial(model, 0.1, optimizer).fit(x, y, epochs=2, verbose=0)
        found.append(model.get_weights())
    for ours, expected in zip(*found, strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-6)


def several(of_biases, of_kernels):
    """An optimizer that consists of two, chosen by a function."""
    chosen = [keras.optimizers.get(one) for one in (of_biases, of_kernels)]
    return keras.optimizers.MultiOptimizer(
        lambda variable: chosen["kernel" in variable.path]
    )


def test_refusals():
    averaging = keras.optimizers.SGD(0.1, use_ema=True)
    for optimizer in (
        averaging,
        keras.optimizers.LossScaleOptimizer(averaging),
        several("sgd", averaging),
        keras.optimizers.LossScaleOptimizer(several("sgd", averaging)),
    ):
        with pytest.raises(ValueError, match="use_ema.*Received"):
            adversarial(linear(), 0.01, optimizer)
    with pytest.raises(ValueError, match="weight_perturbation.*Received"):
        adversarial(linear(), -0.01)
    for name in ("Ftrl", "ScheduleFreeAdamW"):
        for optimizer in (name, several("sgd", name)):
            with pytest.raises(ValueError, match=f"Received: optimizer={name}"):
                adversarial(linear(), 0.01, optimizer)
    bound = linear()
    bound.trainable_variables[0].constraint = keras.constraints.NonNeg()
    with pytest.raises(ValueError, match="Received: constraints on.*kernel"):
        adversarial(bound, 0.01)


class Losses(keras.callbacks.Callback):
    """Weights of the model as other callbacks and the validation see them."""

    def __init__(self):
        super().__init__()
        self.validated, self.trained = [], []

    def _weights(self):
        return self.model.model.get_weights()[0]

    def on_test_begin(self, logs=None):
        self.validated.append(self._weights())

    def on_train_batch_end(self, batch, logs=None):
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()
        self.trained.append(self._weights())


def test_validation_on_averaged_weights(data):
    """Keras's own averages: an exponential mean of the weights of all steps."""
    x, y = data
    model = linear()
    mean = model.get_weights()[0]
    optimizer = keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.8)
    robust = adversarial(model, optimizer=optimizer)
    seen = Losses()
    history = robust.fit(
        x,
        y,
        epochs=3,
        batch_size=4,
        verbose=0,
        validation_data=(x, y),
        callbacks=[keras.callbacks.SwapEMAWeights(), seen],
    ).history
    means = []
    for i, weights in enumerate(seen.trained):
        # Keras starts the mean at the first weights it sees.
        share = 0.8 if i else 0.0
        mean = share * mean + (1 - share) * weights
        means.append(mean)
    for epoch in range(3):
        np.testing.assert_allclose(
            seen.validated[epoch], means[3 * epoch + 2], atol=1e-5
        )
    bias = model.get_weights()[1]
    # At the end of a training the model has the averages.
    np.testing.assert_allclose(model.get_weights()[0], means[-1], atol=1e-5)
    found = reference.cross_entropy(y, x @ means[-1] + bias).mean()
    assert history["val_loss"][-1] == pytest.approx(found, rel=1e-3)
    assert history["val_robust_loss"][-1] == pytest.approx(found, rel=1e-3)
    # On JAX Keras leaves weights and averages as one array; work goes on.
    robust.evaluate(x, y, verbose=0)
    robust.fit(x, y, verbose=0)
    assert not np.array_equal(model.get_weights()[0], means[-1])
