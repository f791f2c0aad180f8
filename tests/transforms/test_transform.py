"""What transforms have from their base class, and ones of a user's own."""

import pickle

import keras
import numpy as np
import pytest
from keras import ops

import keras_robust as kr
from keras_robust.datasets import generate
from keras_robust.transforms import Transform
from tests.helpers import batches
from tests.helpers import joined


@keras.saving.register_keras_serializable("test_transform")
class Noisy(Transform):
    """Noise by row, scaled by the label."""

    needs_labels = True

    def __init__(self, size, batch_size=4, seed=None):
        super().__init__(batch_size=batch_size, seed=seed)
        self.size = size
        self.sizes = []

    def make(self, batch):
        self.sizes.append(len(batch))
        noise = np.stack(
            [
                np.random.default_rng([self.seed, row]).random((6, 6, 2))
                for row in batch.rows
            ]
        ).astype("float32")
        length = self.size * np.asarray(batch.labels)[:, None, None, None]
        x = ops.convert_to_numpy(batch.images)
        made = np.clip(x + length * noise, 0, 1)
        distance = np.abs(made - x).max((1, 2, 3))
        return {"x": made, "distance": distance, "success": distance > 0}


class Shifted(Noisy):
    """New labels, drawn."""

    def draw_targets(self, y, num_classes, random=None):
        return (y + random.integers(1, num_classes, len(y))) % num_classes

    def count_classes(self, images):
        return 3


class Started(Transform):
    """Start images as they are."""

    uses_start_images = True

    def make(self, batch):
        assert batch.start.shape == batch.images.shape
        none = np.zeros(len(batch))
        return {"x": batch.start, "distance": none, "success": none == 0}


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(7)
    x = random.random((22, 6, 6, 2), dtype="float32")
    return x, np.arange(22, dtype="int32") % 3


def stored(directory, name):
    import tensorflow_datasets as tfds

    read = tfds.load(name, data_dir=directory, split="train")
    read = list(read.as_numpy_iterator())
    return {key: np.array([one[key] for one in read]) for key in read[0]}


@pytest.mark.parametrize("kind", [Noisy, Shifted])
def test_call_map_and_generate_give_the_same(data, tmp_path, kind):
    x, y = data
    transform = kind(0.1, seed=3)
    made, labels, details = transform(x, y, verbose=0, return_details=True)
    # By `batch_size`, the last one as large as what is left.
    assert transform.sizes == [4, 4, 4, 4, 4, 2]
    assert (np.abs(made - x).max((1, 2, 3)) > 0).sum() == (labels > 0).sum()
    np.testing.assert_array_equal(details["original_label"], y)
    assert (kind is Noisy) == bool((labels == y).all())
    mapped, found = joined(transform.map(batches(x, y, 5)))
    np.testing.assert_allclose(mapped, made, atol=1e-6)
    np.testing.assert_array_equal(found, labels)
    generate(
        transform,
        (x, y),
        tmp_path,
        shard_size=8,
        class_names=list("abc"),
        verbose=0,
    )
    read = stored(tmp_path, f"constructed_images/{kind.__name__.lower()}")
    np.testing.assert_allclose(read["image"], made, atol=1e-6)
    np.testing.assert_array_equal(read["label"], labels)
    np.testing.assert_array_equal(read["original_label"], y)
    np.testing.assert_allclose(read["distance"], details["distance"], atol=1e-6)


def test_start_images(data, tmp_path):
    x, y = data
    transform = Started(seed=3)
    made, details = transform(x, verbose=0, return_details=True)
    np.testing.assert_array_equal(made, x[details["start_index"]])
    generate(transform, (x, y), tmp_path, class_names=list("abc"), verbose=0)
    read = stored(tmp_path, "constructed_images/started")
    np.testing.assert_array_equal(read["image"], made)
    np.testing.assert_array_equal(read["start_id"], details["start_index"])


def test_tensors_stay_tensors_and_labels_as_they_are(data):
    x, y = data
    made = Started(seed=3)(ops.convert_to_tensor(x), verbose=0)
    assert ops.is_tensor(made)
    soft = np.full((22, 3), 1 / 3)
    made, labels = Started(seed=3)(x, soft, verbose=0)
    assert labels is soft
    made, labels = Noisy(0.1, seed=3)(x, np.eye(3)[y], verbose=0)
    assert labels.dtype == "int32" and isinstance(made, np.ndarray)


def test_configuration_and_pickle():
    transform = Noisy(0.1, seed=3)
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(transform)
    )
    for one in (again, pickle.loads(pickle.dumps(transform))):
        assert one.get_config() == {"size": 0.1, "batch_size": 4, "seed": 3}
    assert repr(again) == "Noisy(size=0.1, batch_size=4, seed=3)"


def test_mixture_of_ones_own(data):
    x, y = data
    mixture = kr.Mixture(Started(seed=3), 0.25)
    expected = 0.25 * Started(seed=3)(x, verbose=0) + 0.75 * x
    np.testing.assert_allclose(mixture(x, verbose=0), expected, atol=1e-6)
    for wrong in (Shifted(0.1), kr.Shortcut(3), "robust"):
        with pytest.raises(ValueError, match="`transform` must be a transform"):
            kr.Mixture(wrong, 0.5)


def test_registered_names():
    """Those that saved configurations hold."""
    for kind in (kr.Robustifier, kr.NonRobustifier, kr.Shortcut, kr.Mixture):
        name = keras.saving.get_registered_name(kind)
        assert name == f"keras_robust>{kind.__name__}"


def test_errors(data, tmp_path):
    x, y = data
    with pytest.raises(ValueError, match="y=None"):
        Noisy(0.1, seed=3)(x, verbose=0)

    class Unknown(Shifted):
        count_classes = Transform.count_classes

    with pytest.raises(ValueError, match="override `count_classes`"):
        Unknown(0.1, seed=3)(x, y, verbose=0)

    class Beyond(Shifted):
        def draw_targets(self, y, num_classes, random=None):
            return y + num_classes

    with pytest.raises(ValueError, match="`target` must lie in 0 ... 2"):
        Beyond(0.1, seed=3)(x, y, verbose=0)
    with pytest.raises(ValueError, match="transform='cifar10'"):
        generate("cifar10", (x, y), tmp_path)
    with pytest.raises(ValueError, match="batch_size=0"):
        Noisy(0.1, batch_size=0)
    with pytest.raises(ValueError, match="value_range='auto'"):
        Started("auto")
    with pytest.raises(TypeError, match="abstract"):
        Transform()


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda made: None, "dictionary.*Received: None"),
        (lambda made: {"x": made["x"]}, r"dictionary.*Received: \['x'\]"),
        (lambda made: {**made, "x": made["x"][:2]}, "`x` of shape"),
        (lambda made: {**made, "distance": np.ones(1)}, "`distance` of shape"),
        (lambda made: {**made, "success": True}, "`success` of shape"),
    ],
)
def test_what_make_returns_is_checked(data, tmp_path, change, message):
    """Fewer images than labels would come back without a word."""

    class Wrong(Noisy):
        def make(self, batch):
            return change(super().make(batch))

    x, y = data
    with pytest.raises(ValueError, match=f"Wrong.make must.*{message}"):
        Wrong(0.1, seed=0)(x, y, verbose=0)
    names = [str(label) for label in range(max(y) + 1)]
    with pytest.raises(ValueError, match=f"Wrong.make must.*{message}"):
        generate(
            Wrong(0.1, seed=0), (x, y), tmp_path, verbose=0, class_names=names
        )
