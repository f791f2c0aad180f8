"""How the layers of the table are made: arguments drawn to fit a shape.

Shapes come without the batch axis.
"""

import keras
from keras import layers
from keras import ops

PLAIN = ("relu", "tanh", "sigmoid", "elu", "gelu", "silu", "softplus", "selu")
RARE = (
    *("leaky_relu", "hard_sigmoid", "relu6", "mish", "softsign", "linear"),
    *("hard_silu", "exponential", "celu", "softmax", "log_softmax", "tanh"),
)


def activation(d):
    """A name, a function, a layer: what `activation` takes."""
    return d.choice(
        [
            None,
            None,
            d.choice(PLAIN),
            d.choice(RARE),
            keras.activations.tanh,
            ops.sigmoid,
            lambda x: 0.5 * x + ops.abs(x),
            layers.LeakyReLU(negative_slope=0.3),
        ]
    )


def convolution(d, shape):
    """Arguments of a convolution over `shape`, channels last."""
    size = min(shape[:-1])
    options = {
        "kernel_size": d.integer(1, min(3, size)),
        "padding": d.choice(["same", "valid"]),
        "activation": activation(d),
        "use_bias": d.flip(0.7),
    }
    if d.flip(0.3):
        options["strides"] = 2
    elif d.flip(0.3) and size >= 5:
        options["dilation_rate"] = 2
    return options


def conv_1d(d, shape):
    options = convolution(d, shape)
    if d.flip(0.4):
        options["padding"] = "causal"
    return layers.Conv1D(d.integer(2, 4), **options)


def conv_2d(d, shape):
    options = convolution(d, shape)
    if shape[-1] == 2 and d.flip():
        options["groups"] = 2
    return layers.Conv2D(2 * d.integer(1, 2), **options)


def conv_3d(d, shape):
    options = convolution(d, shape)
    # Keras has no gradient for strides and dilation in three dimensions on
    # every backend.
    options.pop("dilation_rate", None)
    return layers.Conv3D(2, **options)


def transposed(kind):
    """A transposed convolution; strides or dilation as they come."""

    def make(d, shape):
        options = convolution(d, shape)
        options.pop("dilation_rate", None)
        return kind(2, **options)

    return make


def separable(kind):
    def make(d, shape):
        options = convolution(d, shape)
        return kind(d.integer(2, 3), **options)

    return make


def depthwise(kind):
    def make(d, shape):
        options = convolution(d, shape)
        return kind(depth_multiplier=d.choice([1, 2]), **options)

    return make


def pooling(kind):
    def make(d, shape):
        padding = d.choice(["same", "valid"])
        if min(shape[:-1]) < 2:
            padding = "same"
        strides = d.choice([None, 1, 2])
        return kind(2, strides=strides, padding=padding)

    return make


def adaptive(kind):
    def make(d, shape):
        # Keras fails where 2 or 3 pixels are to become 1.
        sizes = [size // 2 if size > 3 else size for size in shape[:-1]]
        return kind(sizes[0] if len(sizes) == 1 else tuple(sizes))

    return make


def cropping(kind):
    def make(d, shape):
        rank = len(shape) - 1
        sides = [(0, 1 if size > 2 else 0) for size in shape[:rank]]
        return kind(sides[0] if rank == 1 else tuple(sides))

    return make


def global_pooling(kind):
    return lambda d, shape: kind()


def recurrent(kind):
    def make(d, shape):
        options = {"return_sequences": d.flip(), "go_backwards": d.flip(0.3)}
        return kind(d.integer(2, 3), **options)

    return make


def cell(d):
    kinds = (layers.SimpleRNNCell, layers.GRUCell, layers.LSTMCell)
    return d.choice(kinds)(d.integer(2, 3))


def rnn(d, shape):
    cells = cell(d)
    if d.flip():
        cells = layers.StackedRNNCells([cells, cell(d)])
    return layers.RNN(cells, return_sequences=d.flip())


def bidirectional(d, shape):
    inner = d.choice([layers.LSTM, layers.GRU])
    inner = inner(2, return_sequences=d.flip())
    mode = d.choice(["concat", "sum", "mul", "ave"])
    return layers.Bidirectional(inner, merge_mode=mode)


def conv_lstm(kind):
    return lambda d, shape: kind(
        2, 2, padding="same", return_sequences=d.flip()
    )


def batch_normalization(d, shape):
    return layers.BatchNormalization(
        axis=d.choice([-1, -1, -1, 1]),
        scale=d.flip(0.8),
        center=d.flip(0.8),
        epsilon=d.choice([1e-3, 0.1]),
    )


def normalization(d, shape):
    if d.flip():
        return layers.Normalization(mean=0.4, variance=0.3)
    layer = layers.Normalization(axis=-1)
    layer.adapt(d.random.random((6, *shape)).astype("float32"))
    return layer


def group_normalization(d, shape):
    return layers.GroupNormalization(groups=d.choice([1, shape[-1]]))


def layer_normalization(d, shape):
    axes = list(range(1, len(shape) + 1))
    return layers.LayerNormalization(axis=d.choice([-1, axes]))


def einsum_dense(d, shape):
    axes = "abcd"[: len(shape) - 1]
    return layers.EinsumDense(
        f"z{axes}x,xy->z{axes}y",
        output_shape=(*shape[:-1], 3),
        bias_axes="y",
        activation=activation(d),
    )


def dense(d, shape):
    return layers.Dense(
        d.integer(3, 8), activation=activation(d), use_bias=d.flip(0.8)
    )


def time_distributed(d, shape):
    return layers.TimeDistributed(dense(d, shape))


def spectral(d, shape):
    inner = layers.Conv2D(2, 2, padding="same")
    return layers.SpectralNormalization(inner)


def function(d, shape):
    return d.choice(
        [
            layers.Lambda(lambda x: x * x - 0.3),
            layers.Lambda(lambda x: ops.sin(3.0 * x), name="sine"),
        ]
    )


def permute(d, shape):
    order = list(range(1, len(shape) + 1))
    return layers.Permute(order[-2::-1] + order[-1:])


def reshape(d, shape):
    first, second, *rest = shape
    return layers.Reshape((second, first, *rest))


def any_activation(d, shape):
    chosen = activation(d) or d.choice(PLAIN + RARE)
    return layers.Activation(chosen)


def resizing(d, shape):
    methods = ["bilinear", "nearest", "bicubic"]
    return layers.Resizing(
        d.integer(3, 6), d.integer(3, 6), interpolation=d.choice(methods)
    )


def up_sampling(d, shape):
    return layers.UpSampling2D(
        2, interpolation=d.choice(["nearest", "bilinear"])
    )


def discretization(d, shape):
    return layers.Discretization([0.2, 0.4, 0.6, 0.8])


def pipeline(d, shape):
    return layers.Pipeline(
        [layers.Rescaling(2.0, -1.0), layers.RandomFlip(), layers.ReLU()]
    )


def center_crop(d, shape):
    return layers.CenterCrop(max(shape[0] - 1, 1), max(shape[1] - 2, 1))


def random_crop(d, shape):
    # In inference it crops nothing, and so does not give the shape that it
    # promises where that is another.
    return layers.RandomCrop(shape[0], shape[1])


def unit_range(kind, **options):
    """A preprocessing layer for pixels in [0, 1]."""
    return lambda d, shape: kind(value_range=(0, 1), **options)


def plain(kind, *arguments, **options):
    """A layer whose arguments do not depend on anything."""
    return lambda d, shape: kind(*arguments, **options)
