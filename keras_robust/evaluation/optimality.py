"""How close an attack comes to the best distances known."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_robust.utils.messages import shown

# The budget of the paper: forward and backward passes of one example.
MAX_PASSES = 2000


def attack_optimality(
    distances: Mapping[str, Any],
    known: Any = None,
    passes: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Compare attacks by the area under accuracy over distance.

    The local optimality of AttackBench (Cina et al. 2024, arXiv:2404.19460),
    for one model. With d_i the distance of example i, 0 where the model errs
    without an attack, the accuracy at radius r is the share of examples with
    d_i > r. Its area up to `d_max` is

        A = integral_0^d_max mean_i [d_i > r] dr = mean_i min(d_i, d_max),

    and with A* for the smallest distances known of each example,

        optimality = 1 - (A - A*) / (clean accuracy * d_max - A*):

    1 for an attack that finds every smallest distance, 0 for one that finds
    nothing. `d_max` is the largest of the smallest distances known (of those
    that are finite), the radius from which the accuracy is known to be 0. The
    paper's code takes the area by the trapezoid rule between the distances
    found, which tends to this integral as examples are added.

    All distances are of one model, the same examples and one norm, any of L0,
    L1, L2 and L-infinity.

    Args:
        distances: Arrays `(N,)` by attack, such as
            `MinimumDistance.by_attack`: 0 for examples that are misclassified
            without an attack, infinity where nothing was found.
        known: Array `(N,)` of further distances to compare with, of attacks
            that are not judged; or `None`.
        passes: By attack, how many forward and backward passes of the network
            one example took, each counted as 1; at most 2,000 as in the paper.
            `None` not to check.

    Returns:
        Dictionary of floats by attack, the best first; NaN where no attack can
        be better than another because all smallest distances are equal.

    Raises:
        ValueError: If arrays differ in their shape or in which examples have
            distance 0, or an attack took more passes than are allowed.

    Example:

    >>> attack_optimality({"exact": [1.0, 2.0], "far": [1.5, 2.0]})
    {'exact': 1.0, 'far': 0.5}
    """
    found = {
        name: _check_distances(values, f"distances[{name!r}]")
        for name, values in distances.items()
    }
    if not found:
        raise ValueError(
            "Argument `distances` must hold at least one attack. Received: none"
        )
    everything = dict(found)
    if known is not None:
        everything["`known`"] = _check_distances(known, "known")
    _check_together(everything)
    _check_passes(found, passes)
    best = np.min(list(everything.values()), axis=0)
    d_max = best.max(initial=0.0, where=np.isfinite(best))

    def area(values: np.ndarray) -> float:
        return float(np.minimum(values, d_max).mean())

    smallest = area(best)
    span = float((best > 0).mean()) * float(d_max) - smallest
    # Rounding of the means, where every smallest distance is the same.
    is_flat = span <= 1e-12 * d_max
    optimality = {
        name: float("nan") if is_flat else 1 - (area(values) - smallest) / span
        for name, values in found.items()
    }
    order = sorted(optimality, key=lambda name: -optimality[name])
    return {name: optimality[name] for name in order}


def _check_distances(values: Any, name: str) -> np.ndarray:
    try:
        array = np.asarray(values, "float64")
    except (TypeError, ValueError):
        array = np.array(np.nan)
    if array.ndim != 1 or not len(array) or not (array >= 0).all():
        raise ValueError(
            f"Argument `{name}` must be a list of numbers >= 0, one per "
            f"example. Received: {shown(values)}"
        )
    return array


def _check_together(arrays: Mapping[str, np.ndarray]) -> None:
    lengths = {name: len(values) for name, values in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(
            "Distances of all attacks must be of the same examples. "
            f"Received: {lengths}"
        )
    zeros = {name: int((values == 0).sum()) for name, values in arrays.items()}
    together = np.array([values == 0 for values in arrays.values()])
    if (together.any(0) != together.all(0)).any():
        raise ValueError(
            "Distances must be 0 for the examples that the model gets wrong "
            "without an attack, and so for the same ones in every attack; an "
            "attack that found nothing has distance infinity. "
            f"Received: numbers of zeros {zeros}"
        )


def _check_passes(
    found: Mapping[str, np.ndarray], passes: Mapping[str, float] | None
) -> None:
    if passes is None:
        return
    if missing := sorted(set(found) - set(passes)):
        raise ValueError(
            "Argument `passes` must hold a number for every attack. "
            f"Received: none for {missing}"
        )
    over = {n: passes[n] for n in found if not passes[n] <= MAX_PASSES}
    if over:
        raise ValueError(
            f"An attack must take at most {MAX_PASSES} passes for an example. "
            f"Received: {over}"
        )
