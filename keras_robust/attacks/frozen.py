"""Models as frozen functions: inference mode, nothing in them moves."""

import threading
import weakref
from contextlib import contextmanager
from contextlib import nullcontext

import keras
from keras import ops

from keras_robust import backend
from keras_robust.models.folding import folded


def inner_model(model):
    """The plain model inside an `AdversarialModel`; other models unchanged."""
    return getattr(model, "attacked_model", model)


def check_built(model):
    """Raises unless `model` is a built `keras.Model`.

    Args:
        model: Any object.

    Raises:
        ValueError: If it is no Keras model or has no weights yet.
    """
    if not isinstance(model, keras.Model):
        raise ValueError(
            "Argument `model` must be a keras.Model. "
            f"Received: model={model!r} of type {type(model).__name__}"
        )
    if not model.built:
        raise ValueError(
            "Argument `model` must be built: call it once on a batch, or give "
            f"it an Input. Received: unbuilt model {model.name!r}"
        )


def call_frozen(model, x, draw=None):
    """`model(x)` in inference mode, with every state update thrown away.

    `training=False` is explicit, since a model called inside another one's
    `call` inherits `training=True`. The scope drops what is assigned to
    BatchNorm statistics and random seeds.

    Args:
        model: A built Keras model.
        x: Tensor of shape `(N, ...)`.
        draw: `None`, or an int (tensor) that is added to the counter of each
            `keras.random.SeedGenerator`: which draw of its noise a randomized
            model makes, since what it draws does not advance the counter.

    Returns:
        The output of the model.
    """
    with _frozen(model, draw):
        return model(x, training=False)


def _frozen(model, draw):
    """A scope in which the model's variables do not change."""
    mapping = []
    for variable in model.variables:
        value = variable.value
        if draw is not None and "seed_generator_state" in variable.name:
            step = ops.stack([0, STRIDE * ops.cast(draw, "int32")])
            value = value + ops.cast(step, variable.dtype)
        mapping.append((variable, value))
    return keras.StatelessScope(state_mapping=mapping, collect_losses=True)


def prepared(function):
    """A context in which frozen functions share work between their calls.

    Args:
        function: A `FrozenModel` or something made of one; for others nothing
            happens.
    """
    return getattr(function, "prepared", nullcontext)()


# Random numbers that one call of a layer may take before draws overlap.
STRIDE = 16


class FrozenModel:
    """A frozen function of a model, which it does not keep alive.

    Args:
        model: A built Keras model, held weakly so that a cache keyed by it
            can be dropped with it.
    """

    def __init__(self, model):
        self._model = weakref.ref(model)
        self._folded = folded(model) if backend.folds_batch_norm else None
        # Threads attack the same model.
        self._here = threading.local()

    def __call__(self, x, draw=None):
        """The output of the model at `x`, in inference mode."""
        if self._folded is None:
            return call_frozen(self._model(), x, draw)
        weights = getattr(self._here, "weights", None)
        if self._folded.pure:
            return self._folded(x, weights)
        with _frozen(self._model(), draw):
            return self._folded(x, weights)

    @contextmanager
    def prepared(self):
        """Calls inside share what depends on the weights alone."""
        if self._folded is not None:
            self._here.weights = self._folded.weights()
        try:
            yield
        finally:
            self._here.weights = None


class FrozenLogits(FrozenModel):
    """Logits of a classifier as a frozen function `x -> (N, C)`.

    A last activation of softmax or sigmoid is left out where the model shows
    it: in its last layer's `activation`, in a last `Softmax` layer, also in
    nested models. A single output `z` stands for the two logits `[0, z]`.

    Args:
        model: A built Keras model.
        from_logits: `None` to find out, `True` if the output is logits,
            `False` if it is probabilities (their logarithm is taken where the
            model does not show its activation).
    """

    def __init__(self, model, from_logits=None):
        layer = None if from_logits is True else _last_layer(model)
        kind = _activation(layer)
        self.known = kind is not None or from_logits is not None
        self.takes_log = from_logits is False and kind in (None, "linear")
        self.head = None
        if isinstance(layer, keras.layers.Softmax):
            if layer not in model.layers:
                raise ValueError(
                    "A Softmax layer inside a nested model cannot be left "
                    "out; use Activation('softmax'), or end in logits. "
                    f"Received: model {model.name!r}"
                )
            # A view made here has no other owner.
            model = self._view = keras.Model(model.inputs, layer.input)
        elif kind in ("softmax", "sigmoid"):
            self.head = layer
        super().__init__(model)

    def __call__(self, x, draw=None):
        """Logits of shape `(N, C)` in float32, C >= 2."""
        with _without_activation(self.head):
            outputs = super().__call__(x, draw)
        if not ops.is_tensor(outputs) or len(outputs.shape) != 2:
            raise ValueError(
                "A classifier must have one output of shape (N, C). "
                f"Received: output {getattr(outputs, 'shape', type(outputs))}"
            )
        outputs = ops.cast(outputs, "float32")
        single = outputs.shape[-1] == 1
        if self.takes_log:
            tiny = 1e-37
            positive = ops.log(ops.maximum(outputs, tiny))
            if not single:
                return positive
            negative = ops.log(ops.maximum(1 - outputs, tiny))
            return ops.concatenate([negative, positive], axis=-1)
        if single:
            outputs = ops.concatenate(
                [ops.zeros_like(outputs), outputs], axis=-1
            )
        return outputs

    def check(self, logits):
        """Finds the number of classes, and probabilities taken for logits.

        Args:
            logits: What the call gave for a few images: NumPy, `(N, C)`.

        Returns:
            The number of classes.

        Raises:
            ValueError: If the last layer does not tell what the output is and
                the output looks like probabilities, or is a single number.
        """
        if self.known:
            return logits.shape[-1]
        sums_to_one = abs(logits.sum(-1) - 1).max() < 1e-3
        probable = logits.min() >= 0 and logits.max() <= 1 and sums_to_one
        single = logits.shape[-1] == 2 and not logits[:, 0].any()
        if probable or single:
            raise ValueError(
                "The model must give logits, or end in a layer whose "
                "activation shows; this one ends in neither and its output "
                "looks like probabilities. Pass `from_logits=False` if it is, "
                "`from_logits=True` if it is not. "
                f"Received: outputs {logits[0]} for the first example"
            )
        return logits.shape[-1]


def _last_layer(model):
    """The layer that makes the output, searched through nested models."""
    while isinstance(model, keras.Model):
        layers = model.layers
        shows = isinstance(model, keras.Sequential) or (
            # A functional model: its last layer is the one with its output.
            getattr(model, "outputs", None) and len(model.outputs) == 1
        )
        if not shows or not layers:
            return None
        model = _producer(model, layers)
    return model


def _producer(model, layers):
    if isinstance(model, keras.Sequential):
        return layers[-1]
    output = model.outputs[0]
    for layer in reversed(layers):
        try:
            if layer.output is output:
                return layer
        except (AttributeError, ValueError):
            # A layer that was never called, or called more than once.
            continue
    return None


def _activation(layer):
    """`"softmax"`, `"sigmoid"`, `"linear"`, or `None`: it does not tell."""
    if isinstance(layer, keras.layers.Softmax):
        return "softmax"
    name = getattr(getattr(layer, "activation", None), "__name__", None)
    return name if name in ("softmax", "sigmoid", "linear") else None


@contextmanager
def _without_activation(layer):
    """Makes the layer linear while the model is traced or called."""
    if layer is None:
        yield
        return
    activation = layer.activation
    layer.activation = keras.activations.linear
    try:
        yield
    finally:
        layer.activation = activation
