"""Training objectives in NumPy and float64, written from the papers.

Every function takes labels `(N,)` and logits `(N, C)` for clean and attacked
images, and returns the whole loss of each example, with cross-entropy as the
compiled loss.
"""

import numpy as np


def log_softmax(z):
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def probabilities(z):
    return np.exp(log_softmax(z))


def cross_entropy(y, z):
    return -log_softmax(z)[np.arange(len(y)), y]


def kl(first, second):
    p = probabilities(first)
    return (p * (log_softmax(first) - log_softmax(second))).sum(-1)


def trades(y, clean, attacked, beta=6.0):
    return cross_entropy(y, clean) + beta * kl(clean, attacked)


def mart(y, clean, attacked, beta=5.0):
    rows = np.arange(len(y))
    q = probabilities(attacked)
    others = q.copy()
    others[rows, y] = -1
    boosted = -np.log(q[rows, y]) - np.log(1 - others.max(-1))
    missing = 1 - probabilities(clean)[rows, y]
    return boosted + beta * kl(clean, attacked) * missing


def ikl(y, clean, attacked, fixed=None, weights=None, squares=20.0, soft=4.0):
    """`fixed`: the clean logits whose gradient is cut off."""
    classes = clean.shape[-1]
    fixed = clean if fixed is None else fixed
    if weights is None:
        weights = np.full((classes, classes), 1 / classes)
    total = cross_entropy(y, clean)
    for n, label in enumerate(y):
        d, w = clean[n] - attacked[n], weights[label]
        pairs = sum(
            w[j] * w[k] * (d[j] - d[k]) ** 2
            for j in range(classes)
            for k in range(classes)
        )
        p = probabilities(fixed[n : n + 1])[0]
        entropy = (p * log_softmax(attacked[n : n + 1])[0]).sum()
        total[n] += squares / 4 * pairs - soft * entropy
    return total


def logit_pairing(y, clean, attacked, weight=0.5, clean_weight=0.5):
    return (
        clean_weight * cross_entropy(y, clean)
        + (1 - clean_weight) * cross_entropy(y, attacked)
        + weight * ((clean - attacked) ** 2).mean(-1)
    )


def mixed(y, clean, attacked, clean_weight=0.5):
    return clean_weight * cross_entropy(y, clean) + (
        1 - clean_weight
    ) * cross_entropy(y, attacked)


def derivative(function, values, step=1e-5):
    """The gradient of a scalar function of an array, by differences."""
    values = np.array(values, "float64")
    found = np.zeros_like(values)
    for index in np.ndindex(values.shape):
        moved = [values.copy(), values.copy()]
        moved[0][index] += step
        moved[1][index] -= step
        found[index] = (function(moved[0]) - function(moved[1])) / (2 * step)
    return found
