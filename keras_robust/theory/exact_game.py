"""The game that Theorem 2 relaxes: each example has its own ball."""

from typing import Any

import numpy as np

from keras_robust.theory.robust_fit import check_diagonal
from keras_robust.theory.robust_fit import robust_fit

_BISECTIONS = 60


def exact_robust_fit(
    covariance: Any,
    epsilon: float,
    examples: int = 20_000,
    steps: int = 100,
    damping: float = 0.5,
    seed: int | None = 0,
) -> np.ndarray:
    """The robust covariance if every perturbation has norm epsilon.

    Ilyas et al. 2019, equation (15), by Monte Carlo: for every deviation v the
    adversary adds the d of norm epsilon that maximizes the loss,
    `d = (lam(v) S - I)^-1 v` with its own multiplier; the learner's S is the
    mean of `(v + d)^2`. The fixed-point iteration is damped, since it
    oscillates otherwise. In high dimensions the relaxed game (`robust_fit`) has
    nearly the same solution.

    Args:
        covariance: Positive float array `(d,)`, the true diagonal.
        epsilon: Float > 0, norm of each perturbation.
        examples: Int, sample size.
        steps: Int, iterations of the fixed point.
        damping: Float in (0, 1], share of the new value.
        seed: Int.

    Returns:
        Float array `(d,)`, the learned diagonal.
    """
    s = check_diagonal(covariance)
    random = np.random.default_rng(seed)
    v = random.standard_normal((examples, len(s)))
    # Each column is scaled to its exact variance, which reduces noise.
    v *= np.sqrt(s / (v**2).mean(0))
    learned = robust_fit(s, epsilon).covariance
    # By symmetry, coordinates of equal true variance learn the same.
    groups = [np.flatnonzero(s == value) for value in np.unique(s)]
    for _ in range(steps):
        new = ((v + worst_steps(v, learned, epsilon)) ** 2).mean(0)
        for group in groups:
            new[group] = new[group].mean()
        learned = (1 - damping) * learned + damping * new
    return learned


def worst_steps(
    v: np.ndarray, learned: np.ndarray, epsilon: float
) -> np.ndarray:
    """The step of norm epsilon that increases each example's loss the most.

    It solves `max_{||d|| <= epsilon} (v + d)' S^-1 (v + d)`, a trust region
    problem: `||(lam S - I)^-1 v||` falls in lam, which bisection finds.

    Args:
        v: Float array `(N, d)`, deviations from the mean.
        learned: Positive float array `(d,)`, S.
        epsilon: Float > 0.

    Returns:
        Float array `(N, d)`.
    """
    least = 1 / learned.min()
    low = np.full(len(v), least)
    # ||d|| <= ||v|| / (lam min(S) - 1).
    high = least * (1 + np.linalg.norm(v, axis=-1) / epsilon)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        size = np.linalg.norm(_step(v, learned, middle), axis=-1)
        low = np.where(size > epsilon, middle, low)
        high = np.where(size > epsilon, high, middle)
    return _step(v, learned, high)


def _step(
    v: np.ndarray, learned: np.ndarray, multiplier: np.ndarray
) -> np.ndarray:
    return v / (multiplier[:, None] * learned - 1)
