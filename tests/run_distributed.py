"""Run as a process: adversarial training on one device and on two."""

import os
import sys

import keras
import numpy as np

DEVICES = int(sys.argv[1])
BACKEND = keras.backend.backend()

if BACKEND == "tensorflow":
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * DEVICES
    )

import keras_robust as kr  # noqa: E402


def build():
    """The same network and data every time."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    robust = kr.AdversarialModel(model, kr.PGDAttack(epsilon=0.4, steps=3))
    robust.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return robust


def train():
    """Weights and logs after two epochs."""
    (x, y), _ = kr.datasets.load("digits")
    x, y = x[:256], y[:256]
    if BACKEND == "tensorflow" and DEVICES > 1:
        strategy = tf.distribute.MirroredStrategy(
            [f"CPU:{i}" for i in range(DEVICES)]
        )
        assert strategy.num_replicas_in_sync == DEVICES
        with strategy.scope():
            robust = build()
    else:
        if DEVICES > 1:
            distribution = keras.distribution.DataParallel()
            assert len(keras.distribution.list_devices()) == DEVICES
            keras.distribution.set_distribution(distribution)
        robust = build()
    logs = robust.fit(
        *(x, y),
        epochs=2,
        batch_size=64,
        shuffle=False,
        verbose=0,
        validation_data=(x, y),
    ).history
    values = [np.asarray(logs[key]) for key in sorted(logs)]
    return robust.get_weights() + values


if __name__ == "__main__":
    assert BACKEND != "jax" or f"={DEVICES}" in os.environ["XLA_FLAGS"]
    np.savez(sys.argv[2], *train())
