"""How much an evaluation saves by skipping examples that are broken already.

    python benchmarks/networks.py
    python benchmarks/evaluation_speed.py --images 256
    python benchmarks/evaluation_speed.py --dataset fashion_mnist --images 1000

PGD-L2 with 40 steps and 5 restarts, the best point kept, on a standard and an
adversarially trained network (`networks.py`): in full
(`survivors_only=False`) and on the survivors, in turns; probes are off. Then a
list of attacks in one call; and the robust accuracy of the same weights in
`mixed_bfloat16`. Robust accuracies are printed beside the ratio: of
one attack they must be the same to the example.

Results: see `results/evaluation-*.json` and docs/performance.md.
"""

import argparse

import keras
import measure
from attack_speed import with_policy
from networks import SETTINGS
from networks import network

import keras_robust as kr

# A point is ten of them.
HALF_IMAGES = 1000


def one_attack(epsilon):
    """40 steps, 5 restarts."""
    return {
        "pgd": kr.PGDAttack(
            "l2",
            epsilon,
            steps=40,
            random_start=True,
            restarts=5,
            keep_best=True,
            seed=0,
        )
    }


def several_attacks(epsilon):
    """Two radii, and three kinds of attacks in the larger ball."""
    return {
        "apgd": kr.APGDAttack("l2", epsilon, steps=20, seed=0),
        "pgd": kr.PGDAttack("l2", epsilon, steps=20, keep_best=True),
        "half": kr.PGDAttack("l2", epsilon / 2, steps=20, keep_best=True),
        "dlr": kr.APGDAttack("l2", epsilon, steps=20, loss="dlr", seed=0),
        "fgsm": kr.FGSMAttack("l2", epsilon),
    }


def compare(model, data, attacks, repeats):
    """Seconds both ways, and what they found.

    Args:
        model: A trained network.
        data: `(x, y)`.
        attacks: Dictionary of attacks.
        repeats: Int.

    Returns:
        Dictionary of numbers.
    """
    reports = {}

    def way(name, survivors_only):
        def run():
            reports[name] = kr.evaluate_robustness(
                model,
                data,
                attacks,
                verbose=0,
                probe=False,
                survivors_only=survivors_only,
            )

        return run

    times = measure.take_turns(
        {"in full": way("in full", False), "survivors": way("survivors", True)},
        repeats,
        warm=1,
    )
    full, left = reports["in full"], reports["survivors"]
    result = {
        "survivors_faster_by": measure.ratio(times, "survivors", "in full"),
        "of": {key: measure.summary(taken) for key, taken in times.items()},
        "accuracy_in_full": full.accuracy,
        "accuracy_of_survivors": left.accuracy,
        "examples_that_differ": {
            name: int((full.correct[name] != left.correct[name]).sum())
            for name in full.correct
        },
    }
    print(f"survivors only is x {result['survivors_faster_by']:.2f}")
    for name in full.accuracy:
        print(
            f"    {name:12} in full {100 * full.accuracy[name]:.1f} %, "
            f"survivors {100 * left.accuracy[name]:.1f} %, "
            f"{result['examples_that_differ'][name]} examples differ",
            flush=True,
        )
    return result


def in_half_precision(model, data, epsilon):
    """Accuracies of the network in float32 and in `mixed_bfloat16`."""
    attacks = {"pgd": kr.PGDAttack("l2", epsilon, steps=20, keep_best=True)}
    found = {}
    for policy in ("float32", "mixed_bfloat16"):
        copy = with_policy(model, policy)
        report = kr.evaluate_robustness(
            copy, data, attacks, verbose=0, probe=False
        )
        found[policy] = report.accuracy
    difference = abs(found["float32"]["pgd"] - found["mixed_bfloat16"]["pgd"])
    found["points_apart"] = 100 * difference
    print(f"mixed_bfloat16: {found}", flush=True)
    return found


def main():
    """Both networks, both lists."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", choices=SETTINGS, default="cifar10")
    parser.add_argument("--networks", default="runs/networks")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    x, y = kr.datasets.load(options.dataset).test
    data = x[: options.images], y[: options.images]
    epsilon = SETTINGS[options.dataset][1]
    results = {"images": len(data[0]), "epsilon": epsilon}
    for kind in ("standard", "adversarial"):
        model = network(options.networks, options.dataset, kind != "standard")
        results[f"{kind}, mixed_bfloat16"] = in_half_precision(
            model, (x[:HALF_IMAGES], y[:HALF_IMAGES]), epsilon
        )
        for attacks in (one_attack, several_attacks):
            print(kind, attacks.__name__, flush=True)
            results[f"{kind}, {attacks.__name__}"] = compare(
                model, data, attacks(epsilon), options.repeats
            )
    name = f"evaluation-{options.dataset}-{keras.backend.backend()}"
    measure.save(name, results)


if __name__ == "__main__":
    main()
