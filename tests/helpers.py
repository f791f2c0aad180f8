"""Small models, closed forms and runs that the tests share."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_robust import backend


def make_linear(weights, bias=None, shape=None):
    """Logits `x W + b` as a Keras model."""
    weights = np.asarray(weights, "float32")
    inputs = keras.Input(shape or weights.shape[:1])
    hidden = keras.layers.Flatten()(inputs) if shape else inputs
    model = keras.Model(inputs, keras.layers.Dense(weights.shape[1])(hidden))
    bias = np.zeros(weights.shape[1]) if bias is None else bias
    model.set_weights([weights, np.asarray(bias, "float32")])
    return model


def make_cnn(classes=3, activation=None, shape=(6, 6, 2)):
    """A convolution, BatchNorm with real statistics, a dense layer."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input(shape)
    h = keras.layers.Conv2D(4, 3)(inputs)
    h = keras.layers.BatchNormalization()(h)
    h = keras.layers.ReLU()(h)
    h = keras.layers.Dropout(0.5, seed=0)(h)
    h = keras.layers.GlobalAveragePooling2D()(h)
    outputs = keras.layers.Dense(classes, activation=activation)(h)
    model = keras.Model(inputs, outputs)
    random = np.random.default_rng(2)
    for variable in model.variables:
        if "seed" in variable.name:
            continue
        value = random.normal(size=variable.shape, scale=0.5)
        if "variance" in variable.name:
            value = np.abs(value) + 0.1
        variable.assign(value)
    return model


def norms(step, norm):
    flat = np.asarray(step, "float32").reshape(len(step), -1)
    order = {"l1": 1, "l2": 2, "linf": np.inf}[norm]
    return np.linalg.norm(flat, ord=order, axis=1)


def exact_accuracy(model, x, y, norm, epsilon, box=(0.0, 1.0)):
    """Robust accuracy of a linear model of two classes, in ball and box.

    The worst point moves along the weights; the box matters for L1 only, where
    a single pixel takes it all, so the next ones take what it cannot.
    """
    weights = model.get_weights()[0]
    flat = x.reshape(len(x), -1)
    w = (weights[:, 1] - weights[:, 0])[None] * np.where(y == 1, -1, 1)[:, None]
    margin = -(flat * w).sum(-1)
    room = np.where(w > 0, box[1] - flat, flat - box[0])
    size = np.abs(w)
    if norm == "linf":
        gain = (size * np.minimum(room, epsilon)).sum(-1)
    elif norm == "l2":
        gain = epsilon * np.linalg.norm(w, axis=-1)
        assert (
            epsilon * size / np.linalg.norm(w, axis=-1)[:, None] <= room
        ).all()
    else:
        order = np.argsort(-size, axis=-1)
        room = np.take_along_axis(room, order, -1)
        before = np.cumsum(room, -1) - room
        moved = np.clip(epsilon - before, 0, room)
        gain = (moved * np.take_along_axis(size, order, -1)).sum(-1)
    return (margin > gain).mean()


def exact_distances(model, x, y):
    """Distances of the right examples from a linear model's boundary."""
    weights = model.get_weights()[0]
    w = weights[:, 1] - weights[:, 0]
    margin = np.where(y == 1, 1, -1) * (x.reshape(len(x), -1) @ w)
    duals = {"l2": np.linalg.norm(w), "linf": np.abs(w).sum()}
    return {norm: np.maximum(margin, 0) / dual for norm, dual in duals.items()}


def foolbox_run(attack, model, x, y, epsilon):
    import foolbox

    if backend.name == "tensorflow":
        import tensorflow as tf

        wrapped = foolbox.TensorFlowModel(model, bounds=(0, 1), device="cpu:0")
        images, labels = tf.constant(x), tf.constant(y)
    elif backend.name == "jax":
        import jax.numpy as jnp

        wrapped = foolbox.JAXModel(
            lambda x: model(x, training=False), bounds=(0, 1)
        )
        images, labels = jnp.asarray(x), jnp.asarray(y)
    else:
        import torch

        wrapped = foolbox.PyTorchModel(model.eval(), bounds=(0, 1))
        images, labels = torch.from_numpy(x), torch.from_numpy(y)
    # Minimum-norm attacks know no radius.
    radius = {} if epsilon is None else {"epsilon": epsilon}
    result = attack(foolbox).run(wrapped, images, labels, **radius)
    if backend.name == "torch":
        result = result.detach()
    return np.asarray(result)


def run_python(script, *arguments, **environment):
    """Runs a script in a process of its own and returns what it printed."""
    done = subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        cwd=Path(script).parent,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def batches(x, y, size=8):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((x, y)).batch(size)


def joined(dataset):
    parts = zip(*dataset.as_numpy_iterator(), strict=True)
    return [np.concatenate(part) for part in parts]


def mostly_slow(names, *kept):
    """All of them, on JAX only a few by default: each compiles anew."""
    return [
        name
        if name in kept
        else pytest.param(name, marks=pytest.mark.slow_on_jax)
        for name in names
    ]


class OneBatch(keras.utils.PyDataset):
    """All examples as the one batch of a source that is not an array."""

    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.x, self.y


class Hidden(keras.Model):
    """A subclass, which shows neither graph nor outputs."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def call(self, inputs):
        return self.network(inputs)
