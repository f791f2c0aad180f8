"""The L0 ball: few entries move, each as far as the box allows."""

import math
from typing import Any

import numpy as np
from keras import ops

from keras_robust.attacks.balls import Ball
from keras_robust.attacks.balls import Tensor
from keras_robust.attacks.balls import box
from keras_robust.attacks.balls import linf_norm
from keras_robust.attacks.balls import nonzero
from keras_robust.attacks.balls import other_axes
from keras_robust.attacks.engine.randomness import Draws
from keras_robust.utils.messages import shown


class L0Ball(Ball):
    """`{x : at most epsilon entries of x differ from center}`.

    Every entry counts, so that a changed pixel of a color image counts up to
    three times.
    """

    name = "l0"

    @staticmethod
    def norm(x: Tensor, keepdims: bool = False) -> Tensor:
        """The number of entries that are not zero."""
        moved = ops.cast(ops.not_equal(x, 0), "float32")
        return ops.sum(moved, axis=other_axes(x), keepdims=keepdims)

    @staticmethod
    def unit(gradient: Tensor) -> Tensor:
        """The sign of the largest entry, the others zero."""
        size = ops.abs(gradient)
        largest = linf_norm(gradient, keepdims=True)
        chosen = ops.where(size >= nonzero(largest), ops.sign(gradient), 0.0)
        ones = ops.ones_like(ops.reshape(largest, (-1,)))
        return L0Ball.project(chosen, ones)

    @staticmethod
    def project(delta: Tensor, epsilon: Tensor) -> Tensor:
        """Keep the `floor(epsilon)` largest entries, ties by their position."""
        flat = ops.reshape(delta, (-1, math.prod(delta.shape[1:])))
        order = ops.argsort(-ops.abs(flat), axis=-1)
        rank = ops.argsort(order, axis=-1)
        kept = ops.floor(ops.reshape(epsilon, (-1, 1)))
        flat = ops.where(ops.cast(rank, "float32") < kept, flat, 0.0)
        return ops.reshape(flat, ops.shape(delta))

    @staticmethod
    def noise(draws: Draws, shape: tuple[int, ...]) -> dict[str, Tensor]:
        """The random numbers that `sample` needs, for `shape` `(N, ...)`."""
        return {"uniform": draws.uniform(shape), "value": draws.uniform(shape)}

    @classmethod
    def random_point(
        cls,
        center: Tensor,
        epsilon: Tensor,
        noise: dict[str, Tensor],
        value_range: Any,
        mask: Tensor | None = None,
    ) -> Tensor:
        """`floor(epsilon)` entries, drawn uniformly, anywhere in the box.

        Raises:
            ValueError: If the box has no finite ends.
        """
        low, high = box(value_range)
        if not np.isfinite(np.asarray(value_range, "float64")).all():
            raise ValueError(
                "Argument `value_range` must be finite for random points of "
                "the L0 ball, which move entries anywhere in it. "
                f"Received: value_range={shown(value_range)}"
            )
        draw = noise["uniform"] + 1
        chosen = cls.project(draw if mask is None else draw * mask, epsilon)
        anywhere = low + noise["value"] * (high - low)
        return ops.clip(ops.where(chosen > 0, anywhere, center), low, high)

    @staticmethod
    def sample(noise: dict[str, Tensor], mask: Tensor | None = None) -> Tensor:
        """One entry, drawn uniformly, moved by a uniform draw of [-1, 1]."""
        return _one_entry(noise, mask) * (2 * noise["value"] - 1)

    @staticmethod
    def sample_sphere(
        noise: dict[str, Tensor], mask: Tensor | None = None
    ) -> Tensor:
        """One entry, drawn uniformly, moved by 1 or -1."""
        sign = ops.where(noise["value"] < 0.5, -1.0, 1.0)
        return _one_entry(noise, mask) * sign


def _one_entry(noise: dict[str, Tensor], mask: Tensor | None) -> Tensor:
    """One for an entry of each example, drawn uniformly, zero elsewhere."""
    draw = noise["uniform"] + 1
    return L0Ball.unit(draw if mask is None else draw * mask)
