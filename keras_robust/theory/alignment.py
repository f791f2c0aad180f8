"""Theorem 3: how well gradients point from one class to the other."""

from typing import Any

import numpy as np

from keras_robust.theory.vulnerability import eigenvalues


def minimal_cosine(covariance: Any) -> float:
    """The least cosine between a mean and the gradient at it.

    Ilyas et al. 2019, Theorem 3 and Lemma 8: the gradient of the likelihood
    classifier is `covariance^-1 mean`, and over all means its cosine with the
    mean is at least `2 sqrt(k) / (1 + k)`, where k is the condition number.
    Robust learning makes k smaller, unless it is 1, so its gradients are better
    aligned.

    Args:
        covariance: Positive float array `(d,)`, a diagonal, or a matrix.

    Returns:
        Float in (0, 1].
    """
    values = eigenvalues(covariance)
    k = values.max() / values.min()
    return float(2 * np.sqrt(k) / (1 + k))


def worst_direction(covariance: Any) -> np.ndarray:
    """A mean at which the cosine of `minimal_cosine` is least.

    Args:
        covariance: Positive float array `(d,)`, a diagonal.

    Returns:
        Float array `(d,)` of length 1.
    """
    s = np.asarray(covariance, "float64")
    low, high = s.argmin(), s.argmax()
    direction = np.zeros_like(s)
    direction[low] = np.sqrt(s[low])
    direction[high] = np.sqrt(s[high])
    return direction / np.linalg.norm(direction)
