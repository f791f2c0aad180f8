"""How the speed of PGD-L2 scales, and its memory.

    for backend in tensorflow torch; do
      KERAS_BACKEND=$backend python benchmarks/attack_curves.py
    done
    KERAS_BACKEND=jax python benchmarks/attack_curves.py --only digits
    python benchmarks/attack_curves.py --memory
    python benchmarks/figures.py

Image-steps per second of the attacks of `attack_speed.py` over the batch (1 to
2048), steps (1 to 1000), images (100 to 100,000), depth and width, median of
three. On JAX each point is compiled, the deep ones for minutes, so only the
small network is run there. Memory: the peak of a process for each number of
images, less the images and the result.

Results: see `results/attack-curves-*.json`, `results/curves.png`.
"""

import argparse
import json
import resource

import keras
import measure
from attack_speed import STEPS
from attack_speed import images
from attack_speed import network
from attack_speed import ours

import keras_robust as kr

# Images whose memory is measured.
COUNTS = (1000, 10_000, 50_000)


def curve(points, make, repeats=3):
    """Rates over something: `make(point) -> (function, image-steps)`."""
    rates = {}
    for point in points:
        run, work = make(point)
        times = measure.take_turns({"": run}, repeats, warm=1)[""]
        rates[str(point)] = measure.summary(times, work)
        print(point, f"{rates[str(point)]['per_second']:.0f}", flush=True)
    return rates


def curves(only):
    """Rates over batch, steps, images, depth and width.

    Args:
        only: Words of the curves' names, or nothing for all.
    """

    def over_batch(name):
        model, shape = network(name)

        def make(batch):
            x, y = images(batch, shape)
            return ours(model, x, y), batch * STEPS

        return make

    model, shape = network("digits")

    def over_steps(steps):
        x, y = images(100, shape)
        return ours(model, x, y, steps), 100 * steps

    def over_images(count):
        x, y = images(count, shape)
        return ours(model, x, y, batch_size=100), count * STEPS

    def over_size(depth, width):
        model, shape = network("resnet20", depth, width)
        x, y = images(64, shape)
        return ours(model, x, y), 64 * STEPS

    batches = [2**k for k in range(12)]
    every = {
        "resnet20 over batch": (batches, over_batch("resnet20")),
        "digits over batch": (batches, over_batch("digits")),
        "digits over steps": ([1, 10, 100, 1000], over_steps),
        "digits over images": ([10**k for k in (2, 3, 4, 5)], over_images),
        "depth of width 16": (
            [8, 20, 56, 110],
            lambda depth: over_size(depth, 16),
        ),
        "width of depth 20": (
            [8, 16, 32, 64],
            lambda width: over_size(20, width),
        ),
    }
    found = {}
    for name, (points, make) in every.items():
        if not only or any(word in name for word in only):
            print(name, flush=True)
            found[name] = curve(points, make)
    return found


def memory_of(count):
    """MiB of this process at its peak, beyond the arrays in and out."""
    keras.utils.set_random_seed(0)
    model = kr.models.small_cnn((32, 32, 3), filters=(8, 16))
    x, y = images(count, (32, 32, 3))
    attacked = ours(model, x, y, steps=1, batch_size=128)()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return peak - (x.nbytes + attacked.nbytes) / 2**20


def main():
    """What was asked for, written to `results/`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", help="words of the curves' names")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    name = keras.backend.backend()
    if options.memory_of:
        print(json.dumps(memory_of(options.memory_of)))
    elif options.memory:
        found = measure.in_processes("--memory-of", COUNTS)
        found = dict(zip(map(str, COUNTS), found, strict=True))
        measure.save(f"attack-memory-{name}", {"MiB": found})
    else:
        found = {"curves": curves(options.only)}
        measure.save(f"attack-curves-{name}", found)


if __name__ == "__main__":
    main()
