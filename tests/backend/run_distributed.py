"""Run as a process: training and generation on one device and on two."""

import contextlib
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
from keras_robust import backend  # noqa: E402

STRATEGY = None
RUNS = []
if BACKEND == "tensorflow" and DEVICES > 1:

    class Strategy(tf.distribute.MirroredStrategy):
        """Counts what it runs."""

        def run(self, function, args=(), kwargs=None, options=None):
            """As ever."""
            RUNS.append(function)
            return super().run(function, args, kwargs, options)

    STRATEGY = Strategy([f"CPU:{i}" for i in range(DEVICES)])
    assert STRATEGY.num_replicas_in_sync == DEVICES


def build(attack, optimizer, **options):
    """The same network every time."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(
                16,
                activation="relu",
                kernel_regularizer=keras.regularizers.L2(1e-3),
            ),
            keras.layers.Dense(10),
        ]
    )
    robust = kr.AdversarialModel(model, attack, **options)
    robust.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return robust


def main():
    """What training and generation give."""
    (x, y), _ = kr.datasets.load("digits")
    x, y = x[:256], y[:256]
    if BACKEND == "jax" and DEVICES > 1:
        distribution = keras.distribution.DataParallel()
        assert len(keras.distribution.list_devices()) == DEVICES
        keras.distribution.set_distribution(distribution)
    with scope():
        robust = build(kr.PGDAttack(epsilon=0.4, steps=3), sgd())
        scaled = keras.optimizers.LossScaleOptimizer(
            sgd(), initial_scale=64.0, dynamic_growth_steps=2
        )
        free = build(kr.FGSMAttack("l2", 0.5), scaled, replays=3)
    values = trained(robust, x, y, epochs=2, validation_data=(x, y))
    values += trained(free, x, y)
    return values + generated(robust.model, x, y) + [stopped()]


def sgd():
    """An optimizer."""
    return keras.optimizers.SGD(0.1, momentum=0.9)


def scope():
    """Where models are made and attacked."""
    return STRATEGY.scope() if STRATEGY else contextlib.nullcontext()


def trained(robust, x, y, **options):
    """Weights and logs after `fit`."""
    logs = robust.fit(
        x, y, batch_size=64, shuffle=False, verbose=0, **options
    ).history
    values = [np.asarray(logs[key]) for key in sorted(logs)]
    return robust.get_weights() + values


def generated(model, x, y):
    """Images of two transforms; every device has a part of each batch."""
    options = {"seed": 0, "batch_size": 64, "steps": 4}
    transforms = (
        kr.Robustifier(model, **options),
        kr.NonRobustifier(model, **options),
    )
    if BACKEND == "jax":
        batch = backend.shard_batch(keras.ops.convert_to_tensor(x[:64]))
        assert len(batch.sharding.device_set) == DEVICES
    made, before = [], len(RUNS)
    with scope():
        # The last batch is a partial one.
        made.append(transforms[0](x[:150], verbose=0))
        made.append(transforms[1](x[:150], y[:150], verbose=0)[0])
        # Its proposals come from tables of one row per query, not per image.
        square = kr.SquareAttack("l2", 0.5, queries=20, seed=0, batch_size=64)
        made.append(square(model, x[:150], y[:150], verbose=0))
    assert not STRATEGY or RUNS[before:]
    return made


def stopped():
    """Images where all that one device has stop long before the others'.

    The length of a step depends on its number, which both must agree on.
    """
    with scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
        weights = np.array([[-1, 1], [1, -1]], "float32")
        model.set_weights([weights, np.zeros(2, "float32")])
        # Wrong after six steps, and never.
        x = np.repeat([[0.4, 0.435], [0.05, 0.95]], 4, axis=0)
        x = x.astype("float32")
        attack = kr.PGDAttack(
            "linf",
            epsilon=0.3,
            steps=20,
            step_size=keras.optimizers.schedules.PolynomialDecay(
                initial_learning_rate=0.001,
                decay_steps=1000,
                end_learning_rate=1.001,
            ),
            random_start=False,
            early_stop=True,
        )
        found = attack(model, x, np.zeros(8, int), verbose=0)
    # After k steps the sum of their lengths is k (k + 1) / 2000.
    moved = np.repeat([[0.021, -0.021], [0.21, -0.21]], 4, axis=0)
    np.testing.assert_allclose(found - x, moved, atol=1e-5)
    return found


if __name__ == "__main__":
    assert BACKEND != "jax" or f"={DEVICES}" in os.environ["XLA_FLAGS"]
    np.savez(sys.argv[2], *main())
