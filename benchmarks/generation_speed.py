"""Speed, busy share and peak memory of generated data sets.

    python benchmarks/generation_speed.py
    python benchmarks/generation_speed.py --steps 20
    python benchmarks/generation_speed.py --memory 5000 50000

D_rand of CIFAR-10 training images, the paper's 100 steps, by a small network
with random weights, through `map` and through `datasets.generate`, in turns
with the bare compiled loop on a batch in memory: "of bare" is the share of its
speed, median over the turns; reading, targets, distances, compression,
checksums and writing are what may be lost. For `--memory` each size is a
process of its own, one step, so that its peak memory is its own.

Results: see `results/generation-*.json` and docs/performance.md.
"""

import argparse
import json
import resource
import tempfile

import keras
import measure
import numpy as np
from keras import ops

import keras_robust as kr

BATCH = 128


def transform(steps):
    """D_rand by a small network."""
    keras.utils.set_random_seed(0)
    model = kr.models.small_cnn((32, 32, 3), filters=(16, 32))
    return kr.NonRobustifier(model, steps=steps, batch_size=BATCH, seed=0)


def generate(made_by, examples):
    """Writes the data set to a folder that is deleted, and says how it went."""
    with tempfile.TemporaryDirectory() as folder:
        return kr.datasets.generate(
            made_by, "cifar10", folder, examples=examples, verbose=0
        )


def bare(made_by, batches):
    """The compiled loop alone, on one batch again and again."""
    x = np.random.default_rng(0).random((BATCH, 32, 32, 3), dtype="float32")
    attack = made_by.attack
    y = np.zeros(BATCH, "int32")
    loop = measure.bare_loop(attack, made_by.model, x, y, scored=True)

    def run():
        for _ in range(batches):
            found = loop()
        ops.convert_to_numpy(found["x"])

    return run


def speed(examples, steps, repeats):
    """Images per second, three ways in turns."""
    made_by = transform(steps)
    x, y = kr.datasets.load("cifar10").train
    batches = kr.datasets.pipeline(x[:examples], y[:examples], BATCH)

    def mapped():
        for _ in made_by.map(batches).as_numpy_iterator():
            pass

    ways = {
        "bare": bare(made_by, examples // BATCH),
        "map": mapped,
        "generate": lambda: generate(made_by, examples),
    }
    times = measure.take_turns(ways, repeats, warm=1)
    results = {"examples": examples, "steps": steps}
    for name, taken in times.items():
        line = measure.summary(taken, examples)
        line["of_bare"] = 1 / measure.ratio(times, "bare", name)
        results[name] = line
        print(
            f"{name:9} {line['per_second']:7.1f} images/s, "
            f"{line['of_bare']:.3f} of bare",
            flush=True,
        )
    return results


def memory_of(examples):
    """Peak memory of a process that makes so many, one step each."""
    done = generate(transform(1), examples)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "examples": examples,
        "images_per_second": round(done["images_per_second"], 1),
        "busy": round(done["busy"], 4),
        "peak_MiB": round(peak),
    }


def main():
    """What was asked for, written to `results/`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=20 * BATCH)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory", type=int, nargs="+")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    name = keras.backend.backend()
    if options.memory_of:
        print(json.dumps(memory_of(options.memory_of)))
    elif options.memory:
        found = measure.in_processes("--memory-of", options.memory)
        measure.save(f"generation-memory-{name}", {"sizes": found})
    else:
        results = speed(options.examples, options.steps, options.repeats)
        measure.save(f"generation-{options.steps}-steps-{name}", results)


if __name__ == "__main__":
    main()
