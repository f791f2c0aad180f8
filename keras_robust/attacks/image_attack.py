"""Attacks on rows and columns of images, wherever their channels are."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust.attacks.engine.loop import Inputs
from keras_robust.attacks.engine.loop import Tensor
from keras_robust.attacks.loop_attack import LoopAttack
from keras_robust.attacks.problem import Problem
from keras_robust.classifier import cached_weights

_FORMATS = (None, "channels_last", "channels_first")
# Channels of images; the sides of an image are hardly ever so few.
_CHANNELS = (1, 3, 4)


def check_data_format(data_format: str | None) -> str | None:
    """Return `data_format`.

    Raises:
        ValueError: If it is not a data format.
    """
    if data_format not in _FORMATS:
        raise ValueError(
            f"Argument `data_format` must be one of {_FORMATS}. "
            f"Received: data_format={data_format!r}"
        )
    return data_format


def channels_first(
    model: Any, shape: tuple[int, ...], data_format: str | None
) -> bool:
    """Whether images are `(N, C, H, W)`.

    Args:
        model: The model or `Classifier` that takes them.
        shape: `(N, ...)`, four numbers.
        data_format: `"channels_last"` or `"channels_first"`; `None` to find
            out: from `data_format` of the first layer that takes the images,
            else from the axis that is as short as channels are, else from
            `data_format` of other layers.
    """
    image = shape[1:]
    found = data_format or _format_of(model, image)
    first, last = (side in _CHANNELS for side in (image[0], image[2]))
    if found is None and first != last:
        return first
    found = found or _format_of(model, None) or keras.config.image_data_format()
    return found == "channels_first"


def _format_of(model: Any, image: tuple[int, ...] | None) -> str | None:
    """The data format of the first layer that tells it.

    Args:
        model: A model, a `Classifier` or a layer.
        image: Shape of an image, where only layers that take images of that
            shape count: behind a `Permute` channels are elsewhere. `None` for
            all layers.
    """
    for layer in getattr(model, "layers", None) or []:
        inner = _format_of(layer, image)
        if inner is not None:
            return inner
        # What a Flatten says is Keras's default.
        if isinstance(layer, keras.layers.Flatten):
            continue
        found: str | None = getattr(layer, "data_format", None)
        if found is not None and (image is None or _takes(layer, image)):
            return found
    return None


def _takes(layer: Any, image: tuple[int, ...]) -> bool:
    """Whether a layer is known to take images of a shape."""
    try:
        shape = tuple(layer.input.shape[1:])
    except (AttributeError, ValueError):
        # A layer of a subclassed model, of several inputs, or called twice.
        return False
    return len(shape) == len(image) and all(
        size in (None, side) for size, side in zip(shape, image, strict=True)
    )


def to_last(x: Any) -> Any:
    """`(N, C, H, W)` to `(N, H, W, C)`."""
    xp = np if isinstance(x, np.ndarray) else ops
    return xp.transpose(x, (0, 2, 3, 1))


def to_first(x: Any) -> Any:
    """`(N, H, W, C)` to `(N, C, H, W)`."""
    xp = np if isinstance(x, np.ndarray) else ops
    return xp.transpose(x, (0, 3, 1, 2))


@dataclass(frozen=True)
class FromChannelsLast:
    """Logits of a model of channels-first images, for channels-last ones.

    Attributes:
        logits: `(x, draw, held) -> (N, C)`.
    """

    logits: Callable[..., Tensor]

    def cached_weights(self) -> AbstractContextManager[Any]:
        """A context for many calls with the same weights."""
        return cached_weights(self.logits)

    def __call__(self, x: Tensor, draw: Any = None, held: Any = None) -> Tensor:
        """Logits of shape `(N, C)`."""
        return self.logits(to_first(x), draw, held)


class ImageAttack(LoopAttack):
    """Base class of attacks on rows and columns of images.

    Their loops get channels-last images, whatever the model takes.
    """

    # `"channels_last"`, `"channels_first"`, or `None` to find out.
    data_format: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.data_format = check_data_format(self.data_format)

    def is_channels_first(self, problem: Problem) -> bool:
        """Return whether the images are `(N, C, H, W)`."""
        return channels_first(
            problem.classifier, problem.shape, self.data_format
        )

    def image_shape(self, problem: Problem) -> tuple[int, ...]:
        """Return `(H, W, C)`."""
        shape = problem.shape[1:]
        if self.is_channels_first(problem):
            return (*shape[1:], shape[0])
        return shape

    def image_rows(self, problem: Problem, inputs: Inputs) -> dict[str, Any]:
        """Return the rows of inputs, their images with channels last."""
        rows = dict(inputs.rows)
        if self.is_channels_first(problem):
            for key in {"center", "mask"} & set(rows):
                rows[key] = to_last(rows[key])
        return rows

    def image_logits(self, problem: Problem) -> Callable[..., Tensor]:
        """Return the logits of channels-last images."""
        logits = problem.classifier.logits
        if self.is_channels_first(problem):
            return FromChannelsLast(logits)
        return logits
