"""Speed, busy share and peak memory of `datasets.generate`.

    python benchmarks/generation_memory.py --examples 5000 50000 --steps 1
    python benchmarks/generation_memory.py --examples 5000 --steps 20

Each size is a process of its own, so that its peak memory is its own: D_rand
of the first so many CIFAR-10 training images, by a small network with random
weights. `of_bare` compares with the compiled transform on a batch in memory,
before and after: the speed of a shared machine changes.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, nargs="+", default=[5000])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--filters", type=int, nargs="+", default=[16, 32])
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--here", action="store_true", help="in this process")
    return parser.parse_args()


def measure(options):
    """One size, in this process.

    Args:
        options: Of the command line.

    Returns:
        Dictionary of numbers.
    """
    import keras
    import numpy as np

    import keras_robust as kr

    keras.utils.set_random_seed(0)
    examples = options.examples[0]
    model = kr.models.small_cnn((32, 32, 3), filters=options.filters)
    transform = kr.NonRobustifier(
        model, steps=options.steps, batch_size=options.batch_size, seed=0
    )
    x = np.random.default_rng(0).random((options.batch_size, 32, 32, 3))
    x, t = x.astype("float32"), np.zeros(len(x), "int32")
    transform.make(x, t)

    def bare():
        begun, batches = time.monotonic(), max(examples // len(x) // 20, 3)
        for _ in range(batches):
            transform.make(x, t)
        return batches * len(x) / (time.monotonic() - begun)

    before = bare()
    with tempfile.TemporaryDirectory() as folder:
        done = kr.datasets.generate(
            *(transform, "cifar10", folder),
            examples=examples,
            dtype=options.dtype,
            verbose=0,
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "backend": keras.backend.backend(),
        "examples": examples,
        "steps": options.steps,
        "dtype": options.dtype,
        "images_per_second": round(done["images_per_second"], 1),
        "of_bare": round(2 * done["images_per_second"] / (before + bare()), 3),
        "busy": round(done["busy"], 4),
        "peak_MiB": round(peak),
    }


def main():
    """A line of JSON per size."""
    options = arguments()
    if options.here:
        print(json.dumps(measure(options)), flush=True)
        return
    for examples in options.examples:
        command = [sys.executable, __file__, "--here"]
        for key in ("steps", "batch_size", "dtype"):
            command += [
                f"--{key.replace('_', '-')}",
                str(getattr(options, key)),
            ]
        command += ["--filters", *map(str, options.filters)]
        subprocess.run(
            [*command, "--examples", str(examples)],
            check=True,
            stderr=subprocess.DEVNULL,
        )


if __name__ == "__main__":
    main()
