"""What MALT's order of targets and the margin of probabilities save and find.

    KERAS_BACKEND=torch python benchmarks/target_order.py

Adversarially trained networks of two data sets: of digits (10 classes), and of
pairs of digits side by side (100 classes), a stand-in for sets of many classes
that needs no download. APGD of 50 steps towards 1, 3 and 9 targets by the
logits and by MALT, and APGD on four losses. Of 200 test images that are
classified correctly: how many are left, the gradients that were computed, and
seconds. Gradients are those of single images, as the attack batches them,
MALT's linear estimates included. Each seed trains networks of its own and is
the seed of the attacks. Writes `results/target-order.json`;
`adaptive_tables.py` prints the table of docs/adaptive.md.
"""

import argparse

import keras
import measure
import numpy as np

import keras_robust as kr
from keras_robust import backend

LOSSES = ("cross_entropy", "dlr", "margin", "probability_margin")
EXAMPLES = 200


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


# Radius and epochs: about a third of the test images stays right.
SETTINGS = {digits: (0.15, 25), pairs: (0.05, 10)}


def train(x, y, epsilon, epochs, seed):
    """An adversarially trained network."""
    keras.utils.set_random_seed(seed)
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


class Gradients:
    """Counts the images whose gradients an attack computes."""

    def __enter__(self):
        self.count = 0
        self.function = backend.value_and_gradient
        backend.value_and_gradient = self._counted
        return self

    def __exit__(self, *_):
        backend.value_and_gradient = self.function

    def _counted(self, function, x):
        self.count += len(x)
        return self.function(function, x)


def make_attacks(epsilon, seed):
    """Attacks by name."""
    settings = {"steps": 50, "early_stop": True, "seed": seed}
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
    return attacks


def compare(model, x, y, epsilon, seed):
    """A row of numbers for each attack."""
    right = np.flatnonzero(model.predict(x, verbose=0).argmax(-1) == y)
    x, y = x[right[:EXAMPLES]], y[right[:EXAMPLES]]
    rows = {}
    for name, attack in make_attacks(epsilon, seed).items():
        attack(model, x[:8], y[:8], verbose=0)  # Builds what is kept.
        with Gradients() as gradients:
            found = []
            seconds = measure.seconds(
                lambda attack=attack, found=found: found.append(
                    attack(model, x, y, verbose=0)
                )
            )
        left = model.predict(found[0], verbose=0).argmax(-1) == y
        rows[name] = {
            "left": int(left.sum()),
            "gradients": gradients.count / len(x),
            "seconds": seconds,
        }
        print(f"  {name:22} {rows[name]}", flush=True)
    return {"examples": len(x), "attacks": rows}


def main():
    """Train, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    if keras.backend.backend() != "torch":
        # Elsewhere a compiled loop calls the counted function once.
        raise SystemExit("Run with KERAS_BACKEND=torch.")
    found = {**vars(options), "runs": []}
    for seed in range(options.seeds):
        for load, (epsilon, epochs) in SETTINGS.items():
            (x, y), (x_test, y_test) = load()
            model = train(x, y, epsilon, epochs, seed)
            clean = model.predict(x_test, verbose=0).argmax(-1) == y_test
            print(
                f"{load.__name__} {seed}: clean {100 * clean.mean():.1f} %",
                flush=True,
            )
            run = {
                "data": load.__name__,
                "seed": seed,
                "clean": float(clean.mean()),
                "epsilon": epsilon,
                **compare(model, x_test, y_test, epsilon, seed),
            }
            found["runs"].append(run)
            measure.save("target-order", found)


if __name__ == "__main__":
    main()
