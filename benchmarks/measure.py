"""What the speed benchmarks share: taking turns, FLOPs, peaks, files."""

import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

import keras
import numpy as np
from keras import ops

from keras_robust import backend
from keras_robust.attacks.engine.batches import as_tensors
from keras_robust.attacks.engine.randomness import RowDraws
from keras_robust.attacks.engine.search import Batch
from keras_robust.attacks.engine.search import compiled_loop
from keras_robust.utils.environment import gpus
from keras_robust.utils.environment import installed_versions

RESULTS = pathlib.Path(__file__).parent / "results"


def seconds(run):
    """How long a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def take_turns(ways, repeats=5, warm=2):
    """Times functions in turns, so that a busy minute hits all of them.

    Args:
        ways: Dictionary of functions by name.
        repeats: Int, timed calls of each.
        warm: Int, calls before that: tracing, compilation, caches.

    Returns:
        Dictionary of lists of seconds.
    """
    for run in ways.values():
        for _ in range(warm):
            run()
    times = {name: [] for name in ways}
    for _ in range(repeats):
        for name, run in ways.items():
            times[name].append(seconds(run))
    return times


def bare_loop(attack, model, x, y, scored=False):
    """The compiled loop of an attack's first run on one batch in memory.

    Args:
        attack: A `LoopAttack`.
        model: A built Keras model.
        x: Array `(N, ...)`.
        y: Labels `(N,)`.
        scored: Whether the result tells `loss` and `success`.

    Returns:
        A function without arguments that returns the loop's result.
    """
    problem = attack.prepare(model, x, y)
    run = attack.runs(problem.classes)[0]
    loop = attack.loop(problem, run)
    loop, _ = compiled_loop(
        problem, loop.with_scores() if scored else loop, attack
    )
    rows = np.arange(len(x))
    draws = RowDraws(attack.seed, *run.stream).for_rows(rows)
    batch = Batch(rows, draws, np.zeros((len(x), 0)))
    inputs = as_tensors(attack.inputs(problem, run, batch))
    return lambda: loop(inputs, attack.loop_steps)


def summary(times, work=1):
    """Minimum and median of a list of seconds, and the rate of the median."""
    median = statistics.median(times)
    return {
        "min_s": min(times),
        "median_s": median,
        "per_second": work / median,
        "repeats": len(times),
    }


def ratio(times, of, to):
    """How many times faster `of` is than `to`: the median over the turns.

    The two calls of a turn follow each other, so the machine's speed cancels.
    """
    pairs = zip(times[to], times[of], strict=True)
    return statistics.median(slow / fast for slow, fast in pairs)


def forward_flops(model):
    """FLOPs of one image through the convolutions and dense layers.

    Two for each multiplication with addition; what is left out (BatchNorm,
    ReLU, pooling) is a few percent. An input gradient costs as much again.
    """
    total = 0

    def counting(call):
        def counted(self, x, *args, **kwargs):
            nonlocal total
            outputs = call(self, x, *args, **kwargs)
            places = int(np.prod(outputs.shape[1:-1]))
            total += 2 * int(np.prod(self.kernel.shape)) * places
            return outputs

        return counted

    kinds = (keras.layers.Conv2D, keras.layers.Dense)
    originals = [kind.call for kind in kinds]
    for kind in kinds:
        kind.call = counting(kind.call)
    try:
        model(np.zeros((1, *model.input_shape[1:]), "float32"), training=False)
    finally:
        for kind, original in zip(kinds, originals, strict=True):
            kind.call = original
    return total


def peak_flops(size=2048, dtype="float32"):
    """FLOP/s of a square matrix product, the best of ten."""
    a = ops.cast(np.random.default_rng(0).random((size, size)), dtype)
    product = backend.compile(
        lambda inputs: ops.matmul(inputs["a"], inputs["a"]), []
    )

    def run():
        ops.convert_to_numpy(ops.cast(product({"a": a})[0, 0], "float32"))

    run()
    return 2 * size**3 / min(seconds(run) for _ in range(10))


def gradient_of(model, y, x):
    """The input gradient of Keras's own cross-entropy, summed.

    The model is called as a user would: no BatchNorm is folded.
    """
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="none"
    )
    return backend.value_and_gradient(
        lambda x: (loss(y, model(x, training=False)), 0), x
    )[1]


def bare_gradient(model):
    """`gradient_of`, compiled, and nothing else."""
    return backend.compile(
        lambda inputs: gradient_of(model, inputs["y"], inputs["x"]),
        model.variables,
    )


def in_processes(flag, values):
    """Runs the script again for each value, in a process of its own.

    Args:
        flag: Option with which the script prints JSON as its last line.
        values: What to give it.

    Returns:
        List of what was printed.
    """
    found = []
    for value in values:
        done = subprocess.run(
            [sys.executable, sys.argv[0], flag, str(value)],
            check=True,
            capture_output=True,
            text=True,
        )
        found.append(json.loads(done.stdout.splitlines()[-1]))
        print(value, found[-1], flush=True)
    return found


def machine():
    """Where and with what the numbers were made."""
    name = platform.processor() or platform.machine()
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        name = next(
            line.split(":")[1].strip()
            for line in lines
            if line.startswith("model name")
        )
    except (OSError, StopIteration):
        pass
    return {
        "cpu": name,
        "cores": os.cpu_count(),
        "gpus": gpus(),
        "python": platform.python_version(),
        "backend": keras.backend.backend(),
        "versions": installed_versions(),
        "date": time.strftime("%Y-%m-%d"),
    }


def save(name, results):
    """Writes `results` with the machine to `results/NAME.json`.

    Args:
        name: String.
        results: What `json` can write.
    """
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    text = json.dumps({"machine": machine(), **results}, indent=1)
    path.write_text(text + "\n")
    print(f"Written to {path}.", flush=True)


def load(name):
    """What `save` wrote, or `None`."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None
