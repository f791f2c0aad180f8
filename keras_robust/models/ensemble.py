"""An average of several classifiers."""

from typing import Any

import keras

from keras_robust.classifier import inner_model
from keras_robust.classifier.graph import shows_graph
from keras_robust.classifier.head import find_head


def ensemble(models: Any, name: str = "ensemble") -> keras.Model:
    """A classifier whose logits are the mean of its members'.

    An attack on it fools all members at once. The logits of the members,
    `(N, members, C)`, are the outputs of its layer `"members"`, for a loss that
    reads them separately: `PGDAttack(loss=..., layer="members")`.

    Args:
        models: Functional or sequential Keras classifiers, also those in an
            `AdversarialModel`, with the same input shape and number of
            classes, which return logits.
        name: Name of the model.

    Returns:
        A functional `keras.Model` that shares the members' weights.

    Raises:
        ValueError: If there is no model, their shapes differ or are not known,
            or one does not return logits.

    Example:

    ```python
    both = keras_robust.models.ensemble([first, second])
    x_adv = keras_robust.PGDAttack(epsilon=0.5)(both, x, y)
    ```
    """
    models = [inner_model(model) for model in models]
    hidden = [model.name for model in models if not shows_graph(model)]
    if hidden:
        raise ValueError(
            "Argument `models` must be functional or sequential models, whose "
            f"shapes are known. Received: models {hidden} that are not"
        )
    shapes = {(m.input_shape[1:], m.output_shape[1:]) for m in models}
    if len(shapes) != 1:
        raise ValueError(
            "Argument `models` must be classifiers of one input and output "
            f"shape. Received: {len(models)} models of shapes {shapes}"
        )
    for model in models:
        last = find_head(model).kind
        if last in ("softmax", "sigmoid"):
            raise ValueError(
                "Argument `models` must give logits: a mean of logits and "
                "probabilities means nothing. "
                f"Received: model {model.name!r} ending in {last}"
            )
    if len({m.name for m in models}) < len(models):
        # Keras allows each name only once in a model.
        models = [
            keras.Model(m.inputs, m.outputs[0], name=f"member_{i}")
            for i, m in enumerate(models)
        ]
    ((shape, (classes,)),) = shapes
    inputs = keras.Input(shape)
    rows = [keras.layers.Reshape((1, classes))(m(inputs)) for m in models]
    stacked = keras.layers.Concatenate(axis=1, name="members")(rows)
    outputs = keras.layers.GlobalAveragePooling1D(name="logits")(stacked)
    return keras.Model(inputs, outputs, name=name)
