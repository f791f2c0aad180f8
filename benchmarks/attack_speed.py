"""Image-steps per second of PGD-L2, ours beside bare gradients and peers.

    for backend in tensorflow jax torch; do
      KERAS_BACKEND=$backend python benchmarks/attack_speed.py
      KERAS_BACKEND=$backend python benchmarks/attack_speed.py --curves
    done
    python benchmarks/attack_speed.py --memory
    python benchmarks/figures.py

7 steps of 0.1 inside radius 0.5, random weights (of trained ones the speed is
the same): ResNet-20 on 32x32 images in batches of 128, and a CNN of 93,000
parameters on 8x8 images in batches of 100. All take turns in one process;
tracing and compilation are excluded; ratios are medians over the turns. "Of
peak" is the share of the FLOP/s of a square matrix product of the same
framework. `peers.py` says how the peers are installed and called.

Results: see `results/attack-*.json` and the README.
"""

import argparse
import json
import resource
import subprocess
import sys

import keras
import measure
import numpy as np
import peers
from keras import ops

import keras_robust as kr

STEPS = 7
BATCHES = {"resnet20": 128, "digits": 100}


def network(name, depth=20, width=16):
    """A network, images and labels."""
    keras.utils.set_random_seed(0)
    if name == "resnet20":
        return kr.models.cifar_resnet(depth, width), (32, 32, 3)
    return kr.models.small_cnn(), (8, 8, 1)


def images(count, shape):
    """Random images and labels."""
    random = np.random.default_rng(0)
    x = random.random((count, *shape), dtype="float32")
    return x, random.integers(0, 10, count).astype("int32")


def ours(model, x, y, steps=STEPS, batch_size=None):
    """Our attack, as a user calls it."""
    attack = kr.PGDAttack(
        epsilon=peers.EPSILON,
        step_size=peers.STEP_SIZE,
        steps=steps,
        batch_size=batch_size or len(x),
    )
    return lambda: attack(model, x, y, verbose=0)


def bare(model, x, y, steps=STEPS):
    """As many gradients, and nothing else."""
    gradient = measure.bare_gradient(model)
    inputs = {"x": ops.convert_to_tensor(x), "y": ops.convert_to_tensor(y)}

    def run():
        for _ in range(steps):
            g = gradient(inputs)
        ops.convert_to_numpy(g)

    return run


def with_peers(name, repeats):
    """One network: every way, in turns."""
    model, shape = network(name)
    x, y = images(BATCHES[name], shape)
    ways = {
        "bare gradients": bare(model, x, y),
        "hand-written loop": peers.hand_written(model, x, y, STEPS),
        "keras_robust": ours(model, x, y),
    }
    for make in peers.PEERS[keras.backend.backend()]:
        try:
            ways[make.__name__] = make(model, x, y, STEPS)
        except ImportError as error:
            print(f"{make.__name__} is not installed: {error}")
    times = measure.take_turns(ways, repeats)
    peak = measure.peak_flops()
    flops = 2 * measure.forward_flops(model)
    lines = {}
    for way, taken in times.items():
        line = measure.summary(taken, len(x) * STEPS)
        line["of_peak"] = line["per_second"] * flops / peak
        line["ours_is_faster_by"] = measure.ratio(times, "keras_robust", way)
        lines[way] = line
        print(
            f"{name} {way:18} {line['per_second']:9.0f} image-steps/s, "
            f"{100 * line['of_peak']:5.1f} % of peak, "
            f"ours x {line['ours_is_faster_by']:.2f}",
            flush=True,
        )
    return {"peak_flops": peak, "flops_per_image_step": flops, "ways": lines}


def overhead_of(name, repeats):
    """What a call costs beyond its compiled loop, for one image, in ms."""
    model, shape = network(name)
    x, y = images(1, shape)
    attack = kr.PGDAttack(steps=STEPS, step_size=0.1, batch_size=1)
    loop = attack._compiled_loop(model, x, False)
    inputs = {"center": x, "y": y, **attack._constants(x.shape)}
    inputs = {k: ops.convert_to_tensor(v) for k, v in inputs.items()}
    times = measure.take_turns(
        {
            "call": lambda: attack(model, x, y, verbose=0),
            "loop": lambda: ops.convert_to_numpy(loop(inputs, STEPS)["x"]),
        },
        20 * repeats,
        warm=5,
    )
    more = np.subtract(times["call"], times["loop"])
    more = 1000 * float(np.median(more))
    print(f"{name}: {more:.2f} ms of overhead at batch 1", flush=True)
    return more


def half_precision(repeats):
    """The same network in `mixed_bfloat16`: how much faster."""
    model, shape = network("resnet20")
    half = with_policy(model, "mixed_bfloat16")
    x, y = images(128, shape)
    ways = {
        "float32": ours(model, x, y),
        "mixed_bfloat16": ours(half, x, y),
    }
    times = measure.take_turns(ways, repeats)
    gain = measure.ratio(times, "mixed_bfloat16", "float32")
    print(f"mixed_bfloat16 is x {gain:.2f} of float32")
    return {
        "gain": gain,
        "of": {k: measure.summary(t) for k, t in times.items()},
    }


def with_policy(model, policy):
    """The model with another dtype policy and the same weights."""

    def clone(layer):
        config = layer.get_config()
        if layer.name != "logits":
            config["dtype"] = policy
        return layer.__class__.from_config(config)

    copy = keras.models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy


def curve(points, make, repeats=3):
    """Rates over something: `make(point) -> (function, image-steps)`."""
    rates = {}
    for point in points:
        run, work = make(point)
        times = measure.take_turns({"": run}, repeats, warm=1)[""]
        rates[str(point)] = measure.summary(times, work)
        print(point, f"{rates[str(point)]['per_second']:.0f}", flush=True)
    return rates


def curves():
    """Rates over batch, steps, images, depth and width."""

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
    return {
        "resnet20 over batch": curve(batches, over_batch("resnet20")),
        "digits over batch": curve(batches, over_batch("digits")),
        "digits over steps": curve([1, 10, 100, 1000], over_steps),
        "digits over images": curve([10**k for k in (2, 3, 4, 5)], over_images),
        "depth of width 16": curve(
            [8, 20, 56, 110], lambda depth: over_size(depth, 16)
        ),
        "width of depth 20": curve(
            [8, 16, 32, 64], lambda width: over_size(20, width)
        ),
    }


def memory_of(count):
    """MiB of this process at its peak, beyond the arrays in and out."""
    keras.utils.set_random_seed(0)
    model = kr.models.small_cnn((32, 32, 3), filters=(8, 16))
    x, y = images(count, (32, 32, 3))
    attacked = ours(model, x, y, steps=1, batch_size=128)()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return peak - (x.nbytes + attacked.nbytes) / 2**20


def memory():
    """`memory_of` in a process for each number of images."""
    found = {}
    for count in (1000, 10_000, 50_000):
        command = [sys.executable, __file__, "--memory-of", str(count)]
        done = subprocess.run(
            command, check=True, capture_output=True, text=True
        )
        found[str(count)] = float(done.stdout.splitlines()[-1])
        print(count, "images:", round(found[str(count)]), "MiB", flush=True)
    return found


def main():
    """What was asked for, written to `results/`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--curves", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    name = keras.backend.backend()
    if options.memory_of:
        print(json.dumps(memory_of(options.memory_of)))
    elif options.memory:
        measure.save(f"attack-memory-{name}", {"MiB": memory()})
    elif options.curves:
        measure.save(f"attack-curves-{name}", {"curves": curves()})
    else:
        results = {key: with_peers(key, options.repeats) for key in BATCHES}
        results["overhead_ms"] = {
            key: overhead_of(key, options.repeats) for key in BATCHES
        }
        results["mixed_bfloat16"] = half_precision(options.repeats)
        measure.save(f"attack-{name}", results)


if __name__ == "__main__":
    main()
