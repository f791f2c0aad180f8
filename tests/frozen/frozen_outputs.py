"""What every attack and transform gives on one small network, as it was once.

    KERAS_BACKEND=torch python -m tests.frozen.frozen_outputs

writes `tests/frozen/BACKEND.npz` anew: only where a change of results is meant.
`test_frozen_outputs.py` holds the code to it, whatever is moved or renamed.
"""

from pathlib import Path

import keras
import numpy as np

import keras_robust as kr

FOLDER = Path(__file__).parent
IMAGES, CLASSES = 6, 4
# Where a choice (the largest entries, a binary search) can turn on a rounding
# error: on another processor some of the images are others.
SENSITIVE = ("carlini-wagner", "apgd l1", "apgd-dlr l1", "apgd-t l1", "fab l1")
SHAPE = (8, 8, 1)
# One attack of each kind of loop.
FEW = ("pgd l2", "pgd linf best of restarts", "apgd l2", "fab l2", "square l2")


def make_model():
    """A convolution and a dense layer with fixed weights, smooth everywhere."""
    # NumPy's legacy generator gives the same numbers in every version.
    random = np.random.RandomState(0)
    inputs = keras.Input(SHAPE)
    h = keras.layers.Conv2D(6, 3, strides=2, activation="tanh")(inputs)
    h = keras.layers.Flatten(name="representation")(h)
    outputs = keras.layers.Dense(CLASSES, name="logits")(h)
    model = keras.Model(inputs, outputs)
    model.set_weights(
        [
            random.normal(0, 0.5, w.shape).astype("float32").round(3)
            for w in model.get_weights()
        ]
    )
    return model


def make_data(model):
    """Images, and as labels what the model says of most of them."""
    random = np.random.RandomState(1)
    x = random.uniform(0.1, 0.9, (IMAGES, *SHAPE)).astype("float32").round(3)
    y = model.predict(x, verbose=0).argmax(-1)
    y[-1] = (y[-1] + 1) % CLASSES
    return x, y


def make_attacks():
    """Every attack in each of its norms, targeted and not; by name."""
    radii = {"l1": 4.0, "l2": 0.6, "linf": 0.08}
    attacks = {"carlini-wagner": kr.CarliniWagnerL2(steps=5)}
    for norm, epsilon in radii.items():
        # Rounding errors grow with each choice of the largest entries.
        steps = 3 if norm == "l1" else 8
        shared = {"norm": norm, "epsilon": epsilon, "seed": 3}
        attacks |= {
            f"pgd {norm}": kr.PGDAttack(steps=5, **shared),
            f"pgd {norm} targeted": kr.PGDAttack(
                steps=5, targeted=True, **shared
            ),
            f"pgd {norm} best of restarts": kr.PGDAttack(
                steps=4,
                random_start=True,
                restarts=2,
                keep_best=True,
                loss="margin",
                **shared,
            ),
            f"pgd {norm} early stop": kr.PGDAttack(
                steps=8, early_stop=True, momentum=0.5, **shared
            ),
            f"apgd {norm}": kr.APGDAttack(steps=steps, **shared),
            f"apgd-dlr {norm}": kr.APGDAttack(
                steps=steps, loss="dlr", **shared
            ),
            f"apgd-t {norm}": kr.APGDAttack(
                steps=steps, loss="targeted_dlr", **shared
            ),
            f"fab {norm}": kr.FABAttack(steps=6, **shared),
        }
        if norm != "l1":
            attacks[f"fgsm {norm}"] = kr.FGSMAttack(norm=norm, epsilon=epsilon)
            attacks[f"square {norm}"] = kr.SquareAttack(queries=30, **shared)
            attacks[f"autoattack {norm}"] = kr.AutoAttack(
                norm=norm, epsilon=epsilon / 2, steps=10, queries=30, seed=3
            )
    attacks["spatial"] = kr.SpatialAttack()
    return attacks


def outputs(few=False):
    """Arrays by name: all of them, or those of `FEW` of the loops."""
    model = make_model()
    x, y = make_data(model)
    found = {
        name: attack.run(
            model, x, (y + 1) % CLASSES if attack.targeted else y, verbose=0
        )["x"]
        for name, attack in make_attacks().items()
        if not few or name in FEW
    }
    for optimizer in ("polyak",) if few else ("gradient_descent", "polyak"):
        invert = kr.Robustifier(
            model, steps=5, optimizer=optimizer, seed=0, start="noise"
        )
        found[f"robustifier {optimizer}"] = invert(x, verbose=0)
    for target in ("other",) if few else ("random", "deterministic", "other"):
        relabel = kr.NonRobustifier(model, target=target, steps=5, seed=0)
        moved, labels = relabel(x, y, verbose=0)
        found[f"non-robustifier {target}"] = moved
        found[f"labels {target}"] = labels
    moved, labels = kr.Shortcut(CLASSES, seed=0)(x, y)
    found["shortcut"] = moved
    return found


def path():
    """Where the outputs of this backend are."""
    return FOLDER / f"{keras.backend.backend()}.npz"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    np.savez_compressed(path(), **outputs())
    print(path(), path().stat().st_size)
