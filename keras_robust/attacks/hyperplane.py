"""The nearest point of a hyperplane inside the box, for each norm.

Every function works on flat examples: `x` and `normal` have shape `(N, d)`,
`offset` has shape `(N,)`; the hyperplane is `{z : normal . z = offset}`.
"""

from typing import Any

from keras import ops

from keras_robust.attacks.balls import Tensor
from keras_robust.attacks.balls import box

# Newton steps; each ends on the next linear piece or on the solution.
_NEWTON_STEPS = 12


def _sum(x: Tensor) -> Tensor:
    return ops.sum(x, axis=-1, keepdims=True)


def step_to_hyperplane(
    norm: str, x: Tensor, normal: Tensor, offset: Tensor, value_range: Any
) -> Tensor:
    """`argmin ||d||` with `x + d` on the hyperplane and in the box.

    If no point of the box is on the hyperplane, d leads as far towards it as
    the box allows. Croce & Hein 2020 (arXiv:1907.02044), section 2.2; for L2
    and L-infinity `d_i = clip(r u_i, low - x_i, high - x_i)` with u the normal
    or its sign, and the length r that solves a concave, piecewise linear
    equation by Newton's method from the left; for L1 by filling the entries of
    the largest weights first.

    Args:
        norm: `"l1"`, `"l2"` or `"linf"`.
        x: Float tensor `(N, d)` in the box.
        normal: Float tensor `(N, d)`.
        offset: Float tensor `(N,)`.
        value_range: `(low, high)`.

    Returns:
        Float tensor `(N, d)`, d.
    """
    low, high = box(value_range)
    # The scale of a hyperplane's equation is free; 1 keeps squares exact.
    scale = ops.max(ops.abs(normal), axis=-1, keepdims=True)
    scale = ops.where(scale > 0, scale, 1.0)
    normal, offset = normal / scale, offset[:, None] / scale
    gap = offset - _sum(normal * x)
    # Now the side where the normal has to grow.
    side = ops.where(gap >= 0, 1.0, -1.0)
    normal, gap = side * normal, side * gap
    bound = ops.where(normal > 0, high - x, x - low)
    bound = ops.where(ops.equal(normal, 0), 0.0, bound)
    weight = ops.abs(normal)
    if norm == "l1":
        size = _fill_largest(weight, bound, gap)
    else:
        speed = weight if norm == "l2" else ops.sign(weight)
        size = _grow(weight, speed, bound, gap)
    return ops.sign(normal) * size


def _grow(weight: Tensor, speed: Tensor, bound: Tensor, gap: Tensor) -> Tensor:
    """`min(r speed, bound)` with the r where its weighted sum is `gap`."""

    def newton(_: Tensor, r: Tensor) -> Tensor:
        size = ops.minimum(r * speed, bound)
        free = r * speed < bound
        slope = _sum(ops.where(free, weight * speed, 0.0))
        missing = ops.maximum(gap - _sum(weight * size), 0.0)
        return r + missing / ops.where(slope > 0, slope, 1.0)

    r = ops.fori_loop(0, _NEWTON_STEPS, newton, ops.zeros_like(gap))
    return ops.minimum(r * speed, bound)


def _fill_largest(weight: Tensor, bound: Tensor, gap: Tensor) -> Tensor:
    order = ops.argsort(-weight, axis=-1)
    weight_sorted = ops.take_along_axis(weight, order, axis=-1)
    bound_sorted = ops.take_along_axis(bound, order, axis=-1)
    gain = weight_sorted * bound_sorted
    before = ops.cumsum(gain, axis=-1) - gain
    divisor = ops.where(weight_sorted > 0, weight_sorted, 1.0)
    size = ops.clip((gap - before) / divisor, 0.0, bound_sorted)
    return ops.take_along_axis(size, ops.argsort(order, axis=-1), axis=-1)
