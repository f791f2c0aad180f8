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
            out: from the axis that is as short as channels are, else from
            `data_format` of the model's layers.
    """
    if data_format is not None:
        return data_format == "channels_first"
    first, last = shape[1] in _CHANNELS, shape[3] in _CHANNELS
    if first != last:
        return first
    waiting = list(getattr(model, "layers", None) or [])
    while waiting:
        layer = waiting.pop(0)
        found = getattr(layer, "data_format", None)
        if found is not None:
            return found == "channels_first"
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
