"""Where the compile policy comes from: ways to run one attack, side by side.

    KERAS_BACKEND=jax python benchmarks/compile_policy.py

Times 7 steps of PGD-L2 on ResNet-20 (batch 128, 32x32 images) with
`jit_compile` "auto", True and False, and as the limit 7 bare input gradients
of the same model. Warm-up is excluded, the ways take turns in one process,
the best of `--repeats` counts. Prints image-steps/s, the ratio to the bare
gradients, and the seconds of the first call. Results: see README.
"""

import argparse
import time

import keras
import numpy as np
from keras import ops

import keras_robust as kr
from keras_robust import backend
from keras_robust.attacks.objectives import log_odds
from keras_robust.attacks.per_model import frozen_logits


def bare_gradient(model):
    """The compiled input gradient, and nothing around it."""
    logits = frozen_logits(model, None)

    def gradient(inputs):
        return backend.value_and_gradient(
            lambda x: (log_odds(inputs["y"], logits(x)), 0), inputs["x"]
        )[1]

    return backend.compile(gradient, model.variables)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument(
        "--ways", nargs="+", default=["auto", "False"], help="of jit_compile"
    )
    options = parser.parse_args()
    random = np.random.default_rng(0)
    x = random.random((options.batch, 32, 32, 3), dtype="float32")
    y = random.integers(0, 10, options.batch).astype("int32")
    model = kr.models.cifar_resnet()
    gradient = bare_gradient(model)
    inputs = {"x": ops.convert_to_tensor(x), "y": ops.convert_to_tensor(y)}

    def bare():
        for _ in range(options.steps):
            result = gradient(inputs)
        ops.convert_to_numpy(result)

    ways = {"bare gradients": bare}
    for way in options.ways:
        attack = kr.PGDAttack(
            steps=options.steps,
            batch_size=options.batch,
            jit_compile={"True": True, "False": False}.get(way, way),
        )
        ways[f"jit_compile={way}"] = lambda attack=attack: attack(
            model, x, y, verbose=0
        )
    first, best = {}, {}
    for name, run in ways.items():
        first[name] = seconds(run)
    for _ in range(options.repeats):
        for name, run in ways.items():
            best[name] = min(best.get(name, np.inf), seconds(run))
    print(f"backend {keras.backend.backend()}")
    work = options.batch * options.steps
    for name in ways:
        print(
            f"{name:20} {work / best[name]:8.0f} image-steps/s, "
            f"{best['bare gradients'] / best[name]:.2f} of bare, "
            f"first call {first[name]:.1f} s"
        )


def seconds(run):
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
