"""Radii of balls of different norms that are comparable."""

import math
from typing import Any

import numpy as np

# Shares of the box beyond which a radius is probably a mistake.
_LARGE, _SMALL = 0.5, 1e-3
# Radii in L1 and L2 grow less with the size of images than the box does (0.5
# in L2 is usual from 32x32 to 224x224), so the lower limit stops growing here.
_FEATURES = 3072


def _log_unit_volume(norm: str, dimension: int) -> float:
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


def matched_epsilon(
    epsilon: Any, from_norm: str, to_norm: str, dimension: int
) -> float:
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


def _diameter(norm: str, features: int) -> float:
    """The longest distance in a box of width 1."""
    return {"linf": 1.0, "l2": math.sqrt(features), "l1": features}[norm]


def doubtful_radius(attack: Any, shape: tuple[int, ...]) -> str | None:
    """What is probably wrong with a radius.

    Half the box or more turns every image into plain grey; less than a
    thousandth of it is mostly a radius in units of [0, 1] on pixels of
    0 ... 255. The box has the size of its width for L-infinity, times the
    square root of the number of features for L2, times their number for L1
    (for the lower limit at most those of a 32x32 color image).

    Args:
        attack: An attack whose `value_range` is known.
        shape: `(N, ...)` of the inputs.

    Returns:
        A sentence, or `None`.
    """
    norm, epsilon = getattr(attack, "norm", None), attack.epsilon
    if epsilon is None or norm in (None, "l0"):
        return None
    if isinstance(attack.value_range, str):
        return None
    low, high = attack.value_range
    width = float(np.max(np.asarray(high, "float64") - low))
    features = math.prod(shape[1:])
    size = width * _diameter(norm, features)
    usual = width * _diameter(norm, min(features, _FEATURES))
    largest = float(np.max(epsilon, initial=0.0))
    if not np.isfinite(size) or not largest:
        return None
    # Numbers of a table are no pixels, of which 255 make a range.
    are_pixels = norm == "linf" and len(shape) > 2
    measure = f"value_range (which in this norm measures {size:.4g})"
    if largest >= _LARGE * size:
        small = f"{largest / 255:.4g}, that is {largest:.4g}/255"
        meant = f" Did you mean {small}?" if are_pixels else ""
        return (
            f"The {norm} radius {largest:.4g} is half of {measure} or more: "
            f"every input can become plain grey.{meant}"
        )
    if largest < _SMALL * usual:
        meant = f" Did you mean {largest * 255:.4g}?" if are_pixels else ""
        return (
            f"The {norm} radius {largest:.4g} is less than a thousandth of "
            f"{measure}: nearly nothing can move. Radii are in units of "
            f"value_range.{meant}"
        )
    return None
