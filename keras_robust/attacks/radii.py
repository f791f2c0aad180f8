"""Radii of balls of different norms that are comparable."""

import math


def _log_unit_volume(norm, dimension):
    """Logarithm of the volume of the unit ball."""
    if norm == "l2":
        return dimension / 2 * math.log(math.pi) - math.lgamma(
            dimension / 2 + 1
        )
    if norm == "linf":
        return dimension * math.log(2)
    if norm == "l1":
        return dimension * math.log(2) - math.lgamma(dimension + 1)
    raise ValueError(f"A norm must be 'l1', 'l2' or 'linf'. Received: {norm!r}")


def matched_epsilon(epsilon, from_norm, to_norm, dimension):
    """Radius of the `to_norm` ball of the same volume as a `from_norm` ball.

    An L-infinity ball of radius 0.25 around a CIFAR image reaches 13.9 in L2:
    the same number is not the same threat. Equal volume is one way to match.

    Args:
        epsilon: Float >= 0, radius in units of `value_range`.
        from_norm: `"l1"`, `"l2"` or `"linf"`.
        to_norm: `"l1"`, `"l2"` or `"linf"`.
        dimension: Int >= 1, numbers in one example (3072 for CIFAR-10).

    Returns:
        Float, the matched radius.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> round(255 * matched_epsilon(0.5, "l2", "linf", 3072), 2)
    4.75
    """
    if not epsilon >= 0:
        raise ValueError(
            f"Argument `epsilon` must be >= 0. Received: epsilon={epsilon}"
        )
    if int(dimension) != dimension or dimension < 1:
        raise ValueError(
            "Argument `dimension` must be a positive integer. "
            f"Received: dimension={dimension}"
        )
    difference = _log_unit_volume(from_norm, dimension) - _log_unit_volume(
        to_norm, dimension
    )
    return float(epsilon) * math.exp(difference / dimension)
