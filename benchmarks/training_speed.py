"""What a step of adversarial training costs beyond its parts.

    for backend in tensorflow jax torch; do
      KERAS_BACKEND=$backend python benchmarks/training_speed.py
      KERAS_BACKEND=$backend python benchmarks/training_speed.py \
          --attack n-fgsm --steps 20
    done

ResNet-20, batches of 128 (`--batch-size`), PGD-L2 with 7 steps, `fit` on random
images. A step should cost 7 input gradients and one plain training step of the
same model: "of parts" is the time of the one over the time of the other, median
over turns, each of `--steps` steps in one process. With `--attack n-fgsm` it is
one step of N-FGSM and one input gradient. The first `fit`, which compiles, is
left out. The bare gradients are those of a user: no BatchNorm is folded. Each
`fit` holds what is done once in an epoch, such as the check on its first batch
that the attack has a gradient: an epoch of `--steps` is shorter than most. On a
GPU a batch of 128 takes less time than Python needs to start it; larger ones
show what the GPU does. Results of another batch size stand in a file of their
own.
`fit` reads `kr.datasets.pipeline`; with `--arrays` it reads the arrays, and on
TensorFlow can wait at the end of an epoch for the thread that tunes tf.data.

Results: see `results/training-*.json` and docs/performance.md.
"""

import argparse

import keras
import measure
import numpy as np
from keras import ops

import keras_robust as kr

# The batch size of the published figures.
BATCH = 128
# Attacks with their numbers of steps.
ATTACKS = {
    "pgd": (kr.PGDAttack(epsilon=0.5, step_size=0.1, steps=7), 7),
    "n-fgsm": (kr.NFGSMAttack("linf", 8 / 255), 1),
}


def main():
    """Three ways in turns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=BATCH)
    parser.add_argument("--attack", default="pgd", choices=ATTACKS)
    parser.add_argument(
        "--arrays", action="store_true", help="fit on arrays, nothing saved"
    )
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    size = options.batch_size
    count = size * options.steps
    x = random.random((count, 32, 32, 3), dtype="float32")
    y = random.integers(0, 10, count).astype("int32")
    # Keras makes a data set of arrays that tunes itself, and tf.data can wait
    # for the thread that does so at the end of every epoch.
    batches = kr.datasets.pipeline(x, y, size)
    attack, attack_steps = ATTACKS[options.attack]
    plain = kr.models.cifar_resnet()
    robust = kr.AdversarialModel(kr.models.cifar_resnet(), attack)

    def fitting(model):
        model.compile(
            keras.optimizers.SGD(0.01, momentum=0.9),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        if options.arrays:
            return lambda: model.fit(
                x, y, batch_size=size, shuffle=False, verbose=0
            )
        return lambda: model.fit(batches, verbose=0)

    gradient = measure.bare_gradient(kr.models.cifar_resnet())
    inputs = {
        "x": ops.convert_to_tensor(x[:size]),
        "y": ops.convert_to_tensor(y[:size]),
    }

    def gradients():
        for _ in range(options.steps * attack_steps):
            g = gradient(inputs)
        ops.convert_to_numpy(g)

    ways = {
        "adversarial fit": fitting(robust),
        "plain fit": fitting(plain),
        "gradients": gradients,
    }
    times = measure.take_turns(ways, options.repeats)
    parts = np.add(times["plain fit"], times["gradients"])
    of_parts = float(np.median(times["adversarial fit"] / parts))
    results = {
        "of_parts": of_parts,
        "of": {
            name: measure.summary(taken, count) for name, taken in times.items()
        },
    }
    for name, line in results["of"].items():
        print(f"{name:16} {line['per_second']:8.0f} images/s")
    print(f"adversarial fit takes {of_parts:.3f} of the time of its parts")
    if not options.arrays:
        kind = "" if options.attack == "pgd" else f"-{options.attack}"
        if size != BATCH:
            kind += f"-{size}"
        measure.save(f"training{kind}-{keras.backend.backend()}", results)


if __name__ == "__main__":
    main()
