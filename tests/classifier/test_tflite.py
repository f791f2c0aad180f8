"""A TFLite model, attacked through `Classifier.from_function`."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import keras_robust as kr
from keras_robust import backend
from tests.helpers import norms

pytestmark = pytest.mark.skipif(
    backend.name != "tensorflow",
    reason="TFLite converts models of the TensorFlow backend only",
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A network, what the guide makes of its conversion, images and labels."""
    import tensorflow as tf

    (x, y), (x_test, y_test) = kr.datasets.load("digits")
    keras.utils.set_random_seed(0)
    model = kr.models.small_cnn((8, 8, 1), filters=(16, 32))
    model.compile(
        keras.optimizers.Adam(0.003),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(x, y, epochs=10, batch_size=32, verbose=0)
    folder = str(tmp_path_factory.mktemp("network"))
    model.export(folder, format="tf_saved_model", verbose=False)
    content = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
    path = tmp_path_factory.mktemp("tflite") / "model.tflite"
    path.write_bytes(content)
    page = (ROOT / "docs" / "black_box.md").read_text("utf-8")
    section = page[page.index("### A TFLite model") :]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL).group(1)
    assert '"model.tflite"' in code
    names = {"kr": kr}
    exec(code.replace('"model.tflite"', repr(str(path))), names)
    return model, names, x_test[::12], y_test[::12]


def test_square_and_transfer(digits):
    model, names, x, y = digits
    classifier = names["deployed"]
    np.testing.assert_allclose(
        classifier.predict_logits(x),
        ops.convert_to_numpy(model(x, training=False)),
        atol=1e-4,
    )
    attack = kr.SquareAttack("linf", 0.2, queries=60, seed=0)
    report = kr.evaluate_robustness(
        classifier, (x, y), attack, probe=False, verbose=0
    )
    assert report.accuracy["clean"] > 0.7
    assert report.accuracy["SquareAttack"] < report.accuracy["clean"] - 0.1
    matrix = kr.transfer_matrix(
        {"network": model},
        {"network": model, "tflite": classifier},
        (x, y),
        kr.PGDAttack("linf", 0.2, steps=5),
        targeted=False,
        verbose=0,
    )
    # What fools the network fools its conversion.
    assert matrix.untargeted[0, 0] > 0.5
    assert abs(matrix.untargeted[0, 0] - matrix.untargeted[0, 1]) < 0.05


def test_hop_skip_jump_by_labels(digits):
    _, names, x, y = digits

    def label(images):
        return names["predict"](images).argmax(-1)

    classifier = kr.Classifier.from_function(label, 10, batch_size=1)
    right = classifier.predict_labels(x) == y
    x, y = x[right][:6], y[right][:6]
    result = kr.HopSkipJumpAttack(queries=300, seed=0).run(
        classifier, x, y, scored=True, verbose=0
    )
    assert result["success"].all()
    assert (classifier.predict_labels(result["x"]) != y).all()
    distance = norms(result["x"] - x, "l2")
    # Far nearer than another image is.
    assert np.median(distance) < 1.5
