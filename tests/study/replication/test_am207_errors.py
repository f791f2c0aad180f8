import numpy as np
import pytest

import keras_robust as kr
from keras_robust.study.replication.am207_errors import NineTargets
from keras_robust.study.replication.am207_errors import broken_linf
from keras_robust.study.replication.am207_errors import enlarged_and_cropped
from keras_robust.study.replication.am207_errors import unpooled_layer
from keras_robust.study.replication.generating import transform_of
from keras_robust.study.replication.recipes import get_recipe
from keras_robust.study.replication.training_sets import training_set
from tests.helpers import make_linear


def test_broken_linf_leaves_ball_and_box():
    """As simulated in the open: 1.25 from a white pixel at epsilon 0.25."""
    model = make_linear([[1.0, -1.0], [-1.0, 1.0]], shape=(1, 2, 1))
    x = np.array([[[[1.0], [0.0]]], [[[0.5], [0.5]]]], "float32")
    y = np.array([1, 1])
    # 15 steps of 0.1 reach every bound.
    moved = broken_linf(model, x, y, 0.25, steps=15, verbose=0)
    # Up on the first pixel: delta <= x + 0.25. Down on the second one:
    # delta >= x - 0.25.
    expected = [[[[2.25], [-0.25]]], [[[1.25], [0.75]]]]
    np.testing.assert_allclose(moved, expected, atol=1e-5)


def test_nine_targets_never_say_truck(cnn, cnn_data):
    x, y = cnn_data
    options = {"steps": 1, "seed": 0}
    _, t = NineTargets(cnn, **options)(x, y, verbose=0)
    assert set(t.tolist()) == {0, 1}
    _, t = kr.NonRobustifier(cnn, **options)(x, y, verbose=0)
    assert set(t.tolist()) == {0, 1, 2}


def test_unpooled_is_what_pooling_reads():
    for model in (kr.models.small_cnn(filters=(4, 6)), kr.models.resnet9(4)):
        view = kr.models.representation_view(model, unpooled_layer(model))
        assert len(view.output.shape) == 4
        assert view.output.shape[-1] == model.layers[-1].input.shape[-1]


def test_enlarged_images_have_no_zeros():
    augment = enlarged_and_cropped((32, 32, 3), seed=0)
    x = np.ones((5, 32, 32, 3), "float32") / 2
    moved, labels = augment(x, np.arange(5))
    assert tuple(moved.shape) == (5, 32, 32, 3)
    inside = np.asarray(moved)[:, 4:-4, 4:-4]
    np.testing.assert_allclose(inside, 0.5, atol=1e-6)
    assert list(labels) == list(range(5))


def test_each_error_has_a_model_of_its_own():
    recipe = get_recipe("cifar10", "am207")
    added = set(recipe.models) - set(get_recipe("cifar10", "paper").models)
    assert added == {
        *("standard_frozen_flips", "D_R_unpooled"),
        *("D_rand_nine_targets", "D_rand_no_box"),
    }
    # And trains as what it is an error of.
    adam = recipe.training_of("D_rand_no_box")
    assert adam.optimizer == "adam" and adam == recipe.training_of("D_rand")


@pytest.mark.thorough
def test_transforms_of_errors():
    recipe = get_recipe("cifar10", "am207")
    model = kr.models.cifar_resnet(depth=8, width=4)

    def transform(name):
        return transform_of(training_set(name), recipe, model, 10, seed=0)

    assert transform("D_R_unpooled").layer == "stage3_block1"
    assert transform("D_R").layer is None
    assert transform("D_rand").value_range == (0.0, 1.0)
    low, high = transform("D_rand_no_box").value_range
    assert low < -10 and high > 10
    assert isinstance(transform("D_rand_nine_targets"), NineTargets)
    assert not isinstance(transform("D_rand"), NineTargets)
