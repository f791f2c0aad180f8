"""Where the channels of images are, for attacks on rows and columns."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_robust.classifier import prepared

_FORMATS = (None, "channels_last", "channels_first")
# Channels of images; the sides of an image are hardly ever so few.
_CHANNELS = (1, 3, 4)


def check_data_format(data_format: str | None) -> str | None:
    """Return `data_format`.

    Raises:
        ValueError: If it is no data format.
    """
    if data_format not in _FORMATS:
        raise ValueError(
            f"Argument `data_format` must be one of {_FORMATS}. "
            f"Received: data_format={data_format!r}"
        )
    return data_format


def channels_first(
    model: keras.Model, shape: tuple, data_format: str | None
) -> bool:
    """Whether images are `(N, C, H, W)`.

    Args:
        model: The model that takes them.
        shape: `(N, ...)`, four numbers.
        data_format: `"channels_last"` or `"channels_first"`; `None` to find
            out: what the layers of the model say, else which axis is as short
            as channels are.
    """
    if data_format is not None:
        return data_format == "channels_first"
    first, last = shape[1] in _CHANNELS, shape[3] in _CHANNELS
    if first != last:
        return first
    waiting = list(getattr(model, "layers", None) or [])
    while waiting:
        layer = waiting.pop(0)
        said = getattr(layer, "data_format", None)
        if said is not None:
            return said == "channels_first"
        waiting += getattr(layer, "layers", None) or []
    return keras.config.image_data_format() == "channels_first"


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

    logits: Any

    def prepared(self) -> AbstractContextManager:
        """A context for many calls with the same weights."""
        return prepared(self.logits)

    def __call__(self, x: Any, draw: Any = None, held: Any = None) -> Any:
        """Logits of shape `(N, C)`."""
        return self.logits(to_first(x), draw, held)


class OnImages:
    """What attacks on rows and columns share: where the channels are."""

    def _is_first(self, problem):
        return channels_first(
            problem.classifier.model,
            tuple(problem.x.shape),
            self.data_format,
        )

    def to_loop(self, problem: Any, x: Any) -> Any:
        """Images with their channels last."""
        return to_last(x) if self._is_first(problem) else x

    def from_loop(self, problem: Any, x: Any) -> Any:
        """The inverse of `to_loop`."""
        return to_first(x) if self._is_first(problem) else x

    def image_shape(self, problem: Any) -> Any:
        """`(H, W, C)`."""
        shape = tuple(problem.x.shape[1:])
        return (*shape[1:], shape[0]) if self._is_first(problem) else shape

    def image_logits(self, problem: Any) -> Any:
        """Logits of channels-last images."""
        logits = problem.classifier.logits
        return FromChannelsLast(logits) if self._is_first(problem) else logits
