"""Trains the five networks of `autoattack_agreement.py`, on Fashion-MNIST.

    python benchmarks/autoattack_models.py --output runs/autoattack

standard; adversarial (PGD-L2, epsilon 1.0); trained on D_R of the adversarial
one; randomized (the standard one behind Gaussian noise of 0.1, at inference
too); masked (the adversarial one behind a rounding of pixels to 16 levels,
whose gradient is zero). Small, because the point is that libraries agree.
"""

import argparse
import pathlib

import keras
from keras import ops

import keras_robust as kr

IMAGES = 20_000
EPOCHS = 6


@keras.saving.register_keras_serializable("benchmarks")
class AlwaysNoise(keras.layers.Layer):
    """Gaussian noise, at inference too."""

    def __init__(self, stddev, seed=0, **kwargs):
        super().__init__(**kwargs)
        self.stddev = stddev
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs):
        """`inputs` and noise."""
        noise = keras.random.normal(
            ops.shape(inputs), stddev=self.stddev, seed=self.seed_generator
        )
        return inputs + noise

    def get_config(self):
        """Its arguments."""
        return {
            **super().get_config(),
            "stddev": self.stddev,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable("benchmarks")
class Quantize(keras.layers.Layer):
    """Pixels rounded to 16 levels: its gradient is zero."""

    def call(self, inputs):
        """Rounded `inputs`."""
        return ops.round(inputs * 15) / 15


def network():
    """A small CNN for 28x28 images."""
    return kr.models.small_cnn((28, 28, 1), filters=(8, 16, 32))


def fit(model, x, y, attack=None):
    """Trains `model`, adversarially where there is an attack."""
    trained = model if attack is None else kr.AdversarialModel(model, attack)
    steps = EPOCHS * (len(x) // 128)
    trained.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(2e-3, steps)
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    trained.fit(x, y, batch_size=128, epochs=EPOCHS, verbose=2)
    return model


def behind(layer, model):
    """`model` behind one more layer."""
    inputs = keras.Input(model.input_shape[1:])
    return keras.Model(inputs, model(layer(inputs)))


def main():
    """Trains and saves what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)
    x, y = kr.datasets.load("fashion_mnist").train
    x, y = x[:IMAGES], y[:IMAGES]

    def saved(name, make):
        path = folder / f"{name}.keras"
        if not path.exists():
            make().save(path)
        return keras.saving.load_model(path)

    attack = kr.PGDAttack("l2", 1.0, steps=5)
    standard = saved("standard", lambda: fit(network(), x, y))
    robust = saved("adversarial", lambda: fit(network(), x, y, attack))

    def on_robust_images():
        images = kr.Robustifier(robust, steps=100, batch_size=500, seed=0)(x)
        return fit(network(), images, y)

    saved("d_r", on_robust_images)
    saved("randomized", lambda: behind(AlwaysNoise(0.1), standard))
    saved("masked", lambda: behind(Quantize(), robust))


if __name__ == "__main__":
    main()
