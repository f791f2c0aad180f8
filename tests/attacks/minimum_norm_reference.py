"""DDN, FMN, PDPGD, sigma-zero in NumPy for one hidden layer, written apart."""

import math

import numpy as np


class Network:
    """`W2 tanh(W1 x + b1) + b2`, with the gradients that the attacks need."""

    def __init__(self, weights):
        self.w1, self.b1, self.w2, self.b2 = (
            w.astype("float64") for w in weights
        )

    def logits(self, x):
        return np.tanh(x @ self.w1 + self.b1) @ self.w2 + self.b2

    def gradient(self, x, coefficients):
        """Of `sum_j coefficients_j z_j` by x."""
        hidden = np.tanh(x @ self.w1 + self.b1)
        return ((coefficients @ self.w2.T) * (1 - hidden**2)) @ self.w1.T

    def cross_entropy_gradient(self, x, y):
        z = self.logits(x)
        p = np.exp(z - z.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        return self.gradient(x, p - np.eye(z.shape[-1])[y])

    def margin(self, x, y):
        """`max_{j != y} z_j - z_y` and its gradient."""
        z = self.logits(x)
        own = np.eye(z.shape[-1])[y]
        other = np.eye(z.shape[-1])[np.where(own > 0, -np.inf, z).argmax(-1)]
        return (z * (other - own)).sum(-1), self.gradient(x, other - own)


def norm(delta, name):
    if name == "l0":
        return (delta != 0).sum(-1).astype(float)
    order = {"l1": 1, "l2": 2, "linf": np.inf}[name]
    return np.linalg.norm(delta, ord=order, axis=-1)


def project(delta, radius, name):
    """To the ball, one example after the other."""
    found = delta.copy()
    for d, r in zip(found, radius, strict=True):
        if name == "l0":
            d[np.argsort(-np.abs(d), kind="stable")[int(r) :]] = 0
        elif name == "l2":
            d *= min(1, r / max(np.linalg.norm(d), 1e-300))
        elif name == "linf":
            np.clip(d, -r, r, out=d)
        elif np.abs(d).sum() > r:
            size = np.sort(np.abs(d))[::-1]
            excess = (np.cumsum(size) - r) / np.arange(1, len(d) + 1)
            theta = excess[np.flatnonzero(size > excess)[-1]]
            d[:] = np.sign(d) * np.maximum(np.abs(d) - theta, 0)
    return found


class Tracker:
    """The nearest success of each example."""

    def __init__(self, x, name):
        self.x, self.name = x, name
        self.best = x.copy()
        self.distance = np.full(len(x), np.inf)

    def see(self, delta, success):
        distance = norm(delta, self.name)
        nearer = success & (distance < self.distance)
        self.best[nearer] = (self.x + delta)[nearer]
        self.distance[nearer] = distance[nearer]


def cosine(i, steps, first, last):
    return last + (first - last) * (1 + math.cos(math.pi * i / steps)) / 2


def ddn(network, x, y, steps, gamma=0.05):
    """Rony et al. 2019, algorithm 1."""
    tracker, delta = Tracker(x, "l2"), np.zeros_like(x)
    radius = np.ones(len(x))
    for i in range(steps):
        success = network.logits(x + delta).argmax(-1) != y
        tracker.see(delta, success)
        g = network.cross_entropy_gradient(x + delta, y)
        delta = delta + cosine(i, steps, 1, 0.01) * g / norm(g, "l2")[:, None]
        radius = radius * np.where(success, 1 - gamma, 1 + gamma)
        radius = np.minimum(radius, norm(np.maximum(x, 1 - x), "l2"))
        delta *= (radius / norm(delta, "l2"))[:, None]
        delta = np.clip(x + delta, 0, 1) - x
    return tracker.best


def fmn(network, x, y, name, steps, gamma=0.05):
    """Pintor et al. 2021, algorithm 1, with a radius that always grows."""
    tracker, delta = Tracker(x, name), np.zeros_like(x)
    radius = np.full(len(x), 1.0 if name == "l0" else 0.0)
    dual = {"l1": "linf", "l2": "l2", "linf": "l1"}.get(name)
    for i in range(steps):
        change = cosine(i, steps, gamma, gamma / 50)
        margin, g = network.margin(x + delta, y)
        success = margin > 0
        tracker.see(delta, success)
        best, found = tracker.distance, np.isfinite(tracker.distance)
        if name == "l0":
            fewer = np.minimum(radius - 1, np.floor(radius * (1 - change)))
            more = np.maximum(radius + 1, np.floor(radius * (1 + change)))
            radius = np.where(success, np.minimum(fewer, best), more)
            radius = np.maximum(radius, 0)
        else:
            grown = radius * (1 + change)
            estimate = norm(delta, name) + np.abs(margin) / norm(g, dual)
            outside = np.where(found, grown, np.maximum(grown, estimate))
            inside = np.minimum(radius * (1 - change), best)
            radius = np.where(success, inside, outside)
        radius = np.minimum(radius, norm(np.maximum(x, 1 - x), name))
        delta = delta + cosine(i, steps, 1, 0.01) * g / norm(g, "l2")[:, None]
        delta = np.clip(x + project(delta, radius, name), 0, 1) - x
    return tracker.best


def sigma_zero(network, x, y, steps, sigma=1e-3, threshold=0.3):
    """Cina et al. 2025, algorithm 1."""
    tracker, delta = Tracker(x, "l0"), np.zeros_like(x)
    threshold = np.full(len(x), threshold)
    first, second, rate = np.zeros_like(x), np.zeros_like(x), 1.0
    for i in range(steps):
        margin, g = network.margin(x + delta, y)
        tracker.see(delta, margin > 0)
        count = 2 * delta * sigma / (delta**2 + sigma) ** 2 / x.shape[-1]
        g = np.where(margin[:, None] < 0, -g, 0) + count
        size = np.abs(g).max(-1, keepdims=True)
        g = g / np.where(size > 0, size, 1)
        first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
        mean, square = (
            first / (1 - 0.9 ** (i + 1)),
            second / (1 - 0.999 ** (i + 1)),
        )
        delta = delta - rate * mean / (np.sqrt(square) + 1e-8)
        delta = np.clip(x + delta, 0, 1) - x
        rate = cosine(i, steps, 1, 0.1)
        change = np.where(margin > 0, 0.01 * rate, -0.01 * rate)
        threshold = np.clip(threshold + change, 0, 1)
        delta[np.abs(delta) < threshold[:, None]] = 0
    return tracker.best


def pdpgd(network, x, y, steps, rate=0.1):
    """Adam on softplus of the margin, and soft thresholds."""
    tracker = Tracker(x, "l1")
    delta, first, second = (np.zeros_like(x) for _ in range(3))
    log_ratio = np.full(len(x), math.log(100))
    weight = 1 / (1 + np.exp(-log_ratio))
    for i in range(steps):
        margin, gradient = network.margin(x + delta, y)
        tracker.see(delta, margin > 0)
        # d/dx log(1 + exp(-margin))
        gradient = -gradient / (1 + np.exp(margin))[:, None]
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        metric = np.sqrt(second / (1 - 0.999 ** (i + 1))) + 1e-8
        length = rate * 0.01 ** (i / steps)
        delta = delta - length * first / (1 - 0.9 ** (i + 1)) / metric
        # The minimum over z of r |z| + metric (z - delta)^2 / (2 length).
        r = ((1 - weight) / weight)[:, None]
        delta = np.sign(delta) * np.maximum(
            np.abs(delta) - r * length / metric, 0
        )
        delta = np.clip(x + delta, 0, 1) - x
        speed = rate * (0.1 + 0.9 * (1 - i / steps))
        log_ratio = log_ratio - speed * np.sign(margin)
        log_ratio = np.clip(log_ratio, math.log(1e-6), math.log(1e6))
        weight = 0.9 * weight + 0.1 / (1 + np.exp(-log_ratio))
    return tracker.best
