import keras
import numpy as np

import keras_robust as kr


def test_fgsm_is_one_step_of_pgd(cnn, cnn_data):
    x, y = cnn_data
    for norm, epsilon in (("linf", 8 / 255), ("l2", 0.5)):
        fgsm = kr.FGSMAttack(norm, epsilon)(cnn, x, y)
        pgd = kr.PGDAttack(norm, epsilon, step_size=epsilon, steps=1)
        np.testing.assert_array_equal(fgsm, pgd(cnn, x, y))


def test_every_pixel_moves_by_epsilon_inside_the_box(cnn, cnn_data):
    _, y = cnn_data
    x = np.full((21, 6, 6, 2), 0.5, "float32")
    step = np.abs(kr.FGSMAttack(epsilon=0.1)(cnn, x, y) - x)
    moved = step[step > 0]
    np.testing.assert_allclose(moved, 0.1, rtol=1e-6)
    assert moved.size > 0.9 * x.size


def test_configuration_round_trip():
    attack = kr.FGSMAttack("linf", 4 / 255, targeted=True)
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(attack)
    )
    assert again.get_config() == attack.get_config()
    assert set(again.get_config()) == {
        *("norm", "epsilon", "targeted", "value_range", "loss", "mask"),
        *("batch_size", "from_logits", "jit_compile", "attacked", "output"),
        "backward",
    }
