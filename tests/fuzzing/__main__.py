"""Runs cases of the fuzzer: `python -m tests.fuzzing FIRST [END] [quick]`."""

import collections
import importlib.util
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if importlib.util.find_spec("torch"):
    # Before TensorFlow, or the two crash on some machines.
    import torch

    torch.set_num_threads(1)

from .properties import run_seed


def main(arguments):
    quick = "quick" in arguments
    numbers = [int(text) for text in arguments if text != "quick"]
    first = numbers[0]
    end = numbers[1] if len(numbers) > 1 else first + 1
    counts, seconds = collections.Counter(), 0.0
    for seed in range(first, end):
        outcome = run_seed(seed, quick)
        seconds += outcome.seconds
        counts[outcome.status] += 1
        if outcome.status == "refused":
            counts[f"refused: {outcome.reason}"] += 1
        if outcome.faults or end == first + 1:
            print(outcome, flush=True)
        else:
            print(f"{seed} {outcome.status} {outcome.reason}", flush=True)
    print(dict(counts), f"{seconds:.0f} s")
    return int(counts["fault"] > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
