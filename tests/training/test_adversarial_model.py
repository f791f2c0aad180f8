import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import ops

import keras_robust as kr
from keras_robust import backend


@pytest.fixture(scope="module")
def digits():
    (x, y), (x_test, y_test) = kr.datasets.load("digits")
    return x[:192], y[:192], x_test[:96], y_test[:96]


def network(units=32, activation=None):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(units, activation="relu"),
            keras.layers.Dense(10, activation=activation),
        ]
    )


def compiled(model=None, attack=None, optimizer=None, **kwargs):
    attack = attack or kr.PGDAttack(epsilon=0.3, steps=2)
    robust = kr.AdversarialModel(model or network(), attack)
    compile_options = {"metrics": ["accuracy"], **kwargs}
    robust.compile(
        optimizer or keras.optimizers.SGD(0.1, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **compile_options,
    )
    return robust


FIT = {"epochs": 2, "batch_size": 64, "shuffle": False, "verbose": 0}


@pytest.mark.slow_on_jax
@pytest.mark.compiles_much
def test_logs(digits):
    x, y, x_test, y_test = digits
    robust = compiled()
    history = robust.fit(x, y, validation_data=(x_test, y_test), **FIT).history
    assert set(history) == {
        *("loss", "accuracy"),
        *("val_loss", "val_accuracy"),
        *("val_robust_loss", "val_robust_accuracy"),
    }
    assert history["loss"][1] < history["loss"][0]
    logs = robust.evaluate(x_test, y_test, verbose=0, return_dict=True)
    names = {"loss", "accuracy", "robust_loss", "robust_accuracy"}
    assert set(logs) == names
    flat = robust.evaluate(x_test, y_test, verbose=0)
    assert flat == pytest.approx(
        [logs["loss"], logs["accuracy"], logs["robust_accuracy"]]
        + [logs["robust_loss"]]
    )
    # What evaluation says is what the attack does.
    attacked = robust.attack(robust, x_test, y_test)
    right = robust.predict(attacked, verbose=0).argmax(-1) == y_test
    assert logs["robust_accuracy"] == pytest.approx(right.mean(), abs=1e-6)
    clean = robust.model.predict(x_test, verbose=0).argmax(-1) == y_test
    assert logs["accuracy"] == pytest.approx(clean.mean(), abs=1e-6)
    assert logs["accuracy"] >= logs["robust_accuracy"]


@pytest.mark.compiles_much
def test_one_step_is_sgd_on_the_attacked_batch(digits):
    x, y = digits[0][:64], digits[1][:64]
    attack = kr.PGDAttack(epsilon=0.5, steps=3)
    reference = network()
    attacked = attack(reference, x, y)
    reference.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    reference.train_on_batch(attacked, y)
    robust = compiled(attack=attack, optimizer=keras.optimizers.SGD(0.1))
    robust.train_on_batch(x, y)
    for ours, theirs in zip(
        robust.model.get_weights(), reference.get_weights(), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_epsilon_zero_is_standard_training(digits):
    x, y = digits[:2]
    reference = network()
    reference.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    reference.fit(x, y, **FIT)
    robust = compiled(attack=kr.PGDAttack(epsilon=0.0, steps=1))
    robust.fit(x, y, **FIT)
    for ours, theirs in zip(
        robust.model.get_weights(), reference.get_weights(), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.compiles_much
def test_batch_norm_moves_once_per_step(digits):
    """The attack must not update the statistics, the training step must."""
    x, y = digits[0][:64], digits[1][:64]
    model = kr.models.small_cnn(filters=(4,), weight_decay=0)
    norm = model.layers[2]
    assert isinstance(norm, keras.layers.BatchNormalization)
    attack = kr.PGDAttack(epsilon=0.5, steps=5)
    attacked = attack(model, x, y)
    hidden = ops.convert_to_numpy(model.layers[1](attacked))
    robust = compiled(model, attack)
    robust.train_on_batch(x, y)
    np.testing.assert_allclose(
        ops.convert_to_numpy(norm.moving_mean),
        0.1 * hidden.mean((0, 1, 2)),
        atol=1e-5,
    )


@pytest.mark.slow_on_jax
@pytest.mark.compiles_much
def test_random_starts_differ_by_step_and_repeat_by_seed(digits):
    x, y = digits[0][:32], digits[1][:32]

    def losses(seed):
        attack = kr.PGDAttack(
            epsilon=1.0, steps=0, random_start=True, seed=seed
        )
        robust = compiled(attack=attack, optimizer=keras.optimizers.SGD(0.0))
        # Learning rate 0: only the noise can change the loss.
        return robust.fit(
            x, y, epochs=3, batch_size=32, shuffle=False, verbose=0
        ).history["loss"]

    first = losses(1)
    assert len(set(np.round(first, 6))) == 3
    np.testing.assert_allclose(losses(1), first, rtol=1e-6)
    assert abs(losses(2)[0] - first[0]) > 1e-6


@pytest.mark.slow_on_jax
def test_validation_attack(digits):
    _, _, x, y = digits
    strong = kr.PGDAttack(epsilon=2.0, steps=5)
    robust = kr.AdversarialModel(
        network(), kr.PGDAttack(epsilon=0.0), validation_attack=strong
    )
    robust.compile("sgd", loss="sparse_categorical_crossentropy")
    logs = robust.evaluate(x, y, verbose=0, return_dict=True)
    attacked = strong(robust.model, x, y)
    right = robust.predict(attacked, verbose=0).argmax(-1) == y
    assert logs["robust_accuracy"] == pytest.approx(right.mean(), abs=1e-6)


@pytest.mark.slow_on_jax
def test_every_option_works_inside_a_step(digits):
    """Restarts, best iterate, early stop and mask, compiled with the step."""
    _, _, x, y = digits
    mask = np.zeros((8, 8, 1))
    mask[2:6] = 1
    options = {"keep_best": True, "early_stop": True, "mask": mask}
    attack = kr.PGDAttack("linf", 0.3, steps=4, loss="margin", **options)
    robust = kr.AdversarialModel(network(), kr.PGDAttack(), attack)
    robust.compile("sgd", loss="sparse_categorical_crossentropy")
    logs = robust.evaluate(x, y, verbose=0, return_dict=True)
    attacked = robust.predict(attack(robust, x, y), verbose=0)
    right = (attacked.argmax(-1) == y).mean()
    assert logs["robust_accuracy"] == pytest.approx(right, abs=1e-6)
    restarts = kr.PGDAttack(
        "linf", 0.3, random_start=True, restarts=2, seed=0, **options
    )
    robust = kr.AdversarialModel(network(), restarts)
    robust.compile("sgd", loss="sparse_categorical_crossentropy")
    again = robust.evaluate(x, y, verbose=0, return_dict=True)
    assert again["robust_accuracy"] <= right + 0.02


@pytest.mark.parametrize("random_start", [False, True])
def test_save_load_and_go_on(digits, tmp_path, random_start):
    x, y, x_test, y_test = digits
    attack = kr.PGDAttack(
        epsilon=0.3, steps=2, random_start=random_start, seed=1
    )
    robust = compiled(attack=attack)
    robust.fit(x, y, **FIT)
    robust.save(tmp_path / "robust.keras")
    again = keras.saving.load_model(tmp_path / "robust.keras")
    assert again.attack.get_config() == robust.attack.get_config()
    np.testing.assert_array_equal(
        again.predict(x_test, verbose=0), robust.predict(x_test, verbose=0)
    )
    assert again.evaluate(x_test, y_test, verbose=0) == pytest.approx(
        robust.evaluate(x_test, y_test, verbose=0), abs=1e-6
    )
    # The states of the optimizer and of random starts are there too.
    robust.fit(x, y, **FIT)
    again.fit(x, y, **FIT)
    for ours, theirs in zip(
        again.get_weights(), robust.get_weights(), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.slow_on_jax
@pytest.mark.thorough
def test_inner_model_loads_without_this_package(digits, tmp_path):
    x = digits[0][:4]
    model = kr.models.small_cnn(filters=(4, 8))
    robust = kr.AdversarialModel(model, kr.PGDAttack())
    robust.model.save(tmp_path / "inner.keras")
    np.save(tmp_path / "x.npy", x)
    script = (
        "import sys; sys.modules['keras_robust'] = None\n"
        "import keras, numpy as np\n"
        "model = keras.saving.load_model('inner.keras')\n"
        "x = np.load('x.npy')\n"
        "print(np.ravel(model.predict_on_batch(x)).tolist())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    np.testing.assert_allclose(
        json.loads(done.stdout.splitlines()[-1]),
        np.ravel(robust.predict_on_batch(x)),
        atol=1e-5,
    )


def test_callbacks(digits, tmp_path):
    x, y, x_test, y_test = digits
    monitor = {"monitor": "val_robust_accuracy", "mode": "max"}
    best = tmp_path / "best.keras"
    callbacks = [
        keras.callbacks.ModelCheckpoint(best, save_best_only=True, **monitor),
        keras.callbacks.EarlyStopping(patience=1, min_delta=2.0, **monitor),
        keras.callbacks.BackupAndRestore(tmp_path / "backup"),
        keras.callbacks.TensorBoard(tmp_path / "logs"),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
    ]
    history = compiled().fit(
        x,
        y,
        validation_data=(x_test, y_test),
        callbacks=callbacks,
        **{**FIT, "epochs": 5},
    )
    # Nothing improves by 200 points, so patience ends it after two epochs.
    assert len(history.epoch) == 2
    assert isinstance(keras.saving.load_model(best), kr.AdversarialModel)
    assert list((tmp_path / "logs").rglob("events*"))
    assert "val_robust_accuracy" in (tmp_path / "log.csv").read_text()


@pytest.mark.compiles_much
def test_backup_and_restore(digits, tmp_path):
    """Interrupted after one epoch and resumed equals uninterrupted."""
    x, y = digits[:2]

    class Interrupt(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    options = {**FIT, "epochs": 3}
    attack = kr.PGDAttack(epsilon=0.3, steps=2, random_start=True, seed=1)
    whole = compiled(attack=attack)
    whole.fit(x, y, **options)
    backup = keras.callbacks.BackupAndRestore
    with pytest.raises(KeyboardInterrupt):
        compiled(attack=attack).fit(
            x, y, callbacks=[backup(tmp_path / "b"), Interrupt()], **options
        )
    resumed = compiled(attack=attack)
    history = resumed.fit(x, y, callbacks=[backup(tmp_path / "b")], **options)
    assert history.epoch == [1, 2]
    for ours, theirs in zip(
        resumed.get_weights(), whole.get_weights(), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.slow_on_jax
def test_weights_of_samples_and_classes(digits):
    x, y = digits[:2]
    dropped = y == 3
    robust = compiled()
    robust.fit(x, y, sample_weight=1.0 * ~dropped, **FIT)
    weighted = compiled()
    weights = {label: float(label != 3) for label in range(10)}
    weighted.fit(x, y, class_weight=weights, **FIT)
    for ours, theirs in zip(
        weighted.get_weights(), robust.get_weights(), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.compiles_much
def test_kinds_of_data(digits):
    import tensorflow as tf

    x, y = digits[:2]

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 3

        def __getitem__(self, i):
            rows = slice(64 * i, 64 * i + 64)
            return x[rows], y[rows]

    weights = []
    for data in (
        (x, y),
        (tf.data.Dataset.from_tensor_slices((x, y)).batch(64),),
        (Batches(),),
    ):
        robust = compiled()
        options = {**FIT}
        if len(data) == 1:
            options.pop("batch_size")
        robust.fit(*data, **options)
        weights.append(robust.get_weights())
    for other in weights[1:]:
        for ours, theirs in zip(weights[0], other, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.slow_on_jax
def test_one_hot_labels(digits):
    x, y = digits[:2]
    robust = kr.AdversarialModel(network(), kr.PGDAttack(epsilon=0.3, steps=2))
    robust.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        keras.losses.CategoricalCrossentropy(from_logits=True),
    )
    robust.fit(x, np.eye(10, dtype="float32")[y], **FIT)
    plain = compiled()
    plain.fit(x, y, **FIT)
    for ours, theirs in zip(
        robust.get_weights(), plain.get_weights(), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.slow_on_jax
@pytest.mark.compiles_much
def test_softmax_and_sigmoid_models(digits):
    x, y = digits[:2]
    softmax = kr.AdversarialModel(
        network(activation="softmax"), kr.PGDAttack(epsilon=0.3, steps=2)
    )
    softmax.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        "sparse_categorical_crossentropy",
    )
    softmax.fit(x, y, **FIT)
    plain = compiled()
    plain.fit(x, y, **FIT)
    for ours, theirs in zip(
        softmax.get_weights(), plain.get_weights(), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
    inputs = keras.Input((8, 8, 1))
    outputs = keras.layers.Dense(1, activation="sigmoid")(
        keras.layers.Flatten()(inputs)
    )
    binary = kr.AdversarialModel(
        keras.Model(inputs, outputs), kr.PGDAttack(epsilon=0.3, steps=2)
    )
    binary.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    logs = binary.evaluate(
        x, (y > 4)[:, None].astype("float32"), verbose=0, return_dict=True
    )
    assert logs["robust_accuracy"] <= logs["accuracy"]


@pytest.mark.slow_on_jax
def test_mixed_precision(digits):
    x, y, x_test, y_test = digits
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        robust = compiled()
        assert robust.model.compute_dtype == "bfloat16"
        history = robust.fit(
            x, y, validation_data=(x_test, y_test), **FIT
        ).history
        attacked = robust.attack(robust, x_test, y_test)
    finally:
        keras.config.set_dtype_policy("float32")
    assert np.isfinite(history["loss"]).all()
    assert attacked.dtype == np.float32
    assert np.abs(attacked - x_test).max() > 0


def test_the_loss_is_scaled_as_that_of_the_inner_model():
    """By the policy of the model, not by the one when it is wrapped."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    finally:
        keras.config.set_dtype_policy("float32")
    robust = kr.AdversarialModel(model, kr.PGDAttack("linf", 0.1))
    for one in (model, robust):
        one.compile("sgd", "mse")
        assert isinstance(one.optimizer, keras.optimizers.LossScaleOptimizer)


def test_arguments_cannot_be_changed_later():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    robust = kr.AdversarialModel(model, kr.PGDAttack("linf", 0.1))
    for name, value in (
        ("attack", kr.PGDAttack("linf", 0.2)),
        ("epsilon_schedule", kr.training.LinearWarmup(epochs=1)),
        ("replays", 2),
    ):
        with pytest.raises(AttributeError, match=f"`{name}`.*Received"):
            setattr(robust, name, value)
    robust.trainable = False
    assert not model.trainable


@pytest.mark.parametrize(
    "jit_compile",
    [
        pytest.param(
            True,
            # torch.compile builds C++ for minutes.
            marks=pytest.mark.slow if backend.name == "torch" else (),
        ),
        False,
    ],
)
@pytest.mark.compiles_much
def test_jit_compile(digits, jit_compile):
    x, y = digits[0][:64], digits[1][:64]
    auto, forced = compiled(), compiled(jit_compile=jit_compile)
    for model in (auto, forced):
        model.train_on_batch(x, y)
        model.train_on_batch(x, y)
    for ours, theirs in zip(
        forced.get_weights(), auto.get_weights(), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.compiles_much
def test_steps_per_execution(digits):
    x, y = digits[:2]
    if backend.name == "torch":
        with pytest.raises(ValueError, match="steps_per_execution"):
            compiled(steps_per_execution=3).fit(x, y, **FIT)
        return
    one, three = compiled(), compiled(steps_per_execution=3)
    one.fit(x, y, **FIT)
    three.fit(x, y, **FIT)
    for ours, theirs in zip(
        three.get_weights(), one.get_weights(), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    if backend.name == "jax":
        # As in Keras, a change after `compile` counts.
        before = int(three.optimizer.iterations)
        three.steps_per_execution = 2
        three.fit(x, y, steps_per_epoch=2, **{**FIT, "epochs": 1})
        assert int(three.optimizer.iterations) - before == 2


def test_errors(digits):
    x, y = digits[:2]
    with pytest.raises(ValueError, match="built.*Received"):
        kr.AdversarialModel(
            keras.Sequential([keras.layers.Dense(2)]), kr.PGDAttack()
        )
    with pytest.raises(ValueError, match="attack.*Received"):
        kr.AdversarialModel(network(), "pgd")
    with pytest.raises(ValueError, match="epsilon.*Received"):
        kr.AdversarialModel(network(), kr.PGDAttack(epsilon=[0.1, 0.2]))
    hidden = network()
    hidden = keras.Model(
        hidden.inputs, keras.layers.Lambda(ops.softmax)(hidden.outputs[0])
    )
    with pytest.raises(ValueError, match="from_logits.*Received"):
        kr.AdversarialModel(hidden, kr.PGDAttack())
    robust = compiled()
    for wrong in (255 * x, np.where(x > 0.9, np.nan, x)):
        with pytest.raises(ValueError, match="value_range.*Received"):
            robust.fit(wrong, y, **FIT)
        with pytest.raises(ValueError, match="value_range.*Received"):
            robust.evaluate(wrong, y, verbose=0)
    batches = kr.datasets.pipeline(255 * x, y)
    with pytest.raises(ValueError, match="value_range.*Received"):
        robust.fit(batches, verbose=0)
