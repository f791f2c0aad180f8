"""Random images and labels for a case, in every form that users have."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from .draws import Draw
from .draws import level

IMAGE_FORMS = ("float32", "float32", "float64", "tensor")
LABEL_FORMS = (
    *("int32", "int64", "uint8", "column", "one-hot", "whole floats"),
    *("tensor", "list", "one-hot integers"),
)
SOURCES = (
    *("arrays", "arrays", "tensors", "tf.data", "PyDataset", "batches"),
    *("generator", "numbers"),
)


@dataclass
class Data:
    """Images and labels of a case.

    Args:
        x: NumPy arrays as the model takes them.
        y: Int array `(N,)`.
        user_x: The same, in the form in which an attack gets it.
        user_y: The same.
        source: Function without arguments: the data of an evaluation.
        lines: What it is, in words.
    """

    x: Any
    y: np.ndarray
    user_x: Any
    user_y: Any
    source: Any
    lines: list

    @property
    def image(self):
        """The input that is attacked, NumPy."""
        return attacked_part(self.x)


def attacked_part(x):
    if isinstance(x, dict):
        return x["image"]
    return x[1] if isinstance(x, list) else x


def with_attacked(x, image):
    """The structure of `x` with another image."""
    if isinstance(x, dict):
        return {**x, "image": image}
    return [x[0], image] if isinstance(x, list) else image


def random_inputs(case):
    """Images in the box, a third of them on its edges; other inputs."""
    random = Draw(case.seed, "images").random
    low, high = case.value_range
    count = int(random.integers(4, 11))
    image = random.uniform(low, high, (count, *case.shape))
    edges = random.integers(0, 2, image.shape) * (high - low) + low
    third = count // 3
    image[:third] = np.where(
        random.random(image[:third].shape) < 0.5, edges[:third], image[:third]
    )
    image = np.round(image) if "int" in case.dtype else image
    image = image.astype(case.dtype)
    if case.held is None:
        return image
    shape = (count, *case.held.shape)
    other = random.integers(0, 5, shape)
    if "float" in case.held.dtype:
        other = random.normal(size=shape)
    other = other.astype(case.held.dtype)
    if case.inputs == "dict":
        return {"image": image, "other": other}
    return [other, image]


def random_data(case, x, labels):
    """Data whose labels are the model's own for half of the images.

    Args:
        case: A `Case`.
        x: What `random_inputs` gave.
        labels: Int array, what the model says.
    """
    d = Draw(case.seed, "labels")
    wrong = d.random.random(len(labels)) < 0.4
    random = d.random.integers(0, case.classes, len(labels))
    y = np.where(wrong, random, labels).astype("int32")
    image_form = level(case.seed, "image form", IMAGE_FORMS)
    label_form = level(case.seed, "label form", LABEL_FORMS)
    if "int" in case.dtype and image_form != "tensor":
        # As it is, or as floats that hold whole numbers.
        image_form = level(case.seed, "integers", (case.dtype, "float32"))
    source = level(case.seed, "source", SOURCES)
    if source == "tf.data" and keras.backend.backend() != "tensorflow":
        source = "batches"
    if source == "numbers" and case.held is not None:
        source = "arrays"
    return Data(
        x=x,
        y=y,
        user_x=with_attacked(x, in_form(attacked_part(x), image_form)),
        user_y=labels_in_form(y, label_form, case.classes),
        source=lambda: make_source(
            source, x, labels_in_form(y, label_form, case.classes)
        ),
        lines=[
            f"{len(y)} examples, images: {image_form}, labels: {label_form}, "
            f"evaluated from: {source}"
        ],
    )


def in_form(image, form):
    if form == "tensor":
        return ops.convert_to_tensor(image)
    return image.astype(form)


def labels_in_form(y, form, classes):
    """Labels as users have them."""
    if form == "column":
        return y[:, None]
    if form.startswith("one-hot"):
        kind = "int64" if "integers" in form else "float32"
        return np.eye(classes, dtype=kind)[y]
    if form == "whole floats":
        return y.astype("float32")
    if form == "tensor":
        return ops.convert_to_tensor(y)
    return y.tolist() if form == "list" else y.astype(form)


def make_source(kind, x, y):
    """What an evaluation is given."""
    if kind == "arrays":
        return x, y
    if kind == "tensors":
        tensors = keras.tree.map_structure(ops.convert_to_tensor, x)
        return tensors, ops.convert_to_tensor(y)
    if kind == "numbers":
        return x.tolist(), y if isinstance(y, list) else _numbers(y)
    y = np.asarray(ops.convert_to_numpy(y) if ops.is_tensor(y) else y)
    if kind == "tf.data":
        import tensorflow as tf

        whole = tuple(x) if isinstance(x, list) else x
        return tf.data.Dataset.from_tensor_slices((whole, y)).batch(4)
    batches = [_rows(x, y, start) for start in range(0, len(y), 4)]
    if kind == "generator":
        return (batch for batch in batches)
    return Batches(batches) if kind == "PyDataset" else batches


def _numbers(y):
    return (ops.convert_to_numpy(y) if ops.is_tensor(y) else y).tolist()


def _rows(x, y, start):
    part = slice(start, start + 4)
    return keras.tree.map_structure(lambda a: a[part], x), y[part]


class Batches(keras.utils.PyDataset):
    def __init__(self, batches):
        super().__init__()
        self._batches = batches

    def __len__(self):
        return len(self._batches)

    def __getitem__(self, index):
        return self._batches[index]


def attack_options(case, quick=False):
    """Options of a short PGD whose best iterate is kept."""
    d = Draw(case.seed, "attack")
    on_jax = keras.backend.backend() == "jax"
    low, high = case.value_range
    norm = level(case.seed, "norm", ("linf", "linf", "l2", "l2", "l1"))
    entries = np.prod(case.shape)
    share = {"linf": 0.08, "l2": 0.05 * entries**0.5, "l1": 0.03 * entries}
    epsilon = round(float(share[norm] * (high - low)), 4)
    return {
        "norm": norm,
        "epsilon": epsilon,
        # JAX on CPU compiles every step.
        "steps": 1 if on_jax and quick else d.choice([1, 2, 2, 3]),
        "step_size": epsilon / 2,
        "keep_best": True,
        "value_range": (low, high),
        "batch_size": 3 if d.flip(0.1) else 128,
    }
