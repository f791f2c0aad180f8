"""Which weights a model has."""

import hashlib

import numpy as np


def weights_sha256(model):
    """The SHA-256 of a model's weights, in their order.

    Args:
        model: A built Keras model.

    Returns:
        Hexadecimal text; the same for the same weights on every backend.
    """
    digest = hashlib.sha256()
    for value in model.get_weights():
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).data)
    return digest.hexdigest()
