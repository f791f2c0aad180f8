"""Layers that wrap a function or a module of one framework."""

from keras import layers


def jax_layer(d, shape):
    import jax.numpy as jnp

    return layers.JaxLayer(
        call_fn=lambda params, inputs: jnp.tanh(inputs @ params["w"]),
        init_fn=None,
        params={"w": d.random.normal(size=(shape[-1], 3)).astype("float32")},
    )


def torch_module(d, shape):
    import torch

    module = torch.nn.Sequential(torch.nn.Linear(shape[-1], 3), torch.nn.Tanh())
    return layers.TorchModuleWrapper(module, output_shape=(None, 3))
