"""Where the compile policy comes from: ways to run one attack, side by side.

    python benchmarks/compile_policy.py --ways auto True
    KERAS_BACKEND=jax python benchmarks/compile_policy.py --ways auto True \
        --batch 32

Times 7 steps of PGD-L2 on ResNet-20 (32x32 images, random weights) with
`jit_compile` "auto", True and False, and as the limit 7 bare input gradients
of the same model, in turns; tracing and compilation are excluded. Prints
image-steps/s and the median ratio to the bare gradients. Results: see
`results/compile-policy-*.json` and docs/performance.md.
"""

import argparse

import keras
import measure
from attack_speed import STEPS
from attack_speed import bare
from attack_speed import images
from attack_speed import network

import keras_robust as kr


def main():
    """Every way, in turns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument(
        "--ways", nargs="+", default=["auto", "False"], help="of jit_compile"
    )
    options = parser.parse_args()
    model, shape = network("resnet20")
    x, y = images(options.batch, shape)
    ways = {"bare gradients": bare(model, x, y)}
    for way in options.ways:
        attack = kr.PGDAttack(
            steps=STEPS,
            batch_size=options.batch,
            jit_compile={"True": True, "False": False}.get(way, way),
        )
        ways[f"jit_compile={way}"] = lambda attack=attack: attack(
            model, x, y, verbose=0
        )
    times = measure.take_turns(ways, options.repeats, warm=1)
    results = {"batch": options.batch}
    for name, taken in times.items():
        results[name] = measure.summary(taken, options.batch * STEPS)
        results[name]["of_bare"] = measure.ratio(times, name, "bare gradients")
        print(
            f"{name:20} {results[name]['per_second']:8.0f} image-steps/s, "
            f"{results[name]['of_bare']:.2f} of bare",
            flush=True,
        )
    measure.save(f"compile-policy-{keras.backend.backend()}", results)


if __name__ == "__main__":
    main()
