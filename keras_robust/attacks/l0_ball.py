"""The L0 ball: few entries move, each as far as the box allows."""

import math

from keras import ops

from keras_robust.attacks.balls import Ball
from keras_robust.attacks.balls import Tensor
from keras_robust.attacks.balls import linf_norm
from keras_robust.attacks.balls import nonzero
from keras_robust.attacks.balls import other_axes
from keras_robust.attacks.balls import per_example
from keras_robust.attacks.engine.randomness import Draws


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
        return {
            "uniform": draws.uniform(shape),
            "sign": draws.normal(shape),
            "size": draws.uniform(shape[:1]),
        }

    @staticmethod
    def sample(noise: dict[str, Tensor], mask: Tensor | None = None) -> Tensor:
        """One entry, drawn uniformly, moved by a uniform draw of [-1, 1]."""
        point = L0Ball.sample_sphere(noise, mask)
        return point * per_example(noise["size"], point)

    @staticmethod
    def sample_sphere(
        noise: dict[str, Tensor], mask: Tensor | None = None
    ) -> Tensor:
        """One entry, drawn uniformly, moved by 1 or -1."""
        draw = noise["uniform"] + 1
        draw = draw if mask is None else draw * mask
        return L0Ball.unit(draw) * ops.sign(noise["sign"])
