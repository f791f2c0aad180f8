"""Image-steps per second of PGD-L2, ours beside bare gradients and peers.

    for backend in tensorflow jax torch; do
      KERAS_BACKEND=$backend python benchmarks/attack_speed.py
    done
    python benchmarks/figures.py

7 steps of 0.1 inside radius 0.5, random weights (of trained ones the speed is
the same): ResNet-20 on 32x32 images in batches of 128, and a CNN of 93,000
parameters on 8x8 images in batches of 100. All take turns in one process;
tracing and compilation are excluded; ratios are medians over the turns. The
FLOP/s of a square matrix product are measured too: `figures.py` prints which
share of the best of the three frameworks a line reaches. `peers.py` says how
the peers are installed and called.

Results: see `results/attack-*.json` and docs/performance.md.
"""

import argparse

import keras
import measure
import numpy as np
import peers
from keras import ops

import keras_robust as kr
from keras_robust import backend
from keras_robust.attacks.objectives import log_odds
from keras_robust.classifier import Classifier

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
        line["ours_is_faster_by"] = measure.ratio(times, "keras_robust", way)
        lines[way] = line
        print(
            f"{name} {way:18} {line['per_second']:9.0f} image-steps/s, "
            f"ours x {line['ours_is_faster_by']:.2f}",
            flush=True,
        )
    return {"peak_flops": peak, "flops_per_image_step": flops, "ways": lines}


def overhead_of(name, repeats):
    """What a call costs beyond its compiled loop, for one image, in ms."""
    model, shape = network(name)
    x, y = images(1, shape)
    attack = kr.PGDAttack(steps=STEPS, step_size=0.1, batch_size=1)
    loop = measure.bare_loop(attack, model, x, y)
    times = measure.take_turns(
        {
            "call": lambda: attack(model, x, y, verbose=0),
            "loop": lambda: ops.convert_to_numpy(loop()["x"]),
        },
        20 * repeats,
        warm=5,
    )
    more = np.subtract(times["call"], times["loop"])
    more = 1000 * float(np.median(more))
    print(f"{name}: {more:.2f} ms of overhead at batch 1", flush=True)
    return more


def profile(name, repeats):
    """Where the time of a call goes: milliseconds, as a chain of parts.

    Each part contains the one before it: the folded network forward, its
    gradient, the compiled loop of all steps, the call.
    """
    model, shape = network(name)
    x, y = images(BATCHES[name], shape)
    logits = Classifier.of(model).logits
    inputs = {"x": ops.convert_to_tensor(x), "y": ops.convert_to_tensor(y)}

    def many(function):
        def run():
            for _ in range(STEPS):
                result = compiled(inputs)
            ops.convert_to_numpy(result)

        compiled = backend.compile(function, model.variables)
        return run

    def gradient(inputs):
        return backend.value_and_gradient(
            lambda x: (log_odds(inputs["y"], logits(x)), 0), inputs["x"]
        )[1]

    attack = kr.PGDAttack(
        epsilon=peers.EPSILON,
        step_size=peers.STEP_SIZE,
        steps=STEPS,
        batch_size=len(x),
    )
    loop = measure.bare_loop(attack, model, x, y)
    times = measure.take_turns(
        {
            "forward": many(lambda inputs: logits(inputs["x"])),
            "gradients": many(gradient),
            "loop": lambda: ops.convert_to_numpy(loop()["x"]),
            "call": lambda: attack(model, x, y, verbose=0),
        },
        repeats,
    )
    found = {part: 1000 * float(np.median(t)) for part, t in times.items()}
    cells = ", ".join(f"{part} {ms:.1f} ms" for part, ms in found.items())
    print(f"{name}, {STEPS} steps: {cells}", flush=True)
    return found


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


def main():
    """Everything, written to `results/`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    results = {key: with_peers(key, repeats) for key in BATCHES}
    results["overhead_ms"] = {key: overhead_of(key, repeats) for key in BATCHES}
    results["profile_ms"] = {key: profile(key, repeats) for key in BATCHES}
    results["mixed_bfloat16"] = half_precision(repeats)
    measure.save(f"attack-{keras.backend.backend()}", results)


if __name__ == "__main__":
    main()
