"""Small models and closed forms that the tests share."""

import keras
import numpy as np


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
