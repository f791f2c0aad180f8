from dataclasses import replace

import keras
import pytest

from keras_robust.cli.replicate import study_of
from keras_robust.study import get_recipe

OWN = """
import keras


def make(steps):
    return keras.optimizers.Lion(1e-3)
"""


def training(**given):
    return study_of("digits", None, given).training


def test_numbers_of_an_optimizer_are_not_those_of_another():
    """The recipe trains by SGD at 0.1, at which Adam learns nothing."""
    recipe = get_recipe("digits").training
    assert (recipe.optimizer, recipe.learning_rate) == ("sgd", 0.1)
    assert training(epochs=3) == replace(recipe, epochs=3)
    assert training(optimizer="sgd") == recipe
    assert training(optimizer="adam") == replace(
        recipe, optimizer="adam", learning_rate=None
    )
    assert training(optimizer="adam", learning_rate=0.01).learning_rate == 0.01


def test_rates_of_single_networks_are_those_of_an_optimizer_too():
    """The paper trains on D_rand by SGD at 0.01."""
    recipe = get_recipe("cifar10", "paper")
    assert recipe.training_of("D_rand").learning_rate == 0.01

    def found(preset, **given):
        return study_of("cifar10", preset, given).training_of("D_rand")

    assert found("paper", epochs=3).learning_rate == 0.01
    assert found("paper", optimizer="adam").learning_rate is None
    # A recipe that gives the network an optimizer of its own.
    assert found("am207", optimizer="lion").optimizer == "adam"
    assert found("am207", optimizer="lion").learning_rate == 1e-3


@pytest.mark.parametrize("preset", ["cpu", "gpu", "am207", "paper"])
def test_epochs_and_batches_are_those_of_every_training(preset):
    found = study_of("cifar10", preset, {"epochs": 3, "batch_size": 64})
    for model in found.models:
        training = found.training_of(model)
        assert (training.epochs, training.batch_size) == (3, 64)


def test_a_learning_rate_is_that_of_its_optimizer():
    found = study_of("cifar10", "paper", {"learning_rate": 0.05})
    assert found.training_of("D_rand").learning_rate == 0.05
    # Adam's in that recipe.
    found = study_of("cifar10", "am207", {"learning_rate": 0.05})
    assert found.training_of("D_rand").learning_rate == 1e-3
    assert found.training_of("D_det").learning_rate == 0.05


def test_an_optimizer_of_ones_own_in_a_recipe(tmp_path):
    path = tmp_path / "own_optimizer_of_a_recipe.py"
    path.write_text(OWN)
    text = f"{path}:make"
    found = training(optimizer=text)
    assert isinstance(found.optimizer(1), keras.optimizers.Lion)
    assert found.batch_size == get_recipe("digits").training.batch_size
    with pytest.raises(ValueError, match="`learning_rate` must be left out"):
        training(optimizer=text, learning_rate=0.1)
