"""The only room that names a framework.

Everything else is written with `keras.ops`. What differs between TensorFlow,
JAX and PyTorch is the input gradient, how a loop is compiled, and the
signature of a train step; each module here gives the same names:

* `value_and_gradient(function, x)`: for `function: x -> (values, auxiliary)`
  with values `(N,)`, returns `(values, auxiliary), gradient`: the gradient of
  the sum, not the mean, so that no example's depends on the batch.
* `iterate(step, running, state, steps)`: `state = step(state)`, `steps` times
  or until `running(state)` is false; inside a trace or not.
* `compile(function, variables, jit_compile, takes_steps)`: a compiled callable.
* `chunks(steps, jit_compile, unrolls)`: the pieces in which a long loop is
  run; `unrolls` says whether it is worth compiling several steps as one.
* `needs_padding(jit_compile)`: whether a new batch size costs a compilation.
* `spread(tensors)`: a batch, laid out over the devices of a Keras or
  TensorFlow distribution where there is one.
* `folds_batch_norm`: whether a frozen model's BatchNorm is worth folding into
  its convolutions by hand; XLA does as well by itself.
* `runs_lookups`: whether layers that look up values, such as `Hashing`, can
  run in a frozen function.
* `is_traced(x)`: whether `x` is symbolic, so that its values cannot be read.
* `Trainer`: the train and test steps of `AdversarialModel`.

Compile policy (measured by `benchmarks/compile_policy.py`): XLA with the loop
inside on accelerators; on CPU, TensorFlow graph mode, and for JAX never a
convolution inside an XLA loop (jax-ml/jax#12868): short loops are unrolled,
long ones run in Python over one jitted step.
"""

from importlib import import_module

import keras

name = keras.backend.backend()

if name not in ("tensorflow", "jax", "torch"):
    raise ImportError(
        "keras_robust needs gradients, so the Keras backend must be "
        f"'tensorflow', 'jax' or 'torch'. Received: KERAS_BACKEND={name!r}"
    )

_module = import_module(f"keras_robust.backend.{name}")

Trainer = _module.Trainer
chunks = _module.chunks
compile = _module.compile
folds_batch_norm = _module.folds_batch_norm
is_traced = _module.is_traced
iterate = _module.iterate
needs_padding = _module.needs_padding
runs_lookups = _module.runs_lookups
spread = _module.spread
value_and_gradient = _module.value_and_gradient
