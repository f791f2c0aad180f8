"""What is made once for each model: views, compiled functions."""

import weakref

from keras import ops

from keras_robust import backend
from keras_robust.attacks.frozen import FrozenLogits

# model -> {key: what was made for it}; dropped with the model.
_MADE = weakref.WeakKeyDictionary()


def once_per_model(model, key, make):
    """`make()`, made once for each model and key."""
    made = _MADE.setdefault(model, {})
    if key not in made:
        made[key] = make()
    return made[key]


def frozen_logits(model, from_logits):
    """The frozen logits of a model, found once."""
    return once_per_model(
        model,
        ("logits", from_logits),
        lambda: FrozenLogits(model, from_logits),
    )


def compiled_logits(model, x, from_logits):
    """The compiled frozen logits for images like `x`.

    Args:
        model: A built Keras classifier.
        x: Array or tensor of shape `(N, ...)`.
        from_logits: As in `PGDAttack`.

    Returns:
        Callable from `{"x": tensor}` to logits `(N, C)`.
    """
    logits = frozen_logits(model, from_logits)
    return once_per_model(
        model,
        ("compiled logits", from_logits, tuple(x.shape[1:])),
        lambda: backend.compile(
            lambda inputs: logits(inputs["x"]), model.variables
        ),
    )


def count_classes(model, x, from_logits):
    """The number of classes, after a look at what the outputs are, once.

    Args:
        model: A built Keras classifier.
        x: Images, shape `(N, ...)`, N >= 1.
        from_logits: As in `PGDAttack`.

    Returns:
        C.

    Raises:
        ValueError: See `FrozenLogits.check`.
    """

    def look():
        few = ops.cast(ops.convert_to_tensor(x[:8]), "float32")
        outputs = compiled_logits(model, x, from_logits)({"x": few})
        logits = ops.convert_to_numpy(outputs)
        return frozen_logits(model, from_logits).check(logits)

    return once_per_model(model, ("classes", from_logits), look)
