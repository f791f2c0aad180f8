"""Seconds of a whole AutoAttack, ours beside torchattacks'.

    python benchmarks/autoattack_models.py --output runs/autoattack
    python benchmarks/autoattack_cost.py

The adversarially trained network of `autoattack_agreement.py`, the same
images, steps and queries for all, each in a process of its own, in turns.
"first" is a first call, with tracing and compilation; "again" the same call
once more. Two cores are noisy: read the ratios.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from statistics import median

WHO = {
    "torchattacks": ("torch", True),
    "torch": ("torch", False),
    "tensorflow": ("tensorflow", False),
}


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="runs/autoattack/adversarial.keras")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--norm", default="linf")
    parser.add_argument("--worker", choices=WHO, help=argparse.SUPPRESS)
    return parser.parse_args()


def worker(options):
    """Prints the seconds of two calls as JSON."""
    import autoattack_agreement as agreement
    import keras

    import keras_robust as kr

    model = keras.saving.load_model(options.model)
    x, y = kr.datasets.load("fashion_mnist").test
    x, y = x[: options.images], y[: options.images]
    peer = WHO[options.worker][1]
    make = agreement.theirs if peer else agreement.ours
    seconds, broken = [], None
    for _ in range(2):
        start = time.monotonic()
        attacked = make(model, x, y, options.norm, "autoattack", options)
        seconds.append(time.monotonic() - start)
    broken = float((agreement.predict_labels(model, attacked) != y).mean())
    print(json.dumps({"seconds": seconds, "error": broken}))


def main():
    """Runs the workers in turns and prints the table."""
    options = arguments()
    if options.worker:
        return worker(options)
    seconds = {who: [] for who in WHO}
    errors = {}
    for _ in range(options.rounds):
        for who, (backend, _) in WHO.items():
            done = subprocess.run(
                [sys.executable, *sys.argv, "--worker", who],
                env={**os.environ, "KERAS_BACKEND": backend},
                capture_output=True,
                text=True,
                check=True,
            )
            result = json.loads(done.stdout.splitlines()[-1])
            seconds[who].append(result["seconds"])
            errors[who] = result["error"]
            print(who, result, flush=True)
    print("\n| | error, % | first, s | again, s | ratio first | ratio again |")
    print("|---|---|---|---|---|---|")
    base = [median(call) for call in zip(*seconds["torchattacks"], strict=True)]
    for who, runs in seconds.items():
        first, again = (median(call) for call in zip(*runs, strict=True))
        print(
            f"| {who} | {100 * errors[who]:.1f} | {first:.1f} | {again:.1f} "
            f"| {base[0] / first:.2f} | {base[1] / again:.2f} |"
        )


if __name__ == "__main__":
    main()
