import itertools
import json
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

import keras_robust as kr
from keras_robust import backend
from keras_robust.datasets import Generation
from keras_robust.datasets import generate
from tests.datasets.generation.helpers import contents
from tests.datasets.generation.helpers import to_rand
from tests.helpers import make_cnn

READ = """
import sys
import numpy as np
import tensorflow_datasets as tfds
directory, name = sys.argv[1:]
data = tfds.load(name, data_dir=directory, split="train", as_supervised=True)
images, labels = zip(*data.as_numpy_iterator())
np.savez(directory + "/read.npz", images=images, labels=labels)
assert not any(key.startswith("keras_robust") for key in sys.modules)
"""


@pytest.fixture(scope="module")
def source():
    random = np.random.default_rng(7)
    x = random.random((50, 6, 6, 2), dtype="float32")
    return x, np.arange(50, dtype="int32") % 3


@pytest.fixture(scope="module")
def model():
    return make_cnn()


def records(directory, name):
    import tensorflow_datasets as tfds

    data = tfds.load(name, data_dir=directory, split="train")
    return list(data.as_numpy_iterator())


def test_it_is_what_the_transform_gives(model, source, tmp_path):
    x, y = source
    done = generate(to_rand(model), source, tmp_path, shard_size=20, verbose=0)
    assert done["finished"] and done["images"] == 50
    x_n, t, details = to_rand(model)(x, y, verbose=0, return_details=True)
    read = records(tmp_path, "constructed_images/rand")
    for key, column in {
        "id": np.arange(50),
        "image": x_n,
        "label": t,
        "original_label": y,
        "start_id": np.full(50, -1),
        "distance": details["distance"],
        "success": details["success"],
    }.items():
        made = np.array([example[key] for example in read])
        np.testing.assert_allclose(made, column, atol=1e-6, err_msg=key)
    found = json.loads((done["directory"] / "description.json").read_text())
    assert found["statistics"]["class_counts"] == np.bincount(t).tolist()
    assert found["statistics"]["label_is_original"] == (t == y).sum()
    assert found["backend"] == backend.name
    assert [shard["examples"] for shard in found["shards"]] == [20, 20, 10]


@pytest.mark.parametrize("start", ["image", "noise"])
def test_robust_ones_know_their_start(model, source, tmp_path, start):
    x, y = source
    options = {"steps": 3, "seed": 5, "start": start, "batch_size": 8}
    transform = kr.Robustifier(model, **options)
    generate(transform, source, tmp_path, shard_size=25, verbose=0)
    read = records(tmp_path, "constructed_images/robust")
    images = np.array([example["image"] for example in read])
    np.testing.assert_allclose(images, transform(x, verbose=0), atol=1e-6)
    ids = np.array([example["start_id"] for example in read])
    expected = np.full(50, -1)
    if start == "image":
        expected = transform.draw_index(50)
    np.testing.assert_array_equal(ids, expected)


@pytest.mark.slow_on_jax
@pytest.mark.thorough
def test_read_without_this_package(model, source, tmp_path):
    generate(
        to_rand(model), source, tmp_path, dtype="uint8", name="mine", verbose=0
    )
    done = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path), "mine/rand"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    read = np.load(tmp_path / "read.npz")
    x_n, t = to_rand(model)(*source, verbose=0)
    np.testing.assert_array_equal(read["labels"], t)
    expected = np.round(255 * x_n)
    # Rounding a half depends on the last bit.
    assert read["images"].dtype == np.uint8
    assert np.abs(read["images"] - expected).max() <= 1
    assert (read["images"] == expected).mean() > 0.999


def test_array_records_are_read_at_random(model, source, tmp_path):
    import tensorflow_datasets as tfds

    generate(
        to_rand(model),
        source,
        tmp_path,
        file_format="array_record",
        shard_size=20,
        verbose=0,
    )
    data = tfds.data_source(
        "constructed_images/rand", data_dir=tmp_path, split="train"
    )
    x_n, t = to_rand(model)(*source, verbose=0)
    for row in (49, 0, 23):
        np.testing.assert_allclose(data[row]["image"], x_n[row], atol=1e-6)
        assert data[row]["label"] == t[row] and data[row]["id"] == row


@pytest.mark.slow_on_jax
def test_batches_and_shards_do_not_matter(model, source, tmp_path):
    images = []
    for batch_size, shard_size in ((8, 20), (50, 50), (3, 7)):
        folder = tmp_path / f"{batch_size}"
        generate(
            to_rand(model, batch_size=batch_size),
            source,
            folder,
            shard_size=shard_size,
            verbose=0,
        )
        read = records(folder, "constructed_images/rand")
        images.append([example["image"] for example in read])
    np.testing.assert_allclose(images[1], images[0], atol=1e-5)
    np.testing.assert_allclose(images[2], images[0], atol=1e-5)


def test_a_damaged_or_missing_shard_is_made_again(model, source, tmp_path):
    def run():
        return generate(
            to_rand(model), source, tmp_path, shard_size=10, verbose=0
        )

    folder = run()["directory"]
    whole = contents(folder)
    shards = sorted(folder.glob("*.tfrecord-*"))
    cut = shards[1].read_bytes()
    shards[1].write_bytes(cut[:-5])
    altered = bytearray(shards[2].read_bytes())
    altered[len(altered) // 2] ^= 1
    shards[2].write_bytes(altered)
    shards[4].unlink()
    assert run()["images"] == 30
    assert contents(folder) == whole
    assert run()["images"] == 0


def test_another_configuration_is_refused(model, source, tmp_path):
    generate(to_rand(model), source, tmp_path, verbose=0)
    with pytest.raises(ValueError, match=r"arguments.epsilon was 0.5 and is 1"):
        generate(to_rand(model, epsilon=1.0), source, tmp_path, verbose=0)
    other = (source[0][::-1], source[1])
    with pytest.raises(ValueError, match=r"source.sha256 was"):
        generate(to_rand(model), other, tmp_path, verbose=0)
    with pytest.raises(ValueError, match=r"dtype was 'float32' and is 'uint8'"):
        generate(to_rand(model), source, tmp_path, dtype="uint8", verbose=0)
    changed = make_cnn()
    changed.variables[0].assign(changed.variables[0] + 1)
    with pytest.raises(ValueError, match=r"weights_sha256 was"):
        generate(to_rand(changed), source, tmp_path, verbose=0)
    # The same weights in another function.
    changed = make_cnn()
    changed.layers[1].activation = keras.activations.tanh
    with pytest.raises(ValueError, match=r"model.sha256 was") as error:
        generate(to_rand(changed), source, tmp_path, verbose=0)
    assert "weights_sha256" not in str(error.value)
    # Targets of another rule, which no argument shows.
    changed = to_rand(model)
    changed.draw_targets = lambda y, classes, random=None: y
    with pytest.raises(ValueError, match=r"plan.labels_sha256 was"):
        generate(changed, source, tmp_path, verbose=0)


def darker(factor):
    class Darker(kr.transforms.Transform):
        def make(self, batch):
            x = batch.images * np.float32(factor)
            distance = abs(batch.images - x).max((1, 2, 3))
            return {"x": x, "distance": distance, "success": distance > 0}

    return Darker(seed=0)


def test_other_code_of_a_transform_is_refused(source, tmp_path):
    """Its arguments are the same, and finished shards would be kept."""
    options = {"class_names": ["a", "b", "c"], "verbose": 0}
    assert generate(darker(0.5), source, tmp_path, **options)["images"] == 50
    assert generate(darker(0.5), source, tmp_path, **options)["images"] == 0
    with pytest.raises(ValueError, match="code_sha256 was"):
        generate(darker(0.25), source, tmp_path, **options)


def test_two_processes_on_one_folder(model, source, tmp_path):
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices(source).batch(16)
    generation = Generation(to_rand(model), dataset, tmp_path, shard_size=10)
    images = generation.source[np.arange(50)]
    with generation.shards.lock():
        other = tf.data.Dataset.from_tensors((source[0][::-1], source[1]))
        with pytest.raises(ValueError, match="sha256"):
            generate(to_rand(model), other, tmp_path, shard_size=10, verbose=0)
        # What the first one reads is still its own.
        np.testing.assert_array_equal(generation.source[np.arange(50)], images)
        with pytest.raises(RuntimeError, match="in use by another process"):
            generate(to_rand(model), source, tmp_path, shard_size=10, verbose=0)
    with generation.shards.lock("0 of 2"):
        with generation.shards.lock("1 of 2"):
            pass
        with pytest.raises(RuntimeError, match="in use"):
            with generation.shards.lock("0 of 2"):
                pass
        with pytest.raises(RuntimeError, match="in use"):
            with generation.shards.lock():
                pass


def test_workers_share_the_shards(model, source, tmp_path):
    alone = generate(
        to_rand(model), source, tmp_path / "a", shard_size=10, verbose=0
    )["directory"]
    options = {"shard_size": 10, "num_workers": 2, "verbose": 0}
    first = generate(
        to_rand(model), source, tmp_path / "b", worker=0, **options
    )
    assert first["images"] == 30 and not first["finished"]
    generation = Generation(
        to_rand(model), source, tmp_path / "b", shard_size=10
    )
    with pytest.raises(ValueError, match="2 of 5 missing, the first 1"):
        generation.finalize()
    generate(to_rand(model), source, tmp_path / "b", worker=1, **options)
    assert contents(generation.finalize()) == contents(alone)
    with pytest.raises(ValueError, match="worker=2, num_workers=2"):
        generate(
            to_rand(model), source, tmp_path / "c", worker=2, num_workers=2
        )


def test_a_full_disk(model, source, tmp_path, monkeypatch):
    """A limit on the size of files stands for the disk."""
    import resource

    options = {"shard_size": 10, "verbose": 0}
    whole = generate(to_rand(model), source, tmp_path / "whole", **options)[
        "directory"
    ]
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    small = min(path.stat().st_size for path in whole.glob("*.tfrecord-*"))
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (small - 100, hard))
        with pytest.raises(OSError, match="Shards that are finished are"):
            generate(to_rand(model), source, tmp_path / "full", **options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    state = tmp_path / "full" / "constructed_images/rand/1.0.0/generation"
    assert not list(state.glob("part-*"))
    folder = generate(to_rand(model), source, tmp_path / "full", **options)
    assert contents(folder["directory"]) == contents(whole)


def test_sources(model, source, tmp_path):
    import tensorflow as tf

    x, y = source
    dataset = tf.data.Dataset.from_tensor_slices((np.uint8(255 * x), y))
    done = generate(
        to_rand(model), dataset.batch(16), tmp_path, examples=30, verbose=0
    )
    x_n, _ = to_rand(model)(
        np.float32(np.uint8(255 * x)[:30]) / 255, y[:30], verbose=0
    )
    read = records(tmp_path, "constructed_images/rand")
    np.testing.assert_allclose(
        [example["image"] for example in read], x_n, atol=1e-6
    )
    # What was written to be read by row is gone.
    assert not list((done["directory"] / "generation").glob("source-*"))


def stored(directory, name):
    """Labels as stored, and how many classes TFDS knows."""
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=directory)
    labels = [example["label"] for example in records(directory, name)]
    return np.array(labels), builder.info.features["label"].num_classes


@pytest.mark.parametrize("target", ["random", "deterministic", "other"])
def test_classes_that_do_not_occur_are_classes(model, tmp_path, target):
    """The last class of three is in no image, but is a target."""
    x = np.random.default_rng(1).random((40, 6, 6, 2), dtype="float32")
    y = np.arange(40) % 2
    for transform in (
        to_rand(model, target=target),
        kr.Shortcut(3, target, seed=5),
    ):
        generate(transform, (x, y), tmp_path, name="few", verbose=0)
        made, classes = stored(tmp_path, f"few/{transform.config_name}")
        np.testing.assert_array_equal(made, transform(x, y)[1])
        assert classes == 3 and made.max() == 2
        if target == "deterministic":
            np.testing.assert_array_equal(made, y + 1)


def test_kept_labels_have_the_classes_of_the_model(model, tmp_path):
    x = np.random.default_rng(1).random((9, 6, 6, 2), dtype="float32")
    y = np.arange(9) % 2
    inversion = kr.Robustifier(model, steps=1, seed=0)
    for transform in (inversion, kr.Mixture(inversion, 0.5)):
        generate(transform, (x, y), tmp_path, name="few", verbose=0)
        made, classes = stored(tmp_path, f"few/{transform.config_name}")
        np.testing.assert_array_equal(made, y)
        assert classes == 3


def test_labels_beyond_the_classes(model, source, tmp_path):
    x, y = source
    options = {"verbose": 0, "shard_size": 50}
    with pytest.raises(ValueError, match=r"0 \.\.\. 2, the classes of the mod"):
        generate(to_rand(model), (x, y + 1), tmp_path, **options)
    with pytest.raises(ValueError, match="0 ... 4, the classes of the model"):
        generate(kr.Shortcut(5, seed=0), (x, y + 4), tmp_path, **options)
    # A source of features need not know the classes.
    inversion = kr.Robustifier(model, steps=1, seed=0)
    with pytest.raises(ValueError, match="class_names.* may name more"):
        generate(inversion, (x, y + 1), tmp_path, **options)
    assert not list(tmp_path.rglob("*.tfrecord*"))
    generate(
        inversion, (x, y + 1), tmp_path, class_names=list("abcd"), **options
    )
    made, classes = stored(tmp_path, "constructed_images/robust")
    np.testing.assert_array_equal(made, y + 1)
    assert classes == 4


def test_class_names(model, source, tmp_path):
    import tensorflow_datasets as tfds

    def names(**options):
        generate(to_rand(model), source, tmp_path, verbose=0, **options)
        name = f"{options['name']}/rand"
        info = tfds.builder(name, data_dir=tmp_path).info
        return info.features["original_label"].names

    assert names(name="none") == ["0", "1", "2"]
    assert names(name="all", class_names=("a", "b", "c")) == ["a", "b", "c"]
    # The model tells three apart.
    assert names(name="few", class_names=["a", "2"]) == ["a", "2", "class 2"]
    with pytest.raises(ValueError, match=r"class_names=\[1, 2, 3\]"):
        generate(to_rand(model), source, tmp_path, class_names=[1, 2, 3])


@pytest.mark.parametrize("form", ["column", "one_hot", "dataset"])
def test_forms_of_labels_and_pixels(model, source, tmp_path, form):
    """Labels `(N, 1)` and one-hot, pixels of uint8, dictionaries of TFDS."""
    import tensorflow as tf

    x, y = source
    data = {
        "column": (x, y[:, None]),
        "one_hot": (x, np.eye(3)[y]),
        "dataset": tf.data.Dataset.from_tensor_slices(
            {
                "image": np.uint8(np.round(255 * x)),
                "label": np.eye(3, dtype=bool)[y],
                "id": np.arange(50),
            }
        ).batch(16),
    }[form]
    expected = np.round(255 * x) / 255 if form == "dataset" else x
    generate(to_rand(model), data, tmp_path, verbose=0)
    read = records(tmp_path, "constructed_images/rand")
    x_n, t = to_rand(model)(np.float32(expected), y, verbose=0)
    made = [example["image"] for example in read]
    np.testing.assert_allclose(made, x_n, atol=1e-6)
    for key, column in (("label", t), ("original_label", y)):
        made = [example[key] for example in read]
        np.testing.assert_array_equal(made, column)
    if form == "one_hot":
        data = (x, np.eye(4)[y])
        with pytest.raises(ValueError, match="column for each of the 3"):
            generate(to_rand(model), data, tmp_path, name="wide", verbose=0)


def test_sources_that_are_refused(model, source, tmp_path):
    import tensorflow as tf

    class Unmeasured(keras.utils.PyDataset):
        def __getitem__(self, index):
            return x[:8], y[:8]

    x, y = source
    rows = tf.data.Dataset.from_tensor_slices
    inf = x.copy()
    inf[-1, 0, 0, 0] = np.nan
    for data, message in [
        (rows((x, y)).batch(8).repeat(), "must end after one pass.*endless"),
        (Unmeasured(), "must end after one pass.*no `num_batches`"),
        (rows((x, y)), r"call `\.batch\(128\)`.*\(6, 6, 2\)"),
        (rows((x, np.eye(3)[y])), "call `.batch"),
        (rows((x, y.astype(str))).batch(8), "labels of dtype string"),
        (rows(x).batch(8), r"of \(x, y\) batches"),
        ((x, y.astype(str)), "y.*dtype=<U"),
        ((x, y + 0.5), "class numbers.*with 0.5"),
        ((x, y - 1), "class numbers.*with -1"),
        ((x, np.full((50, 3), 1 / 3)), "one-hot.*with 0.33"),
        ((x, np.ones((50, 3))), "one-hot"),
        ((inf, y), "NaN"),
        ((x[:0], y[:0]), "must hold images. Received: none"),
        (((x[i], y[i]) for i in range(3)), "batch"),
    ]:
        with pytest.raises(ValueError, match=message) as error:
            generate(to_rand(model), data, tmp_path, verbose=0)
        assert "\n" not in str(error.value)
    # Nothing was made, and nothing that was read stays.
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    # An end by `examples` is one.
    endless = rows((x, y)).batch(8).repeat()
    done = generate(to_rand(model), endless, tmp_path, examples=60, verbose=0)
    assert done["images"] == 60


def test_a_generator_without_an_end_is_refused(model, source, tmp_path):
    x, y = source
    batches = [(x[:25], y[:25]), (x[25:], y[25:])]
    message = r"must end.*by `examples`.*Received: the same 2 batches.*1000"
    with pytest.raises(ValueError, match=message):
        generate(
            to_rand(model),
            # Ten times as many as it takes, so that the test ends.
            (batch for _ in range(200) for batch in batches),
            tmp_path,
            verbose=0,
        )
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    done = generate(
        to_rand(model),
        itertools.cycle(batches),
        tmp_path,
        examples=60,
        verbose=0,
    )
    assert done["images"] == 60


@pytest.mark.parametrize("examples", [-2, 0, 2.5])
def test_examples_are_a_count(model, source, tmp_path, examples):
    with pytest.raises(ValueError, match="`examples` must be an integer >= 1"):
        generate(to_rand(model), source, tmp_path, examples=examples)


def test_images_of_different_shapes(model, tmp_path):
    def batches():
        for size in (6, 6, 7):
            yield np.zeros((2, size, 6, 2), "float32"), np.zeros(2, int)

    with pytest.raises(ValueError, match=r"\(6, 6, 2\).*then \(7, 6, 2\)"):
        generate(to_rand(model), batches(), tmp_path, verbose=0)


@pytest.mark.parametrize(
    "key, value",
    [
        *(("name", name) for name in ("My Images", "MyImages", "my-images")),
        *(("name", name) for name in ("1st", "_a", "a.b", "a/b", "A", "a ")),
        *(("config", name) for name in ("a b", "a/b", "..", "a:b", "a\n")),
        *(("split", name) for name in ("train[:50%]", "all", "a b", "a+b")),
    ],
)
def test_names_that_tfds_cannot_read(model, source, tmp_path, key, value):
    """Found before anything is made."""
    transform = to_rand(model)
    transform.make = transform.plan = None
    with pytest.raises(ValueError, match=f"Argument `{key}` must") as error:
        generate(transform, source, tmp_path, verbose=0, **{key: value})
    assert repr(value) in str(error.value)
    assert not list(tmp_path.iterdir())


def test_names_that_tfds_can_read(source, tmp_path):
    import tensorflow_datasets as tfds

    shortcut = kr.Shortcut(3, seed=0)
    for name, config, split in (
        ("my_images2", "v1.5+a-b", "train"),
        ("s", "Rand", "my-split"),
    ):
        names = {"name": name, "config": config, "split": split}
        generate(shortcut, source, tmp_path, verbose=0, **names)
        data = tfds.load(f"{name}/{config}", data_dir=tmp_path, split=split)
        assert len(data) == 50


def test_errors(model, source, tmp_path):
    with pytest.raises(ValueError, match="seed=None"):
        generate(to_rand(model, seed=None), source, tmp_path)
    with pytest.raises(ValueError, match="dtype='float16'"):
        generate(to_rand(model), source, tmp_path, dtype="float16")
    with pytest.raises(ValueError, match="file_format='csv'"):
        generate(to_rand(model), source, tmp_path, file_format="csv")
    with pytest.raises(ValueError, match="shard_size=0"):
        generate(to_rand(model), source, tmp_path, shard_size=0)
    with pytest.raises(ValueError, match="50 images and 49 labels"):
        generate(to_rand(model), (source[0], source[1][1:]), tmp_path)
    with pytest.raises(ValueError, match="value_range"):
        generate(to_rand(model), (source[0] + 1, source[1]), tmp_path)
    assert not list(tmp_path.rglob("dataset_info.json"))


def command(folder, model):
    return [
        *(sys.executable, "-m", "keras_robust.cli", "generate", "rand"),
        *("--source", "digits", "--model", str(model), "--steps", "20"),
        *("--output", str(folder), "--shard-size", "100"),
        *("--examples", "1000", "--batch-size", "50"),
    ]


def stopped(folder, model, finished, wait, how):
    """Runs the command, stops it a moment after so many shards are done."""
    process = subprocess.Popen(
        command(folder.parents[2], model),
        stderr=subprocess.PIPE,
        text=True,
        # What a shell starts in the background ignores it, as do its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while len(list(folder.glob("generation/shard-*.json"))) < finished:
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(wait)
    process.send_signal(how)
    _, errors = process.communicate()
    return process.returncode, errors


@pytest.mark.on_one_backend
@pytest.mark.thorough
def test_stopped_at_any_moment_nothing_is_lost(tmp_path):
    path = tmp_path / "model.keras"
    model = kr.models.small_cnn((8, 8, 1), filters=(4,))
    model.save(path)
    folder = tmp_path / "stopped" / "constructed_digits/rand/1.0.0"
    status, errors = stopped(folder, path, 1, 0.0, signal.SIGINT)
    assert status == 130 and "run the same command to continue" in errors
    assert "Traceback" not in errors
    assert not list(folder.glob("generation/part-*"))
    status, _ = stopped(folder, path, 4, 0.08, signal.SIGKILL)
    assert status == -signal.SIGKILL
    left = len(list(folder.glob("*.tfrecord-*")))
    done = subprocess.run(
        command(tmp_path / "stopped", path), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    # It went on where it was.
    assert f"{1000 - 100 * left} images in" in done.stdout
    assert not list(folder.glob("generation/part-*"))
    whole = generate(
        kr.NonRobustifier(model, steps=20, batch_size=50, seed=0),
        "digits",
        tmp_path / "whole",
        shard_size=100,
        examples=1000,
        verbose=0,
    )["directory"]
    assert contents(folder) == contents(whole)
