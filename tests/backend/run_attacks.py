"""Run as a process: attacks a model on this process's backend."""

import sys

import keras
import numpy as np

import keras_robust as kr

ATTACKS = {
    "l2": {"epsilon": 0.5, "steps": 10},
    "linf": {"norm": "linf", "epsilon": 0.03, "steps": 10},
    "random": {
        "epsilon": 0.5,
        "steps": 5,
        "random_start": True,
        "restarts": 2,
        "seed": 3,
    },
    "best": {"epsilon": 0.5, "steps": 5, "keep_best": True, "loss": "margin"},
}


def run(model, x, y):
    """All results by name."""
    results = {
        name: kr.PGDAttack(**options)(model, x, y)
        for name, options in ATTACKS.items()
    }
    right = kr.evaluation.predict_labels(model, x)
    whole = kr.AutoAttack("l2", 0.2, steps=4, queries=8, seed=0, targets=1)
    result = whole.run(model, x, right, verbose=0, scored=True)
    results["auto"], results["broken_by"] = result["x"], result["broken_by"]
    results["robust"] = kr.Robustifier(model, steps=10, seed=1)(x)
    results["rand"], results["targets"] = kr.NonRobustifier(
        model, steps=5, seed=1
    )(x, y)
    return results


if __name__ == "__main__":
    folder = sys.argv[1]
    data = np.load(f"{folder}/data.npz")
    network = keras.saving.load_model(f"{folder}/model.keras")
    np.savez(f"{folder}/results.npz", **run(network, data["x"], data["y"]))
