"""The model whose features a transform takes."""

from typing import Any

import keras
import numpy as np

from keras_robust.classifier import Classifier
from keras_robust.classifier import check_built
from keras_robust.classifier import inner_model
from keras_robust.classifier.graph import output_structure
from keras_robust.classifier.graph import shows_graph
from keras_robust.utils import checks
from keras_robust.utils.messages import shown


def source_classifier(model: Any, **options: Any) -> Classifier:
    """The classifier whose features a transform takes.

    Args:
        model: A built Keras model, or an `AdversarialModel`.
        **options: See `Classifier.of`.

    Returns:
        `Classifier`.

    Raises:
        ValueError: If it is not a built Keras model, has several inputs, or
            several outputs of which none is chosen.
    """
    model = inner_model(model)
    check_built(model)
    inputs = getattr(model, "inputs", None) or []
    if len(inputs) > 1:
        raise ValueError(
            "Argument `model` must have one input, the images: transforms have "
            "nothing to give to others. Received: model "
            f"{model.name!r} with the inputs {[one.name for one in inputs]}"
        )
    output, names = options.get("output"), _output_names(model)
    is_known = output in names or output in range(-len(names), len(names))
    if len(names) > 1 and not is_known:
        raise ValueError(
            f"Argument `output` must choose one of the outputs {names} of "
            f"model {model.name!r}. Received: output={shown(output)}"
        )
    if isinstance(options.get("scaling"), list):
        options["scaling"] = tuple(options["scaling"])
    return Classifier.of(model, **options)


def _output_names(model: keras.Model) -> list[str]:
    if not shows_graph(model):
        return []
    structure = output_structure(model)
    if isinstance(structure, dict):
        return list(structure)
    return list(getattr(model, "output_names", None) or [])


def resolve_range(value_range: Any, classifier: Classifier) -> tuple[Any, Any]:
    """The range of pixels as `(low, high)`.

    Args:
        value_range: `(low, high)`, or `"auto"` for the one that the first
            layers of the model show.
        classifier: The source of the features.

    Returns:
        Two floats, or two float32 arrays with an axis for the examples.

    Raises:
        ValueError: If it is not a range, or contradicts the scaling.
    """
    checked = checks.check_value_range(value_range)
    if isinstance(checked, str):
        return classifier.value_range()
    scaling = classifier.outputs.scaling
    if scaling is not None and checked != (0.0, 1.0):
        raise ValueError(
            "Argument `value_range` must be (0, 1) where `scaling` is given: "
            "images are then in [0, 1]. Received: "
            f"value_range={shown(value_range)}, scaling={scaling.name!r}"
        )
    low, high = checked
    return low, high


def default_step(value_range: tuple[Any, Any]) -> float | None:
    """A tenth of the width of a range, the paper's step for pixels in [0, 1].

    Args:
        value_range: `(low, high)`.

    Returns:
        Float; `None` if the range has no one width.
    """
    low, high = value_range
    width = np.unique(np.asarray(high, "float64") - low)
    if len(width) != 1 or not np.isfinite(width).all():
        return None
    return float(width[0]) / 10
