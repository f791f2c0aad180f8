import keras
import keras_tuner
import pytest

from keras_robust.study import OptimizerSpace

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
@pytest.mark.thorough
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
        ("lion", "Lion", 0.01, 0.0),
        ("muon", "Muon", 0.01, 0.0),
    ],
)
def test_weight_decay_is_in_one_place(name, kind, decoupled, l2):
    space = OptimizerSpace(learning_rates={name: (0.1, 0.1)}, networks=NETWORKS)
    setting = {**SETTING, "optimizer": name}
    optimizer = space.optimizer(setting, 10)
    assert type(optimizer).__name__ == kind
    assert optimizer.weight_decay == decoupled
    assert space.l2(setting) == l2
    if kind == "SGD":
        assert optimizer.momentum == 0.9 and optimizer.nesterov


def test_no_nesterov_without_momentum():
    setting = {**SETTING, "optimizer": "sgd", "momentum": 0.0}
    space = OptimizerSpace(networks=NETWORKS)
    assert not space.optimizer(setting, 10).nesterov


def test_unknown_optimizer():
    with pytest.raises(ValueError, match="adamw.*Did you mean 'lion'.*lyon"):
        OptimizerSpace(learning_rates={"lyon": (0.1, 1)}, networks=NETWORKS)


@pytest.mark.parametrize("ends", [(0, 1), (1, 0.1), (1,), "1", None])
def test_learning_rates_are_two_numbers(ends):
    with pytest.raises(ValueError, match="two numbers > 0. Received.*'lion'"):
        OptimizerSpace(learning_rates={"lion": ends}, networks=NETWORKS)


def own(learning_rate, weight_decay=None):
    return keras.optimizers.SGD(
        learning_rate, momentum=0.5, clipnorm=1.0, weight_decay=weight_decay
    )


@pytest.mark.parametrize(
    ("maker", "decoupled"),
    [
        (own, True),
        (keras.optimizers.Lion, True),
        (lambda learning_rate: own(learning_rate), False),
    ],
)
def test_an_optimizer_with_arguments_of_ones_own(maker, decoupled):
    space = OptimizerSpace(
        learning_rates={"mine": (0.1, 0.1)},
        makers={"mine": maker},
        networks=NETWORKS,
        schedules=("one_cycle",),
    )
    setting = space.choose(keras_tuner.HyperParameters())
    assert setting["learning_rate"] == pytest.approx(0.1)
    optimizer = space.optimizer({**setting, "weight_decay": 0.01}, 10)
    assert (optimizer.weight_decay == 0.01) is decoupled
    l2 = space.l2({**setting, "weight_decay": 0.01})
    assert l2 == (0.0 if decoupled else 0.01)
    # After a fifth of the steps the peak is reached.
    optimizer.iterations.assign(2)
    assert float(optimizer.learning_rate) == pytest.approx(0.1)


def chosen(hp, steps):
    rate = keras.optimizers.schedules.CosineDecay(
        hp.Float("learning_rate", 1e-3, 1e-1, sampling="log", step=10), steps
    )
    return keras.optimizers.Lion(rate, beta_1=hp.Choice("beta_1", [0.8, 0.9]))


@pytest.mark.on_one_backend
@pytest.mark.thorough
def test_a_function_that_asks_for_hyperparameters(tmp_path):
    space = OptimizerSpace(
        learning_rates={"adam": (0.1, 0.1), "mine": None},
        makers={"mine": chosen},
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
    mine = [s for s in seen if s["optimizer"] == "mine"]
    found = {(round(s["learning_rate"], 6), s["beta_1"]) for s in mine}
    assert found == {
        (rate, beta) for rate in (0.001, 0.01, 0.1) for beta in (0.8, 0.9)
    }
    assert [s for s in seen if s["optimizer"] == "adam"] == [
        {k: v for k, v in seen[0].items()}
    ]
    # A training makes the optimizer of a setting, with its number of steps.
    setting = next(s for s in mine if s["beta_1"] == 0.8)
    optimizer = space.optimizer(setting, 40)
    assert optimizer.beta_1 == 0.8 and space.l2(setting) == 0.0
    assert optimizer._learning_rate.decay_steps == 40


def test_names_of_the_search_are_taken():
    def wrong(hp, steps):
        return keras.optimizers.SGD(hp.Float("batch_size", 0.1, 1.0))

    space = OptimizerSpace(
        learning_rates={"mine": None},
        makers={"mine": wrong},
        networks=NETWORKS,
    )
    with pytest.raises(ValueError, match=r"Received: \['batch_size'\]"):
        space.choose(keras_tuner.HyperParameters())
    space = OptimizerSpace(
        learning_rates={"mine": None},
        makers={"mine": lambda hp, steps: hp.values},
        networks=NETWORKS,
    )
    assert space.choose(keras_tuner.HyperParameters())["optimizer"] == "mine"


def test_weight_decay_is_not_left_out():
    """A network of one's own may have no place for it in its loss."""
    networks = {"mine": lambda: None}
    space = OptimizerSpace(networks=networks)
    with pytest.raises(ValueError, match=r"'sgd', 'adam'.*\['mine'\] without"):
        space.check_networks()
    OptimizerSpace(networks=networks, weight_decays=(0.0,)).check_networks()
    decoupled = {"adamw": (0.1, 0.1), "lion": (0.1, 0.1)}
    OptimizerSpace(decoupled, networks=networks).check_networks()
    networks = {"mine": lambda weight_decay: None}
    OptimizerSpace(networks=networks).check_networks()


def test_a_factor_that_goes_nowhere():
    with pytest.raises(ValueError, match="> 1. Received.*=1"):
        OptimizerSpace(learning_rate_factor=1, networks=NETWORKS)
