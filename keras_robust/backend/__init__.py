"""The only package that names a framework.

Everything else is written with `keras.ops`. What differs between TensorFlow,
JAX and PyTorch is the input gradient, how a loop is compiled, and the
signature of a train step: see `protocol.Backend`. The names here are those of
the backend that Keras runs on.

Compile policy (measured by `benchmarks/compile_policy.py`): XLA with the loop
inside on accelerators; on CPU, TensorFlow graph mode, and for JAX never a
convolution inside an XLA loop (jax-ml/jax#12868): short loops are unrolled,
long ones run in Python over one jitted step.
"""

import keras

from keras_robust.backend.protocol import Backend
from keras_robust.backend.protocol import Tensor as Tensor


def _active_backend() -> Backend:
    if name == "tensorflow":
        from keras_robust.backend import tensorflow

        return tensorflow
    if name == "jax":
        from keras_robust.backend import jax

        return jax
    if name == "torch":
        from keras_robust.backend import torch

        return torch
    raise ImportError(
        "keras_robust needs gradients, so the Keras backend must be "
        f"'tensorflow', 'jax' or 'torch'. Received: KERAS_BACKEND={name!r}"
    )


name: str = keras.backend.backend()
_backend = _active_backend()

Trainer = _backend.Trainer
apply_gradients = _backend.apply_gradients
chunks = _backend.chunks
compile = _backend.compile
compiles_image_transforms = _backend.compiles_image_transforms
folds_batch_norm = _backend.folds_batch_norm
gradients = _backend.gradients
has_accelerator = _backend.has_accelerator
is_traced = _backend.is_traced
iterate = _backend.iterate
needs_padding = _backend.needs_padding
runs_lookups = _backend.runs_lookups
shard_batch = _backend.shard_batch
value_and_gradient = _backend.value_and_gradient
value_and_gradients = _backend.value_and_gradients
