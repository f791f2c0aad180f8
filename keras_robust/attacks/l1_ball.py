"""The L1 ball, alone and together with the box."""

import math

from keras import ops

from keras_robust.attacks.balls import Ball
from keras_robust.attacks.balls import Tensor
from keras_robust.attacks.balls import l1_norm
from keras_robust.attacks.balls import linf_norm
from keras_robust.attacks.balls import nonzero
from keras_robust.attacks.balls import other_axes
from keras_robust.attacks.balls import per_example
from keras_robust.attacks.engine.randomness import Draws

# Halvings after which a bracket holds one linear piece, up to float32.
_HALVINGS = 26
# Share of the entries that one step moves (Tramer & Boneh 2019, section 3).
STEP_SHARE = 0.01


def soft_threshold_into(
    delta: Tensor, epsilon: Tensor, bound: Tensor | None = None
) -> Tensor:
    """The nearest point with `||d||_1 <= epsilon` and `|d_i| <= bound_i`.

    `d_i = sign(u_i) min(max(|u_i| - theta, 0), bound_i)` with the smallest
    theta >= 0 that meets the radius; theta by bisection, then exactly on the
    linear piece that is left (Duchi et al. 2008 for the ball; Croce & Hein
    2021, arXiv:2103.01208, section 3, for ball and box).

    Args:
        delta: Tensor of shape `(N, ...)`, u.
        epsilon: Tensor of shape `(N,)`.
        bound: Tensor like `delta`, >= 0, or `None` for no bound.

    Returns:
        Tensor like `delta`.
    """
    size = ops.abs(delta)
    bound = size if bound is None else bound
    axes = other_axes(delta)
    epsilon = per_example(epsilon, delta)

    def cut(theta: Tensor) -> Tensor:
        return ops.minimum(ops.maximum(size - theta, 0.0), bound)

    def total(theta: Tensor) -> Tensor:
        return ops.sum(cut(theta), axis=axes, keepdims=True)

    def halve(
        _: Tensor, bracket: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        low, high = bracket
        middle = (low + high) / 2
        outside = total(middle) > epsilon
        return ops.where(outside, middle, low), ops.where(outside, high, middle)

    bracket = ops.zeros_like(epsilon), linf_norm(delta, keepdims=True)
    low, high = ops.fori_loop(0, _HALVINGS, halve, bracket)
    # Entries strictly between 0 and their bound at both ends share the rest.
    sloped = ops.logical_and(size > low, size - low < bound)
    slope = ops.sum(ops.cast(sloped, delta.dtype), axis=axes, keepdims=True)
    theta = low + (total(low) - epsilon) / nonzero(slope)
    theta = ops.clip(theta, low, high)
    inside = total(ops.zeros_like(low)) <= epsilon
    theta = ops.where(inside, 0.0, theta)
    result = ops.sign(delta) * cut(theta)
    # What rounding has left over the radius.
    norm = l1_norm(result, keepdims=True)
    return result * ops.minimum(epsilon / nonzero(norm), 1.0)


class L1Ball(Ball):
    """`{x : sum_i |x_i - center_i| <= epsilon}`."""

    name = "l1"

    @staticmethod
    def norm(x: Tensor, keepdims: bool = False) -> Tensor:
        """`sum_i |x_ni|`."""
        return l1_norm(x, keepdims)

    @staticmethod
    def unit(gradient: Tensor) -> Tensor:
        """Equal steps in the entries of the largest gradients.

        The exact steepest ascent moves a single entry, and so hardly moves;
        SLIDE (Tramer & Boneh 2019) moves a hundredth of them.
        """
        return L1Ball.sparse_unit(gradient, STEP_SHARE)

    @staticmethod
    def sparse_unit(gradient: Tensor, share: Tensor) -> Tensor:
        """`sign` of the largest `share` of entries, of L1 norm 1.

        Args:
            gradient: Tensor of shape `(N, ...)`.
            share: Number, or tensor of shape `(N,)`, in [0, 1].

        Returns:
            Tensor like `gradient`; zero where the gradient is zero.
        """
        entries = math.prod(gradient.shape[1:])
        ranked = ops.sort(ops.reshape(ops.abs(gradient), (-1, entries)))
        share = share + ops.zeros_like(ranked[:, 0])
        place = ops.cast((1.0 - share) * entries, "int32")
        place = ops.clip(place, 0, entries - 1)[:, None]
        least = ops.take_along_axis(ranked, place, axis=-1)[:, 0]
        kept = ops.abs(gradient) >= per_example(least, gradient)
        sign = ops.where(kept, ops.sign(gradient), 0.0)
        return sign / nonzero(l1_norm(sign, keepdims=True))

    @staticmethod
    def project(delta: Tensor, epsilon: Tensor) -> Tensor:
        """`argmin ||d - delta||_2` over `||d||_1 <= epsilon`."""
        return soft_threshold_into(delta, epsilon)

    @staticmethod
    def noise(draws: Draws, shape: tuple[int, ...]) -> dict[str, Tensor]:
        """The random numbers that `sample` needs, for `shape` `(N, ...)`."""
        return {
            "uniform": draws.uniform(shape),
            "normal": draws.normal((shape[0], 2)),
        }

    @staticmethod
    def sample(noise: dict[str, Tensor], mask: Tensor | None = None) -> Tensor:
        """A uniform draw from the unit ball.

        `s_i e_i / (sum_j e_j + e_0)` with random signs and exponential e's;
        half the squared length of two normal numbers is exponential.
        """
        laplace = _laplace(noise, mask)
        extra = ops.sum(ops.square(noise["normal"]), axis=-1) / 2
        total = l1_norm(laplace, keepdims=True) + per_example(extra, laplace)
        return laplace / nonzero(total)

    @staticmethod
    def sample_sphere(
        noise: dict[str, Tensor], mask: Tensor | None = None
    ) -> Tensor:
        """A uniform draw from the unit sphere."""
        laplace = _laplace(noise, mask)
        return laplace / nonzero(l1_norm(laplace, keepdims=True))


def _laplace(noise: dict[str, Tensor], mask: Tensor | None) -> Tensor:
    """Laplace noise by inversion of uniform draws from [0, 1)."""
    centered = 2 * noise["uniform"] - 1
    # A draw of exactly 0 would be infinite.
    tail = ops.maximum(1 - ops.abs(centered), 1e-7)
    laplace = -ops.sign(centered) * ops.log(tail)
    return laplace if mask is None else laplace * mask
