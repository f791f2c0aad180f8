"""Networks whose graph does not show at first sight what they compute.

The right-hand side of each test is the model called as Keras calls it.
"""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from tests.helpers import mostly_slow
from tests.situations.helpers import check
from tests.situations.helpers import digits
from tests.situations.helpers import fit_head
from tests.situations.helpers import network
from tests.situations.helpers import outputs_of
from tests.situations.helpers import settle

# Every model is compiled anew.
pytestmark = pytest.mark.slow


# Arguments of calls.


class Power(layers.Layer):
    def call(self, h, p=1.0):
        return ops.sign(h) * ops.abs(h) ** p


class Mix(layers.Layer):
    def call(self, a, b=None, share=0.5):
        return share * a - (1 - share) * b


class Weigh(layers.Layer):
    """Takes a list."""

    def call(self, inputs, factor=3.0):
        return inputs[0] - factor * inputs[1]


class FromDictionary(layers.Layer):
    def call(self, inputs):
        return inputs["a"] * 2 - inputs["b"]


class Sign(layers.Layer):
    """A switch between two functions in its call."""

    def call(self, h, flip=False, training=None):
        return -h if flip else h


def halves(h):
    return layers.Dense(16)(h), layers.Dense(16)(h)


def residual(h):
    first = layers.Dense(32, activation="relu")(h)
    return layers.Add()([first, layers.Dense(32)(first), first])


CALLS = {
    "keyword": lambda h: Power()(h, p=3.0),
    "power": lambda h: ops.power(h, 3.0),
    "power from the left": lambda h: ops.power(2.0, h),
    "operator power": lambda h: h**3,
    "minus from the left": lambda h: 1.0 - h * h,
    "operators": lambda h: (2.0 * h + 1.0) / (1.0 + ops.abs(h)),
    "slice": lambda h: h[:, 4:28],
    "roll": lambda h: h - 0.5 * ops.roll(h, 1, axis=-1),
    "clip": lambda h: ops.clip(h, -0.5, 0.7),
    "where": lambda h: ops.where(h > 0, h, -0.3 * h),
    "maximum": lambda h: ops.maximum(h, 0.2),
    "softmax on an axis": lambda h: ops.softmax(
        ops.reshape(h, (-1, 4, 8)), axis=1
    ),
    "sum of an axis": lambda h: ops.sum(ops.reshape(h * h, (-1, 4, 8)), axis=1),
    "leaky operation": lambda h: ops.leaky_relu(h, negative_slope=0.6),
    "concatenate": lambda h: ops.concatenate([h, ops.square(h)], axis=-1),
    "stack": lambda h: ops.stack(halves(h), axis=1),
    "list": lambda h: Weigh()(list(halves(h))),
    "list and keyword": lambda h: Weigh()(list(halves(h)), factor=-1.0),
    "two tensors": lambda h: Mix()(*halves(h), share=0.2),
    "keyword tensor": lambda h: (lambda a, b: Mix()(a, b=b))(*halves(h)),
    "dictionary": lambda h: FromDictionary()(
        dict(zip("ba", halves(h), strict=True))
    ),
    "subtract": lambda h: layers.Subtract()(list(halves(h))),
    "dot": lambda h: layers.Multiply()(
        [h, layers.Dot(axes=-1)(list(halves(h)))]
    ),
    "the same twice": lambda h: layers.Multiply()([h, h]),
    "residual": residual,
    "flag": lambda h: Sign()(h, flip=True),
    "training of a norm": lambda h: layers.BatchNormalization()(
        h, training=False
    ),
    "training of dropout": lambda h: layers.Dropout(0.5)(h, training=False),
    "constant tensor": lambda h: (
        h * ops.convert_to_tensor(np.linspace(-1, 1, 32), "float32")
    ),
    "einsum": lambda h: ops.einsum(
        "nij,nkj->nik", ops.reshape(h, (-1, 4, 8)), ops.reshape(h, (-1, 4, 8))
    ),
    "causal attention": lambda h: (
        lambda s: layers.MultiHeadAttention(2, 4)(s, s, use_causal_mask=True)
    )(layers.Reshape((4, 8))(h)),
    "attention": lambda h: layers.Attention(use_scale=True)(
        [layers.Reshape((4, 8))(h)] * 2
    ),
}


@pytest.mark.parametrize("name", mostly_slow(CALLS, "keyword", "power", "list"))
def test_arguments_of_calls(name):
    inputs = keras.Input((8, 8, 1))
    h = layers.Dense(32)(layers.Flatten()(inputs))
    h = layers.Flatten()(CALLS[name](h))
    model = fit_head(settle(keras.Model(inputs, layers.Dense(10)(h))))
    _, (x, _) = digits()
    check(model, x[:30])


def test_a_mask_travels_with_the_tensor():
    """Steps of zeros are left out of the mean by Keras's own masks."""
    random = np.random.default_rng(0)
    x = random.random((30, 6, 4), "float32")
    x[:, 4:] = 0
    x[::2, 3] = 0
    model = network(
        layers.Masking(0.0),
        layers.Dense(16, activation="tanh"),
        layers.GlobalAveragePooling1D(),
        layers.Dense(3),
        shape=(6, 4),
    )
    unmasked = network(*model.layers[1:], shape=(6, 4))
    assert np.abs(outputs_of(model, x) - outputs_of(unmasked, x)).max() > 0.01
    check(model, x)


# Convolutions in front of a BatchNormalization.

FOLDS = {
    "causal": ((20, 3), [layers.Conv1D, dict(padding="causal")], {}),
    "causal, dilated": (
        (20, 3),
        [layers.Conv1D, dict(padding="causal", dilation_rate=3)],
        {},
    ),
    "causal, strided": (
        (20, 3),
        [layers.Conv1D, dict(padding="causal", strides=2)],
        {},
    ),
    "causal, grouped": (
        (20, 4),
        [layers.Conv1D, dict(padding="causal", groups=2)],
        {},
    ),
    "valid": ((20, 3), [layers.Conv1D, dict(padding="valid")], {}),
    "same": ((20, 3), [layers.Conv1D, dict(padding="same")], {}),
    "1D on steps": ((20, 3), [layers.Conv1D, {}], dict(axis=1)),
    "2D, dilated": ((9, 9, 2), [layers.Conv2D, dict(dilation_rate=2)], {}),
    "2D, grouped": ((9, 9, 4), [layers.Conv2D, dict(groups=2)], {}),
    "2D on rows": ((9, 9, 2), [layers.Conv2D, {}], dict(axis=1)),
    "2D on columns": ((9, 9, 2), [layers.Conv2D, {}], dict(axis=2)),
    "2D, negative axis": ((9, 9, 2), [layers.Conv2D, {}], dict(axis=-2)),
    "2D, activation": ((9, 9, 2), [layers.Conv2D, dict(activation="relu")], {}),
    "2D, nothing learned": (
        (9, 9, 2),
        [layers.Conv2D, dict(use_bias=False)],
        dict(scale=False, center=False, epsilon=0.5),
    ),
    "2D, channels first": (
        (2, 9, 9),
        [layers.Conv2D, dict(data_format="channels_first")],
        dict(axis=1),
    ),
    "2D, channels first, last axis": (
        (2, 9, 9),
        [layers.Conv2D, dict(data_format="channels_first")],
        dict(axis=-1),
    ),
    "1D, channels first": (
        (3, 20),
        [layers.Conv1D, dict(data_format="channels_first")],
        dict(axis=1),
    ),
    "3D": ((5, 5, 5, 2), [layers.Conv3D, {}], {}),
    "3D on depth": ((5, 5, 5, 2), [layers.Conv3D, {}], dict(axis=1)),
}


@pytest.mark.parametrize(
    "name", mostly_slow(FOLDS, "causal", "2D, channels first", "1D on steps")
)
def test_convolutions_with_batch_normalization(name):
    shape, (kind, options), norm = FOLDS[name]
    first = options.get("data_format") == "channels_first"
    if first and keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow convolves channels first on GPUs only")
    model = network(
        kind(8, 3, **options),
        layers.BatchNormalization(**norm),
        layers.ReLU(),
        layers.Flatten(),
        layers.Dense(3),
        shape=shape,
    )
    x = np.random.default_rng(0).random((24, *shape), "float32")
    check(model, x, epsilon=1.0)


OTHERS = {
    "depthwise": lambda: [layers.DepthwiseConv2D(3, depth_multiplier=2)],
    "depthwise 1D": lambda: [
        layers.Reshape((8, 16)),
        layers.DepthwiseConv1D(3, padding="same"),
    ],
    "separable": lambda: [layers.SeparableConv2D(6, 3)],
    "transposed": lambda: [layers.Conv2DTranspose(4, 3, strides=2)],
    "dense on images": lambda: [layers.Dense(6)],
    "einsum": lambda: [layers.EinsumDense("abcd,de->abce", (8, 8, 6))],
    "spectral": lambda: [layers.SpectralNormalization(layers.Conv2D(4, 3))],
    "by time": lambda: [layers.TimeDistributed(layers.Conv1D(4, 3))],
    "behind a dropout": lambda: [layers.Conv2D(4, 3), layers.Dropout(0.5)],
    "behind a pool": lambda: [layers.Conv2D(4, 3), layers.MaxPooling2D()],
    "two norms": lambda: [layers.Conv2D(4, 3), layers.BatchNormalization()],
    "constrained": lambda: [
        layers.Conv2D(4, 3, kernel_constraint="max_norm", bias_constraint=None)
    ],
    "locally other axis": lambda: [layers.Dense(6), layers.Permute((3, 1, 2))],
    "group norm": lambda: [layers.Conv2D(4, 3), layers.GroupNormalization(2)],
    "layer norm": lambda: [layers.Conv2D(4, 3), layers.LayerNormalization()],
}


@pytest.mark.parametrize("name", mostly_slow(OTHERS, "depthwise", "spectral"))
def test_other_layers_with_batch_normalization(name):
    model = network(
        *OTHERS[name](),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Flatten(),
        layers.Dense(3),
        shape=(8, 8, 2),
    )
    x = np.random.default_rng(0).random((24, 8, 8, 2), "float32")
    check(model, x, epsilon=1.0)


def convolution_read_twice(h):
    h = layers.Conv2D(4, 3)(h)
    return layers.Add()([layers.BatchNormalization()(h), h])


def convolution_called_twice(h):
    convolution = layers.Conv2D(2, 3, padding="same")
    h = layers.BatchNormalization()(convolution(h))
    return layers.BatchNormalization()(convolution(h))


def norm_called_twice(h):
    norm = layers.BatchNormalization()
    first = norm(layers.Conv2D(4, 3)(h))
    return norm(layers.Conv2D(4, 3)(first))


def norm_with_a_mask(h):
    return layers.BatchNormalization()(layers.Conv2D(4, 3)(h), mask=None)


def convolution_also_an_output(h):
    """The branch of another model, which shares the layers."""
    h = layers.Conv2D(4, 3)(h)
    keras.Model(h, layers.BatchNormalization()(h))
    return layers.BatchNormalization()(h)


WIRINGS = [
    convolution_read_twice,
    convolution_called_twice,
    norm_called_twice,
    norm_with_a_mask,
    convolution_also_an_output,
]


@pytest.mark.parametrize("wire", mostly_slow(WIRINGS, convolution_called_twice))
def test_wirings_of_batch_normalization(wire):
    inputs = keras.Input((8, 8, 2))
    h = layers.Flatten()(layers.ReLU()(wire(inputs)))
    model = settle(keras.Model(inputs, layers.Dense(3)(h)))
    x = np.random.default_rng(0).random((24, 8, 8, 2), "float32")
    check(model, x, epsilon=1.0)
