"""Two Gaussians of opposite means, and linear classifiers of them."""

from typing import Any

import numpy as np

from keras_robust.utils.messages import shown

# Order of the dual norm, in which an attack reduces a linear margin.
_DUALS = {"l1": np.inf, "l2": 2, "linf": 1}


class GaussianModel:
    """Labels y of -1 and 1, equally likely, and x from N(y mean, covariance).

    Ilyas et al. 2019, section 4, equation (10). Its likelihood classifier is
    linear: the sign of `x' covariance^-1 mean`.

    Args:
        mean: Float array `(d,)`.
        covariance: Positive float array `(d,)`, a diagonal; or a positive
            definite matrix `(d, d)`.

    Raises:
        ValueError: If the covariance is not positive definite or has a wrong
            shape.

    Example:

    ```python
    model = keras_robust.theory.GaussianModel([1.0, 0.5], [1.0, 0.05])
    model.accuracy(), model.accuracy(epsilon=1.0)
    ```
    """

    def __init__(self, mean: Any, covariance: Any) -> None:
        self.mean = np.asarray(mean, "float64")
        covariance = np.asarray(covariance, "float64")
        if covariance.ndim == 1:
            covariance = np.diag(covariance)
        dimension = len(self.mean)
        fits = covariance.shape == (dimension, dimension)
        if not fits or not np.allclose(covariance, covariance.T):
            raise ValueError(
                "Argument `covariance` must be a diagonal of length "
                f"{dimension} or a symmetric matrix of that size. "
                f"Received: covariance of shape {covariance.shape}"
            )
        smallest = np.linalg.eigvalsh(covariance)[0]
        if not smallest > 0:
            raise ValueError(
                "Argument `covariance` must be positive definite. "
                f"Received: smallest eigenvalue {smallest}"
            )
        self.covariance = covariance

    def sample(
        self, examples: int, seed: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw examples.

        Args:
            examples: Int.
            seed: Int or `None`.

        Returns:
            `(x, y)`: float64 `(examples, d)` and ints of -1 and 1.
        """
        random = np.random.default_rng(seed)
        y = 2 * random.integers(0, 2, examples) - 1
        noise = random.standard_normal((examples, len(self.mean)))
        root = np.linalg.cholesky(self.covariance)
        return y[:, None] * self.mean + noise @ root.T, y

    @classmethod
    def fit(cls, x: Any, y: Any) -> "GaussianModel":
        """Fit a model by maximum likelihood, equation (11).

        Args:
            x: Float array `(N, d)`.
            y: Ints of -1 and 1, `(N,)`.

        Returns:
            `GaussianModel`.
        """
        aligned = np.asarray(y)[:, None] * np.asarray(x, "float64")
        mean = aligned.mean(0)
        centered = aligned - mean
        return cls(mean, centered.T @ centered / len(aligned))

    @property
    def weights(self) -> np.ndarray:
        """Weights of the likelihood classifier, `covariance^-1 mean`."""
        return np.linalg.solve(self.covariance, self.mean)

    def negative_log_likelihood(self, x: Any, y: Any) -> np.ndarray:
        """Negative log likelihood of each example under its label, `(N,)`.

        Args:
            x: Float array `(N, d)`.
            y: Ints of -1 and 1, `(N,)`.
        """
        v = np.asarray(x) - np.asarray(y)[:, None] * self.mean
        squares = (v * np.linalg.solve(self.covariance, v.T).T).sum(-1)
        _, log_volume = np.linalg.slogdet(2 * np.pi * self.covariance)
        return (squares + log_volume) / 2

    def accuracy(
        self, epsilon: float = 0.0, norm: str = "l2", weights: Any = None
    ) -> float:
        """Robust accuracy of a linear classifier on data of this model.

        `Phi((w' mean - epsilon ||w||_q) / sqrt(w' covariance w))`, where q is
        the order of the dual norm.

        Args:
            epsilon: Float >= 0, radius of the attack.
            norm: `"l1"`, `"l2"` or `"linf"`.
            weights: Float array `(d,)`; `None` for those of the likelihood
                classifier.

        Returns:
            Float in [0, 1].

        Raises:
            ValueError: If the norm is unknown or the radius is negative.
        """
        from scipy.stats import norm as normal

        if norm not in _DUALS or not epsilon >= 0:
            raise ValueError(
                f"Argument `norm` must be one of {tuple(_DUALS)} and `epsilon` "
                f">= 0. Received: norm={shown(norm)}, epsilon={shown(epsilon)}"
            )
        w = self.weights if weights is None else np.asarray(weights, "float64")
        margin = w @ self.mean - epsilon * np.linalg.norm(w, _DUALS[norm])
        return float(normal.cdf(margin / np.sqrt(w @ self.covariance @ w)))
