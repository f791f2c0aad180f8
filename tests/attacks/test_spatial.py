import numpy as np
import pytest
from keras import ops

import keras_robust as kr
from tests.helpers import make_linear


def pixel_model(row, column, size=7):
    """Class 1 where that pixel is bright."""
    weights = np.zeros((size * size, 2))
    weights[row * size + column, 1] = 4.0
    return make_linear(weights, [1.0, 0.0], shape=(size, size, 1))


def dot(row, column, size=7):
    image = np.zeros((1, size, size, 1), "float32")
    image[0, row, column] = 1
    return image


@pytest.mark.parametrize("shift", [(0, 2), (2, 0), (-2, 2)])
@pytest.mark.compiles_much
def test_finds_the_shift(shift):
    model = pixel_model(3 + shift[0], 3 + shift[1])
    x = dot(3, 3)
    attack = kr.SpatialAttack(rotation=0, angles=1, translation=2, shifts=3)
    result = attack.run(model, x, [0], scored=True)
    assert result["success"].all()
    np.testing.assert_allclose(
        result["x"], dot(3 + shift[0], 3 + shift[1]), atol=1e-5
    )


def test_finds_the_rotation():
    """A quarter turn moves (0, 3) to (3, 0) or (3, 6), around the middle."""
    attack = kr.SpatialAttack(rotation=90, angles=3, translation=0, shifts=1)
    for place in ((3, 0), (3, 6)):
        result = attack.run(pixel_model(*place), dot(0, 3), [0], scored=True)
        assert result["success"].all()
        np.testing.assert_allclose(result["x"], dot(*place), atol=1e-5)


def test_nothing_to_do_leaves_images_alone(varied):
    model, x, y = varied
    attack = kr.SpatialAttack(0, 0, angles=1, shifts=1)
    np.testing.assert_allclose(attack(model, x, y), x, atol=1e-6)


@pytest.mark.slow_on_jax
def test_the_worst_of_the_grid(varied):
    """Against the grid by hand, one transformation at a time."""
    model, x, y = varied
    options = {"rotation": 20, "translation": 1, "angles": 3, "shifts": 2}
    attack = kr.SpatialAttack(loss="margin", batch_size=9, **options)
    result = attack.run(model, x, y, scored=True)
    rows = np.arange(len(x))
    worst = np.full(len(x), -np.inf)
    for transform in attack.grid(6, 6):
        moved = ops.image.affine_transform(
            ops.convert_to_tensor(x),
            ops.convert_to_tensor(transform[None].repeat(len(x), 0)),
            data_format="channels_last",
        )
        logits = ops.convert_to_numpy(model(moved))
        others = np.where(np.arange(3) == y[:, None], -np.inf, logits)
        worst = np.maximum(worst, others.max(-1) - logits[rows, y])
    clean = ops.convert_to_numpy(model(x)).argmax(-1) == y
    np.testing.assert_allclose(result["loss"][clean], worst[clean], atol=1e-4)
    stopped = kr.SpatialAttack(loss="margin", early_stop=True, **options)
    found = stopped.run(model, x, y, scored=True)["success"]
    np.testing.assert_array_equal(found, result["success"])


def test_outside_is_the_low_end():
    model = pixel_model(0, 0)
    x = np.ones((1, 7, 7, 1), "float32")
    attack = kr.SpatialAttack(
        0, 3, angles=1, shifts=3, value_range=(-1.0, 1.0), loss="margin"
    )
    moved = attack.run(model, x, [1], scored=True)["x"]
    assert moved.min() == pytest.approx(-1)


def test_errors(linear_problem):
    for wrong in ({"angles": 0}, {"rotation": -1}, {"loss": "x"}):
        with pytest.raises(ValueError, match="Received"):
            kr.SpatialAttack(**wrong)
    with pytest.raises(ValueError, match="images.*Received"):
        kr.SpatialAttack()(make_linear(np.eye(3)), np.zeros((1, 3)), [0])
