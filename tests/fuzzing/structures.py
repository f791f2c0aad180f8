"""Ways to write one network as a Keras model."""

import keras
import numpy as np
from keras import layers
from keras import ops

from .blocks import Block


class Plan:
    """What a structure is made of.

    Args:
        body: List of `Part` from the attacked input to a vector.
        head: Function without arguments: a list of layers and blocks.
        shape: Of the attacked input.
        dtype: Of the attacked input.
        batch: `None`, or the fixed batch size.
        held: `None`, or a `Held`: another input.
        inputs: `"one"`, `"list"` or `"dict"`.
        outputs: `"one"`, `"list"` or `"dict"`.
        by_symbol: Whether a model without inputs is built by a call on Keras
            tensors, not on numbers.
    """

    def __init__(
        self,
        body,
        head,
        shape,
        dtype="float32",
        batch=None,
        held=None,
        inputs="one",
        outputs="one",
        by_symbol=False,
    ):
        self.body = body
        self.head = head
        self.shape = shape
        self.dtype = dtype
        self.batch = batch
        self.held = held
        self.inputs = inputs
        self.outputs = outputs
        self.by_symbol = by_symbol

    def input(self, shape=None, dtype=None, name="image"):
        """A new Keras Input."""
        shape = self.shape if shape is None else shape
        return keras.Input(
            batch_shape=(self.batch, *shape),
            dtype=dtype or self.dtype,
            name=name,
        )

    def parts(self):
        """New layers and blocks of the whole network."""
        return [*(part() for part in self.body), *self.head()]

    def simple(self):
        return self.inputs == "one" and self.outputs == "one"


class Held:
    """An input that stays fixed.

    Args:
        shape: Without the batch axis.
        dtype: String.
        parts: Function without arguments: layers up to a vector.
    """

    def __init__(self, shape, dtype, parts):
        self.shape = shape
        self.dtype = dtype
        self.parts = parts


def run(parts, h):
    for part in parts:
        h = part(h)
    return h


def tracked(parts):
    """The layers of parts, for a model to track."""
    found = []
    for part in parts:
        found += part.layers if isinstance(part, Block) else [part]
    return found


def functional(plan, kind=keras.Model):
    image = plan.input()
    if plan.simple():
        return kind(image, run(plan.parts(), image))
    h = run([part() for part in plan.body], image)
    inputs = image
    if plan.held:
        other = plan.input(plan.held.shape, plan.held.dtype, "other")
        joined = layers.Concatenate()
        h = joined([h, run(plan.held.parts(), other)])
        inputs = [other, image]
        if plan.inputs == "dict":
            inputs = {"image": image, "other": other}
    outputs = run(plan.head(), h)
    if plan.outputs != "one":
        second = layers.Dense(2, name="second")(h)
        outputs = {"label": outputs, "second": second}
    return kind(inputs, outputs)


def functional_subclass(plan):
    class Mine(keras.Model):
        """A subclass that is made of inputs and outputs."""

    return functional(plan, Mine)


def functional_subclass_call(plan):
    class Mine(keras.Model):
        """A subclass made of inputs and outputs, with a call of its own."""

        def call(self, x, training=None, mask=None):
            return super().call(ops.flip(x, axis=1), training=training)

    return functional(plan, Mine)


def keyword_subclass(plan):
    class Mine(keras.Model):
        """As Keras's guide writes it."""

        def __init__(self):
            image = plan.input()
            outputs = run(plan.parts(), image)
            super().__init__(inputs=image, outputs=outputs)

    return Mine()


def sequential(plan, kind=keras.Sequential):
    return _fill(kind([plan.input()]), plan.parts(), plan.shape, plan.batch)


def _fill(model, parts, shape, batch):
    """Adds parts to a Sequential whose input has this shape."""
    for part in parts:
        if model.layers:
            shape = model.output_shape[1:]
        for layer in _as_layers(part, shape, batch):
            model.add(layer)
    return model


def sequential_subclass(plan):
    class Mine(keras.Sequential):
        """A Sequential with a call of its own."""

        def call(self, x, training=None, mask=None):
            return super().call(ops.flip(x, axis=1), training=training)

    return sequential(plan, Mine)


def _as_layers(part, shape, batch=None):
    if not isinstance(part, Block):
        return [part]
    if part.chained:
        return part.layers
    inner = keras.Input(batch_shape=(batch, *shape))
    return [keras.Model(inner, part(inner))]


def subclassed(plan):
    class Mine(keras.Model):
        """Layers, and a call that Keras cannot look into."""

        def __init__(self):
            super().__init__()
            self.body = [part() for part in plan.body]
            self.head = plan.head()
            self.other = plan.held.parts() if plan.held else []
            self.second = layers.Dense(2) if plan.outputs != "one" else None
            self.used = tracked([*self.body, *self.head, *self.other])

        def call(self, inputs, training=None):
            image = inputs["image"] if plan.inputs == "dict" else inputs
            h = run(self.body, image)
            if plan.held:
                other = run(self.other, inputs["other"])
                h = ops.concatenate([ops.cast(h, other.dtype), other], axis=-1)
            outputs = run(self.head, h)
            if self.second is None:
                return outputs
            return {"label": outputs, "second": self.second(h)}

    model = Mine()
    example = plan.input()
    if plan.held:
        other = plan.input(plan.held.shape, plan.held.dtype, "other")
        example = {"image": example, "other": other}
    if not plan.by_symbol:
        example = keras.tree.map_structure(
            lambda symbol: np.zeros((2, *symbol.shape[1:]), symbol.dtype),
            example,
        )
    model(example)
    return model


def _split(plan):
    """An inner functional model of the body's second half."""
    parts = plan.parts()
    middle = max(len(parts) // 2, 1)
    return parts[:middle], parts[middle:]


def _inner_functional(parts, shape, dtype="float32", batch=None):
    inputs = keras.Input(batch_shape=(batch, *shape), dtype=dtype)
    return keras.Model(inputs, run(parts, inputs))


def _inner_sequential(parts, shape, dtype="float32", batch=None):
    inputs = keras.Input(batch_shape=(batch, *shape), dtype=dtype)
    return _fill(keras.Sequential([inputs]), parts, shape, batch)


def functional_in_sequential(plan):
    first, rest = _split(plan)
    model = keras.Sequential([plan.input()])
    model.add(_inner_functional(first, plan.shape, plan.dtype, plan.batch))
    shape = model.output_shape[1:]
    if rest:
        model.add(_inner_functional(rest, shape, batch=plan.batch))
    return model


def sequential_in_functional(plan):
    first, rest = _split(plan)
    inputs = plan.input()
    h = _inner_sequential(first, plan.shape, plan.dtype, plan.batch)(inputs)
    return keras.Model(inputs, run(rest, h))


def head_inside(plan):
    """The end of the network is the end of a Sequential inside."""
    first, rest = _split(plan)
    inputs = plan.input()
    h = run(first, inputs)
    if rest:
        h = _inner_sequential(rest, h.shape[1:], batch=plan.batch)(h)
    return keras.Model(inputs, h)


def two_levels(plan):
    first, rest = _split(plan)
    inner = _inner_sequential(first, plan.shape, plan.dtype, plan.batch)
    middle = plan.input()
    nested = keras.Model(middle, inner(middle))
    inputs = plan.input()
    h = nested(inputs)
    if rest:
        h = _inner_functional(rest, h.shape[1:], batch=plan.batch)(h)
    return keras.Model(inputs, h)


def rewired(plan):
    """As in transfer learning: layers of one model are called in another."""
    first, rest = _split(plan)
    base = _inner_functional(first, plan.shape, plan.dtype, plan.batch)
    inputs = plan.input()
    h = base(inputs)
    for part in rest:
        h = part(h)
    other = plan.input()
    # The same layers once more; the first model is forgotten.
    return keras.Model(other, run(rest, base(other)))


def view(plan):
    """A model that ends before another's last layer, and a new head."""
    image = plan.input()
    h = run([part() for part in plan.body], image)
    old = keras.Model(image, layers.Dense(3, activation="softmax")(h))
    return keras.Model(old.input, run(plan.head(), old.layers[-1].input))


STRUCTURES = {
    "functional": functional,
    "sequential": sequential,
    "subclassed": subclassed,
    "functional subclass": functional_subclass,
    "functional subclass, own call": functional_subclass_call,
    "functional subclass, by keyword": keyword_subclass,
    "sequential subclass, own call": sequential_subclass,
    "functional in sequential": functional_in_sequential,
    "sequential in functional": sequential_in_functional,
    "head inside": head_inside,
    "two levels": two_levels,
    "rewired": rewired,
    "view": view,
}
# Those that are written for several inputs and outputs.
SEVERAL = ("functional", "subclassed", "functional subclass")
