"""Activations that hide gradients, for tests and benchmarks."""

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("tests")
class MeanSparse(keras.layers.Layer):
    """MeanSparse, arXiv:2406.05927, equation 5.

    Activations within `alpha` standard deviations of their channel's mean are
    set to the mean. `adapt` measures both.

    Args:
        alpha: Float >= 0.
    """

    def __init__(self, alpha=0.25, **kwargs):
        super().__init__(**kwargs)
        self.alpha = alpha

    def build(self, shape):
        for name in ("mean", "deviation"):
            value = self.add_weight(
                name=name,
                shape=shape[-1:],
                initializer="zeros",
                trainable=False,
            )
            setattr(self, name, value)

    def adapt(self, activations):
        axes = tuple(range(activations.ndim - 1))
        self.mean.assign(activations.mean(axes))
        self.deviation.assign(activations.std(axes))

    def call(self, x):
        near = ops.abs(x - self.mean) <= self.alpha * self.deviation
        return ops.where(near, self.mean + ops.zeros_like(x), x)

    def get_config(self):
        return {**super().get_config(), "alpha": self.alpha}


@keras.saving.register_keras_serializable("tests")
class KWinners(keras.layers.Layer):
    """The `share` largest activations of an example pass; others are zero.

    k-WTA, Xiao et al. 2020 (arXiv:1905.10510).

    Args:
        share: Float in (0, 1].
    """

    def __init__(self, share=0.1, **kwargs):
        super().__init__(**kwargs)
        self.share = share

    def call(self, x):
        flat = ops.reshape(x, (-1, int(np.prod(x.shape[1:]))))
        k = max(int(self.share * flat.shape[-1]), 1)
        least = ops.top_k(flat, k)[0][:, -1:]
        kept = ops.where(flat >= least, flat, 0.0)
        return ops.reshape(kept, ops.shape(x))

    def get_config(self):
        return {**super().get_config(), "share": self.share}


def insert_after(model, kind, make):
    """A copy of a sequence of layers, with a new one after each of a kind.

    Args:
        model: A functional model whose layers follow one another.
        kind: A class of layers.
        make: Called without arguments for each new layer.

    Returns:
        `(model, new layers)`; the other layers are shared.
    """
    h, new = model.inputs[0], []
    for layer in model.layers[1:]:
        h = layer(h)
        if isinstance(layer, kind):
            new.append(make())
            h = new[-1](h)
    return keras.Model(model.inputs, h), new


def mean_sparse(model, x, kind, alpha):
    """A copy of a model with `MeanSparse` after each layer of a kind."""
    copy, new = insert_after(model, kind, lambda: MeanSparse(alpha))
    for layer in new:
        view = keras.Model(copy.inputs, layer.input)
        layer.adapt(view.predict(x, verbose=0))
    return copy
