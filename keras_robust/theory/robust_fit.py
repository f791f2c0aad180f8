"""Theorem 2: what robust maximum likelihood learns."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_robust.utils.messages import shown


@dataclass(frozen=True)
class RobustFit:
    """The solution of the game of Theorem 2.

    Attributes:
        covariance: Float array `(d,)`, the learned diagonal. The learned mean
            is the true one.
        perturbation: Float array `(d,)`, the diagonal M of the adversary, who
            adds M v to a deviation v from the mean.
        multiplier: Float, the Lagrange multiplier of the adversary's budget.
    """

    covariance: np.ndarray
    perturbation: np.ndarray
    multiplier: float


def robust_fit(covariance: Any, epsilon: float) -> RobustFit:
    """The robust covariance for any budget, by root finding.

    Ilyas et al. 2019, Theorem 2 and equation (20): an adversary chooses a
    diagonal M with `E ||M v||^2 = epsilon^2` for v from N(0, covariance), the
    learner a covariance of least expected loss on `v + M v`. For a multiplier
    lam

        learned = s / 2 + 1 / lam + sqrt(s / lam + s^2 / 4),
        M = 1 / (lam learned - 1),

    with s the true diagonal. The budget of M decreases in lam from infinity to
    0, so every epsilon has a solution. (In equation (27) and in its bounds the
    paper writes epsilon for its square.)

    Args:
        covariance: Positive float array `(d,)`, the true diagonal.
        epsilon: Float > 0, root of the mean square of the perturbation.

    Returns:
        `RobustFit`.

    Raises:
        ValueError: If an argument is not positive.
    """
    from scipy.optimize import brentq

    s = check_diagonal(covariance)
    if not epsilon > 0:
        raise ValueError(
            f"Argument `epsilon` must be > 0. Received: epsilon={epsilon}"
        )

    def excess(log_multiplier: float) -> float:
        m = _perturbation(s, np.exp(log_multiplier))
        return float(np.log((s * m**2).sum()) - 2 * np.log(epsilon))

    low, high = -1.0, 1.0
    while excess(low) < 0:
        low *= 2
    while excess(high) > 0:
        high *= 2
    multiplier = float(np.exp(brentq(excess, low, high, xtol=1e-14)))
    m = _perturbation(s, multiplier)
    return RobustFit(s * (1 + m) ** 2, m, multiplier)


def multiplier_bounds(covariance: Any, epsilon: float) -> tuple[float, float]:
    """Bounds of the multiplier of `robust_fit`.

    Ilyas et al. 2019, Theorem 2, with the constants of its proof.

    Args:
        covariance: Positive float array `(d,)`, the true diagonal.
        epsilon: Float > 0, as in `robust_fit`.

    Returns:
        `(low, high)`.
    """
    s = check_diagonal(covariance)
    budget = epsilon**2
    learned = robust_fit(s, epsilon).covariance
    d = len(s)
    low = d / 2 / (budget + s.sum()) * (1 + np.sqrt(d * s.min() / budget))
    high = (np.sqrt(np.linalg.norm(s) * d / budget) + 1) / learned.min()
    return float(low), float(high)


def check_diagonal(covariance: Any) -> np.ndarray:
    """The diagonal of a covariance as float64.

    Raises:
        ValueError: If it is not a positive vector.
    """
    s = np.asarray(covariance, "float64")
    if s.ndim != 1 or not (s > 0).all():
        raise ValueError(
            "Argument `covariance` must be a positive diagonal `(d,)`; rotate "
            "the data to the eigenvectors of a full one. "
            f"Received: covariance={shown(covariance)}"
        )
    return s


def _perturbation(s: np.ndarray, multiplier: float) -> np.ndarray:
    a = multiplier * s
    return 1 / (a / 2 + np.sqrt(a + a**2 / 4))
