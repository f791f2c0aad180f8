import keras
import keras_tuner
import pytest

from keras_robust.study import OptimizerSpace
from keras_robust.study.optimizer.space import l2_of
from keras_robust.study.optimizer.space import optimizer_of

NETWORKS = {"small": ("small_cnn", {})}


def settings_of(space):
    """All settings of a grid, as KerasTuner walks it."""
    seen = []

    class Nothing(keras_tuner.HyperModel):
        def build(self, hp):
            space.choose(hp)
            return keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])

        def fit(self, hp, model, *args, **kwargs):
            seen.append(space.choose(hp))
            return 0.0

    return Nothing(), seen


@pytest.mark.on_one_backend
def test_a_grid_has_each_setting_once(tmp_path):
    """An optimizer has no settings of another one."""
    space = OptimizerSpace(
        learning_rates={"sgd": (0.01, 0.1), "adam": (1e-4, 1e-3)},
        learning_rate_factor=10,
        momenta=(0.0, 0.9),
        networks=NETWORKS,
    )
    model, seen = settings_of(space)
    tuner = keras_tuner.GridSearch(
        model,
        keras_tuner.Objective("val_accuracy", "max"),
        directory=tmp_path,
        max_trials=1000,
    )
    tuner.search(verbose=0)
    assert len({tuple(sorted(s.items())) for s in seen}) == len(seen)
    # 2 rates x 2 momenta, 2 rates.
    assert len(seen) == 2 * 2 + 2
    rates = {round(s["learning_rate"], 6) for s in seen}
    assert rates == {0.01, 0.1, 0.001, 0.0001}
    assert not any("momentum" in s for s in seen if s["optimizer"] == "adam")


SETTING = {
    **{"learning_rate": 0.1, "weight_decay": 0.01, "schedule": "constant"},
    **{"momentum": 0.9, "nesterov": True},
}


@pytest.mark.parametrize(
    ("name", "kind", "decoupled", "l2"),
    [
        ("sgd", "SGD", None, 0.01),
        ("sgdw", "SGD", 0.01, 0.0),
        ("adam", "Adam", None, 0.01),
        ("adamw", "AdamW", 0.01, 0.0),
    ],
)
def test_weight_decay_is_in_one_place(name, kind, decoupled, l2):
    optimizer = optimizer_of({**SETTING, "optimizer": name}, 10)
    assert type(optimizer).__name__ == kind
    assert optimizer.weight_decay == decoupled
    assert l2_of({**SETTING, "optimizer": name}) == l2
    if kind == "SGD":
        assert optimizer.momentum == 0.9 and optimizer.nesterov


def test_no_nesterov_without_momentum():
    setting = {**SETTING, "optimizer": "sgd", "momentum": 0.0}
    assert not optimizer_of(setting, 10).nesterov


def test_unknown_optimizer():
    with pytest.raises(ValueError, match="adamw.*Received.*lion"):
        OptimizerSpace(learning_rates={"lion": (0, 1)}, networks=NETWORKS)


def test_a_factor_that_goes_nowhere():
    with pytest.raises(ValueError, match="> 1. Received.*=1"):
        OptimizerSpace(learning_rate_factor=1, networks=NETWORKS)
