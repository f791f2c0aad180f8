"""Parts of a network that are more than one layer."""

import keras
from keras import layers
from keras import ops


class Block:
    """Layers and how they are called: on symbols or on numbers.

    Args:
        name: What to call it in descriptions.
        layers: List of Keras layers, for a model to track.
        apply: Callable from a tensor to a tensor.
    """

    def __init__(self, name, layers, apply):
        self.name = name
        self.layers = layers
        self.apply = apply
        self.chained = False

    def __call__(self, h):
        return self.apply(h)


def chain(name, *used):
    """Layers one after another; a Sequential takes them one by one."""

    def apply(h):
        for layer in used:
            h = layer(h)
        return h

    block = Block(name, list(used), apply)
    block.chained = True
    return block


class Power(layers.Layer):
    """A layer whose call takes more than a tensor."""

    def call(self, x, p=1.0, negate=False):
        y = ops.sign(x) * ops.power(ops.abs(x) + 0.1, p)
        return -y if negate else y


class Scale(layers.Layer):
    """Two tensors, one of them by keyword."""

    def call(self, x, by=None):
        return x if by is None else x * ops.tanh(by)


class OwnDense(layers.Dense):
    """A subclass with a call of its own."""

    def call(self, x, training=None):
        return 2.0 * super().call(x) - 0.5


class OwnConvolution(layers.Conv2D):
    def call(self, x):
        return super().call(x[:, ::-1]) + 0.5


class OwnNormalization(layers.BatchNormalization):
    def call(self, x, training=None, mask=None):
        return 3.0 * super().call(x, training=training, mask=mask)


class OwnReLU(layers.ReLU):
    def call(self, x):
        return ops.abs(x - 0.2)


class OwnDropout(layers.Dropout):
    def call(self, x, training=False):
        return x * (0.5 if training else 2.0) - 0.1


class OwnWeights(layers.Layer):
    """Weights and arithmetic of its own."""

    def build(self, shape):
        self.scale = self.add_weight(shape=shape[-1:], name="scale")
        self.shift = self.add_weight(shape=shape[-1:], name="shift")

    def call(self, x):
        scale = ops.cast(self.scale, x.dtype)
        return x * scale + ops.cast(self.shift, x.dtype)


class Noise(layers.Layer):
    """Random at inference as well."""

    def __init__(self, **options):
        super().__init__(**options)
        self.seed = keras.random.SeedGenerator(1)

    def call(self, x):
        noise = keras.random.normal(ops.shape(x), seed=self.seed)
        return x + 0.3 * ops.cast(noise, x.dtype)


def call_argument(d, shape):
    layer = Power()
    options = d.choice(
        [{"p": 3.0}, {"p": 2.0, "negate": True}, {"negate": True}]
    )
    if d.flip():
        return Block(
            f"Power()(h, {options})", [layer], lambda h: layer(h, **options)
        )
    first = layers.Dense(shape[-1])
    scale = Scale()
    return Block(
        "Scale()(h, by=Dense()(h))",
        [first, scale],
        lambda h: scale(h, by=first(h)),
    )


def raw_operations(d, shape):
    """Arithmetic and functions without a layer around them."""
    axis = len(shape)
    options = {
        "h * 2.0 - 0.5": lambda h: h * 2.0 - 0.5,
        "1.0 - h": lambda h: 1.0 - h,
        "ops.tanh(h) + h": lambda h: ops.tanh(h) + h,
        "h[:, ::-1]": lambda h: h[:, ::-1],
        "concatenate": lambda h: ops.concatenate([h, 0.5 * h], axis=axis),
        "ops.maximum(h, 0.3)": lambda h: ops.maximum(h, 0.3),
        "h / (1 + |h|)": lambda h: h / (1.0 + ops.abs(h)),
        "where": lambda h: ops.where(h > 0.4, h, 2.0 * h),
        "clip": lambda h: ops.clip(h, -0.5, 0.9),
        "transpose": lambda h: ops.transpose(
            h, (0, *range(axis - 1, 0, -1), axis)
        ),
        "flip": lambda h: ops.flip(h, axis=1),
        "sum of split": lambda h: sum(ops.split(h, [1], axis=1)[:1]) + h,
        "h - mean": lambda h: h - ops.mean(h, axis=-1, keepdims=True),
        "einsum": lambda h: ops.einsum("...a->...a", h) * 1.5,
        "power": lambda h: ops.power(ops.abs(h) + 0.1, 1.5),
    }
    name = d.choice(sorted(options))
    return Block(name, [], options[name])


def residual(d, shape):
    dense = layers.Dense(shape[-1], activation=d.choice([None, "relu"]))
    norm = layers.BatchNormalization()
    add = d.choice([layers.Add(), layers.Average(), layers.Subtract(), None])

    def apply(h):
        new = norm(dense(h))
        return h + new if add is None else add([h, new])

    merge = "h + ..." if add is None else type(add).__name__
    used = [dense, norm] + ([] if add is None else [add])
    return Block(f"residual ({merge}) of Dense, BatchNorm", used, apply)


def gate(d, shape):
    """Squeeze and excitation."""
    channels = shape[-1]
    small = layers.Dense(2, activation="relu")
    excite = layers.Dense(channels, activation="sigmoid")
    multiply = layers.Multiply()
    axes = tuple(range(1, len(shape)))

    def apply(h):
        squeezed = ops.mean(h, axis=axes, keepdims=True) if axes else h
        return multiply([h, excite(small(squeezed))])

    return Block("squeeze-and-excitation", [small, excite, multiply], apply)


def twice(d, shape):
    """One layer, called twice."""
    layer = d.choice(
        [
            layers.Dense(shape[-1], activation="tanh"),
            layers.BatchNormalization(),
            layers.Activation("sigmoid"),
        ]
    )
    return Block(
        f"{type(layer).__name__} called twice",
        [layer],
        lambda h: layer(layer(h)),
    )


def shared(d, shape):
    """One layer on two branches."""
    layer = layers.Dense(3)
    norm = layers.BatchNormalization()
    return Block(
        "Dense, BatchNorm shared by two branches",
        [layer, norm],
        lambda h: ops.concatenate([norm(layer(h)), layer(0.5 * h)], axis=-1),
    )


def branches(d, shape):
    first = layers.Dense(3, activation="relu")
    second = layers.Dense(3, use_bias=False)
    norm = layers.BatchNormalization()
    kinds = [layers.Add, layers.Average, layers.Maximum, layers.Minimum]
    kinds += [layers.Multiply, layers.Subtract, layers.Concatenate]
    merge = d.choice(kinds)()
    return Block(
        f"two branches, {type(merge).__name__}",
        [first, second, norm, merge],
        lambda h: merge([first(h), norm(second(h))]),
    )


def other_reader(d, shape):
    """What a BatchNorm normalizes is read by another as well."""
    dense = layers.Dense(shape[-1])
    norm = layers.BatchNormalization()

    def apply(h):
        raw = dense(h)
        return norm(raw) + raw

    return Block("BatchNorm(z) + z of a Dense z", [dense, norm], apply)


def inner_model(d, shape):
    """A model inside, called twice."""
    inputs = keras.Input(shape)
    h = layers.Dense(shape[-1], activation="tanh")(inputs)
    inner = keras.Model(inputs, layers.BatchNormalization()(h))
    return Block("a model called twice", [inner], lambda h: inner(inner(h)))


def own_subclass(d, shape):
    kinds = [OwnNormalization, OwnReLU, OwnDropout, OwnWeights, OwnDense]
    if len(shape) == 3:
        kinds.append(OwnConvolution)
    kind = d.choice(kinds)
    if kind is OwnDropout:
        return kind(0.5)
    if kind is OwnDense:
        return kind(3)
    return kind(3, 1) if kind is OwnConvolution else kind()


def attention(kind):
    def make(d, shape):
        layer = kind()
        return Block(
            f"{kind.__name__}([h, h])", [layer], lambda h: layer([h, h])
        )

    return make


def multi_head(d, shape):
    layer = layers.MultiHeadAttention(2, 2)
    causal = d.flip()
    return Block(
        f"MultiHeadAttention()(h, h, use_causal_mask={causal})",
        [layer],
        lambda h: layer(h, h, use_causal_mask=causal),
    )


def grouped(d, shape):
    layer = layers.GroupQueryAttention(2, 2, 1)
    return Block("GroupQueryAttention()(h, h)", [layer], lambda h: layer(h, h))


def merging(kind):
    def make(d, shape):
        layer = kind()
        return Block(
            f"{kind.__name__}([h, tanh(h)])",
            [layer],
            lambda h: layer([h, ops.tanh(h)]),
        )

    return make


def dot(d, shape):
    layer = layers.Dot(axes=(2, 2), normalize=d.flip())
    return Block("Dot([h, h])", [layer], lambda h: layer([h, h]))


def masked(d, shape):
    mask = layers.Masking(0.0)
    reader = d.choice([layers.LSTM, layers.GRU])(3, return_sequences=True)
    return chain("Masking, recurrent", mask, reader)


def folded_pair(d, shape):
    """What a library may want to fold."""
    rank = len(shape) - 1
    activation = d.choice([None, None, None, "linear", "relu"])
    options = {"activation": activation, "use_bias": d.flip()}
    size = min(shape[:-1]) if rank else 0
    if size >= 2:
        kinds = {1: layers.Conv1D, 2: layers.Conv2D, 3: layers.Conv3D}
        paddings = ["same", "valid"] + ["causal"] * (rank == 1)
        options["padding"] = d.choice(paddings)
        stretch = d.choice([{}, {"strides": 2}, {"dilation_rate": 2}])
        if size < 4 or rank == 3:
            stretch = {}
        first = kinds[rank](d.integer(2, 3), 2, **options, **stretch)
    else:
        first = layers.Dense(d.integer(3, 5), **options)
    norm = layers.BatchNormalization(
        axis=d.choice([-1, -1, -1, 1]), scale=d.flip(0.8), center=d.flip(0.8)
    )
    relu = d.choice([layers.ReLU(), layers.LeakyReLU(), layers.Dropout(0.5)])
    return chain("folded pair", first, norm, relu)


def conv_lstm_3d(d, shape):
    first = layers.Reshape((1, *shape))
    return chain("ConvLSTM3D", first, layers.ConvLSTM3D(2, 2, padding="same"))


# For any kind of tensor.
ANY = {
    "call argument": call_argument,
    "raw operations": raw_operations,
    "residual": residual,
    "gate": gate,
    "twice": twice,
    "shared": shared,
    "branches": branches,
    "other reader": other_reader,
    "inner model": inner_model,
    "own subclass": own_subclass,
    "folded pair": folded_pair,
}
