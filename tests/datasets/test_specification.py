import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_robust as kr
from keras_robust.datasets import DataSpecification

Y = np.array([0, 1, 2, 0])


def images(dtype="float32", shape=(4, 6, 6, 1)):
    random = np.random.default_rng(0)
    x = random.random(shape)
    x.reshape(-1)[:2] = 0, 1
    return (255 * x).round().astype(dtype) if dtype == "uint8" else x


def saved(folder, **arrays):
    path = folder / "images.npz"
    np.savez(path, **arrays)
    return path


def read(path, *arguments, **options):
    return DataSpecification(str(path)).read(*arguments, **options)


def write_folder(folder, sizes=((5, 7),), classes=("cat", "dog"), count=3):
    """Image files by class; returns their pixels by class."""
    random = np.random.default_rng(0)
    pixels = {}
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            size = sizes[number % len(sizes)]
            image = random.integers(0, 256, (*size, 3)).astype("uint8")
            keras.utils.save_img(
                folder / name / f"{number}.png",
                image,
                data_format="channels_last",
                scale=False,
            )
            pixels[name, number] = image
    return pixels


@pytest.mark.parametrize("names", [("x", "y"), ("images", "labels")])
def test_arrays(tmp_path, names):
    arrays = dict(zip(names, (images(), Y), strict=True))
    x, y, columns, class_names = read(saved(tmp_path, **arrays))
    np.testing.assert_array_equal(x, images().astype("float32"))
    np.testing.assert_array_equal(y, Y)
    assert x.dtype == "float32" and y.dtype == "int32"
    assert columns is class_names is None


def test_splits_of_a_file(tmp_path):
    path = saved(tmp_path, x=images(), y=Y, x_test=images()[:2], y_test=Y[:2])
    data = DataSpecification(str(path))
    assert len(data.read("test").x) == 2 and len(data.read("train").x) == 4
    both = data.load()
    assert len(both.train[0]) == 4 and len(both.test[0]) == 2
    assert both.class_names == ("0", "1", "2")


def test_bytes_stay_bytes_and_labels_may_be_one_hot(tmp_path):
    stored = images("uint8")
    x, y, columns, _ = read(saved(tmp_path, x=stored, y=np.eye(3)[Y]))
    np.testing.assert_array_equal(x, stored)
    assert x.dtype == "uint8" and columns == 3
    np.testing.assert_array_equal(y, Y)
    x = read(saved(tmp_path, x=stored.astype("int64"), y=Y)).x
    np.testing.assert_allclose(x, stored / 255, atol=1e-6)


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"a": Y}, "one of the pairs .* Received: .*with the arrays"),
        ({"x": images()}, r"with the arrays \['x'\]"),
        ({"x_train": images(), "y_train": Y}, "x_test and y_test.* Received"),
        ({"x": images(), "y": Y[:2]}, "4 images and 2 labels"),
        ({"x": images(), "y": Y - 1}, "class numbers"),
        ({"x": images() - 0.5, "y": Y}, r"in \[0, 1\] or 0 to 255"),
        ({"x": images() * np.nan, "y": Y}, "values in"),
        ({"x": images()[:0], "y": Y[:0]}, "N >= 1"),
        ({"x": Y, "y": Y}, r"shape \(4,\)"),
        ({"x": images().astype("O"), "y": Y}, r"'x'.*numpy.stack.*dtype obj"),
        ({"x": images(), "y": Y.astype("O")}, r"'y'.*of labels by.*dtype obj"),
        ({"x": (images() > 0.5).astype("uint8"), "y": Y}, "cast 0 and 1"),
        ({"x": 16 * images(), "y": Y}, r"divide them .* \[0, 16\]"),
    ],
)
def test_refused_arrays(tmp_path, arrays, message):
    with pytest.raises(ValueError, match=message):
        read(saved(tmp_path, **arrays))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_file(tmp_path, save):
    path = tmp_path / "images.npz"
    save(path, x=images(), y=Y)
    content = bytearray(path.read_bytes())
    content[200:400] = bytes(200)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="'x' of `--data`"):
        read(path)


def test_an_archive_of_something_else(tmp_path):
    path = tmp_path / "images.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", "no array")
        archive.writestr("y", "no array")
    with pytest.raises(ValueError, match="a file that is not one"):
        read(path)


def test_a_model_that_does_not_fit_is_refused_before_reading(
    tmp_path, monkeypatch
):
    path = saved(tmp_path, x=images(), y=np.eye(3)[Y])
    data = DataSpecification(str(path))
    assert data.layout().shape == (6, 6, 1)
    monkeypatch.setattr(
        "keras_robust.datasets.readers.NpzReader.read", lambda *_: 1 / 0
    )
    with pytest.raises(ValueError, match=r"shape \(6, 6, 1\).*--resize"):
        data.read(shape=(8, 8, 1))
    with pytest.raises(ValueError, match=r"\(6, 6, 1\) for .*\(6, 6, 3\)"):
        data.read(shape=(6, 6, 3), resize=True)
    with pytest.raises(ValueError, match="fixed shape"):
        data.read(shape=(None, None, 1), resize=True)
    with pytest.raises(ZeroDivisionError):
        data.read(shape=(None, 6, 1))


def test_an_axis_for_the_channel(tmp_path):
    path = saved(tmp_path, x=images()[..., 0], y=Y)
    with pytest.raises(ValueError, match=r"x\[..., None\]"):
        read(path, shape=(6, 6, 1))


def test_labels_are_of_the_model(tmp_path):
    path = saved(tmp_path, x=images(), y=Y + 1)
    with pytest.raises(ValueError, match="0 ... 2, .* from 1 to 3"):
        read(path, shape=(6, 6, 1), num_classes=3)
    path = saved(tmp_path, x=images(), y=np.eye(4)[Y])
    with pytest.raises(ValueError, match="3 classes .* 4 columns"):
        read(path, shape=(6, 6, 1), num_classes=3)


def test_resized_only_when_asked(tmp_path):
    constant = np.full((3, 4, 4, 3), 51, "uint8")
    path = saved(tmp_path, x=constant, y=Y[:3])
    x = read(path, shape=(8, 6, 3), resize=True).x
    assert x.shape == (3, 8, 6, 3) and x.dtype == "float32"
    np.testing.assert_allclose(x, 0.2, atol=1e-6)
    assert read(path, shape=(4, 4, 3), resize=True).x.dtype == "uint8"
    ramp = np.tile(np.linspace(0, 1, 4)[:, None, None], (1, 1, 4, 1))
    path = saved(tmp_path, x=ramp, y=Y[:1])
    doubled = read(path, shape=(8, 4, 1), resize=True).x[0, :, 0, 0]
    # Between the centers of the old pixels, which keep their distances.
    expected = np.interp(
        np.arange(8) / 2 - 0.25, np.arange(4), ramp[0, :, 0, 0]
    )
    np.testing.assert_allclose(doubled, expected, atol=1e-6)


def test_images_without_channels_are_not_resized(tmp_path):
    x, y = images(shape=(4, 6, 6)), Y
    path = saved(tmp_path, x_train=x, y_train=y, x_test=x, y_test=y)
    data = DataSpecification(str(path))
    assert data.load().train[0].shape == data.load((6, 6)).train[0].shape
    with pytest.raises(ValueError, match=r"\(N, H, W, C\).*\(4, 6, 6\)"):
        data.load((3, 3))


def test_a_folder(tmp_path):
    pixels = write_folder(tmp_path / "images")
    (tmp_path / "images" / ".cache").mkdir()
    (tmp_path / "images" / "notes.txt").write_text("none of a class")
    data = DataSpecification(str(tmp_path / "images"))
    assert data.name == "images"
    assert data.layout() == ((5, 7, 3), 2, ("cat", "dog"))
    x, y, _, names = data.read(shape=(5, 7, 3), num_classes=2)
    assert x.dtype == "uint8" and names == ("cat", "dog")
    found = {
        (names[label], image.tobytes())
        for image, label in zip(x, y, strict=True)
    }
    assert found == {(key[0], image.tobytes()) for key, image in pixels.items()}
    again = data.read()
    np.testing.assert_array_equal(again.x, x)
    # The first so many are not all of the first class.
    assert len(set(data.read(examples=4).y)) == 2


def test_a_folder_in_gray(tmp_path):
    write_folder(tmp_path)
    x = read(tmp_path, shape=(5, 7, 1)).x
    assert x.shape == (6, 5, 7, 1) and x.dtype == "uint8"
    with pytest.raises(ValueError, match=r"shape \(5, 7, 3\)"):
        read(tmp_path, shape=(5, 7, 2))


def test_a_folder_of_several_sizes(tmp_path):
    write_folder(tmp_path, sizes=((5, 7), (9, 4)))
    with pytest.raises(ValueError, match=r"one size.*--resize.*\(9, 4\)"):
        read(tmp_path)
    x = read(tmp_path, shape=(6, 6, 3), resize=True).x
    assert x.shape == (6, 6, 6, 3) and x.dtype == "float32"
    assert 0 <= x.min() < 0.2 and 0.8 < x.max() <= 1


@pytest.mark.parametrize("kept", [0, 100])
@pytest.mark.parametrize("name", ["cat/0.png", "dog/2.png"])
def test_a_damaged_file_is_named(tmp_path, name, kept):
    write_folder(tmp_path)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:kept])
    for options in ({}, {"shape": (4, 4, 3), "resize": True}):
        with pytest.raises(ValueError, match=f"decoded.*Received.*{name}"):
            read(tmp_path, **options)


def test_folders_of_splits(tmp_path):
    write_folder(tmp_path / "train", count=4)
    write_folder(tmp_path / "validation", count=2)
    data = DataSpecification(str(tmp_path))
    assert len(data.read("train").x) == 8 and len(data.read("test").x) == 4
    both = data.load()
    assert both.class_names == ("cat", "dog")
    assert both.train[0].dtype == "float32" and both.train[0].max() <= 1


def test_a_class_without_test_images_keeps_its_number(tmp_path):
    write_folder(tmp_path / "train", classes=("cat", "cow", "dog"))
    pixels = write_folder(tmp_path / "test", classes=("cat", "dog"))
    (tmp_path / "test" / "cow").mkdir()
    data = DataSpecification(str(tmp_path))
    x, y, _, names = data.read("test", num_classes=3, shape=(5, 7, 3))
    assert names == ("cat", "cow", "dog") and set(y) == {0, 2}
    assert {
        (names[label], image.tobytes())
        for image, label in zip(x, y, strict=True)
    } == {(key[0], image.tobytes()) for key, image in pixels.items()}
    assert set(data.load().test[1]) == {0, 2}
    write_folder(tmp_path / "test", classes=("ox",), count=1)
    with pytest.raises(ValueError, match=r"classes of the tr.*\['ox'\]"):
        data.read("test")


def test_a_folder_must_have_all_classes_of_the_model(tmp_path):
    """With one missing, others would have its number."""
    write_folder(tmp_path)
    data = DataSpecification(str(tmp_path))
    with pytest.raises(ValueError, match="each of the 3 classes of the model"):
        data.read(shape=(5, 7, 3), num_classes=3)


def test_one_gray_image_does_not_take_the_colors_of_others(tmp_path):
    pixels = write_folder(tmp_path)
    gray = np.full((5, 7, 1), 80, "uint8")
    keras.utils.save_img(
        tmp_path / "cat" / "0.png",
        gray,
        data_format="channels_last",
        scale=False,
    )
    data = DataSpecification(str(tmp_path))
    assert data.layout().shape == (5, 7, 3)
    x, _, _, _ = data.read()
    pixels["cat", 0] = gray.repeat(3, -1)
    assert {image.tobytes() for image in x} == {
        image.tobytes() for image in pixels.values()
    }


def test_gray_test_images_of_a_folder_with_colors(tmp_path):
    write_folder(tmp_path / "train")
    pixels = write_folder(tmp_path / "test")
    for label, number in pixels:
        keras.utils.save_img(
            tmp_path / "test" / label / f"{number}.png",
            np.full((5, 7, 1), 80, "uint8"),
            data_format="channels_last",
            scale=False,
        )
    found = DataSpecification(str(tmp_path)).load()
    assert found.train[0].shape[1:] == found.test[0].shape[1:] == (5, 7, 3)
    assert found.test[0] == pytest.approx(80 / 255)


def test_a_folder_without_classes(tmp_path):
    write_folder(tmp_path, classes=("only",))
    with pytest.raises(ValueError, match=r"for each class.*\['only'\]"):
        DataSpecification(str(tmp_path))


def test_folders_need_tensorflow(tmp_path, monkeypatch):
    write_folder(tmp_path)

    def fail(*_, **__):
        raise ImportError("no module named tensorflow")

    monkeypatch.setattr(keras.utils, "image_dataset_from_directory", fail)
    with pytest.raises(ValueError, match="TensorFlow installed"):
        read(tmp_path)


MODULE = """
import numpy as np
import keras_robust as kr

calls = []

def images(count=4, size=6):
    return np.full((count, size, size, 1), 0.5), np.arange(count) % 3

def pair():
    calls.append("pair")
    return images()

def both():
    return images(), images(2)

def named():
    return kr.datasets.ImageDataset(images(), images(2), ("a", "b", "c"))

def batches():
    return [images(), images(3)]

def stream():
    yield images()

def wrong():
    return 5

number = 5


def asks(split):
    return split
"""


@pytest.mark.parametrize(
    "names, splits",
    [
        (["x", "y"], ()),
        (["x_train", "y_train"], ("train",)),
        (["x_test", "y_test"], ("test",)),
        (["x_train", "y_train", "x_test", "y_test"], ("train", "test")),
    ],
)
def test_splits_and_classes_of_arrays(tmp_path, names, splits):
    """The classes of all parts count, whichever is read."""
    labels = [Y, np.array([0, 3, 1, 0])]
    arrays = {
        name: labels[number // 2] if name[0] == "y" else images()
        for number, name in enumerate(names)
    }
    data = DataSpecification(str(saved(tmp_path, **arrays)))
    assert data.splits == splits and data.is_split == (len(splits) == 2)
    split = splits[0] if splits else "train"
    assert data.count_classes(split) == (4 if len(splits) == 2 else 3)


def test_functions(tmp_path, monkeypatch):
    path = tmp_path / "own_data_of_a_test.py"
    path.write_text(MODULE)
    pair = DataSpecification(f"{path}:pair")
    assert pair.name == "pair" and pair.layout().shape is None
    with pytest.raises(ValueError, match=r"\(6, 6, 1\).*--resize.*\(8, 8, 1\)"):
        pair.read(shape=(8, 8, 1))
    pair.read()
    # Once, however often its images are read.
    assert sys.modules[path.stem].calls == ["pair"]
    assert len(read(f"{path}:both").x) == 2
    assert len(read(f"{path}:both", "train").x) == 4
    assert read(f"{path}:named").class_names == ("a", "b", "c")
    assert len(read(f"{path}:batches").x) == 7
    # A generator gives its images once, and they are needed twice.
    stream = DataSpecification(f"{path}:stream")
    assert len(stream.read(examples=1).x) == 1
    assert stream.count_classes() == 3 and stream.splits == ()
    assert kr.datasets.load(f"{path}:named").class_names == ("a", "b", "c")
    for text in (f"{path}:pair", f"{path}:batches"):
        with pytest.raises(ValueError, match="training and test images"):
            DataSpecification(text).load()
    monkeypatch.chdir(tmp_path)
    assert len(read(f"{path.stem}:pair").x) == 4
    assert str(tmp_path) not in sys.path


@pytest.mark.parametrize(
    "text, message",
    [
        ("own_data_of_a_test.py:pear", "Did you mean 'pair'.*no such name"),
        ("own_data_of_a_test.py:number", "not a function"),
        ("own_data_of_a_test.py:asks", "be called without arguments"),
        ("own_data_of_a_test.py:wrong", "must return .*Received: 5"),
        ("no_such_file.py:pair", "a file that is there"),
        ("no_such_module_here:pair", "can be imported"),
        ("no_such_file.npz", "nothing there"),
        ("digitts", "Did you mean 'digits'"),
        ("imges/test", "a folder with a subfolder"),
        ("", "named by a text"),
        ("tfds:no_such_set", "list_builders"),
        ("tfds:fashion_mnist:no_split", "must be one of .'train', 'test'."),
    ],
)
def test_mistakes(tmp_path, monkeypatch, text, message):
    (tmp_path / "own_data_of_a_test.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        read(text)


def test_a_module_that_lacks_a_module_says_so(tmp_path):
    path = tmp_path / "imports_what_is_missing.py"
    path.write_text("import no_such_module_here")
    with pytest.raises(ModuleNotFoundError, match="no_such_module_here"):
        DataSpecification(f"{path}:anything")
    assert path.stem not in sys.modules


def test_a_file_may_be_called_as_a_module_that_is_imported(tmp_path):
    path = tmp_path / "numpy.py"
    path.write_text("def own():\n    return [[[0.5]]] * 2, [0, 1]")
    assert read(f"{path}:own").x.shape == (2, 1, 1)
    assert Path(sys.modules["numpy"].__file__) != path


def test_sets_of_tfds():
    import tensorflow_datasets as tfds

    with tfds.testing.mock_data(num_examples=5):
        data = DataSpecification("tfds:kmnist")
        assert data.layout()[:2] == ((28, 28, 1), 10)
        x, y, _, names = data.read("train", shape=(28, 28, 1), num_classes=10)
        assert x.shape == (5, 28, 28, 1) and x.dtype == "uint8"
        assert len(names) == 10
        assert kr.datasets.load("kmnist").train[0].dtype == "float32"
        part = DataSpecification("tfds:cats_vs_dogs:4.0.1:train[80%:]")
        assert part.layout()[:2] == ((None, None, 3), 2)
        with pytest.raises(ValueError, match="--resize"):
            part.read(shape=(20, 20, 3))
        x = part.read(shape=(20, 20, 3), resize=True).x
        assert x.shape[1:] == (20, 20, 3) and x.dtype == "float32"
        with pytest.raises(ValueError, match="training and test"):
            part.load()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_set_of_tfds_of_several_sizes(tmp_path, dtype):
    """Pixels of bytes are divided by 255, those in [0, 1] are not."""
    import tensorflow_datasets as tfds

    sizes, value = ((4, 5), (6, 3)), 51 if dtype is np.uint8 else 0.2

    class Sizes(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            image = tfds.features.Tensor(
                shape=(None, None, 1), dtype=dtype, encoding="bytes"
            )
            return self.dataset_info_from_configs(
                features=tfds.features.FeaturesDict(
                    {
                        "image": image,
                        "label": tfds.features.ClassLabel(num_classes=2),
                    }
                ),
                supervised_keys=("image", "label"),
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for number, size in enumerate(sizes):
                image = np.full(size + (1,), value, dtype)
                yield number, {"image": image, "label": number}

    builder = Sizes(data_dir=tmp_path)
    builder.download_and_prepare()
    x = DataSpecification(str(builder.data_path)).read(
        shape=(4, 4, 1), resize=True
    )[0]
    np.testing.assert_allclose(x, np.full((2, 4, 4, 1), 0.2), atol=1e-6)


def test_no_classification_set():
    with pytest.raises(ValueError, match="image classification set"):
        DataSpecification("tfds:coco")


def test_a_generated_set(tmp_path):
    transform = kr.Shortcut(3, "random", seed=0)
    x = images(shape=(12, 6, 6, 1)).astype("float32")
    kr.datasets.generate(
        transform, (x, np.arange(12) % 3), tmp_path, name="mine", verbose=0
    )
    (folder,) = tmp_path.glob("mine/*/1.0.0")
    data = DataSpecification(str(folder))
    assert data.layout().shape == (6, 6, 1)
    made = data.read("train")
    assert made.x.shape == x.shape and made.class_names == ("0", "1", "2")
