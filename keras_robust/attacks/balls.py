"""L1, L2 and L-infinity balls: unit step, projection, samples.

Every function works on a batch: `x`, `center`, `gradient` and `direction` have
shape `(N, ...)` with any number of axes, `epsilon` has shape `(N,)`. Norms are
taken over all axes but the first.
"""

from abc import ABC
from abc import abstractmethod
from typing import Any
from typing import ClassVar

import numpy as np
from keras import ops

from keras_robust.attacks.engine.randomness import Draws

Tensor = Any


class Box(tuple[Any, Any]):
    """`(low, high)`, numbers or arrays, equal to another one of equal values.

    A tuple of arrays cannot be a key, or part of one.

    Args:
        value_range: `(low, high)`.
    """

    def _key(self) -> tuple[Any, ...]:
        return tuple(
            (np.shape(end), np.asarray(end, "float64").tobytes())
            for end in self
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Box) and self._key() == other._key()

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._key())


def per_example(values: Tensor, like: Tensor) -> Tensor:
    """Reshape `(N,)` to `(N, 1, ..., 1)` so that it broadcasts to `like`.

    A tensor with a value for each feature is returned unchanged.
    """
    if len(values.shape) == len(like.shape):
        return values
    return ops.reshape(values, (-1,) + (1,) * (len(like.shape) - 1))


def box(value_range: Any) -> tuple[Any, ...]:
    """`(low, high)` to calculate with: numbers, or tensors of one row."""
    low, high = value_range
    if np.ndim(low) == 0:
        return low, high
    return (
        ops.convert_to_tensor(low, "float32"),
        ops.convert_to_tensor(high, "float32"),
    )


def other_axes(x: Tensor) -> tuple[Any, ...]:
    """All axes but the first."""
    return tuple(range(1, len(x.shape)))


def nonzero(x: Tensor) -> Tensor:
    """`x` with ones for zeros, a divisor that changes no other value."""
    return ops.where(x > 0, x, ops.ones_like(x))


def l2_norm(x: Tensor, keepdims: bool = False) -> Tensor:
    """`||x_n||_2` for each example, exact also where squares underflow.

    Args:
        x: Tensor of shape `(N, ...)`.
        keepdims: Whether to keep the reduced axes.

    Returns:
        Tensor of shape `(N,)`, or `(N, 1, ..., 1)`.
    """
    axes = other_axes(x)
    largest = ops.max(ops.abs(x), axis=axes, keepdims=True)
    scale = nonzero(largest)
    total = ops.sum(ops.square(x / scale), axis=axes, keepdims=True)
    norm = scale * ops.sqrt(total)
    return norm if keepdims else ops.reshape(norm, (-1,))


def l1_norm(x: Tensor, keepdims: bool = False) -> Tensor:
    """`sum_i |x_ni|` for each example.

    Args:
        x: Tensor of shape `(N, ...)`.
        keepdims: Whether to keep the reduced axes.

    Returns:
        Tensor of shape `(N,)`, or `(N, 1, ..., 1)`.
    """
    return ops.sum(ops.abs(x), axis=other_axes(x), keepdims=keepdims)


def linf_norm(x: Tensor, keepdims: bool = False) -> Tensor:
    """`max_i |x_ni|` for each example.

    Args:
        x: Tensor of shape `(N, ...)`.
        keepdims: Whether to keep the reduced axes.

    Returns:
        Tensor of shape `(N,)`, or `(N, 1, ..., 1)`.
    """
    return ops.max(ops.abs(x), axis=other_axes(x), keepdims=keepdims)


# The norm of gradients in which a step of length 1 gains most, by the norm of
# steps.
DUAL_NORMS = {"l1": linf_norm, "l2": l2_norm, "linf": l1_norm}


def add_towards(center: Tensor, delta: Tensor) -> Tensor:
    """`center + delta`, rounded so that no entry moves further than `delta`.

    Plain addition rounds to nearest, which at a pixel near 1 overshoots a
    radius of 1/255 by more than one part in a million.

    Args:
        center: Tensor of shape `(N, ...)`.
        delta: Tensor of the same shape.

    Returns:
        Tensor `x` with `|x - center| <= |delta|` in every entry, up to the
        rounding of that difference itself (one part in 2**23).
    """
    x = center + delta
    bound = ops.abs(delta)
    one_ulp = ops.abs(x) * 2.0**-23
    nudged = x - ops.sign(delta) * one_ulp
    x = ops.where(ops.abs(x - center) > bound, nudged, x)
    return ops.where(ops.abs(x - center) > bound, center, x)


class Ball(ABC):
    """`{x : norm(x - center) <= epsilon}`, for one norm."""

    name: ClassVar[str]

    @staticmethod
    @abstractmethod
    def norm(x: Tensor, keepdims: bool = False) -> Tensor:
        """Return the norm of each example, `(N,)`."""

    @staticmethod
    @abstractmethod
    def unit(gradient: Tensor) -> Tensor:
        """Return the steps of norm 1 that raise a linear function most.

        Zero where the gradient is zero.
        """

    @staticmethod
    @abstractmethod
    def project(delta: Tensor, epsilon: Tensor) -> Tensor:
        """Return the nearest perturbation, in L2, of norm <= `epsilon`."""

    @staticmethod
    @abstractmethod
    def noise(draws: Draws, shape: tuple[int, ...]) -> dict[str, Tensor]:
        """Draw the random numbers that `sample` needs for `(N, ...)`."""

    @classmethod
    def random_point(
        cls,
        center: Tensor,
        epsilon: Tensor,
        noise: dict[str, Tensor],
        value_range: Any,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Uniform draws from the ball around `center`, clipped to the box.

        Args:
            center: Tensor of shape `(N, ...)`.
            epsilon: Tensor `(N,)`, or like `center`.
            noise: What `noise` returned.
            value_range: `(low, high)`, the box.
            mask: Like `center`, zero where entries may not move; or `None`.

        Returns:
            Tensor like `center`.
        """
        step = per_example(epsilon, center) * cls.sample(noise, mask)
        return ops.clip(center + step, *box(value_range))

    @staticmethod
    @abstractmethod
    def sample(noise: dict[str, Tensor], mask: Tensor | None = None) -> Tensor:
        """Return uniform draws from the unit ball, made of `noise`."""

    @staticmethod
    @abstractmethod
    def sample_sphere(
        noise: dict[str, Tensor], mask: Tensor | None = None
    ) -> Tensor:
        """Return draws of norm 1, made of `noise`."""


class L2Ball(Ball):
    """`{x : ||x - center||_2 <= epsilon}`."""

    name = "l2"

    @staticmethod
    def norm(x: Tensor, keepdims: bool = False) -> Tensor:
        """`||x_n||_2`."""
        return l2_norm(x, keepdims)

    @staticmethod
    def unit(gradient: Tensor) -> Tensor:
        """Steepest ascent, `g / ||g||_2`; zero where the gradient is zero."""
        # Dividing by the largest entry first keeps tiny gradients exact.
        largest = linf_norm(gradient, keepdims=True)
        gradient = gradient / nonzero(largest)
        return gradient / nonzero(l2_norm(gradient, keepdims=True))

    @staticmethod
    def project(delta: Tensor, epsilon: Tensor) -> Tensor:
        """`argmin ||d - delta||_2` over `||d||_2 <= epsilon`."""
        norm = l2_norm(delta, keepdims=True)
        factor = per_example(epsilon, delta) / nonzero(norm)
        return delta * ops.minimum(factor, ops.ones_like(factor))

    @staticmethod
    def noise(draws: Draws, shape: tuple[int, ...]) -> dict[str, Tensor]:
        """The random numbers that `sample` needs, for `shape` `(N, ...)`."""
        return {
            "normal": draws.normal(shape),
            "uniform": draws.uniform(shape[:1]),
        }

    @staticmethod
    def sample(noise: dict[str, Tensor], mask: Tensor | None = None) -> Tensor:
        """A uniform draw from the unit ball: direction times `u ** (1/d)`.

        The mean radius is `d / (d + 1)`; with a mask, `d` counts the entries
        that may move.
        """
        direction = noise["normal"]
        free = ops.ones_like(direction) if mask is None else mask
        moving = ops.sum(
            ops.cast(free != 0, direction.dtype), axis=other_axes(direction)
        )
        radius = ops.power(noise["uniform"], 1 / nonzero(moving))
        unit = L2Ball.unit(direction * free)
        return unit * per_example(radius, direction)

    @staticmethod
    def sample_sphere(
        noise: dict[str, Tensor], mask: Tensor | None = None
    ) -> Tensor:
        """A uniform draw from the unit sphere."""
        direction = noise["normal"]
        return L2Ball.unit(direction if mask is None else direction * mask)


class LinfBall(Ball):
    """`{x : max_i |x_i - center_i| <= epsilon}`."""

    name = "linf"

    @staticmethod
    def norm(x: Tensor, keepdims: bool = False) -> Tensor:
        """`max_i |x_ni|`."""
        return linf_norm(x, keepdims)

    @staticmethod
    def unit(gradient: Tensor) -> Tensor:
        """Steepest ascent, `sign(g)`; zero where the gradient is zero."""
        return ops.sign(gradient)

    @staticmethod
    def project(delta: Tensor, epsilon: Tensor) -> Tensor:
        """`argmin ||d - delta||_2` over `max_i |d_i| <= epsilon`."""
        epsilon = per_example(epsilon, delta)
        return ops.clip(delta, -epsilon, epsilon)

    @staticmethod
    def noise(draws: Draws, shape: tuple[int, ...]) -> dict[str, Tensor]:
        """The random numbers that `sample` needs, for `shape` `(N, ...)`."""
        return {"uniform": draws.uniform(shape)}

    @staticmethod
    def sample(noise: dict[str, Tensor], mask: Tensor | None = None) -> Tensor:
        """A uniform draw from the cube `[-1, 1]^d`."""
        cube = 2 * noise["uniform"] - 1
        return cube if mask is None else cube * mask

    @staticmethod
    def sample_sphere(
        noise: dict[str, Tensor], mask: Tensor | None = None
    ) -> Tensor:
        """A draw from the cube, scaled until its largest entry is 1."""
        cube = LinfBall.sample(noise, mask)
        return cube / nonzero(linf_norm(cube, keepdims=True))
