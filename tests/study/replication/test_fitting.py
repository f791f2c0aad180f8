import json
from dataclasses import replace

import keras
import numpy as np
import pytest

import keras_robust as kr
from keras_robust import datasets
from keras_robust.datasets import pipelines
from keras_robust.datasets import tf_data
from keras_robust.study.replication import backup
from keras_robust.study.replication import fitting
from keras_robust.study.replication.fitting import fit_network
from keras_robust.study.replication.recipes import get_recipe


@pytest.fixture(scope="module")
def recipe():
    recipe = get_recipe("digits", "smoke")
    return replace(recipe, training=replace(recipe.training, epochs=4))


@pytest.fixture(scope="module")
def data():
    data = datasets.load("digits")
    return tuple((x[:96], y[:96]) for x, y in data)


def network(adversarial=False):
    keras.utils.set_random_seed(0)
    model = kr.models.small_cnn(filters=(8, 8))
    if adversarial:
        return kr.AdversarialModel(model, kr.PGDAttack(steps=2))
    return model


class Power(Exception):
    pass


@pytest.mark.parametrize(
    "adversarial", [False, pytest.param(True, marks=pytest.mark.slow_on_jax)]
)
@pytest.mark.compiles_much
def test_a_training_goes_on_where_it_was_stopped(
    tmp_path, recipe, data, monkeypatch, adversarial
):
    monkeypatch.setattr(backup, "SECONDS_BETWEEN_BACKUPS", 0)

    def run(model, cut=False):
        make = fitting.PlateauMonitor
        begun = []

        class Monitor(make):
            def on_epoch_begin(self, epoch, logs=None):
                begun.append(epoch)
                if cut and epoch == 2:
                    raise Power

        monkeypatch.setattr(fitting, "PlateauMonitor", Monitor)
        try:
            found = fit_network(
                model,
                name="standard",
                train=data[0],
                test=data[1],
                recipe=recipe,
                seed=0,
                folder=tmp_path / "backup",
                verbose=0,
            )
        finally:
            monkeypatch.setattr(fitting, "PlateauMonitor", make)
        return found, begun

    with pytest.raises(Power):
        run(network(adversarial), cut=True)
    first = json.loads((tmp_path / "backup" / "curve.json").read_text())
    assert len(first["accuracy"]) == 2
    model = network(adversarial)
    found, begun = run(model)
    assert begun == [2, 3]
    # The schedule goes on, too.
    assert int(model.optimizer.iterations) == 4
    curve = found["curve"]
    assert len(curve["accuracy"]) == len(curve["val_accuracy"]) == 4
    assert curve["accuracy"][:2] == first["accuracy"]
    assert found["chance"] == pytest.approx(0.1)
    assert found["outcome"] in ("stuck", "memorized", "generalized")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        # An optimizer of several, with averages of the weights.
        {"bias_rate": 4.0, "weight_average": 0.9},
    ],
)
@pytest.mark.compiles_much
def test_one_compiled_training_gives_what_each_of_its_own_gives(
    tmp_path, recipe, data, changes
):
    short = replace(recipe.training, epochs=2, **changes)
    changed = replace(recipe, training=short, overrides={})

    def run(compiled):
        models = []
        for seed in (0, 1):
            keras.utils.set_random_seed(seed)
            models.append(kr.models.small_cnn(filters=(8, 8)))
            fit_network(
                models[-1],
                "standard",
                *data,
                changed,
                seed,
                tmp_path / "state",
                verbose=0,
                compiled=compiled,
            )
            if compiled is not None:
                used.append([each.train_function for each in compiled.values()])
        return models

    used = []
    shared, own = run({}), run(None)
    # A training of the second model has no program of its own.
    assert len(used[0]) == 1
    assert used[0][0] is not None
    assert used[0] == used[1]
    for one, other in zip(shared, own, strict=True):
        for first, second in zip(
            [*one.variables, *one.optimizer.variables],
            [*other.variables, *other.optimizer.variables],
            strict=True,
        ):
            # PyTorch rounds sums differently from call to call.
            np.testing.assert_allclose(
                keras.ops.convert_to_numpy(first),
                keras.ops.convert_to_numpy(second),
                rtol=1e-5,
                atol=1e-6,
            )
    assert not np.array_equal(
        shared[0].get_weights()[0], shared[1].get_weights()[0]
    )


def test_a_network_that_draws_is_trained_itself(tmp_path, recipe, data):
    compiled = {}
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(10),
        ]
    )
    fit_network(
        model,
        "standard",
        *data,
        recipe,
        0,
        tmp_path / "state",
        verbose=0,
        compiled=compiled,
    )
    assert not compiled


@pytest.mark.compiles_much
def test_another_schedule_is_compiled_anew(tmp_path, recipe, data):
    compiled = {}
    short = replace(recipe.training, epochs=1, batch_size=32)
    for rows in (96, 64, 96):
        fit_network(
            network(),
            "standard",
            train=tuple(values[:rows] for values in data[0]),
            test=data[1],
            recipe=replace(recipe, training=short),
            seed=0,
            folder=tmp_path / "state",
            verbose=0,
            compiled=compiled,
        )
    assert len(compiled) == 2


def test_logs_for_tensorboard(tmp_path, recipe, data):
    fit_network(
        network(),
        "D_det",
        *data,
        recipe,
        0,
        tmp_path / "work",
        logs=tmp_path / "logs",
        verbose=0,
    )
    assert list((tmp_path / "logs").rglob("*tfevents*"))


def test_overrides_decide_what_is_trained(tmp_path, recipe, data):
    changed = replace(
        recipe,
        overrides={
            "D_rand": {"optimizer": "adam", "learning_rate": 0.001},
            "D_rand_robust": {"epochs": 1},
        },
    )
    model = network()
    found = fit_network(
        model,
        "D_rand_robust",
        *data,
        changed,
        0,
        tmp_path / "backup",
        verbose=0,
    )
    assert isinstance(model.optimizer, keras.optimizers.Adam)
    assert len(found["curve"]["accuracy"]) == 1
    assert np.isfinite(found["curve"]["loss"]).all()


@pytest.mark.compiles_much
def test_the_error_of_a_report_is_trained_without_tensorflow(
    tmp_path, data, monkeypatch
):
    for module in (pipelines, tf_data):
        monkeypatch.setattr(module, "can_be_imported", lambda: False)
    recipe = get_recipe("digits", "am207")
    name = "standard_frozen_flips"
    assert recipe.training_set(name).error == "frozen_flips"
    short = replace(recipe.training, epochs=1)
    found = fit_network(
        network(),
        name=name,
        train=data[0],
        test=data[1],
        recipe=replace(recipe, training=short, overrides={}),
        seed=0,
        folder=tmp_path / "state",
        verbose=0,
    )
    assert len(found["curve"]["accuracy"]) == 1
