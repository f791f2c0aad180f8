"""What MALT's order of targets and the margin of probabilities save and find.

    python benchmarks/target_order.py

Two adversarially trained networks: of digits (10 classes), and of pairs of
digits side by side (100 classes), a stand-in for sets of many classes that
needs no download. APGD of 50 steps towards 1, 3 and 9 targets by the logits
and by MALT, and APGD on three losses; accuracy left of 200 test images that are
classified correctly, gradients and seconds. Writes `results/target_order.json`.
"""

import argparse
import json
import pathlib
import time

import keras
import numpy as np

import keras_robust as kr

RESULTS = pathlib.Path(__file__).parent / "results" / "target_order.json"
LOSSES = ("cross_entropy", "dlr", "margin", "probability_margin")


def digits():
    """Images of one digit, of ten classes."""
    train, test = kr.datasets.load("digits")
    return train, test


def pairs():
    """Images of two digits side by side, of a hundred classes."""

    def paired(x, y, count, seed):
        rows = np.random.default_rng(seed).integers(0, len(x), (count, 2))
        both = np.concatenate([x[rows[:, 0]], x[rows[:, 1]]], axis=2)
        return both, 10 * y[rows[:, 0]] + y[rows[:, 1]]

    (x, y), (x_test, y_test) = kr.datasets.load("digits")
    return paired(x, y, 10_000, seed=0), paired(x_test, y_test, 1000, seed=1)


def train(x, y, epsilon, epochs):
    """An adversarially trained network."""
    keras.utils.set_random_seed(0)
    model = kr.models.small_cnn(
        x.shape[1:], num_classes=int(y.max()) + 1, filters=(16, 32)
    )
    robust = kr.AdversarialModel(
        model, kr.PGDAttack("linf", epsilon, steps=3, random_start=True)
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    robust.compile(keras.optimizers.Adam(3e-3), loss)
    robust.fit(x, y, batch_size=64, epochs=epochs, verbose=0)
    return model


def compare(model, x, y, epsilon):
    """A row of numbers for each attack."""
    right = np.flatnonzero(model.predict(x, verbose=0).argmax(-1) == y)[:200]
    x, y = x[right], y[right]
    settings = {"steps": 50, "early_stop": True, "seed": 0}
    attacks = {
        f"{order} {targets}": kr.APGDAttack(
            "linf",
            epsilon,
            loss="targeted_dlr",
            targets=targets,
            targets_by=order,
            **settings,
        )
        for targets in (1, 3, 9)
        for order in ("logits", "malt")
    }
    for loss in LOSSES:
        attacks[loss] = kr.APGDAttack("linf", epsilon, loss=loss, **settings)
    rows = {}
    for name, attack in attacks.items():
        attack(model, x, y, verbose=0)  # compiles
        start = time.perf_counter()
        found = attack(model, x, y, verbose=0)
        seconds = time.perf_counter() - start
        left = model.predict(found, verbose=0).argmax(-1) == y
        rows[name] = {"left": float(left.mean()), "seconds": seconds}
        print(f"  {name:22} {100 * left.mean():6.1f} % {seconds:7.2f} s")
    return rows


def main():
    """Train, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epsilon", type=float, default=0.15)
    parser.add_argument("--epochs", type=int, default=25)
    options = parser.parse_args()
    found = {"backend": keras.backend.backend(), **vars(options)}
    for load in (digits, pairs):
        (x, y), (x_test, y_test) = load()
        # As many steps of training for both.
        epochs = max(round(options.epochs * 1437 / len(x)), 1)
        model = train(x, y, options.epsilon, epochs)
        clean = (model.predict(x_test, verbose=0).argmax(-1) == y_test).mean()
        print(f"{load.__name__}: clean {100 * clean:.1f} %")
        rows = compare(model, x_test, y_test, options.epsilon)
        found[load.__name__] = {"clean": float(clean), "attacks": rows}
        RESULTS.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
