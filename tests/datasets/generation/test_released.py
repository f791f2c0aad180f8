import numpy as np
import pytest

from keras_robust.datasets.generation.inspection import inspect
from keras_robust.datasets.generation.released import import_released


def test_all_four(tmp_path, rng):
    torch = pytest.importorskip("torch")
    import tensorflow_datasets as tfds

    released = {}
    for config, name in (
        ("robust", "d_robust_CIFAR"),
        ("non_robust", "d_non_robust_CIFAR"),
        ("rand", "drand_CIFAR"),
        ("det", "ddet_CIFAR"),
    ):
        images = rng.random((30, 3, 32, 32), dtype="float32")
        labels = rng.integers(0, 10, 30)
        released[config] = images, labels
        folder = tmp_path / "released" / name
        folder.mkdir(parents=True)
        # As in the archive: lists of tensors.
        torch.save(
            list(torch.from_numpy(images).split(12)), folder / "CIFAR_ims"
        )
        torch.save(
            list(torch.from_numpy(labels).split(12)), folder / "CIFAR_lab"
        )
    made = import_released(tmp_path / "released", tmp_path / "data", verbose=0)
    assert set(made) == set(released)
    for config, (images, labels) in released.items():
        data = tfds.load(
            f"released_cifar10/{config}", data_dir=tmp_path / "data"
        )["train"]
        read = list(data.as_numpy_iterator())
        stored = np.array([example["image"] for example in read])
        np.testing.assert_array_equal(stored, np.moveaxis(images, 1, -1))
        assert [example["label"] for example in read] == labels.tolist()
        original = [example["original_label"] for example in read]
        expected = {"rand": [-1] * 30, "det": ((labels - 1) % 10).tolist()}
        assert original == expected.get(config, labels.tolist())
        facts, checks = inspect(made[config], verbose=0)
        right = {"rand": "not known", "det": "0.00%"}
        assert facts["right labels"] == right.get(config, "100.00%")
        assert facts["distance"] == facts["success"] == "not known"
        assert all(passed for passed, _ in checks.values()), checks


def test_errors(tmp_path):
    pytest.importorskip("torch")
    with pytest.raises(FileNotFoundError, match="d_robust_CIFAR"):
        import_released(tmp_path, tmp_path / "data")
