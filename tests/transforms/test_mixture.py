import json

import keras
import numpy as np
import pytest

import keras_robust as kr
from keras_robust.datasets import generate


def test_between_an_image_and_its_inversion(cnn, cnn_data, tmp_path):
    x, y = cnn_data
    to_robust = kr.Robustifier(cnn, steps=3, seed=2, batch_size=8)
    x_r = to_robust(x, verbose=0)
    for alpha in (0.0, 0.25, 1.0):
        mixed = kr.Mixture(to_robust, alpha)(x, verbose=0)
        expected = alpha * x_r + (1 - alpha) * x
        np.testing.assert_allclose(mixed, expected, atol=1e-6)
    mixture = kr.Mixture(to_robust, 0.9)
    folder = generate(mixture, (x, y), tmp_path, verbose=0)["directory"]
    assert folder.parent.name == mixture.config_name == "mix_90"


def test_a_set_that_an_earlier_version_began(cnn, cnn_data, tmp_path):
    """Its configuration names the module in which the class was then."""
    mixture = kr.Mixture(kr.Robustifier(cnn, steps=1, seed=2), 0.5)

    def run():
        return generate(mixture, cnn_data, tmp_path, shard_size=8, verbose=0)

    folder = run()["directory"]
    path = folder / "generation" / "config.json"
    config = json.loads(path.read_text())
    earlier = config["arguments"]["transform"]
    earlier["module"] = "keras_robust.features.robustifier"
    path.write_text(json.dumps(config))
    next(folder.glob("*.tfrecord-00001*")).unlink()
    assert run()["images"] == 8
    # It loads as well; a configuration has no weights.
    again = keras.saving.deserialize_keras_object(
        {**keras.saving.serialize_keras_object(mixture), "module": "elsewhere"}
    )
    assert isinstance(again.transform, kr.Robustifier)


def test_data_sets_and_pixels_of_uint8(cnn, cnn_data):
    x, y = cnn_data
    mixture = kr.Mixture(
        kr.Robustifier(cnn, steps=1, start="noise", seed=2), 0.5
    )
    pixels = np.uint8(np.round(255 * x))
    expected = mixture(pixels.astype("float32") / 255, verbose=0)
    np.testing.assert_allclose(mixture(pixels, verbose=0), expected, atol=1e-6)
    made, labels = mixture(
        kr.datasets.pipeline(pixels, y, batch_size=8), verbose=0
    )
    np.testing.assert_allclose(made, expected, atol=1e-6)
    np.testing.assert_array_equal(labels, y)


def test_map(cnn, cnn_data):
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices(cnn_data).batch(8)
    options = {"steps": 2, "start": "noise", "seed": 2, "batch_size": 8}
    mixture = kr.Mixture(kr.Robustifier(cnn, **options), 0.5)
    made = [x for x, _ in mixture.map(dataset).as_numpy_iterator()]
    expected = mixture(cnn_data[0], verbose=0)
    np.testing.assert_allclose(np.concatenate(made), expected, atol=1e-6)


def test_errors(cnn):
    with pytest.raises(ValueError, match="alpha=1.5"):
        kr.Mixture(kr.Robustifier(cnn, steps=1), 1.5)


@keras.saving.register_keras_serializable("tests")
class Dimmed(kr.transforms.Transform):
    """Images that are darker the larger their label is; it stays."""

    needs_labels = True

    def make(self, batch):
        share = 1 - np.asarray(batch.labels)[:, None, None, None] / 20
        distance = np.zeros(len(batch))
        success = np.ones(len(batch), bool)
        return {"x": batch.images * share, "distance": distance} | {
            "success": success
        }


def test_a_transform_that_needs_labels(cnn_data):
    x, y = cnn_data
    expected = x * (1 - y / 40)[:, None, None, None]
    mixture = kr.Mixture(Dimmed(), 0.5)
    mixed, labels = mixture([(x, y)], verbose=0)
    np.testing.assert_allclose(mixed, expected, atol=1e-6)
    np.testing.assert_array_equal(labels, y)
    with pytest.raises(ValueError, match="`y` must hold the true labels"):
        mixture(x, verbose=0)


def test_rounding_does_not_leave_the_range(cnn):
    x = np.full((2, 6, 6, 2), 255, "float32")
    to_robust = kr.Robustifier(cnn, steps=0, value_range=(0, 255), seed=0)
    shares = np.linspace(0.01, 0.99, 99)
    mixed = [kr.Mixture(to_robust, share)(x, verbose=0) for share in shares]
    assert np.max(mixed) == 255
