"""The layers of a random network, from its input to a vector."""

import keras
from keras import layers

from . import blocks
from . import makers
from .blocks import Block
from .draws import Draw
from .draws import level
from .layer_table import TABLE
from .layer_table import available

KINDS = {1: "vector", 2: "sequence", 3: "image", 4: "volume"}
LARGEST = 150


class Part:
    """A layer or block that can be made again and again.

    Args:
        make: Callable without arguments.
        policy: Dtype policy, a name.
    """

    def __init__(self, make, policy):
        self._make = make
        self._policy = policy

    def __call__(self):
        with dtype_policy(self._policy):
            return self._make()


class dtype_policy:  # noqa: N801
    """A scope with another global dtype policy."""

    def __init__(self, name):
        self._name = name

    def __enter__(self):
        self._before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(self._name)

    def __exit__(self, *_):
        keras.config.set_dtype_policy(self._before)


class Body:
    """Parts in a row, whose shapes are known.

    Args:
        seed: Int.
        shape: Of the input, without the batch axis.
        policy: A dtype policy, or `"per layer"`.
    """

    def __init__(self, seed, shape, policy="float32"):
        self.seed = seed
        self.shape = tuple(shape)
        self.policy = policy
        self.parts = []

    @property
    def kind(self):
        return KINDS[len(self.shape)]

    def add(self, make, half=True):
        """Appends what `make(draw, shape)` gives, in 16 bit only if `half`."""
        number, shape = len(self.parts), self.shape
        policy = self.policy if half else "float32"
        if policy == "per layer":
            policies = ["float32", "mixed_bfloat16", "mixed_float16"]
            policy = Draw(self.seed, f"policy {number}").choice(policies)
        part = Part(
            lambda: make(Draw(self.seed, f"part {number}"), shape), policy
        )
        # Made for its shape alone: what is called here is not in the model.
        self.shape = tuple(part()(keras.Input(shape)).shape[1:])
        self.parts.append(part)

    def convert(self, kind, d):
        """Reshapes to another kind."""
        if kind in (self.kind, "any"):
            return
        if kind == "vector":
            self.to_vector(d)
        elif self.kind == "vector":
            sizes = {"sequence": (4, 2), "image": (4, 4, 1)}
            target = sizes.get(kind, (2, 2, 2, 2))
            units = 8 if kind == "sequence" else 16
            self.add(lambda d, shape: layers.Dense(units))
            self.add(lambda d, shape: layers.Reshape(target))
        else:
            self.add(lambda d, shape: layers.Reshape(_reshaped(shape, kind)))

    def channels(self, number):
        """Gives the last axis a length that a layer needs."""
        if self.shape[-1] != number:
            self.add(lambda d, shape: layers.Dense(number))

    def to_vector(self, d):
        """Flattens or pools; what is large is pooled first."""
        if self.kind == "vector":
            return
        rank = len(self.shape) - 1
        kinds = {
            1: [layers.GlobalAveragePooling1D, layers.GlobalMaxPooling1D],
            2: [layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D],
            3: [layers.GlobalAveragePooling3D, layers.GlobalMaxPooling3D],
        }
        size = 1
        for length in self.shape:
            size *= length
        if size <= LARGEST and d.flip(0.7):
            self.add(lambda d, shape: layers.Flatten())
        else:
            pool = d.choice(kinds[rank])
            self.add(lambda d, shape: pool())

    def feature(self, name, d):
        """Appends a layer of the table or a block, and what it needs."""
        if name in blocks.ANY:
            self.add(blocks.ANY[name])
            return
        entry = TABLE[name]
        self.convert(entry.takes, d)
        if entry.channels:
            self.channels(entry.channels)
        if entry.flat and d.flip():
            self.add(lambda d, shape: _beside(entry.make(d, shape)))
        else:
            self.add(entry.make, entry.half)


def _beside(layer):
    """A layer without a useful gradient, and a way around it."""
    cast = layers.Rescaling(1.0)
    return Block(
        f"h + {type(layer).__name__}(h)",
        [layer, cast],
        lambda h: cast(h) + cast(layer(h)),
    )


def _reshaped(shape, kind):
    if kind == "sequence":
        return (-1, shape[-1])
    if kind == "image":
        # From a sequence or a volume.
        return (*shape, 1) if len(shape) == 2 else (-1, *shape[2:])
    return (*shape, *(1,) * (4 - len(shape)))


def features():
    """All that one case can be about."""
    return [*available(), *blocks.ANY, *blocks.ANY]


def input_shape(seed, kind):
    """A small shape of a kind, without the batch axis."""
    d = Draw(seed, "shape")
    if kind == "vector":
        return (d.integer(4, 10),)
    if kind == "sequence":
        return (d.integer(4, 8), d.integer(1, 4))
    if kind == "image":
        return (d.integer(4, 8), d.integer(4, 8), d.integer(1, 3))
    return (d.integer(2, 3), d.integer(4, 5), d.integer(4, 5), d.integer(1, 2))


def draw_body(seed, feature, kind, policy, first=()):
    """A random network up to a vector.

    Args:
        seed: Int.
        feature: Name of a layer or block that must be in it.
        kind: Kind of the input.
        policy: As in `Body`.
        first: Functions `(draw, shape) -> layer` that come first.

    Returns:
        `Body`.
    """
    d = Draw(seed, "body")
    body = Body(seed, input_shape(seed, kind), policy)
    for make in first:
        body.add(make)
    if d.flip(0.4):
        body.add(blocks.folded_pair)
    if d.flip(0.3):
        body.feature(_extra(d, body.kind), d)
    body.feature(feature, d)
    if d.flip(0.3):
        body.feature(_extra(d, body.kind), d)
    if d.flip(0.3):
        body.add(blocks.folded_pair)
    body.to_vector(d)
    if d.flip(0.4):
        body.add(makers.dense)
    return body


def _extra(d, kind):
    names = [name for name in available(kind) if not TABLE[name].flat]
    return d.choice([*names, *blocks.ANY, *blocks.ANY])


def pick_feature(seed):
    return level(seed, "feature", features())
