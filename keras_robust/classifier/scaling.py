"""How images in [0, 1] are scaled to what a model takes."""

from typing import Any

import keras
import numpy as np
from keras import layers
from keras import ops

from keras_robust.classifier.graph import nodes_to
from keras_robust.classifier.graph import shows_graph
from keras_robust.utils.messages import shown

SCALINGS = ("unit", "byte", "symmetric", "standardized")
_AFFINE = {"unit": (1.0, 0.0), "byte": (255.0, 0.0), "symmetric": (2.0, -1.0)}


class Scaling:
    """A map from pixels in [0, 1] to what a model takes.

    A radius is then in units of [0, 1] for every model.

    Args:
        scaling: `"unit"` (it takes [0, 1]), `"byte"` ([0, 255]) or
            `"symmetric"` ([-1, 1]); or `("standardized", mean, std)`: pixels
            minus the mean over the standard deviation, each a number or an
            array that broadcasts to an image: one per channel has the shape
            `(C,)`, or `(C, 1, 1)` where the channels come first.

    Raises:
        ValueError: If it is not one of these.
    """

    def __init__(self, scaling: Any) -> None:
        name, *statistics = (
            (scaling,) if isinstance(scaling, str) else tuple(scaling)
        )
        known = name in _AFFINE if not statistics else name == "standardized"
        if not known or len(statistics) not in (0, 2):
            raise ValueError(
                f"Argument `scaling` must be one of {SCALINGS}; "
                "'standardized' comes as ('standardized', mean, std). "
                f"Received: scaling={shown(scaling)}"
            )
        if statistics:
            mean, std = (np.asarray(part, "float32") for part in statistics)
            finite = np.isfinite(mean).all() and np.isfinite(std).all()
            if not finite or (std <= 0).any():
                raise ValueError(
                    "Argument `scaling` must hold finite means and standard "
                    "deviations > 0. "
                    f"Received: mean={shown(mean)}, std={shown(std)}"
                )
            self.scale: Any = 1 / std
            self.offset: Any = -mean / std
        else:
            self.scale, self.offset = _AFFINE[name]
        self.name = name

    @property
    def key(self) -> tuple[Any, ...]:
        """Hashable; equal for equal scalings."""
        parts = self.scale, self.offset
        numbers = [number for part in parts for number in np.ravel(part)]
        return (self.name, *map(np.shape, parts), *numbers)

    def __call__(self, x: Any) -> Any:
        """The input of the model for pixels `x` in [0, 1].

        Raises:
            ValueError: If means or deviations do not broadcast to an image.
        """
        for part in (self.scale, self.offset):
            _check_broadcasts(np.shape(part), tuple(x.shape)[1:])
        scale, offset = (
            ops.convert_to_tensor(part, "float32")
            for part in (self.scale, self.offset)
        )
        return x * scale + offset


def _check_broadcasts(
    statistics: tuple[int, ...], image: tuple[int | None, ...]
) -> None:
    fits = len(statistics) <= len(image) and all(
        one in (1, size) or size is None
        for one, size in zip(statistics[::-1], image[::-1], strict=False)
    )
    if not fits:
        raise ValueError(
            "Means and deviations of argument `scaling` must broadcast to an "
            f"image of shape {image}; one per channel has the shape (C,), or "
            "(C, 1, 1) where the channels come first. "
            f"Received: shape {statistics}"
        )


def implied_range(
    model: keras.Model, tensor: keras.KerasTensor | None
) -> tuple[float, float]:
    """The range of pixels, inferred from the first layers of a model.

    Args:
        model: A Keras model.
        tensor: The Keras tensor of its Input.

    Returns:
        (0, 255) if the input goes through a `Rescaling` by 1/255 or 1/127.5, or
        has an integer dtype; otherwise (0, 1).
    """
    if tensor is None:
        return (0.0, 1.0)
    if "int" in keras.backend.standardize_dtype(tensor.dtype):
        return (0.0, 255.0)
    scale = _first_scale(model, tensor)
    is_byte = scale is not None and 0 < scale <= 1 / 127.5 * (1 + 1e-6)
    return (0.0, 255.0) if is_byte else (0.0, 1.0)


def _first_scale(model: keras.Model, tensor: keras.KerasTensor) -> float | None:
    """The factor of the Rescaling that reads an input, or `None`."""
    if not shows_graph(model):
        return None
    try:
        nodes = [
            node
            for output in model.outputs
            for node in nodes_to(output, model.inputs)
        ]
    except (AttributeError, ValueError):
        return None
    while True:
        node = next((n for n in nodes if n.only_input is tensor), None)
        if node is None:
            return None
        operation = node.operation
        if type(operation) is layers.Rescaling:
            plain = np.ndim(operation.scale) == 0
            return float(operation.scale) if plain else None
        if isinstance(operation, keras.Model) and operation.inputs:
            scale = _first_scale(operation, operation.inputs[0])
            if scale is not None:
                return scale
            if not all(map(_keeps_range, operation.layers)):
                return None
        elif not _keeps_range(operation):
            return None
        tensor = node.outputs[0]


def _keeps_range(layer: keras.Operation) -> bool:
    """Whether a layer keeps the range of values in inference."""
    kinds = (
        layers.InputLayer,
        layers.Identity,
        layers.Dropout,
        layers.GaussianNoise,
        layers.Resizing,
        layers.CenterCrop,
        layers.Permute,
        layers.Reshape,
        layers.ZeroPadding2D,
    )
    return type(layer).__name__.startswith("Random") or isinstance(layer, kinds)
