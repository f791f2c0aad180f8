"""Labels and sources of all kinds, schedules, and a loss of the model's own."""

import warnings
from dataclasses import dataclass

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_robust as kr
from keras_robust import backend
from tests.helpers import Hidden
from tests.helpers import OneBatch

CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.fixture(scope="module")
def digits():
    (x, y), (x_test, y_test) = kr.datasets.load("digits")
    return x[:192], y[:192], x_test[:96], y_test[:96]


def network(units=10, activation=None):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Flatten(),
            layers.Dense(16, activation="relu"),
            layers.Dense(units, activation=activation),
        ]
    )


def compiled(model=None, attack=None, loss=CROSS_ENTROPY, metrics=None):
    attack = attack or kr.PGDAttack("linf", 0.1, steps=2)
    robust = kr.AdversarialModel(model or network(), attack)
    robust.compile(keras.optimizers.Adam(3e-3), loss, metrics=metrics)
    return robust


def perturbed(robust, x, y):
    moved = robust.perturb(ops.convert_to_tensor(x), ops.convert_to_tensor(y))
    return ops.convert_to_numpy(moved)


@pytest.mark.slow_on_jax
def test_several_labels_at_once(digits):
    _, _, x, y = digits
    labels = np.stack([y % 2, y > 4, y % 3 == 0], 1).astype("float32")
    robust = compiled(
        network(3, "sigmoid"),
        loss="binary_crossentropy",
        metrics=["binary_accuracy"],
    )
    logs = robust.evaluate(x, labels, verbose=0, return_dict=True)
    assert set(logs) == {
        *("loss", "binary_accuracy"),
        *("robust_loss", "robust_binary_accuracy"),
    }
    outputs = robust.predict(perturbed(robust, x, labels), verbose=0)
    loss = keras.losses.BinaryCrossentropy()(labels, outputs)
    loss = float(ops.convert_to_numpy(loss))
    assert logs["robust_loss"] == pytest.approx(loss, rel=1e-3)
    assert logs["robust_loss"] > logs["loss"]
    right = ((outputs > 0.5) == labels).mean()
    assert logs["robust_binary_accuracy"] == pytest.approx(right, abs=1e-6)


@pytest.mark.compiles_much
def test_numbers_as_labels(digits):
    _, _, x, y = digits
    numbers = (y / 9.0)[:, None].astype("float32")
    robust = compiled(network(1), loss="mse")
    logs = robust.evaluate(x, numbers, verbose=0, return_dict=True)
    assert set(logs) == {"loss", "robust_loss"}
    before = (robust.predict(x, verbose=0) - numbers) ** 2
    moved = perturbed(robust, x, numbers)
    after = (robust.predict(moved, verbose=0) - numbers) ** 2
    assert (after > before).mean() > 0.9
    assert logs["robust_loss"] == pytest.approx(after.mean(), rel=1e-3)


def test_accuracies_are_weighted_alike(digits):
    _, _, x, y = digits
    robust = compiled(
        attack=kr.PGDAttack("l2", 1e-6, steps=1), metrics=["accuracy"]
    )
    right = robust.model.predict(x, verbose=0).argmax(-1) == y
    logs = robust.evaluate(
        x, y, sample_weight=1.0 * right, verbose=0, return_dict=True
    )
    assert logs["accuracy"] == pytest.approx(right.mean(), abs=1e-6)
    assert logs["robust_accuracy"] == pytest.approx(right.mean(), abs=1e-6)


@pytest.mark.compiles_much
def test_directions_are_known(digits):
    x, y, x_test, y_test = digits
    stop = [
        keras.callbacks.EarlyStopping("val_robust_accuracy", patience=5),
        keras.callbacks.EarlyStopping("val_robust_loss", patience=5),
    ]
    compiled().fit(
        x, y, verbose=0, validation_data=(x_test, y_test), callbacks=stop
    )
    assert stop[0].monitor_op is ops.greater
    assert stop[1].monitor_op is ops.less


class SumOfOutputs(keras.metrics.Metric):
    """Makes its state in the first update, as some of Keras's own do."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        if not hasattr(self, "total"):
            self.total = self.add_variable(
                shape=(y_pred.shape[-1],), initializer="zeros", name="total"
            )
        self.total.assign(self.total + ops.sum(y_pred, axis=0))

    def result(self):
        return ops.max(self.total)

    def reset_state(self):
        self.total.assign(ops.zeros(self.total.shape))


@pytest.mark.slow_on_jax
@pytest.mark.compiles_much
def test_metrics_that_know_their_shapes_late(digits):
    """As the clean ones where the attack moves nothing."""
    x, y = (part[:64] for part in digits[2:])
    metrics = [
        keras.metrics.F1Score(),
        keras.metrics.FBetaScore(average="macro", name="f_beta"),
        keras.metrics.R2Score(),
        keras.metrics.AUC(multi_label=True, name="auc"),
        SumOfOutputs(name="sums"),
    ]
    names = ["f1_score", "f_beta", "r2_score", "auc", "sums"]
    model = network(10, "softmax")
    labels = np.eye(10, dtype="float32")[model.predict(x, verbose=0).argmax(-1)]
    labels[:8] = np.eye(10)[y[:8]]
    robust = kr.AdversarialModel(model, kr.PGDAttack(epsilon=0.0, steps=1))
    # What was used in one training goes into the next.
    for argument in ("metrics", "weighted_metrics"):
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="There is no robust")
            robust.compile(
                keras.optimizers.SGD(0.0),
                "categorical_crossentropy",
                **{argument: metrics},
            )
        if argument == "metrics":
            history = robust.fit(x, labels, verbose=0).history
            assert set(history) == {"loss", *names}
        logs = robust.evaluate(x, labels, verbose=0, return_dict=True)
        for name in names:
            clean = np.asarray(logs[name])
            found = np.asarray(logs[f"robust_{name}"])
            np.testing.assert_allclose(found, clean, rtol=1e-4)
            assert np.any(clean)
        for metric in metrics:
            # Keras does not do that before all of its trainings.
            metric.reset_state()


def test_keras_tuner_knows_directions():
    keras_tuner = pytest.importorskip("keras_tuner")
    for name, direction in (
        ("val_robust_accuracy", "max"),
        ("val_robust_loss", "min"),
    ):
        oracle = keras_tuner.oracles.RandomSearchOracle(objective=name)
        assert oracle.objective.direction == direction


@pytest.mark.compiles_much
class ShareOfClasses(keras.metrics.Mean):
    """Has settings that its `get_config` does not know."""

    def __init__(
        self,
        classes=(0,),
        factors=(1.0,),
        score=ops.zeros_like,
        name="share",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        self.classes, self.score = classes, score
        self.factors = np.array(factors)

    def update_state(self, y_true, y_pred, sample_weight=None):
        predicted = ops.argmax(y_pred, axis=-1)
        for one in self.classes:
            hit = ops.cast(ops.equal(predicted, one), "float32")
            hit = hit + self.score(hit)
            super().update_state(hit * float(self.factors.sum()))


@pytest.mark.parametrize("classes", [(1, 2), [1, 2], {1, 2}])
def test_settings_of_metrics_are_kept(digits, classes):
    x, y = (part[:64] for part in digits[2:])
    metric = ShareOfClasses(classes, (1.0, 2.0), ops.ones_like)
    robust = kr.AdversarialModel(network(), kr.PGDAttack(epsilon=0.0, steps=1))
    for _ in range(2):
        robust.compile("sgd", CROSS_ENTROPY, metrics=[metric])
        logs = robust.evaluate(x, y, verbose=0, return_dict=True)
        assert logs["share"] >= 3
        assert logs["robust_share"] == pytest.approx(logs["share"], rel=1e-5)
        metric.reset_state()


class LateShare(keras.metrics.Metric):
    """Creates its variable in its first update."""

    def __init__(self, threshold=0.0, name="late", **kwargs):
        super().__init__(name=name, **kwargs)
        self._threshold = threshold
        self.share = None

    def update_state(self, y_true, y_pred, sample_weight=None):
        if self.share is None:
            self.share = self.add_variable((), "zeros", name="share")
        above = ops.cast(y_pred > self._threshold, "float32")
        self.share.assign(ops.mean(above))

    def result(self):
        return ops.convert_to_tensor(self.share)

    def reset_state(self):
        if self.share is not None:
            self.share.assign(0.0)


def test_settings_of_a_metric_that_was_used_are_kept(digits):
    x, y = (part[:64] for part in digits[2:])
    metric = LateShare(-1000.0)
    robust = kr.AdversarialModel(network(), kr.PGDAttack(epsilon=0.0, steps=1))
    for _ in range(2):
        robust.compile("sgd", CROSS_ENTROPY, metrics=[metric])
        logs = robust.evaluate(x, y, verbose=0, return_dict=True)
        assert logs["late"] == logs["robust_late"] == 1
        metric.reset_state()


@pytest.mark.compiles_much
@pytest.mark.parametrize(("dtype", "most"), [("uint8", 255), ("int8", 127)])
def test_labels_of_few_bits(digits, dtype, most):
    """The number of classes does not fit into their dtype."""
    x, y = digits[0][:32], np.linspace(0, most, 32).astype(dtype)
    robust = compiled(network(300), kr.PGDAttack(epsilon=0.0, steps=1))
    robust.optimizer.learning_rate = 0.0
    found = [
        (
            robust.fit(x, labels, verbose=0).history["loss"][0],
            *robust.evaluate(x, labels, verbose=0),
        )
        for labels in (y, y.astype("int32"))
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_a_single_number_is_a_logit_or_a_probability(digits):
    """A hidden sigmoid is asked for, whatever the source of data."""
    x, y = digits[0][:32], digits[1][:32] % 2
    inputs = keras.Input((8, 8, 1))
    hidden = layers.Dense(1, activation="hard_sigmoid")
    model = keras.Model(inputs, hidden(layers.Flatten()(inputs)))
    attack = kr.PGDAttack("linf", 0.0, steps=1)
    accuracies = [keras.metrics.BinaryAccuracy()]
    loss = "binary_crossentropy"
    for data in ({"x": x, "y": y}, {"x": OneBatch(x, y)}):
        robust = compiled(model, attack, loss, accuracies)
        with pytest.raises(ValueError, match="from_logits=False.*Received"):
            robust.fit(**data, verbose=0)
        with pytest.raises(ValueError, match="from_logits=False.*Received"):
            robust.evaluate(**data, verbose=0)
    robust = compiled(
        model, attack.replace(from_logits=False), loss, accuracies
    )
    logs = robust.evaluate(OneBatch(x, y), verbose=0, return_dict=True)
    assert logs["robust_accuracy"] == logs["binary_accuracy"]


@pytest.mark.slow_on_jax
@pytest.mark.compiles_much
@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "relu", "linear"])
def test_hidden_probabilities_of_any_source(digits, activation):
    """Where the graph is hidden it is asked what the outputs are."""
    x, y = digits[0][:64], digits[1][:64]
    model = Hidden(network(10, activation))
    model(x[:1])
    loss = "sparse_categorical_crossentropy"
    attack = kr.PGDAttack("linf", 0.1, steps=1)
    for data in ({"x": x, "y": y}, {"x": OneBatch(x, y)}):
        robust = compiled(model, attack, loss)
        for method in (robust.fit, robust.evaluate):
            if activation in ("softmax", "sigmoid"):
                with pytest.raises(ValueError, match="from_logits=False"):
                    method(**data, verbose=0)
            else:
                method(**data, verbose=0)


def test_every_source_is_checked(digits):
    x, y = digits[:2]

    def batches(images, labels):
        yield x[:64], y[:64]
        yield images, labels

    outside = 255 * x[:64]
    with pytest.raises(ValueError, match="value_range.*Received"):
        compiled().fit(batches(outside, y[:64]), verbose=0)
    with pytest.raises(ValueError, match="`y`.*classes.*Received"):
        compiled().fit(batches(x[:64], y[:64] + 5), verbose=0)
    robust = compiled()
    with pytest.raises(ValueError, match="value_range.*Received"):
        robust.train_on_batch(outside, y[:64])
    with pytest.raises(ValueError, match="value_range.*Received"):
        robust.test_on_batch(outside, y[:64])
    # The model is whole after an error.
    assert np.isfinite(robust.predict(x[:4], verbose=0)).all()


def _as_dataset(x, y):
    """Batches of a PyDataset, which Keras asks for by number."""

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return len(x) // 32

        def __getitem__(self, index):
            rows = slice(32 * index, 32 * index + 32)
            return x[rows], y[rows]

    return Batches()


def _as_torch_loader(x, y):
    torch = pytest.importorskip("torch")
    pairs = torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(y))
    return torch.utils.data.DataLoader(pairs, batch_size=32)


def _as_tf_data(x, y):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((x, y)).batch(32)


@pytest.mark.parametrize("form", [_as_dataset, _as_torch_loader, _as_tf_data])
@pytest.mark.compiles_much
def test_later_batches_of_any_source_are_checked(digits, form):
    x, y = np.array(digits[0][:96]), digits[1][:96]
    robust = compiled()
    robust.fit(form(x, y), verbose=0)
    assert np.isfinite(robust.evaluate(form(x, y), verbose=0)).all()
    x[-1] *= 255
    with pytest.raises(ValueError, match="value_range.*Received"):
        compiled().fit(form(x, y), verbose=0)
    with pytest.raises(ValueError, match="value_range.*Received"):
        robust.evaluate(form(x, y), verbose=0)


def test_an_error_inside_a_step_keeps_the_weights(digits):
    """Of a loss, an objective or the data, from any source."""
    x, y, _, _ = digits
    numbers = (y / 9.0)[:, None].astype("float32")

    def broken(y_true, y_pred):
        raise RuntimeError("broken")

    def failing():
        yield x[:64], y[:64]
        raise RuntimeError("broken")

    once = _as_dataset(x[:64], numbers[:64])
    trades = kr.objectives.TRADES()
    cases = [
        (lambda robust: robust.fit(once, verbose=0), broken, "adversarial"),
        (lambda robust: robust.evaluate(once, verbose=0), broken, None),
        (lambda robust: robust.fit(failing(), verbose=0), CROSS_ENTROPY, None),
        (lambda robust: robust.fit(once, verbose=0), "mse", trades),
    ]
    for run, loss, objective in cases:
        robust = kr.AdversarialModel(
            network(1 if loss == "mse" else 10),
            kr.FGSMAttack("linf", 0.1),
            objective=objective or "adversarial",
        )
        robust.compile(keras.optimizers.SGD(0.0), loss)
        before = robust.model.get_weights()
        with pytest.raises((RuntimeError, ValueError), match="broken|TRADES"):
            run(robust)
        for value, kept in zip(robust.get_weights(), before, strict=False):
            np.testing.assert_array_equal(value, kept)
        # The optimizer has its state, and training goes on.
        robust.compile(robust.optimizer, CROSS_ENTROPY)
        for variable in robust.optimizer.variables:
            ops.convert_to_numpy(variable)


def test_an_error_between_the_steps_of_an_execution_keeps_the_weights(digits):
    """In data that fail, with any number of steps for each call."""
    x, y, _, _ = digits
    x, y = x[:16], y[:16]

    def failing(steps):
        for _ in range(steps):
            yield x, y
        raise RuntimeError("broken")

    for given in (2, 3):
        options = {"steps_per_execution": 1 if backend.name == "torch" else 2}
        robust, whole = (
            kr.AdversarialModel(network(10), kr.FGSMAttack("linf", 0.1))
            for _ in range(2)
        )
        for one in (robust, whole):
            one.compile(keras.optimizers.SGD(0.1), CROSS_ENTROPY, **options)
        with pytest.raises(Exception, match="broken"):
            robust.fit(failing(given), verbose=0)
        # Keras may read a batch ahead.
        done = int(robust.optimizer.iterations)
        assert given - 1 <= done <= given
        whole.fit(x, y, epochs=done, verbose=0, shuffle=False)
        expected = whole.get_weights()[0]
        np.testing.assert_allclose(robust.get_weights()[0], expected, atol=1e-6)
        with pytest.raises(Exception, match="broken"):
            robust.evaluate(failing(given), verbose=0)
        np.testing.assert_allclose(robust.get_weights()[0], expected, atol=1e-6)


def test_data_frames_are_checked(digits):
    pandas = pytest.importorskip("pandas")
    x, y = digits[0][:96].reshape(96, 64), digits[1][:96]
    model = keras.Sequential([keras.Input((64,)), layers.Dense(10)])
    robust = compiled(model)
    robust.fit(pandas.DataFrame(x), pandas.Series(y), verbose=0)
    with pytest.raises(ValueError, match="value_range.*Received"):
        robust.fit(pandas.DataFrame(255 * x), pandas.Series(y), verbose=0)


@pytest.mark.parametrize(
    "attack, objective",
    [
        (kr.PGDAttack("linf", 0.1, steps=2), "adversarial"),
        (kr.NFGSMAttack("linf", 0.1), "adversarial"),
        pytest.param(
            kr.PGDAttack(
                "l2",
                0.5,
                steps=2,
                random_start=True,
                restarts=2,
                keep_best=True,
            ),
            "adversarial",
            marks=pytest.mark.slow_on_jax,
        ),
        pytest.param(
            kr.PGDAttack("linf", 0.1, steps=2),
            kr.objectives.TRADES(6.0),
            marks=pytest.mark.slow_on_jax,
        ),
    ],
)
def test_an_attack_that_moves_nothing_is_warned_of(digits, attack, objective):
    """Also where a random start moves images."""
    x, y = digits[0][:64], digits[1][:64]
    for stuck in (True, False):
        inputs = keras.Input((8, 8, 1))
        h = ops.stop_gradient(inputs) if stuck else inputs
        model = keras.Model(inputs, layers.Dense(10)(layers.Flatten()(h)))
        robust = kr.AdversarialModel(model, attack, objective=objective)
        robust.compile(keras.optimizers.SGD(0.0), CROSS_ENTROPY)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            robust.fit(x, y, verbose=0)
        messages = [str(warning.message) for warning in caught]
        assert stuck == any(
            "gradient is exactly zero" in message for message in messages
        )


@pytest.mark.compiles_much
def test_a_schedule_that_begins_at_zero_is_not_warned_of(digits):
    """At a radius of 0 a divergence has no gradient."""
    x, y = digits[0][:64], digits[1][:64]
    robust = kr.AdversarialModel(
        network(),
        kr.PGDAttack("linf", 0.1, steps=2, random_start=True),
        objective=kr.objectives.TRADES(6.0),
        epsilon_schedule=kr.training.LinearWarmup(epochs=2),
    )
    robust.compile("sgd", CROSS_ENTROPY)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="The attack moves nothing")
        robust.fit(x, y, epochs=3, verbose=0)


@pytest.mark.slow_on_jax
def test_a_schedule_is_saved(digits, tmp_path):
    x, y = digits[0][:64], digits[1][:64]
    robust = kr.AdversarialModel(
        network(),
        kr.PGDAttack("linf", 0.5, steps=2),
        epsilon_schedule=kr.training.LinearWarmup(steps=4),
    )
    robust.compile(keras.optimizers.SGD(0.0), CROSS_ENTROPY)
    copy = keras.models.clone_model(robust)
    robust.save(tmp_path / "robust.keras")
    loaded = keras.saving.load_model(tmp_path / "robust.keras")
    for same in (copy, loaded):
        assert type(same) is kr.AdversarialModel
        assert (
            same.get_config()["epsilon_schedule"]
            == robust.get_config()["epsilon_schedule"]
        )
    losses = [
        model.fit(x, y, batch_size=16, verbose=0, shuffle=False).history["loss"]
        for model in (robust, loaded)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_names_and_single_images_are_refused_in_one_line(digits):
    import tensorflow as tf

    x, y = digits[0][:64], digits[1][:64]
    names = np.array([f"digit {label}" for label in y])
    slices = tf.data.Dataset.from_tensor_slices
    for source, message in (
        ((x, names), "numpy.unique.*Received"),
        ((slices((x, names)).batch(8),), "numpy.unique.*Received"),
        ((slices((x, y)),), r"batch\(128\).*Received"),
    ):
        for method in ("fit", "evaluate"):
            with pytest.raises(ValueError, match=message) as caught:
                getattr(compiled(), method)(*source, verbose=0)
            assert len(str(caught.value).splitlines()) == 1


def test_a_loss_of_the_models_own(digits):
    calls = []

    class Own(keras.Model):
        def compute_loss(self, **given):
            calls.append(given["training"])
            return super().compute_loss(**given)

    inputs = keras.Input((8, 8, 1))
    model = Own(inputs, layers.Dense(10)(layers.Flatten()(inputs)))
    robust = compiled(model)
    robust.fit(digits[0][:64], digits[1][:64], verbose=0)
    assert True in calls and False in calls

    class Steps(keras.Model):
        def train_step(self, *args):
            return super().train_step(*args)

    model = Steps(inputs, layers.Dense(10)(layers.Flatten()(inputs)))
    with pytest.raises(ValueError, match="train_step.*Received"):
        kr.AdversarialModel(model, kr.PGDAttack())


@pytest.mark.compiles_much
def test_schedules(digits):
    """A radius of 0, then the attack's, in one compiled step."""
    x, y = digits[0][:64], digits[1][:64]

    def losses(schedule, epsilon=0.5):
        robust = kr.AdversarialModel(
            network(),
            kr.PGDAttack("linf", epsilon, steps=2),
            epsilon_schedule=schedule,
        )
        robust.compile(keras.optimizers.SGD(0.0), CROSS_ENTROPY)
        return robust.fit(x, y, batch_size=64, epochs=3, verbose=0).history[
            "loss"
        ]

    clean, full = losses(None, 0.0)[0], losses(None)[0]
    assert full > clean + 0.1
    # Epochs count over the whole training, here one step each.
    warm = losses(kr.training.LinearWarmup(epochs=2))
    assert warm[0] == pytest.approx(clean, rel=1e-4)
    assert clean < warm[1] < full
    assert warm[2] == pytest.approx(full, rel=1e-4)
    steps = keras.optimizers.schedules.PiecewiseConstantDecay([0], [0.0, 0.5])
    for schedule in (steps, from_the_second_step):
        given = losses(schedule)
        assert given[0] == pytest.approx(clean, rel=1e-4)
        assert given[1] == pytest.approx(full, rel=1e-4)


@keras.saving.register_keras_serializable("tests")
def from_the_second_step(step):
    """A radius by training step, as a function."""
    return 0.5 * ops.minimum(step, 1.0)


def test_a_function_as_schedule_is_saved(tmp_path):
    robust = kr.AdversarialModel(
        network(),
        kr.PGDAttack("linf", 0.5, steps=1),
        epsilon_schedule=from_the_second_step,
    )
    robust.save(tmp_path / "robust.keras")
    loaded = keras.saving.load_model(tmp_path / "robust.keras")
    assert loaded.epsilon_schedule is from_the_second_step


@pytest.mark.compiles_much
def test_lengths_of_steps_follow_a_schedule_of_the_radius(digits):
    """Numbers and schedules alike: the same length, given in three ways."""
    x, y = digits[0][:64], digits[1][:64]
    constant = keras.optimizers.schedules.ExponentialDecay(0.2, 1, 1.0)
    losses = []
    for epsilon, step_size, schedule in (
        (0.2, 0.1, None),
        (0.4, 0.2, lambda step: 0.2),
        (0.4, constant, lambda step: 0.2),
    ):
        attack = kr.PGDAttack("linf", epsilon, steps=1, step_size=step_size)
        robust = kr.AdversarialModel(
            network(), attack, epsilon_schedule=schedule
        )
        robust.compile(keras.optimizers.SGD(0.0), CROSS_ENTROPY)
        losses += robust.fit(x, y, verbose=0).history["loss"]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


@pytest.mark.compiles_much
@pytest.mark.parametrize("objective", ["adversarial", kr.objectives.TRADES()])
def test_random_numbers_where_keras_computes_in_float64(digits, objective):
    """Attacks compute in float32 whatever Keras's default is."""
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    try:
        attack = kr.PGDAttack(
            "linf", 0.1, steps=1, random_start=objective == "adversarial"
        )
        robust = kr.AdversarialModel(network(), attack, objective=objective)
        robust.compile("sgd", CROSS_ENTROPY)
        loss = robust.fit(digits[0][:32], digits[1][:32], verbose=0).history
        assert np.isfinite(loss["loss"]).all()
    finally:
        keras.config.set_floatx(before)


@pytest.mark.compiles_much
def test_radii_of_features_follow_a_schedule(digits):
    """A schedule gives the largest of them; the others stay in proportion."""
    x, y = digits[0][:64], digits[1][:64]
    radii = np.linspace(0, 0.4, 64, dtype="float32").reshape(1, 8, 8, 1)
    losses = []
    for epsilon, schedule in (
        (radii / 4, None),
        (radii, lambda step: 0.1),
        (radii, kr.training.LinearWarmup(steps=1, start=0.25)),
        (radii, None),
    ):
        attack = kr.PGDAttack("linf", epsilon, steps=2)
        robust = kr.AdversarialModel(
            network(), attack, epsilon_schedule=schedule
        )
        robust.compile(keras.optimizers.SGD(0.0), CROSS_ENTROPY)
        losses += robust.fit(x, y, batch_size=64, verbose=0).history["loss"]
    assert losses[:3] == pytest.approx([losses[0]] * 3, rel=1e-5)
    assert losses[3] > losses[0] + 0.1


@pytest.mark.compiles_much
@pytest.mark.parametrize(
    "attack",
    [
        kr.FGSMAttack("linf", 0.1),
        kr.PGDAttack("linf", 0.1, step_size=0.125, steps=1),
        kr.NFGSMAttack("linf", 0.1),
    ],
)
def test_ten_steps_validate_what_one_step_trains(digits, attack):
    """A collapsed network would look best under the attack of training."""
    x, y = digits[0][:64], digits[1][:64]

    def loss(attack, **options):
        robust = kr.AdversarialModel(network(), attack, **options)
        robust.compile("sgd", CROSS_ENTROPY)
        return robust.evaluate(x, y, verbose=0, return_dict=True)["robust_loss"]

    ten = kr.PGDAttack("linf", 0.1, steps=10)
    found = loss(attack)
    assert found == pytest.approx(loss(ten), rel=1e-5)
    one = kr.FGSMAttack("linf", 0.1)
    assert found > loss(one, validation_attack=one) + 1e-3


def test_a_doubtful_radius_is_warned_of():
    """As evaluations flag it; the usual radii are silent."""
    for epsilon, value_range, message in (
        (8, (0, 1), "half of value_range.*Did you mean 0.03"),
        (8 / 255, (0, 255), "thousandth of value_range.*Did you mean 8"),
        (200, (0, 255), "half of value_range"),
    ):
        attack = kr.PGDAttack("linf", epsilon, value_range=value_range)
        with pytest.warns(UserWarning, match=message):
            kr.AdversarialModel(network(), attack)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        kr.AdversarialModel(network(), kr.PGDAttack("linf", 8 / 255))
        of_bytes = kr.PGDAttack("l2", 100, value_range=(0, 255))
        kr.AdversarialModel(network(), of_bytes)


def test_a_list_of_callbacks_in_two_trainings(digits):
    """Epochs count once where the number of steps is not known."""
    x, y = digits[0][:64], digits[1][:64]
    robust = kr.AdversarialModel(
        network(),
        kr.PGDAttack("linf", 0.1, steps=1),
        epsilon_schedule=kr.training.LinearWarmup(epochs=9),
    )
    robust.compile("sgd", CROSS_ENTROPY)
    callbacks = keras.callbacks.CallbackList([], add_history=True, model=robust)
    for _ in range(3):
        robust.fit((pair for pair in [(x, y)]), callbacks=callbacks, verbose=0)
    done = next(v for v in robust.weights if v.name == "epsilon_progress")
    assert float(ops.convert_to_numpy(done.value)) == 3


@pytest.mark.slow_on_jax
def test_a_schedule_that_is_resumed_with_other_batches(digits, tmp_path):
    """A backup holds the number of steps of the training that it is of."""
    x, y = digits[0][:64], digits[1][:64]

    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    def fit(batch_size, *callbacks):
        robust = kr.AdversarialModel(
            network(),
            kr.PGDAttack("linf", 0.1, steps=1),
            epsilon_schedule=kr.training.LinearWarmup(epochs=9),
        )
        robust.compile("sgd", CROSS_ENTROPY)
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        robust.fit(
            x,
            y,
            batch_size=batch_size,
            epochs=3,
            callbacks=[backup, *callbacks],
            verbose=0,
        )
        return next(v for v in robust.weights if v.name == "epsilon_progress")

    with pytest.raises(KeyboardInterrupt):
        fit(64, Interrupt())
    assert float(ops.convert_to_numpy(fit(16).value)) == 3


@dataclass(eq=False, repr=False)
class Brighter(kr.Attack):
    """An attack without a radius."""

    def perturb_batch(self, batch):
        return ops.clip(batch.x + 0.1, 0, 1)


def test_refusals(tmp_path):
    robust = compiled()
    with pytest.raises(ValueError, match="filepath.*Received"):
        robust.save(tmp_path / "robust.h5")
    with pytest.raises(ValueError, match="mask.*Received"):
        attack = kr.PGDAttack(mask=np.ones((4, 8, 8, 1)))
        kr.AdversarialModel(network(), attack)
    with pytest.raises(ValueError, match="Received"):
        kr.training.LinearWarmup(epochs=1, steps=1)
    for wrong in (0.1, kr.training.LinearWarmup):
        with pytest.raises(ValueError, match="epsilon_schedule.*Received"):
            kr.AdversarialModel(
                network(), kr.PGDAttack(), epsilon_schedule=wrong
            )
    robust = kr.AdversarialModel(
        network(),
        kr.PGDAttack(),
        epsilon_schedule=lambda step: ops.stack([step, step]),
    )
    robust.compile("sgd", CROSS_ENTROPY)
    with pytest.raises(ValueError, match="one number.*Received"):
        robust.train_on_batch(np.zeros((2, 8, 8, 1)), np.zeros(2, int))
    for attack, received in (
        (kr.PGDAttack(epsilon=0.0), "epsilon=0.0"),
        (Brighter(), "epsilon=None"),
    ):
        schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
        with pytest.raises(ValueError, match=f"Received: {received}"):
            kr.AdversarialModel(network(), attack, epsilon_schedule=schedule)
