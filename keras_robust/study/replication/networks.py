"""Networks of a study: by name, or by a function of the user."""

import inspect
import json
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any
from typing import TypeAlias

import keras
import numpy as np
from keras import ops

from keras_robust import models
from keras_robust.classifier import Classifier
from keras_robust.classifier.fingerprint import architecture_sha256
from keras_robust.utils.checks import takes_arguments
from keras_robust.utils.messages import describe
from keras_robust.utils.messages import did_you_mean
from keras_robust.utils.messages import shown

# A function of `models` and its arguments, or one that returns a network.
NetworkSpec: TypeAlias = tuple[str, dict[str, Any]] | Callable[[], keras.Model]
Range: TypeAlias = tuple[float, float]
UNIT: Range = (0.0, 1.0)
# Name of the layer that scales images in [0, 1] for a network of the user.
_TO_PIXELS = "to_pixels_of_the_network"
# Seeds of the two networks whose equal weights are not random.
_PROOF_SEEDS = (1, 2)


def named_networks() -> list[str]:
    """Names of the functions of `models` that make a new classifier."""
    return [
        name
        for name, value in vars(models).items()
        if inspect.isfunction(value)
        # Others of its functions change a model or combine several.
        and "num_classes" in inspect.signature(value).parameters
    ]


def check_network(argument: str, network: Any) -> None:
    """Raise unless a network is a name or a function that returns one.

    Args:
        argument: Name of the argument, for the error message.
        network: What the user gave.

    Raises:
        ValueError: If it is anything else.
    """
    known = named_networks()
    if isinstance(network, str) and network in known:
        return
    is_layer = isinstance(network, keras.layers.Layer)
    if callable(network) and not is_layer:
        return
    advice = did_you_mean(network, known) if isinstance(network, str) else ""
    if is_layer:
        advice = (
            " A model that is trained already takes the place of a stage by "
            "`study.use('standard', model)`."
        )
    raise ValueError(
        f"Argument `{argument}` of a study must be one of {sorted(known)}, or "
        "a function without arguments that returns a new, built Keras "
        f"classifier.{advice} Received: {describe(network)}"
    )


def build_named(
    network: tuple[str, dict[str, Any]],
    dtype_policy: str,
    image_shape: Sequence[int] | None = None,
) -> keras.Model:
    """A new network of `models`, which takes images in [0, 1].

    Args:
        network: Name of a function and its arguments.
        dtype_policy: Keras's, for all layers.
        image_shape: Shape of an image, where the arguments need not tell it.
    """
    function, options = network
    known = inspect.signature(getattr(models, function)).parameters
    if image_shape is not None and "input_shape" in known:
        options = {"input_shape": tuple(image_shape), **options}
    with with_dtype_policy(dtype_policy):
        return getattr(models, function)(**options)


def build_own(
    network: Callable[[], keras.Model],
    dtype_policy: str,
    image_shape: Sequence[int],
    value_range: Range,
) -> keras.Model:
    """A new network of the user, behind a view that takes images in [0, 1].

    Args:
        network: Function that returns it.
        dtype_policy: Keras's, for all layers.
        image_shape: Shape of an image.
        value_range: `(low, high)`, the pixels that it takes.
    """
    if not takes_arguments(network, 0):
        raise ValueError(
            "Argument `network` must be a function that can be called without "
            f"arguments. Received: {describe(network)}"
        )
    with with_dtype_policy(dtype_policy):
        made = network()
    check_built_network(made, image_shape)
    check_pixels(made, value_range)
    return takes_unit_pixels(made, image_shape, value_range)


@contextmanager
def with_dtype_policy(name: str) -> Iterator[None]:
    """A context with another dtype policy of Keras.

    Args:
        name: Of the policy, such as `"mixed_bfloat16"`.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def check_built_network(made: Any, image_shape: Sequence[int]) -> None:
    """Raise unless a user's function returned a built classifier of images.

    Args:
        made: What it returned.
        image_shape: Shape of an image.

    Raises:
        ValueError: If it returned anything else.
    """
    if not isinstance(made, keras.Model) or not made.built:
        what = describe(made)
        if isinstance(made, keras.Model):
            what = f"the model {made.name!r}, which is not built"
        raise ValueError(
            "Argument `network` must be a function that returns a built Keras "
            "model: start it with `keras.Input(shape)`, or call it on an "
            f"image. Received: {what}"
        )
    shape = Classifier.of(made).input_shape
    if shape is None:
        return
    fits = len(shape) == len(image_shape) and all(
        one in (None, other)
        for one, other in zip(shape, image_shape, strict=True)
    )
    if not fits:
        raise ValueError(
            f"Argument `network` must take images of shape "
            f"{tuple(image_shape)}, those of the data. "
            f"Received: a model of input shape {shape}"
        )


def check_pixels(made: keras.Model, value_range: Range) -> None:
    """Raise if a network that scales bytes would get smaller pixels.

    Args:
        made: A model of the user.
        value_range: `(low, high)`, the pixels that it gets.

    Raises:
        ValueError: If its first layer takes [0, 255], and they end at 1.
    """
    low, high = value_range
    if high <= 1 < Classifier.of(made).value_range()[1]:
        raise ValueError(
            "The network must take pixels as the data hold them. "
            f"Received: {made.name!r}, which begins with a Rescaling of [0, "
            f"255] or takes integers, for data in [{low:g}, {high:g}]; of a "
            "data set by name `value_range=(0, 255)` gives it such pixels"
        )


def takes_unit_pixels(
    model: keras.Model, image_shape: Sequence[int], value_range: Range
) -> keras.Model:
    """A view of a model that takes images in [0, 1]; it shares the weights.

    Args:
        model: A built Keras model.
        image_shape: Shape of an image.
        value_range: `(low, high)`, the pixels that it takes.
    """
    classifier = Classifier.of(model)
    if classifier.integer_input:
        model = _with_float_input(model)
    elif value_range == UNIT:
        return model
    low, high = value_range
    inputs = keras.Input(tuple(image_shape), dtype="float32")
    scale = keras.layers.Rescaling(
        high - low, offset=low, dtype="float32", name=_TO_PIXELS
    )
    return keras.Model(inputs, model(scale(inputs)))


def own_model(model: keras.Model) -> keras.Model:
    """The user's part of what `takes_unit_pixels` returned."""
    names = [layer.name for layer in getattr(model, "layers", [])]
    if _TO_PIXELS not in names:
        return model
    return model.layers[-1]


def takes_pixels(
    model: keras.Model, image_shape: Sequence[int], value_range: Range
) -> keras.Model:
    """A trained model as the user calls it, on images like those of the data.

    Args:
        model: A model of the study, which takes images in [0, 1].
        image_shape: Shape of an image.
        value_range: `(low, high)`, the pixels of the data.
    """
    own = own_model(model)
    if own is not model or value_range == UNIT:
        return own
    low, high = value_range
    inputs = keras.Input(tuple(image_shape), dtype="float32")
    scale = keras.layers.Rescaling(
        1 / (high - low), offset=-low / (high - low), dtype="float32"
    )
    return keras.Model(inputs, model(scale(inputs)))


def _with_float_input(model: keras.Model) -> keras.Model:
    """The same layers behind an Input of floats, which gradients pass."""
    if not isinstance(model, (keras.Sequential, keras.Model)) or not getattr(
        model, "inputs", None
    ):
        raise ValueError(
            "Argument `network` must take floats: gradients do not pass an "
            "Input of integers. "
            f"Received: the model {model.name!r} with an Input of integers"
        )
    inputs = keras.Input(model.inputs[0].shape[1:], dtype="float32")
    return keras.models.clone_model(
        model, input_tensors=inputs, clone_function=lambda layer: layer
    )


def describe_network(network: NetworkSpec) -> Any:
    """Plain values that change with a network.

    Args:
        network: What `check_network` accepts, a name with its arguments.

    Returns:
        The name and its arguments; of a function of the user, its name and a
        hash of what it builds.
    """
    if isinstance(network, tuple):
        return list(network)
    name = getattr(network, "__name__", type(network).__name__)
    return {"function": name, "sha256": network_sha256(network)}


def network_sha256(make: Callable[[], keras.Model]) -> str:
    """Hash of the layers that a function builds, and of given weights.

    Two networks are built, with two seeds. Weights that are the same in both,
    such as those of a pretrained part, belong to the hash; random ones do not.

    Args:
        make: Function of the user.

    Returns:
        SHA-256 in hexadecimal.

    Raises:
        ValueError: If it returns the same network twice.
    """
    state = np.random.get_state()
    built = []
    for seed in _PROOF_SEEDS:
        keras.utils.set_random_seed(seed)
        built.append(make())
    np.random.set_state(state)
    first, second = built
    if first is second:
        raise ValueError(
            "Argument `network` must be a function that returns a new network "
            f"at every call. Received: one that returns {first.name!r} again"
        )
    given = [
        ops.convert_to_numpy(one)
        for one, other in zip(first.weights, second.weights, strict=True)
        if np.array_equal(
            ops.convert_to_numpy(one), ops.convert_to_numpy(other)
        )
    ]
    return architecture_sha256(first, [_config(first), given])


def _config(model: keras.Model) -> str:
    """The configuration of a model without names; empty if it has none."""
    try:
        config = json.dumps(model.get_config(), sort_keys=True, default=str)
    except (NotImplementedError, TypeError, ValueError):
        return ""
    names: dict[str, str] = {}
    _collect_names(json.loads(config), names)
    return json.dumps(_renamed(json.loads(config), names), sort_keys=True)


def _collect_names(config: Any, names: dict[str, str]) -> None:
    """Number the names of layers, which differ from process to process."""
    if isinstance(config, dict):
        name = config.get("name")
        if isinstance(name, str):
            names.setdefault(name, f"name {len(names)}")
        for value in config.values():
            _collect_names(value, names)
    elif isinstance(config, list):
        for value in config:
            _collect_names(value, names)


def _renamed(config: Any, names: dict[str, str]) -> Any:
    if isinstance(config, dict):
        return {key: _renamed(value, names) for key, value in config.items()}
    if isinstance(config, list):
        return [_renamed(value, names) for value in config]
    return names.get(config, config) if isinstance(config, str) else config


def with_image_options(
    network: str,
    options: dict[str, Any],
    image_shape: Sequence[int],
    num_classes: int,
) -> dict[str, Any]:
    """Arguments of a function of `models` that fit images of the user.

    Args:
        network: Its name.
        options: Arguments that the user gave.
        image_shape: Shape of an image.
        num_classes: C.

    Returns:
        Those with the shape and the number of classes, and without the pixel
        statistics of CIFAR-10, where they are not given.
    """
    fitting = {
        "input_shape": list(image_shape),
        "num_classes": num_classes,
        "mean": None,
        "std": None,
    }
    known = inspect.signature(getattr(models, network)).parameters
    chosen = {key: value for key, value in fitting.items() if key in known}
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(
            f"Argument `network_options` must be of models.{network}: "
            f"{sorted(known)}.{did_you_mean(unknown[0], known)} "
            f"Received: {shown(unknown[0])}"
        )
    return {**chosen, **options}
