import numpy as np

from keras_robust.datasets import load
from keras_robust.datasets import restricted_imagenet


def test_class_table():
    """Sizes of the nine ranges of the paper's Table 2."""
    table = restricted_imagenet.class_table()
    kept = table[table >= 0]
    assert np.bincount(kept).tolist() == [118, 5, 3, 5, 21, 18, 9, 4, 20]
    assert restricted_imagenet.CLASS_NAMES[table[285]] == "cat"
    assert table[286] == table[150] == -1


def test_on_mock_data():
    import tensorflow_datasets as tfds

    with tfds.testing.mock_data(num_examples=40):
        data = load("restricted_imagenet")
        pairs = list(data.train.as_numpy_iterator())
    assert 0 < len(pairs) < 40 and len(data.class_names) == 9
    for image, label in pairs:
        assert image.shape == (224, 224, 3) and image.dtype == np.float32
        assert image.min() >= 0 and image.max() <= 1
        assert 0 <= label < 9


def test_labels_follow_the_table():
    import tensorflow as tf

    labels = [0, 30, 151, 284, 399, 319]
    images = np.zeros((6, 300, 280, 3), "uint8")
    dataset = tf.data.Dataset.from_tensor_slices((images, labels))
    out = [int(y) for _, y in restricted_imagenet.regroup(dataset)]
    assert out == [2, 0, 1, 8]
