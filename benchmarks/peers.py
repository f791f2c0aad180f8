"""The same PGD-L2 by other libraries, as their users would call it.

    pip install adversarial-robustness-toolbox==1.20.1 foolbox==3.3.4
    pip install --no-deps cleverhans==4.0.0 torchattacks==3.5.1
    pip install easydict

Each function takes a Keras model, NumPy images (channels last) and labels,
and returns a function without arguments that attacks them, or raises
ImportError. Steps, step size, radius and start are the same for all.
"""

import keras
import numpy as np
from keras import ops
from measure import gradient_of

from keras_robust import backend

EPSILON, STEP_SIZE = 0.5, 0.1


def art(model, x, y, steps):
    """ART's PGD on its estimator for the backend."""
    from art.attacks.evasion import ProjectedGradientDescent

    options = {"nb_classes": 10, "input_shape": x.shape[1:]}
    if keras.backend.backend() == "tensorflow":
        from art.estimators.classification import TensorFlowV2Classifier

        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        estimator = TensorFlowV2Classifier(
            model, loss_object=loss, clip_values=(0, 1), **options
        )
        images = x
    else:
        import torch
        from art.estimators.classification import PyTorchClassifier

        images = np.ascontiguousarray(np.moveaxis(x, -1, 1))
        options["input_shape"] = images.shape[1:]
        estimator = PyTorchClassifier(
            channels_first(model),
            loss=torch.nn.CrossEntropyLoss(),
            clip_values=(0, 1),
            **options,
        )
    attack = ProjectedGradientDescent(
        estimator,
        norm=2,
        eps=EPSILON,
        eps_step=STEP_SIZE,
        max_iter=steps,
        batch_size=len(x),
        verbose=False,
    )
    return lambda: attack.generate(images, y)


def foolbox(model, x, y, steps):
    """foolbox's L2PGD."""
    import foolbox

    name = keras.backend.backend()
    attack = foolbox.attacks.L2PGD(
        abs_stepsize=STEP_SIZE, steps=steps, random_start=False
    )
    if name == "tensorflow":
        import tensorflow as tf

        wrapped = foolbox.TensorFlowModel(model, bounds=(0, 1))
        images, labels = tf.constant(x), tf.constant(y.astype("int64"))
    elif name == "jax":
        from jax import numpy as jnp

        wrapped = foolbox.JAXModel(
            lambda x: model(x, training=False), bounds=(0, 1)
        )
        images, labels = jnp.asarray(x), jnp.asarray(y)
    else:
        images, labels = torch_tensors(x, y)
        wrapped = foolbox.PyTorchModel(
            channels_first(model), bounds=(0, 1), device=images.device
        )

    def run():
        raw, _, _ = attack(wrapped, images, labels, epsilons=EPSILON)
        ops.convert_to_numpy(raw)

    return run


def cleverhans(model, x, y, steps):
    """cleverhans' tf2 PGD inside a `tf.function`, its fastest way."""
    import tensorflow as tf
    from cleverhans.tf2.attacks.projected_gradient_descent import (
        projected_gradient_descent,
    )

    @tf.function
    def attack(images, labels):
        return projected_gradient_descent(
            model,
            images,
            eps=EPSILON,
            eps_iter=STEP_SIZE,
            nb_iter=steps,
            norm=2,
            clip_min=0.0,
            clip_max=1.0,
            y=labels,
            rand_init=False,
            sanity_checks=False,
        )

    images, labels = tf.constant(x), tf.constant(y.astype("int64"))
    return lambda: attack(images, labels).numpy()


def torchattacks(model, x, y, steps):
    """torchattacks' PGDL2."""
    import torchattacks

    attack = torchattacks.PGDL2(
        channels_first(model),
        eps=EPSILON,
        alpha=STEP_SIZE,
        steps=steps,
        random_start=False,
    )
    images, labels = torch_tensors(x, y)
    return lambda: ops.convert_to_numpy(attack(images, labels))


def torch_tensors(x, y):
    """Images, channels first, and labels on the device that Keras uses."""
    x = np.ascontiguousarray(np.moveaxis(x, -1, 1))
    return ops.convert_to_tensor(x), ops.convert_to_tensor(y.astype("int64"))


def channels_first(model):
    """A torch module around a Keras model on the torch backend."""
    import torch

    class Layout(torch.autograd.Function):
        """Channels last, with a gradient that torchattacks can `view`."""

        @staticmethod
        def forward(context, images):
            return images.permute(0, 2, 3, 1)

        @staticmethod
        def backward(context, gradient):
            return gradient.permute(0, 3, 1, 2).contiguous()

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, images):
            return self.inner(Layout.apply(images), training=False)

    return Network().eval()


PEERS = {
    "tensorflow": (art, foolbox, cleverhans),
    "jax": (foolbox,),
    "torch": (art, foolbox, torchattacks),
}


def hand_written(model, x, y, steps):
    """The best loop that a user writes around the bare gradient.

    Gradient and step are one compiled function (on PyTorch: autograd), and
    Python loops over it.
    """
    labels = ops.convert_to_tensor(y)

    def length(x):
        return ops.sqrt(ops.sum(ops.square(x), axis=(1, 2, 3), keepdims=True))

    def step(inputs):
        start, x = inputs["start"], inputs["x"]
        g = gradient_of(model, inputs["y"], x)
        delta = x + STEP_SIZE * g / (length(g) + 1e-12) - start
        delta = delta * ops.minimum(1.0, EPSILON / (length(delta) + 1e-12))
        return ops.clip(start + delta, 0.0, 1.0)

    step = backend.compile(step, model.variables)

    def run():
        start = image = ops.convert_to_tensor(x)
        for _ in range(steps):
            image = step({"start": start, "x": image, "y": labels})
        return ops.convert_to_numpy(image)

    return run
