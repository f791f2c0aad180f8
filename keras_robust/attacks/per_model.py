"""What is made once for each model: views, compiled functions."""

import weakref

import numpy as np
from keras import ops

from keras_robust import backend
from keras_robust.attacks.frozen import FrozenLogits
from keras_robust.attacks.frozen import FrozenModel
from keras_robust.models.parts import representation_view

# No attack looks at this draw of a randomized model.
PREDICTION_DRAW = 1_000_000
# Relative difference of logits that is rounding.
ROUNDING = 1e-3

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


def frozen_layer(model, layer):
    """The frozen outputs of one of a model's layers, found once."""

    def make():
        view = representation_view(model, layer)
        frozen = FrozenModel(view)
        # The view has no other owner than this function.
        return lambda x, draw=None, view=view: frozen(x, draw)

    return once_per_model(model, ("layer", layer), make)


def compiled_logits(model, x, from_logits):
    """The compiled frozen logits for images like `x`.

    Args:
        model: A built Keras classifier.
        x: Array or tensor of shape `(N, ...)`.
        from_logits: As in `PGDAttack`.

    Returns:
        Callable from `{"x": tensor, "draw": int}` to logits `(N, C)`.
    """
    logits = frozen_logits(model, from_logits)
    return once_per_model(
        model,
        ("compiled logits", from_logits, tuple(x.shape[1:])),
        lambda: backend.compile(
            lambda inputs: logits(inputs["x"], inputs["draw"]),
            model.variables,
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
        outputs = compiled_logits(model, x, from_logits)(
            {"x": few, "draw": ops.zeros((), "int32")}
        )
        logits = ops.convert_to_numpy(outputs)
        return frozen_logits(model, from_logits).check(logits)

    return once_per_model(model, ("classes", from_logits), look)


def predict_logits(model, x, batch_size, from_logits, draw=PREDICTION_DRAW):
    """Logits in inference mode.

    Args:
        model: A built Keras classifier.
        x: NumPy array `(N, ...)`.
        batch_size: Int >= 1.
        from_logits: As in `PGDAttack`.
        draw: Int, which draw of a randomized model's noise.

    Returns:
        Float32 array `(N, C)`.
    """
    predict = compiled_logits(model, x, from_logits)
    logits = []
    for start in range(0, len(x), batch_size):
        batch = np.asarray(x[start : start + batch_size], "float32")
        missing = batch_size - len(batch) if start else 0
        if missing:
            batch = np.concatenate([batch, batch[:1].repeat(missing, 0)])
        # Each batch has its own noise.
        number = ops.convert_to_tensor(draw + start // batch_size, "int32")
        outputs = predict({"x": ops.convert_to_tensor(batch), "draw": number})
        logits.append(ops.convert_to_numpy(outputs)[: len(x) - start])
    return np.concatenate(logits)


def is_randomized(model, x, from_logits):
    """Whether two draws of a model's noise differ, found out once.

    Args:
        model: A built Keras classifier.
        x: Images, shape `(N, ...)`, N >= 1.
        from_logits: As in `PGDAttack`.

    Returns:
        Bool.
    """

    def look():
        few = ops.convert_to_numpy(x[:8])
        first, second = (
            predict_logits(model, few, 8, from_logits, PREDICTION_DRAW + draw)
            for draw in (0, 1)
        )
        spread = np.abs(first).max()
        return bool(np.abs(first - second).max() > ROUNDING * spread)

    return once_per_model(model, ("randomized", from_logits), look)
