"""The parts of a `Classifier`, created once for each model and options."""

import weakref
from dataclasses import dataclass
from dataclasses import field
from typing import Any
from typing import NamedTuple

import keras

from keras_robust.classifier.backward import Backward
from keras_robust.classifier.freshness import runs_user_code
from keras_robust.classifier.inputs import Inputs
from keras_robust.classifier.layer_search import LOOKUPS
from keras_robust.classifier.layer_search import find_layers
from keras_robust.classifier.logits import OwnOutputs
from keras_robust.classifier.logits import SearchLogits
from keras_robust.classifier.scaling import Scaling
from keras_robust.classifier.structure import Structure


class Options(NamedTuple):
    """The arguments of `Classifier.of` besides the model."""

    from_logits: bool | None
    attacked: str | int | None
    output: str | int | None
    scaling: Any
    backward: Backward | None = None


@dataclass
class Parts:
    """What all classifiers of one model with the same options share.

    None of it holds the model, so that it is dropped with the model.

    Attributes:
        inputs: Which of the inputs is attacked.
        outputs: The model's own outputs.
        logits: The logits that attacks differentiate.
        uncompiled: Names of layers with `supports_jit=False`.
        lookups: Names of layers that look up values.
        runs_user_code: Whether calls run code that is not Keras's.
        num_classes: The number of classes, once real inputs were checked.
        cache: Compiled functions and results by key.
    """

    inputs: Inputs
    outputs: OwnOutputs
    logits: SearchLogits
    uncompiled: list[str]
    lookups: list[str]
    runs_user_code: bool
    num_classes: int | None = None
    cache: dict[Any, Any] = field(default_factory=dict)


# The structure of each model and its parts by options, dropped with the model.
_PARTS: weakref.WeakKeyDictionary[
    keras.Model, tuple[Structure, dict[Options, Parts]]
] = weakref.WeakKeyDictionary()


def parts_of(model: keras.Model, options: Options) -> Parts:
    """The parts for a model, the same ones until its structure changes.

    Args:
        model: A built Keras model.
        options: Options of the classifier.
    """
    structure = Structure(model)
    if model not in _PARTS or _PARTS[model][0] != structure:
        _PARTS[model] = (structure, {})
    _, by_options = _PARTS[model]
    scaling = None if options.scaling is None else Scaling(options.scaling)
    key = options._replace(scaling=scaling and scaling.key)
    if key not in by_options:
        by_options[key] = _new_parts(model, options, scaling)
    return by_options[key]


def _new_parts(
    model: keras.Model, options: Options, scaling: Scaling | None
) -> Parts:
    inputs = Inputs(model, options.attacked)
    outputs = OwnOutputs(model, inputs, options.output, scaling)
    return Parts(
        inputs=inputs,
        outputs=outputs,
        logits=SearchLogits(
            model,
            outputs,
            options.from_logits,
            is_integer=inputs.takes_integers,
            backward=options.backward,
        ),
        uncompiled=find_layers(
            model, lambda layer: not getattr(layer, "supports_jit", True)
        ),
        lookups=find_layers(model, lambda layer: isinstance(layer, LOOKUPS)),
        runs_user_code=runs_user_code(model),
    )
